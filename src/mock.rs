//! The `mock` provider: an upstream inside the Worker, so that a new user sees retries and fallbacks without an account.
//!
//! The model name picks the behaviour (the table in docs/mock-provider.md). This file decides *what* is answered and when; playing it is the
//! shell's business. It exists only where the var `ENABLE_MOCK_PROVIDER` is `true`, so never by default in a deployment.

#![expect(clippy::indexing_slicing, reason = "reading a missing member of a serde_json::Value yields null")]

use crate::time::Millis;
use serde_json::{Value, json};

/// What the mock will do with one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// Silence before the response headers.
    pub first_byte: Millis,
    /// HTTP status.
    pub status: u16,
    /// Lower-case name, value.
    pub headers: Vec<(&'static str, String)>,
    /// The body, piece by piece.
    pub chunks: Vec<String>,
    /// Silence between two pieces.
    pub gap: Millis,
    /// The connection breaks after the last piece.
    pub cut: bool,
}

/// What a model name asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Answer,
    CutAfter { events: usize },
    Embed,
    FailFirst { status: u16, calls: u32 },
    RateLimitFirst { retry_after_seconds: u32, calls: u32 },
    SlowFirstByte { ms: u32 },
    Tools,
}

/// Decides the answer to `body`; `earlier` is how many requests for the same model this trace has sent before.
pub fn script(path: &str, body: &[u8], earlier: u32) -> Script {
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        return refusal(400, "invalid_request_error", "The body is not JSON.");
    };
    let model = request["model"].as_str().unwrap_or_default();
    let Some(behaviour) = behaviour(model) else {
        return refusal(404, "model_not_found", &format!("The mock provider has no model '{model}'. It has: {MODELS}."));
    };
    if path.ends_with("/embeddings") != (behaviour == Behaviour::Embed) {
        return refusal(400, "invalid_request_error", &format!("The model '{model}' is not for {path}."));
    }
    match behaviour {
        Behaviour::FailFirst { status, calls } if earlier < calls => {
            let of = if calls == u32::MAX { String::new() } else { format!(" of {calls}") };
            refusal(status, "mock_failure", &format!("Failure {}{of}, as the model name asks.", earlier + 1))
        }
        Behaviour::RateLimitFirst { retry_after_seconds, calls } if earlier < calls => {
            let mut refused = refusal(429, "rate_limit_exceeded", "Too many requests, as the model name asks.");
            refused.headers.push(("retry-after", retry_after_seconds.to_string()));
            refused
        }
        Behaviour::Embed => json_answer(embeddings(model, &request)),
        _ if request["stream"].as_bool() == Some(true) => stream(model, &request, behaviour),
        _ => whole(model, &request, behaviour),
    }
}

fn behaviour(model: &str) -> Option<Behaviour> {
    let number = |text: &str| text.parse::<u32>().ok();
    let mut words = model.strip_prefix("mock-")?.split('-');
    let behaviour = match (words.next()?, words.next(), words.next()) {
        ("chat", None, None) => Behaviour::Answer,
        ("cut", events, None) => Behaviour::CutAfter { events: events.map_or(Some(3), number)? as usize },
        ("embed", None, None) => Behaviour::Embed,
        ("fail", Some(status), calls) => Behaviour::FailFirst {
            status: status.parse().ok().filter(|status| (400..600).contains(status))?,
            calls: calls.map_or(Some(u32::MAX), number)?,
        },
        ("ratelimit", Some(seconds), calls) => {
            Behaviour::RateLimitFirst { retry_after_seconds: number(seconds)?, calls: calls.map_or(Some(1), number)? }
        }
        ("slow", Some(ms), None) => Behaviour::SlowFirstByte { ms: number(ms).filter(|ms| *ms <= 600_000)? },
        ("tools", None, None) => Behaviour::Tools,
        _ => return None,
    };
    words.next().is_none().then_some(behaviour)
}

fn whole(model: &str, request: &Value, behaviour: Behaviour) -> Script {
    let mut message = json!({"role": "assistant", "content": reply_text(request), "refusal": null});
    if let Some(call) = tool_call(request, behaviour) {
        message = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    }
    let finish = finish_reason(request, behaviour);
    let mut answer = json_answer(json!({
        "id": ANSWER_ID, "object": "chat.completion", "created": CREATED, "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish}],
        "usage": usage(request),
    }));
    answer.first_byte = first_byte(behaviour);
    if matches!(behaviour, Behaviour::CutAfter { .. }) {
        answer.chunks = answer.chunks.iter().map(|chunk| chunk.chars().take(chunk.chars().count() / 2).collect()).collect();
        answer.cut = true;
    }
    answer
}

fn stream(model: &str, request: &Value, behaviour: Behaviour) -> Script {
    let chunk = |choices: Value, usage: Value| {
        let mut body =
            json!({"id": ANSWER_ID, "object": "chat.completion.chunk", "created": CREATED, "model": model, "choices": choices});
        if !usage.is_null() {
            body["usage"] = usage;
        }
        format!("data: {body}\n\n")
    };
    let delta = |delta: Value, finish: Value| chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}]), Value::Null);
    let mut chunks = vec![delta(json!({"role": "assistant", "content": ""}), Value::Null)];
    match tool_call(request, behaviour) {
        Some(mut call) => {
            call["index"] = 0.into();
            chunks.push(delta(json!({"tool_calls": [call]}), Value::Null));
        }
        None => chunks.extend(reply_text(request).split_inclusive(' ').map(|word| delta(json!({"content": word}), Value::Null))),
    }
    chunks.push(delta(json!({}), finish_reason(request, behaviour).into()));
    if request["stream_options"]["include_usage"].as_bool() == Some(true) {
        chunks.push(chunk(json!([]), usage(request)));
    }
    chunks.push("data: [DONE]\n\n".to_owned());
    let cut = match behaviour {
        Behaviour::CutAfter { events } => {
            chunks.truncate(events);
            true
        }
        _ => false,
    };
    let headers = vec![("content-type", "text/event-stream".to_owned())];
    Script { first_byte: first_byte(behaviour), status: 200, headers, chunks, gap: STREAM_GAP, cut }
}

