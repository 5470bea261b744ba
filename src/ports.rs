//! What the flows need from the world. The shell implements these on the platform, `tests/support` on nothing at all.
//!
//! A few methods each, nothing clever: whatever decides lies above or below, never here.

use crate::headers::Headers;
use crate::time::{Millis, UnixMillis};
use std::future::Future;

/// Reads the clock. Inside a Worker it stands still between I/O events.
pub trait Clock {
    /// Now.
    fn now(&self) -> UnixMillis;
}

/// Lets time pass.
pub trait Timer {
    /// Resolves after `duration`.
    fn sleep(&self, duration: Millis) -> impl Future<Output = ()>;
}

/// One parameter of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    /// An integer below 2^53 in size.
    Integer(i64),
    /// NULL.
    Null,
    /// Text.
    Text(String),
}

/// One SQL statement with its numbered parameters (`?1`, `?2`, …). At most 100 of them, 2 MB each (CF §1.3).
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The text.
    pub sql: &'static str,
    /// The parameters.
    pub params: Vec<Param>,
}

/// A failure of the database, in its own words (for operators, never for callers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbError(pub String);

/// The database.
pub trait Db {
    /// Runs a query that selects exactly one column holding JSON text, and returns that text for each row.
    fn select(&self, statement: Statement) -> impl Future<Output = Result<Vec<String>, DbError>>;

    /// Runs all statements in one transaction, and returns the rows that each one changed.
    fn write(&self, statements: Vec<Statement>) -> impl Future<Output = Result<Vec<u64>, DbError>>;
}

/// A failure of object storage, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectError(pub String);

/// Object storage.
pub trait Objects {
    /// Writes one object.
    fn put(&self, key: &str, bytes: Vec<u8>) -> impl Future<Output = Result<(), ObjectError>>;

    /// Reads `length` bytes from `offset`; `None` when there is no such object.
    fn get(&self, key: &str, offset: u64, length: u64) -> impl Future<Output = Result<Option<Vec<u8>>, ObjectError>>;
}

/// Why there is no request body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It ended early; the text is the platform's.
    Broken(String),
    /// It is longer than the limit.
    TooLarge,
}

/// A request to an upstream. It lives for one attempt.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// Absolute URL; `mock://…` is the provider inside the Worker.
    pub url: &'a str,
    /// HTTP method.
    pub method: &'a str,
    /// Everything that is sent; nothing is added but what the transport needs.
    pub headers: &'a Headers,
    /// The body.
    pub body: &'a [u8],
    /// How long until the response headers must have arrived.
    pub timeout: Option<Millis>,
    /// The trace, for the mock provider, which counts calls by it.
    pub trace_id: &'a str,
}

/// Why there is no whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The caller of the gateway went away, and the upstream request was aborted.
    ClientGone,
    /// Refused, reset, unreachable, or reset inside the body of a non-streamed answer; the text is the platform's.
    Connect(String),
    /// The timeout passed before the headers; the upstream request was aborted.
    Timeout,
}

/// The head of an upstream's answer, and its body as far as it is already here.
#[derive(Debug)]
pub struct Received<N> {
    /// HTTP status.
    pub status: u16,
    /// The headers that the gateway looks at or logs; the rest stay with `native`.
    pub headers: Headers,
    /// When the headers had arrived.
    pub headers_at: UnixMillis,
    /// The body.
    pub body: ReceivedBody,
    /// The platform's own answer, to be handed to the caller without a copy.
    pub native: N,
}

/// The body of an answer.
#[derive(Debug)]
pub enum ReceivedBody {
    /// Not read yet: an event stream.
    Stream,
    /// Read to its end.
    Whole(Vec<u8>),
}

/// How the connection of a stream came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The caller of the gateway went away; the upstream request was aborted.
    ClientGone,
    /// The upstream closed it.
    Closed,
    /// The upstream broke it.
    Reset,
    /// Nothing came for too long; the upstream request was aborted.
    Stalled,
}

/// What passed through a stream.
#[derive(Debug)]
pub struct Passed {
    /// The upstream's bytes, up to the capture limit.
    pub bytes: Vec<u8>,
    /// All bytes, kept or not.
    pub total_bytes: u64,
    /// How the connection ended.
    pub end: ConnectionEnd,
    /// When the first byte of the body arrived.
    pub first_at: Option<UnixMillis>,
    /// When the last one did.
    pub ended_at: UnixMillis,
}

/// Rewrites a stream while it passes.
pub trait Rewrite {
    /// Takes what arrived and appends what the caller gets.
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>);
}

/// A stream on its way to the caller, held open at its end until [`Passing::close`].
pub trait Passing {
    /// Resolves when the upstream's part has ended and all of it has gone to the caller.
    fn passed(&mut self) -> impl Future<Output = Passed>;

    /// Claims the right to record the stream, once the record is built; false when the guard was faster.
    fn claim(&self) -> bool;

    /// Sends a last piece, if any, and closes the caller's side.
    fn close(&self, last: Option<&[u8]>) -> impl Future<Output = ()>;
}

/// How a stream is watched while it passes.
#[derive(Clone, Debug)]
pub struct Watch {
    /// How long it may be silent.
    pub idle: Millis,
    /// What the caller gets if the gateway itself dies under the stream: an in-band error event.
    pub last_words: Vec<u8>,
    /// The text that only a finished stream has at its end (`data: [DONE]`).
    pub terminator: &'static str,
    /// The record to send if the gateway itself dies under the stream: the JSON of a guard record without its `raw` part.
    pub guard: String,
}

/// Everything that a call needs from the world.
pub trait World: Clock + Timer + Clone + 'static {
    /// An answer as the platform holds it.
    type Native;
    /// A stream on its way.
    type Passing: Passing + 'static;
    /// The database.
    type Db: Db;
    /// Object storage.
    type Objects: Objects;

    /// Sends one request. A body is read to its end unless it is an event stream.
    fn send(&self, request: Outgoing<'_>) -> impl Future<Output = Result<Received<Self::Native>, SendError>>;

    /// Lets a stream pass to the caller: untouched, or through `rewrite`.
    fn pass(
        &self,
        native: Self::Native,
        watch: Watch,
        rewrite: Option<std::rc::Rc<std::cell::RefCell<dyn Rewrite>>>,
    ) -> (Self::Native, Self::Passing);

    /// The request's body, if it is not longer than `limit` bytes. Can be read once. Of a body whose length was `announced`
    /// (and compared) nothing is counted on the way.
    fn read_body(&self, limit: u64, announced: bool) -> impl Future<Output = Result<Vec<u8>, BodyError>>;

    /// Lets go of an answer that nobody will read; the upstream request is aborted.
    fn discard(&self, native: Self::Native);

    /// Whether the caller has gone away.
    fn client_gone(&self) -> bool;

    /// Runs `task` after the answer, for as long as the platform allows.
    fn defer(&self, task: impl Future<Output = ()> + 'static);

    /// How many records this isolate has had to drop since it was last asked; who asks, tells it on.
    fn take_lost(&self) -> u64;

    /// Hands one finished record (JSON) to the queue. Returns at once; what the queue refuses is written to the database.
    fn commit(&self, record: String);

    /// Fresh randomness.
    fn rng(&self) -> Box<dyn crate::random::Rng>;

    /// The database.
    fn db(&self) -> Self::Db;

    /// Object storage.
    fn objects(&self) -> Self::Objects;
}
