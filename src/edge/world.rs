//! The ports on the platform. Converts types and calls `bridge.js`; what to send, when to stop and what to keep is decided above.

use super::bridge;
use super::driver::{start, wait};
use crate::headers::Headers;
use crate::mock;
use crate::ports::{
    BodyError, Clock, ConnectionEnd, Db, DbError, ObjectError, Objects, Outgoing, Param, Passed, Passing, Received, ReceivedBody,
    Rewrite, SendError, Statement, Timer, Watch, World,
};
use crate::random::Rng;
use crate::time::{Millis, UnixMillis};
use js_sys::{Array, Uint8Array};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// One invocation's share of the platform.
#[derive(Clone)]
pub struct Edge {
    platform: Rc<Platform>,
}

struct Platform {
    env: JsValue,
    ctx: JsValue,
    signal: JsValue,
    request: Option<web_sys::Request>,
}

/// An answer as the platform holds it: an `exchange` result.
pub struct Native(pub JsValue);

impl Edge {
    /// For a request.
    pub fn of_request(env: JsValue, ctx: JsValue, request: web_sys::Request) -> Edge {
        let signal = request.signal().into();
        Edge { platform: Rc::new(Platform { env, ctx, signal, request: Some(request) }) }
    }

    /// For a delivery of the queue.
    pub fn of_delivery(env: JsValue, ctx: JsValue) -> Edge {
        Edge { platform: Rc::new(Platform { env, ctx, signal: JsValue::UNDEFINED, request: None }) }
    }
}

impl Clock for Edge {
    fn now(&self) -> UnixMillis {
        millis(js_sys::Date::now())
    }
}

impl Timer for Edge {
    async fn sleep(&self, duration: Millis) {
        // A timer cannot fail; a cancelled invocation never resumes.
        let _ = wait(bridge::wait(duration.0 as f64)).await;
    }
}

impl World for Edge {
    type Native = Native;
    type Passing = EdgePassing;
    type Db = Edge;
    type Objects = Edge;

    async fn send(&self, request: Outgoing<'_>) -> Result<Received<Native>, SendError> {
        let timeout = request.timeout.map_or(0.0, |timeout| timeout.0 as f64);
        let body = Uint8Array::from(request.body);
        let sent = bridge::exchange(
            request.url,
            request.method,
            request.headers.as_flat(),
            &body,
            timeout,
            &self.platform.signal,
            mock_script(&request),
        );
        let result = wait(sent).await.map_err(|error| SendError::Connect(bridge::words(&error)))?;
        let exchange: bridge::Exchange = result.unchecked_into();
        match exchange.kind() {
            0 => {}
            1 => return Err(SendError::Timeout),
            3 => return Err(SendError::ClientGone),
            _ => return Err(SendError::Connect(exchange.message())),
        }
        let buffer = exchange.buffer();
        let body = if buffer.is_null() { ReceivedBody::Stream } else { ReceivedBody::Whole(Uint8Array::new(&buffer).to_vec()) };
        Ok(Received {
            status: exchange.status(),
            headers: Headers::from_flat(exchange.head()),
            headers_at: millis(exchange.at()),
            body,
            native: Native(exchange.into()),
        })
    }

    fn pass(&self, native: Native, watch: Watch, rewrite: Option<Rc<RefCell<dyn Rewrite>>>) -> (Native, EdgePassing) {
        let Platform { env, ctx, signal, .. } = &*self.platform;
        let words = Uint8Array::from(watch.last_words.as_slice());
        let push: Option<Push> = rewrite.map(|rewrite| {
            Closure::new(move |chunk: Uint8Array| {
                let mut out = Vec::new();
                rewrite.borrow_mut().push(&chunk.to_vec(), &mut out);
                Uint8Array::from(out.as_slice())
            })
        });
        let (idle, none) = (watch.idle.0 as f64, JsValue::NULL);
        let push_ref = push.as_ref().map_or(&none, |push| push.as_ref());
        let passing = bridge::pass(env, ctx, &native.0, signal, idle, watch.terminator, &words, &watch.guard, push_ref);
        native.0.unchecked_ref::<bridge::Exchange>().set_stream(&passing.readable());
        (native, EdgePassing { passing, _push: push })
    }