fn embeddings(model: &str, request: &Value) -> Value {
    let inputs: Vec<&Value> = match &request["input"] {
        Value::Array(many) if !many.iter().all(Value::is_number) => many.iter().collect(),
        one => vec![one],
    };
    let rows: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| json!({"object": "embedding", "index": index, "embedding": vector(&input.to_string())}))
        .collect();
    let tokens = tokens(&request["input"].to_string());
    json!({"object": "list", "data": rows, "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
}

/// Eight numbers that depend on the text alone.
fn vector(text: &str) -> Vec<f64> {
    let seed = text.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    (0..8_u32).map(|axis| f64::from(seed.wrapping_mul(axis * 2 + 1) % 2_001) / 1_000.0 - 1.0).collect()
}

fn tool_call(request: &Value, behaviour: Behaviour) -> Option<Value> {
    let answered = request["messages"].as_array().and_then(|all| all.last()).is_some_and(|last| last["role"] == "tool");
    let name = request["tools"][0]["function"]["name"].as_str().filter(|_| behaviour == Behaviour::Tools && !answered)?;
    Some(json!({"id": "call_mock", "type": "function", "function": {"name": name, "arguments": "{}"}}))
}

fn reply_text(request: &Value) -> String {
    let last = request["messages"].as_array().and_then(|all| all.last()).and_then(|message| message["content"].as_str());
    format!("This is the mock provider. You said: {}", last.unwrap_or("nothing"))
}

fn usage(request: &Value) -> Value {
    let (input, output) = (tokens(&request["messages"].to_string()), tokens(&reply_text(request)));
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

/// About four bytes a token, never zero: enough for a cost to be seen.
fn tokens(text: &str) -> usize {
    text.len().div_ceil(4).max(1)
}

fn finish_reason(request: &Value, behaviour: Behaviour) -> &'static str {
    if tool_call(request, behaviour).is_some() { "tool_calls" } else { "stop" }
}

fn first_byte(behaviour: Behaviour) -> Millis {
    match behaviour {
        Behaviour::SlowFirstByte { ms } => Millis(ms.into()),
        _ => Millis(0),
    }
}

fn json_answer(body: Value) -> Script {
    let headers = vec![("content-type", "application/json".to_owned())];
    Script { first_byte: Millis(0), status: 200, headers, chunks: vec![body.to_string()], gap: Millis(0), cut: false }
}

fn refusal(status: u16, code: &str, message: &str) -> Script {
    let kind = crate::error::openai_type(status);
    Script { status, ..json_answer(json!({"error": {"message": message, "type": kind, "param": null, "code": code}})) }
}

const MODELS: &str = "mock-chat, mock-tools, mock-embed, mock-fail-<status>[-<calls>], mock-ratelimit-<seconds>[-<calls>], mock-slow-<ms>, mock-cut[-<events>]";
const ANSWER_ID: &str = "chatcmpl-mock";
const CREATED: u64 = 1_700_000_000;
/// Slow enough to be seen arriving, fast enough not to be waited for.
const STREAM_GAP: Millis = Millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(model: &str, stream: bool, earlier: u32) -> Script {
        let body = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "ping pong"}], "tools": [{"function": {"name": "now"}}]});
        script("/v1/chat/completions", body.to_string().as_bytes(), earlier)
    }

    #[test]
    fn the_model_name_picks_the_behaviour() {
        for (model, earlier, status) in [
            ("mock-chat", 0, 200),
            ("mock-fail-503-2", 1, 503),
            ("mock-fail-503-2", 2, 200),
            ("mock-fail-500", 9, 500),
            ("mock-ratelimit-1", 0, 429),
            ("mock-ratelimit-1", 1, 200),
            ("mock-fail-200", 0, 404),
            ("mock-chat-x", 0, 404),
            ("mock-embed", 0, 400),
            ("gpt-4o", 0, 404),
        ] {
            assert_eq!(chat(model, false, earlier).status, status, "{model} after {earlier}");
        }
        assert_eq!(chat("mock-slow-250", false, 0).first_byte, Millis(250));
        assert!(chat("mock-ratelimit-7", false, 0).headers.contains(&("retry-after", "7".into())));
    }

    #[test]
    fn streams_end_or_break_as_asked() {
        let whole = chat("mock-chat", true, 0);
        assert_eq!(whole.chunks.last().map(String::as_str), Some("data: [DONE]\n\n"));
        let cut = chat("mock-cut-2", true, 0);
        assert!(cut.cut && cut.chunks.len() == 2);
        assert!(chat("mock-tools", true, 0).chunks[1].contains("call_mock"));
    }

    #[test]
    fn embeddings_depend_on_the_text_alone() {
        let embed =
            |input: Value| script("/v1/embeddings", json!({"model": "mock-embed", "input": input}).to_string().as_bytes(), 0);
        let both: Value = serde_json::from_str(&embed(json!(["a", "b"])).chunks[0]).unwrap();
        assert_eq!(both["data"].as_array().unwrap().len(), 2);
        assert_ne!(both["data"][0]["embedding"], both["data"][1]["embedding"]);
        assert_eq!(embed(json!("a")), embed(json!("a")));
    }
}
