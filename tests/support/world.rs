//! The world of the flows, without a platform: its clock is virtual, so nothing ever really waits; its upstreams, its caller
//! and its queue do what a scenario says.
//!
//! [`TestWorld::run`] polls the call and whatever it deferred; when all of them wait, the clock jumps to the next moment that
//! one of them waits for. A scenario in which nobody waits for anything that can come is a bug, and panics.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "each test binary uses its own part; a test may")]

use spangate::gateway::{self, Head, Reply, ReplyBody};
use spangate::headers::Headers;
use spangate::ports::{
    BodyError, Clock, ConnectionEnd, Db, DbError, ObjectError, Objects, Outgoing, Passed, Passing, Received, ReceivedBody,
    Rewrite, SendError, Statement, Timer, Watch, World,
};
use spangate::random::{Rng, SeededRng};
use spangate::settings::Settings;
use spangate::time::{Millis, UnixMillis};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// 2026-11-20T10:15:30.123Z, when every scenario begins.
pub const T0: UnixMillis = UnixMillis(1_795_169_730_123);

/// A delay: as long as the gateway waits, less a millisecond.
pub const LAST_MOMENT: Millis = Millis(u64::MAX);

/// What the next upstream request meets.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// An answer whose headers come after this long.
    Answers(Millis, u16, Headers, Answer),
    /// No connection.
    Unreachable(&'static str),
}

/// The body of an answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Pieces of an event stream, each after this long, and how the connection ends.
    Stream(Vec<(Millis, &'static str)>, StreamEnds),
    /// All of it, together with the headers.
    Whole(Vec<u8>),
}

/// How an upstream ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnds {
    Closes,
    Never,
    Resets,
}

impl Upstream {
    /// An answer of that status, at once.
    pub fn status(status: u16, body: &str) -> Upstream {
        let headers = [("content-type", "application/json")].into_iter().collect();
        Upstream::Answers(Millis(0), status, headers, Answer::Whole(body.into()))
    }

    /// An event stream.
    pub fn stream(pieces: &[(u64, &'static str)], ends: StreamEnds) -> Upstream {
        let headers = [("content-type", "text/event-stream")].into_iter().collect();
        let pieces = pieces.iter().map(|(gap, piece)| (Millis(*gap), *piece)).collect();
        Upstream::Answers(Millis(0), 200, headers, Answer::Stream(pieces, ends))
    }

    /// The same with a header more.
    pub fn with(mut self, name: &str, value: &str) -> Upstream {
        if let Upstream::Answers(_, _, headers, _) = &mut self {
            headers.push(name, value);
        }
        self
    }

    /// The same, but its headers come later.
    pub fn after(mut self, millis: u64) -> Upstream {
        if let Upstream::Answers(delay, ..) = &mut self {
            *delay = Millis(millis);
        }
        self
    }
}

/// A request that reached, or tried to reach, an upstream.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: UnixMillis,
    pub url: String,
    pub headers: Headers,
    pub body: String,
}

/// A handle to one invocation's world; clones share it.
#[derive(Clone, Default)]
pub struct TestWorld(Rc<State>);

#[derive(Default)]
struct State {
    now: Cell<u64>,
    deadlines: RefCell<BTreeSet<u64>>,
    tasks: RefCell<Vec<Task>>,
    chance: Rc<RefCell<u64>>,
    request_body: RefCell<Vec<u8>>,
    /// When the caller leaves.
    leaves_at: Cell<Option<u64>>,
    upstreams: RefCell<VecDeque<Upstream>>,
    sent: RefCell<Vec<Sent>>,
    discarded: Cell<u32>,
    committed: RefCell<Vec<String>>,
    guards: RefCell<Vec<String>>,
    lost: Cell<u64>,
    objects: RefCell<BTreeMap<String, Vec<u8>>>,
    faults: RefCell<Faults>,
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The request's body ends early.
    pub broken_body: bool,
    /// Object storage takes nothing.
    pub broken_objects: bool,
    /// The guard of a stream records it before the flow does.
    pub guard_is_faster: bool,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// What the caller got.
#[derive(Clone, Debug)]
pub struct Got {
    pub status: u16,
    pub headers: Headers,
    pub body: String,
    /// When the head was there.
    pub at: UnixMillis,
    /// Whether the body came to an orderly end.
    pub closed: bool,
}

impl TestWorld {
    /// A world in which upstreams answer like this, in order.
    pub fn new(upstreams: impl IntoIterator<Item = Upstream>) -> TestWorld {
        let world = TestWorld::default();
        world.0.now.set(T0.0);
        world.0.upstreams.borrow_mut().extend(upstreams);
        world
    }