    async fn read_body(&self, limit: u64, announced: bool) -> Result<Vec<u8>, BodyError> {
        let Some(request) = &self.platform.request else { return Ok(Vec::new()) };
        let read = wait(bridge::read_body(request, limit as f64, announced)).await;
        let buffer = read.map_err(|error| BodyError::Broken(bridge::words(&error)))?;
        let bytes = (!buffer.is_null()).then(|| Uint8Array::new(&buffer).to_vec()).ok_or(BodyError::TooLarge)?;
        if bytes.len() as u64 > limit { Err(BodyError::TooLarge) } else { Ok(bytes) }
    }

    fn discard(&self, native: Native) {
        bridge::discard(&native.0);
    }

    fn client_gone(&self) -> bool {
        self.platform.signal.dyn_ref::<web_sys::AbortSignal>().is_some_and(web_sys::AbortSignal::aborted)
    }

    fn defer(&self, task: impl Future<Output = ()> + 'static) {
        let promise: js_sys::Promise = start(async move {
            task.await;
            JsValue::UNDEFINED
        })
        .unchecked_into();
        let ctx: &worker::worker_sys::Context = self.platform.ctx.unchecked_ref();
        // It throws only for what is no promise.
        let _ = ctx.wait_until(&promise);
    }

    fn take_lost(&self) -> u64 {
        LOST.take()
    }

    fn commit(&self, record: String) {
        bridge::commit(&self.platform.env, &self.platform.ctx, &record, record.len() as u32);
    }

    fn rng(&self) -> Box<dyn Rng> {
        Box::new(PlatformRng)
    }

    fn db(&self) -> Edge {
        self.clone()
    }

    fn objects(&self) -> Edge {
        self.clone()
    }
}

type Push = Closure<dyn FnMut(Uint8Array) -> Uint8Array>;

/// A stream on its way. It owns the closure that rewrites it.
pub struct EdgePassing {
    passing: bridge::Passing,
    _push: Option<Push>,
}

impl Passing for EdgePassing {
    async fn passed(&mut self) -> Passed {
        // `passed` never rejects: every failure is an end.
        let _ = wait(self.passing.passed()).await;
        let first = self.passing.first();
        Passed {
            bytes: self.passing.bytes().to_vec(),
            total_bytes: self.passing.total() as u64,
            end: match self.passing.end() {
                0 => ConnectionEnd::Closed,
                2 => ConnectionEnd::Stalled,
                3 => ConnectionEnd::ClientGone,
                _ => ConnectionEnd::Reset,
            },
            first_at: (first > 0.0).then(|| millis(first)),
            ended_at: millis(self.passing.ended()),
        }
    }

    fn claim(&self) -> bool {
        self.passing.claim()
    }

    async fn close(&self, last: Option<&[u8]>) {
        let last = last.map_or(JsValue::NULL, |bytes| Uint8Array::from(bytes).into());
        let _ = wait(self.passing.close(&last)).await;
    }
}

impl Db for Edge {
    async fn select(&self, statement: Statement) -> Result<Vec<String>, DbError> {
        let rows = bridge::select(&self.platform.env, statement.sql, &params(&statement.params));
        let rows: Array = wait(rows).await.map_err(db_error)?.unchecked_into();
        Ok(rows.iter().filter_map(|row| row.as_string()).collect())
    }

    async fn write(&self, statements: Vec<Statement>) -> Result<Vec<u64>, DbError> {
        let all: Array =
            statements.iter().map(|statement| Array::of2(&statement.sql.into(), &params(&statement.params))).collect();
        let changed: Array = wait(bridge::write(&self.platform.env, &all)).await.map_err(db_error)?.unchecked_into();
        Ok(changed.iter().map(|count| count.as_f64().unwrap_or(0.0) as u64).collect())
    }
}

