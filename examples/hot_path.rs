//! Counts the instructions of one call on the hot path: JSON chat, same dialect, provider and custom host by header, a body
//! and an answer of about 1 KB, ten request headers; from the head's text to the record's JSON, without any platform.
//!
//! ```text
//! cargo build --release --example hot_path
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='hot_path::measured*' target/release/examples/hot_path
//! ```
//!
//! prints `Collected : n`; n / 1000 is one call. Instructions repeat exactly, so a change of 1 % is a change. The world's
//! own share (scripting the answer, logging the request) is in it, and is the same before and after.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a measurement, not a part of the gateway")]

#[path = "../tests/support/world.rs"]
mod world;

use spangate::gateway::Head;
use spangate::headers::Headers;
use spangate::settings::Settings;
use std::rc::Rc;
use world::{TestWorld, Upstream};

fn main() {
    let vars = [("GATEWAY_ADMIN_KEY", "gw-key-0123456789"), ("TRUSTED_CUSTOM_HOSTS", "127.0.0.1")];
    let settings = Rc::new(Settings::parse(vars.into_iter()));
    let world = TestWorld::new([]);
    let (body, answer) = (request_body(), Upstream::status(200, &answer_body()).with("x-request-id", "req_0123456789abcdef"));
    calls(&world, &settings, &body, &answer, 20); // memos and allocator are warm, as in an isolate that has served a while
    measured(&world, &settings, &body, &answer);
    let record = world.committed().pop().unwrap();
    world.forget();
    println!("record: {} bytes, bodies {} and {}\n{record}", record.len(), body.len(), answer_body().len());
}

#[inline(never)]
fn measured(world: &TestWorld, settings: &Rc<Settings>, body: &[u8], answer: &Upstream) {
    calls(world, settings, body, answer, 1000);
}

fn calls(world: &TestWorld, settings: &Rc<Settings>, body: &[u8], answer: &Upstream, count: usize) {
    for _ in 0..count {
        world.forget();
        world.script(answer.clone());
        let head = Head {
            method: "POST".to_owned(),
            path: "/v1/chat/completions".to_owned(),
            query: String::new(),
            headers: Headers::from_flat(HEADERS.to_owned()),
        };
        let got = world.call(settings, head, body);
        assert_eq!(got.status, 200, "{}", got.body);
    }
}

const HEADERS: &str = "accept
application/json
accept-encoding
gzip, deflate
authorization
Bearer sk-upstream-0123456789abcdef
content-length
1024
content-type
application/json
host
127.0.0.1:8787
user-agent
OpenAI/JS 5.0.0
x-portkey-api-key
gw-key-0123456789
x-portkey-custom-host
http://127.0.0.1:9700/v1
x-portkey-provider
openai
";

fn request_body() -> Vec<u8> {
    let system = "You are a careful assistant. Answer in plain words, say what you do not know, and be brief. ".repeat(4);
    let question = "Which of the three proposals costs least over five years, and what would have to change for it? ".repeat(5);
    format!(
        r#"{{"model":"gpt-4o-mini","messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{question}"}}],"temperature":0.7,"max_tokens":256}}"#
    )
    .into_bytes()
}

fn answer_body() -> String {
    let text = "The second one: it has the lowest running cost, and the others would need a third fewer seats. ".repeat(5);
    format!(
        r#"{{"id":"chatcmpl-9XkQ2Zp4mB7cD1eF","object":"chat.completion","created":1795169730,"model":"gpt-4o-mini-2024-07-18","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":213,"completion_tokens":112,"total_tokens":325,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_0123456789"}}"#
    )
}
