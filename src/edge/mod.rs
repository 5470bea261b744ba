//! The shell: the only place that names the platform. It converts types and implements `ports`; it decides nothing.
//!
//! Three ways in: `fetch` for requests, `queue` for deliveries of both queues, and the handler for records that the queue
//! refused. `queue` is exported by hand, because the `worker` macro turns an error into a panic and hides how often a
//! message was delivered (cloudflare facts §2.2, §2.10).

mod bridge;
mod driver;
mod world;

use crate::consume::{self, Message, MessageOutcome, Store};
use crate::gateway::{self, Head, Reply, ReplyBody};
use crate::headers::Headers;
use crate::pump;
use crate::settings::Settings;
use js_sys::{Array, Uint8Array};
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use world::{Edge, Native};

/// Answers a request: a promise of the response.
#[wasm_bindgen]
pub fn fetch(request: web_sys::Request, env: JsValue, ctx: JsValue) -> JsValue {
    let settings = settings(&env);
    let head = head(&bridge::request_head(&request));
    #[cfg(feature = "test-faults")]
    assert!(head.headers.get("x-spangate-test-panic") != Some("now"), "a panic that a test asked for");
    #[cfg(feature = "test-faults")]
    let later = head.headers.get("x-spangate-test-panic") == Some("later");
    let edge = Edge::of_request(env, ctx.clone(), request);
    driver::serve(&ctx, async move {
        let reply = gateway::handle(&edge, &settings, head).await;
        #[cfg(feature = "test-faults")]
        assert!(!later, "a panic that a test asked for");
        respond(reply).into()
    })
}

/// Stores a delivery of the log queue, or keeps one of the dead-letter queue.
#[wasm_bindgen]
pub fn queue(batch: JsValue, env: JsValue, ctx: JsValue) -> JsValue {
    driver::start(async move {
        deliver(batch, env, ctx).await;
        JsValue::UNDEFINED
    })
}

async fn deliver(batch: JsValue, env: JsValue, ctx: JsValue) {
    let edge = Edge::of_delivery(env, ctx);
    let parts = bridge::batch_parts(&batch);
    let queue = parts.get(0).as_string().unwrap_or_default();
    let messages: Vec<Message> = parts
        .to_vec()
        .get(1..)
        .unwrap_or_default()
        .chunks_exact(3)
        .filter_map(|part| match part {
            [id, attempts, body] => Some(Message {
                id: id.as_string().unwrap_or_default(),
                attempts: attempts.as_f64().unwrap_or(1.0) as u32,
                body: body.as_string().unwrap_or_default(),
            }),
            _ => None,
        })
        .collect();
    let outcomes = if queue.ends_with(DEAD_LETTERS) {
        consume::keep_dead_letters(&messages, crate::ports::Clock::now(&edge), &edge).await
    } else {
        consume::store(&messages, Store { db: &edge, objects: &edge }, &pump::finish_guard).await
    };
    for (index, outcome) in (0..).zip(outcomes) {
        match outcome {
            MessageOutcome::Stored => bridge::ack(&batch, index),
            MessageOutcome::Malformed { reason } => {
                worker::console_error!("spangate: a message of {queue} cannot be stored: {reason}");
                bridge::retry(&batch, index, 0);
            }
            MessageOutcome::Retry { delay, reason } => {
                worker::console_error!("spangate: the store refused a delivery of {queue}: {reason}");
                bridge::retry(&batch, index, u32::try_from(delay.0 / 1_000).unwrap_or(u32::MAX));
            }
        }
    }
}

/// The settings, parsed once an instance; the first request of an instance also says who takes what the queue refuses.
fn settings(env: &JsValue) -> Rc<Settings> {
    thread_local! {
        static SETTINGS: RefCell<Option<Rc<Settings>>> = const { RefCell::new(None) };
    }
    SETTINGS.with_borrow_mut(|known| {
        known
            .get_or_insert_with(|| {
                driver::install();
                take_refused(env);
                let bindings = Headers::from_flat(bridge::text_bindings(env)); // lines of name and value, as headers are
                let texts: Vec<(&str, String)> =
                    bindings.iter().filter_map(|(name, quoted)| Some((name, serde_json::from_str(quoted).ok()?))).collect();
                let settings = Settings::parse(texts.iter().map(|(name, text)| (*name, text.as_str())));
                for complaint in &settings.complaints {
                    worker::console_warn!("spangate: {complaint}");
                }
                Rc::new(settings)
            })
            .clone()
    })
}

/// Registers the writer for messages that the queue refused: straight into the store, and what that refuses too is counted.
fn take_refused(env: &JsValue) {
    let env = env.clone();
    let handler = Closure::<dyn Fn(Array, String) -> JsValue>::new(move |messages: Array, reason: String| {
        let edge = Edge::of_delivery(env.clone(), JsValue::UNDEFINED);
        driver::start(async move {
            worker::console_error!("spangate: the queue refused {} messages: {reason}", messages.length());
            for body in messages.iter().filter_map(|message| message.as_string()) {
                let records = consume::count_records(&body);
                let outcome = consume::store_directly(body, Store { db: &edge, objects: &edge }, &pump::finish_guard).await;
                if let MessageOutcome::Malformed { reason } | MessageOutcome::Retry { reason, .. } = outcome {
                    world::count_lost(records);
                    worker::console_error!("spangate: {records} records lost, the queue and the database refused them: {reason}");
                }
            }
            JsValue::UNDEFINED
        })
    });
    bridge::on_refused(handler.as_ref());
    handler.forget(); // it serves as long as the instance
}

fn head(text: &str) -> Head {
    let (method, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (url, headers) = rest.split_once('\n').unwrap_or((rest, ""));
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let target = after_scheme.find('/').and_then(|at| after_scheme.get(at..)).unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Head {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.split('#').next().unwrap_or_default().to_owned(),
        headers: Headers::from_flat(headers.to_owned()),
    }
}

fn respond(reply: Reply<Native>) -> web_sys::Response {
    let flat = reply.headers.as_flat();
    match reply.body {
        ReplyBody::Own(bytes) => bridge::respond(reply.status, flat, &JsValue::UNDEFINED, &Uint8Array::from(bytes.as_slice())),
        ReplyBody::Rewritten(native, bytes) => {
            bridge::respond(reply.status, flat, &native.0, &Uint8Array::from(bytes.as_slice()))
        }
        ReplyBody::Upstream(native) => bridge::respond(reply.status, flat, &native.0, &JsValue::NULL),
    }
}

/// How the name of the queue of dead letters ends.
const DEAD_LETTERS: &str = "-dlq";