impl Objects for Edge {
    async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), ObjectError> {
        let put = bridge::put_object(&self.platform.env, key, &Uint8Array::from(bytes.as_slice()));
        wait(put).await.map(|_| ()).map_err(|error| ObjectError(bridge::words(&error)))
    }

    async fn get(&self, key: &str, offset: u64, length: u64) -> Result<Option<Vec<u8>>, ObjectError> {
        let got = bridge::get_object(&self.platform.env, key, offset as f64, length as f64);
        let got = wait(got).await.map_err(|error| ObjectError(bridge::words(&error)))?;
        Ok((!got.is_null()).then(|| got.unchecked_into::<Uint8Array>().to_vec()))
    }
}

fn params(params: &[Param]) -> Array {
    params
        .iter()
        .map(|param| match param {
            Param::Integer(number) => JsValue::from_f64(*number as f64),
            Param::Null => JsValue::NULL,
            Param::Text(text) => JsValue::from_str(text),
        })
        .collect()
}

fn db_error(error: JsValue) -> DbError {
    DbError(bridge::words(&error))
}

fn millis(time: f64) -> UnixMillis {
    UnixMillis(time as u64)
}

thread_local! {
    static LOST: Cell<u64> = const { Cell::new(0) };
}

/// Counts records that neither the queue nor the database took; the next record tells of them.
pub fn count_lost(records: u64) {
    LOST.set(LOST.get().saturating_add(records));
}

/// The platform's CSPRNG, read in blocks: one crossing for many ids.
struct PlatformRng;

impl Rng for PlatformRng {
    fn next_u64(&mut self) -> u64 {
        thread_local! {
            static POOL: RefCell<(usize, [u8; POOL_BYTES])> = const { RefCell::new((POOL_BYTES, [0; POOL_BYTES])) };
        }
        POOL.with_borrow_mut(|(used, pool)| {
            if *used >= POOL_BYTES {
                getrandom::fill(pool).expect("crypto.getRandomValues does not fail inside a handler");
                *used = 0;
            }
            let next = pool.get(*used..*used + 8).and_then(|eight| eight.try_into().ok()).map_or(0, u64::from_le_bytes);
            *used += 8;
            next
        })
    }
}

const POOL_BYTES: usize = 4096;

/// What the provider inside the Worker answers, as the JSON that `bridge.js` plays; `None` for every other host.
fn mock_script(request: &Outgoing<'_>) -> Option<String> {
    let path = request.url.strip_prefix("mock://spangate")?;
    let script = mock::script(path, request.body, earlier_calls(request));
    let headers: serde_json::Map<_, _> = script.headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let played = serde_json::json!({
        "first_byte": script.first_byte, "status": script.status, "headers": headers,
        "chunks": script.chunks, "gap": script.gap, "cut": script.cut,
    });
    Some(played.to_string())
}

/// How many requests with this body's model this trace has made before; forgotten when too many traces are known.
fn earlier_calls(request: &Outgoing<'_>) -> u32 {
    thread_local! {
        static CALLS: RefCell<HashMap<String, u32>> = RefCell::new(HashMap::new());
    }
    #[derive(serde::Deserialize)]
    struct Asked<'a> {
        #[serde(borrow)]
        model: std::borrow::Cow<'a, str>,
    }
    let model = serde_json::from_slice::<Asked<'_>>(request.body).map(|asked| asked.model.into_owned()).unwrap_or_default();
    CALLS.with_borrow_mut(|calls| {
        if calls.len() > 10_000 {
            calls.clear();
        }
        let count = calls.entry(format!("{} {model}", request.trace_id)).or_insert(0);
        *count += 1;
        *count - 1
    })
}