    /// Lets chance begin elsewhere.
    pub fn seed(&self, seed: u64) {
        *self.0.chance.borrow_mut() = seed;
    }

    /// The caller leaves so long after the beginning.
    pub fn caller_leaves_after(&self, millis: u64) {
        self.0.leaves_at.set(Some(T0.0 + millis));
    }

    pub fn break_things(&self, faults: Faults) {
        *self.0.faults.borrow_mut() = faults;
    }

    /// Records that were dropped before this call.
    pub fn lose(&self, records: u64) {
        self.0.lost.set(records);
    }

    /// What upstreams were sent, in order.
    pub fn sent(&self) -> Vec<Sent> {
        self.0.sent.borrow().clone()
    }

    /// How many answers were let go unread.
    pub fn discarded(&self) -> u32 {
        self.0.discarded.get()
    }

    /// The records that went to the queue, as their JSON.
    pub fn committed(&self) -> Vec<String> {
        self.0.committed.borrow().clone()
    }

    /// The guard records that were handed over with streams, as far as they go.
    pub fn guards(&self) -> Vec<String> {
        self.0.guards.borrow().clone()
    }

    /// Forgets what was logged, for a world that is used a thousand times.
    pub fn forget(&self) {
        self.0.sent.borrow_mut().clear();
        self.0.committed.borrow_mut().clear();
    }

    pub fn script(&self, upstream: Upstream) {
        self.0.upstreams.borrow_mut().push_back(upstream);
    }

    /// What object storage holds.
    pub fn stored(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.objects.borrow().clone()
    }

    /// One request from its head to the last thing that it left behind.
    pub fn call(&self, settings: &Rc<Settings>, head: Head, body: &[u8]) -> Got {
        *self.0.request_body.borrow_mut() = body.to_vec();
        let (world, settings) = (self.clone(), settings.clone());
        let (reply, at) = self.run(async move {
            let reply = gateway::handle(&world, &settings, head).await;
            (reply, world.now())
        });
        Got::of(reply, at)
    }

    /// Runs a future, and all that was deferred meanwhile, to the end.
    pub fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let done = Rc::new(RefCell::new(None));
        let slot = done.clone();
        self.0.tasks.borrow_mut().push(Box::pin(async move { *slot.borrow_mut() = Some(future.await) }));
        let mut context = Context::from_waker(Waker::noop());
        let mut running: Vec<Task> = Vec::new();
        loop {
            running.append(&mut self.0.tasks.borrow_mut());
            let before = running.len();
            running.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
            let idle = running.len() == before && self.0.tasks.borrow().is_empty();
            if running.is_empty() && self.0.tasks.borrow().is_empty() {
                return done.borrow_mut().take().unwrap();
            }
            if idle {
                let next = self.0.deadlines.borrow_mut().pop_first();
                self.0.now.set(next.expect("somebody waits for what cannot come"));
            }
        }
    }

    async fn until(&self, deadline: u64) {
        std::future::poll_fn(|_| match self.0.now.get() >= deadline {
            true => Poll::Ready(()),
            false => {
                self.0.deadlines.borrow_mut().insert(deadline);
                Poll::Pending
            }
        })
        .await;
    }

