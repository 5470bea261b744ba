//! Runs Rust futures from JavaScript's own `await`, without a task queue between them.
//!
//! A gateway call awaits a handful of promises, one after the other. `wasm-bindgen-futures` spends two closures, a promise
//! and a microtask hop on each; here the future is polled, says which promise it waits for, and is polled again with what
//! that gave. The loop that awaits is four lines of `bridge.js`. It follows that a future here has **one** promise pending
//! at a time: the flows have no `select` and no `join`.
//!
//! If a panic took the instance, the loop finds the door of the old one shut and answers for the call (`bridge.js`).

use super::bridge;
use js_sys::Promise;
use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use wasm_bindgen::prelude::*;

/// Starts `future`: what it gives if it never waits, else a promise of that.
pub fn start(future: impl Future<Output = JsValue> + 'static) -> JsValue {
    begin(future).unwrap_or_else(|(id, promise)| bridge::drive(id, &promise))
}

/// As [`start`], for a request of `ctx`: the platform lets it end even when its caller leaves.
pub fn serve(ctx: &JsValue, future: impl Future<Output = JsValue> + 'static) -> JsValue {
    begin(future).unwrap_or_else(|(id, promise)| bridge::serve(ctx, id, &promise))
}

/// What a future gives at once, or its id and what it waits for.
fn begin(future: impl Future<Output = JsValue> + 'static) -> Result<JsValue, (u32, Promise)> {
    install();
    let mut running: Running = Box::pin(future);
    match step(&mut running) {
        Step::Done(value) => Ok(value),
        Step::Waits(promise) => Err(STATE.with_borrow_mut(|state| {
            state.last_id = state.last_id.wrapping_add(1);
            state.running.insert(state.last_id, running);
            (state.last_id, promise)
        })),
    }
}

/// Waits for a promise. To be awaited inside a future that [`start`] runs, nowhere else.
pub fn wait(promise: Promise) -> Wait {
    Wait { promise: Some(promise) }
}

/// See [`wait`].
pub struct Wait {
    promise: Option<Promise>,
}

impl Future for Wait {
    type Output = Result<JsValue, JsValue>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        STATE.with_borrow_mut(|state| match self.promise.take() {
            Some(promise) => {
                state.asked = Some(promise);
                Poll::Pending
            }
            None => state.given.take().map_or(Poll::Pending, Poll::Ready),
        })
    }
}

type Running = Pin<Box<dyn Future<Output = JsValue>>>;

enum Step {
    Done(JsValue),
    Waits(Promise),
}

#[derive(Default)]
struct State {
    running: HashMap<u32, Running>,
    last_id: u32,
    asked: Option<Promise>,
    given: Option<Result<JsValue, JsValue>>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

fn step(running: &mut Running) -> Step {
    match running.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Step::Done(value),
        // A future that waits for nothing would never end; the loop turns this into a failed call.
        Poll::Pending => {
            Step::Waits(STATE.with_borrow_mut(|state| state.asked.take()).unwrap_or_else(|| Promise::reject(&JsValue::NULL)))
        }
    }
}

/// Polls future `id` with what its promise gave: the next promise, the end as `[value]`, or null for a future that fell with
/// an earlier instance.
fn resume(id: u32, value: JsValue, failed: bool) -> JsValue {
    let taken = STATE.with_borrow_mut(|state| {
        state.given = Some(if failed { Err(value) } else { Ok(value) });
        state.running.remove(&id)
    });
    let Some(mut running) = taken else { return JsValue::NULL };
    match step(&mut running) {
        Step::Done(value) => js_sys::Array::of1(&value).into(),
        Step::Waits(promise) => {
            STATE.with_borrow_mut(|state| state.running.insert(id, running));
            promise.into()
        }
    }
}

/// Shows this instance's door to JavaScript, once.
pub fn install() {
    thread_local! {
        static INSTALLED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
    if !INSTALLED.replace(true) {
        let door = Closure::<dyn Fn(u32, JsValue, bool) -> JsValue>::new(resume);
        bridge::install(door.as_ref());
        door.forget(); // it serves as long as the instance
    }
}