    /// Waits so long, but not past the caller's departure nor past a limit; says which of them came first.
    async fn wait(&self, duration: Millis, limit: Option<Millis>) -> Waited {
        let (start, leaves_at) = (self.0.now.get(), self.0.leaves_at.get().unwrap_or(u64::MAX));
        let limit = limit.map_or(u64::MAX, |limit| start + limit.0);
        let deadline = start.saturating_add(duration.0).min(limit).min(leaves_at.max(start));
        self.until(deadline).await;
        match deadline {
            _ if deadline == leaves_at.max(start) => Waited::CallerLeft,
            _ if deadline == limit => Waited::TooLong,
            _ => Waited::Enough,
        }
    }
}

enum Waited {
    CallerLeft,
    Enough,
    TooLong,
}

impl Got {
    fn of(reply: Reply<TestNative>, at: UnixMillis) -> Got {
        let Reply { status, headers, body } = reply;
        let (body, closed) = match body {
            ReplyBody::Own(bytes) | ReplyBody::Rewritten(_, bytes) => (bytes, true),
            ReplyBody::Upstream(native) => {
                let outlet = native.outlet.take();
                (outlet.bytes, outlet.closed)
            }
        };
        Got { status, headers, body: String::from_utf8(body).unwrap(), at, closed }
    }
}

/// An answer as this world holds it.
#[derive(Debug)]
pub struct TestNative {
    stream: Option<(Vec<(Millis, &'static str)>, StreamEnds)>,
    outlet: Rc<RefCell<Outlet>>,
}

/// The caller's end of an answer.
#[derive(Debug, Default)]
struct Outlet {
    bytes: Vec<u8>,
    closed: bool,
}

impl Clock for TestWorld {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.now.get())
    }
}

impl Timer for TestWorld {
    async fn sleep(&self, duration: Millis) {
        self.until(self.0.now.get() + duration.0).await;
    }
}

impl World for TestWorld {
    type Native = TestNative;
    type Passing = TestPassing;
    type Db = TestWorld;
    type Objects = TestWorld;

    async fn send(&self, request: Outgoing<'_>) -> Result<Received<TestNative>, SendError> {
        if self.client_gone() {
            return Err(SendError::ClientGone);
        }
        self.0.sent.borrow_mut().push(Sent {
            at: self.now(),
            url: request.url.to_owned(),
            headers: request.headers.clone(),
            body: String::from_utf8(request.body.to_vec()).unwrap(),
        });
        let next = self.0.upstreams.borrow_mut().pop_front();
        match next.expect("more upstream requests than the scenario has") {
            Upstream::Unreachable(words) => Err(SendError::Connect(words.to_owned())),
            Upstream::Answers(delay, status, headers, answer) => {
                let last_moment = Millis(request.timeout.map_or(0, |limit| limit.0 - 1));
                let delay = if delay == LAST_MOMENT { last_moment } else { delay };
                match self.wait(delay, request.timeout).await {
                    Waited::Enough => {}
                    Waited::CallerLeft => return Err(SendError::ClientGone),
                    Waited::TooLong => return Err(SendError::Timeout),
                }
                let (body, stream, bytes) = match answer {
                    Answer::Whole(bytes) => (ReceivedBody::Whole(bytes.clone()), None, bytes),
                    Answer::Stream(pieces, ends) => (ReceivedBody::Stream, Some((pieces, ends)), Vec::new()),
                };
                let outlet = Rc::new(RefCell::new(Outlet { bytes, closed: stream.is_none() }));
                Ok(Received { status, headers, headers_at: self.now(), body, native: TestNative { stream, outlet } })
            }
        }
    }

    fn pass(&self, native: TestNative, watch: Watch, rewrite: Option<Rc<RefCell<dyn Rewrite>>>) -> (TestNative, TestPassing) {
        self.0.guards.borrow_mut().push(watch.guard.clone());
        let TestNative { stream, outlet } = native;
        let passing = TestPassing { world: self.clone(), script: stream.unwrap(), watch, rewrite, outlet: outlet.clone() };
        (TestNative { stream: None, outlet }, passing)
    }

    async fn read_body(&self, limit: u64, _announced: bool) -> Result<Vec<u8>, BodyError> {
        if self.0.faults.borrow().broken_body {
            return Err(BodyError::Broken("Network connection lost.".to_owned()));
        }
        let body = self.0.request_body.take();
        if body.len() as u64 > limit { Err(BodyError::TooLarge) } else { Ok(body) }
    }

    fn discard(&self, _: TestNative) {
        self.0.discarded.set(self.0.discarded.get() + 1);
    }

    fn client_gone(&self) -> bool {
        self.0.leaves_at.get().is_some_and(|at| self.0.now.get() >= at)
    }

    fn defer(&self, task: impl Future<Output = ()> + 'static) {
        self.0.tasks.borrow_mut().push(Box::pin(task));
    }

    fn take_lost(&self) -> u64 {
        self.0.lost.take()
    }

    fn commit(&self, record: String) {
        self.0.committed.borrow_mut().push(record);
    }

    fn rng(&self) -> Box<dyn Rng> {
        Box::new(Chance(self.0.chance.clone()))
    }

    fn db(&self) -> TestWorld {
        self.clone()
    }

    fn objects(&self) -> TestWorld {
        self.clone()
    }
}

/// A stream on its way, as its script says.
pub struct TestPassing {
    world: TestWorld,
    script: (Vec<(Millis, &'static str)>, StreamEnds),
    watch: Watch,
    rewrite: Option<Rc<RefCell<dyn Rewrite>>>,
    outlet: Rc<RefCell<Outlet>>,
}

impl Passing for TestPassing {
    async fn passed(&mut self) -> Passed {
        let (mut bytes, mut first_at) = (Vec::new(), None);
        let (pieces, ends) = std::mem::replace(&mut self.script, (Vec::new(), StreamEnds::Closes));
        let mut end = match ends {
            StreamEnds::Closes => ConnectionEnd::Closed,
            StreamEnds::Never => ConnectionEnd::Stalled,
            StreamEnds::Resets => ConnectionEnd::Reset,
        };
        let silence = (ends == StreamEnds::Never).then_some((Millis(u64::MAX), ""));
        for (gap, piece) in pieces.into_iter().chain(silence) {
            match self.world.wait(gap, Some(self.watch.idle)).await {
                Waited::Enough => {}
                Waited::CallerLeft => {
                    end = ConnectionEnd::ClientGone;
                    break;
                }
                Waited::TooLong => {
                    end = ConnectionEnd::Stalled;
                    break;
                }
            }
            first_at.get_or_insert(self.world.now());
            bytes.extend_from_slice(piece.as_bytes());
            let caller = &mut self.outlet.borrow_mut().bytes;
            match &self.rewrite {
                Some(rewrite) => rewrite.borrow_mut().push(piece.as_bytes(), caller),
                None => caller.extend_from_slice(piece.as_bytes()),
            }
        }
        Passed { total_bytes: bytes.len() as u64, bytes, end, first_at, ended_at: self.world.now() }
    }

    fn claim(&self) -> bool {
        !self.world.0.faults.borrow().guard_is_faster
    }

    async fn close(&self, last: Option<&[u8]>) {
        let mut outlet = self.outlet.borrow_mut();
        outlet.bytes.extend_from_slice(last.unwrap_or_default());
        outlet.closed = true;
    }
}

impl Objects for TestWorld {
    async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), ObjectError> {
        if self.0.faults.borrow().broken_objects {
            return Err(ObjectError("out of order".to_owned()));
        }
        self.0.objects.borrow_mut().insert(key.to_owned(), bytes);
        Ok(())
    }

    async fn get(&self, _: &str, _: u64, _: u64) -> Result<Option<Vec<u8>>, ObjectError> {
        Err(ObjectError("a call reads no objects".to_owned()))
    }
}

impl Db for TestWorld {
    async fn select(&self, _: Statement) -> Result<Vec<String>, DbError> {
        Err(DbError("a call reads no rows".to_owned()))
    }

    async fn write(&self, _: Vec<Statement>) -> Result<Vec<u64>, DbError> {
        Err(DbError("a call writes no rows".to_owned()))
    }
}

/// One sequence for all who draw.
struct Chance(Rc<RefCell<u64>>);

impl Rng for Chance {
    fn next_u64(&mut self) -> u64 {
        let mut seed = SeededRng(*self.0.borrow());
        let next = seed.next_u64();
        *self.0.borrow_mut() = seed.0;
        next
    }
}
