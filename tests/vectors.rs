//! The vectors of `tests/vectors/<dialect>`: recorded calls with the expected translation in both directions.
//!
//! Comparison (conventions.md): JSON equality whatever the order of keys; numbers by value; `arguments` as parsed JSON; in
//! chunks, null and absent are equal.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail loudly")]

use serde_json::{Value, json};
use spangate::dialect::anthropic::Caps;
use spangate::dialect::anthropic::request::RequestOptions;
use spangate::dialect::translate::{ReplyTranslator, Translated, openai_to_anthropic};
use spangate::llm::observed::{ObservedStream, StreamEnd};

/// One file.
struct Vector {
    name: String,
    json: Value,
}

impl Vector {
    fn translated(&self) -> Translated {
        let options = RequestOptions {
            default_max_tokens: self.json["context"]["default_max_tokens"].as_u64().unwrap_or(4096),
            max_output_tokens: Some(64_000),
            caps: Caps::from_flags(["tools", "vision", "reasoning", "native_schema", "schema", "cache"].into_iter()),
        };
        openai_to_anthropic(self.json["openai_request"].to_string().as_bytes(), &options).unwrap()
    }
}

fn vectors(kind: &str) -> Vec<Vector> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/anthropic");
    let mut all: Vec<Vector> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| Vector {
            name: entry.file_name().into_string().unwrap(),
            json: serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap(),
        })
        .filter(|vector| vector.json["kind"] == kind)
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!all.is_empty(), "no vectors of kind {kind}");
    all
}

/// The events as Anthropic frames them, one text each.
fn framed(vector: &Vector) -> Vec<String> {
    let events = vector.json["provider_events"].as_array().unwrap();
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

/// What the client gets for a stream that arrives in these pieces.
fn streamed<'a>(reply: &ReplyTranslator, strict: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> (String, ObservedStream) {
    let (mut stream, mut out) = (reply.stream(CREATED, strict), Vec::new());
    for piece in pieces {
        stream.push(piece, &mut out);
    }
    let seen = stream.finish(("stream_truncated", "cut"), &mut out);
    (String::from_utf8(out).unwrap(), seen)
}

/// The data of each event of an OpenAI stream; one that tells of an error is named so.
fn chunks(stream: &str) -> Vec<Value> {
    let data = stream.split_terminator("\n\n").map(|event| {
        let unnamed = event.strip_prefix("event: error\n").unwrap_or(event);
        assert_eq!(unnamed.contains("{\"error\":"), unnamed != event, "{event}");
        unnamed.strip_prefix("data: ").unwrap()
    });
    data.map(|data| if data == "[DONE]" { json!(data) } else { serde_json::from_str(data).unwrap() }).collect()
}

/// The clock of every vector, in Unix seconds.
const CREATED: u64 = 1_700_000_000;

/// One form for all equal documents.
fn normal(value: &Value, without_nulls: bool) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(|item| normal(item, without_nulls)).collect(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !(without_nulls && value.is_null()))
            .map(|(name, value)| match value.as_str().filter(|_| name == "arguments").map(serde_json::from_str::<Value>) {
                Some(Ok(arguments)) => (name.clone(), json!({"parsed": normal(&arguments, false)})),
                _ => (name.clone(), normal(value, without_nulls)),
            })
            .collect(),
        other => other.clone(),
    }
}

#[track_caller]
fn same(name: &str, seen: &Value, expected: &Value, without_nulls: bool) {
    let (seen, expected) = (normal(seen, without_nulls), normal(expected, without_nulls));
    assert!(seen == expected, "{name}\n--- seen\n{seen:#}\n--- expected\n{expected:#}");
}

#[test]
fn requests() {
    let vectors = vectors("chat").into_iter().chain(vectors("stream"));
    for vector in vectors.filter(|vector| vector.json.get("provider_request").is_some()) {
        let body: Value = serde_json::from_slice(&vector.translated().body).unwrap();
        same(&vector.name, &body, &vector.json["provider_request"], false);
    }
}

#[test]
fn answers() {
    for vector in vectors("chat") {
        let upstream = vector.json["provider_response"].to_string();
        let strict = vector.json["strict"].as_bool().unwrap();
        let (body, observed) = vector.translated().reply.answer(upstream.as_bytes(), CREATED, strict).unwrap();
        same(&vector.name, &serde_json::from_slice(&body).unwrap(), &vector.json["openai_response"], false);
        assert_eq!(json!(observed.finish_reasons), json!([vector.json["provider_response"]["stop_reason"]]), "{}", vector.name);
        assert_eq!(json!(observed.usage.input), vector.json["openai_response"]["usage"]["prompt_tokens"], "{}", vector.name);
    }
}

#[test]
fn errors() {
    for vector in vectors("error") {
        let status = u16::try_from(vector.json["provider_status"].as_u64().unwrap()).unwrap();
        let upstream = vector.json["provider_response"].to_string();
        let (status, body) = ReplyTranslator::default().error(status, upstream.as_bytes());
        assert_eq!(json!(status), vector.json["openai_status"], "{}", vector.name);
        same(&vector.name, &serde_json::from_slice(&body).unwrap(), &vector.json["openai_response"], false);
    }
}

#[test]
fn streams() {
    for vector in vectors("stream") {
        let (reply, strict) = (vector.translated().reply, vector.json["strict"].as_bool().unwrap());
        let bytes = framed(&vector).concat();
        let (text, seen) = streamed(&reply, strict, [bytes.as_bytes()]);
        same(&vector.name, &Value::Array(chunks(&text)), &vector.json["openai_chunks"], true);
        let failed = bytes.contains("event: error");
        assert_eq!(matches!(seen.end, StreamEnd::Complete), !failed, "{}: {:?}", vector.name, seen.end);
        assert_eq!(matches!(seen.end, StreamEnd::Failed(_)), failed, "{}: {:?}", vector.name, seen.end);
    }
}

/// An answer says the same whether it was streamed or not: the assembled chunks are the deltas, joined.
#[test]
fn streams_are_put_together() {
    for vector in vectors("stream") {
        let (reply, strict) = (vector.translated().reply, vector.json["strict"].as_bool().unwrap());
        let (_, seen) = streamed(&reply, strict, [framed(&vector).concat().as_bytes()]);
        let whole: Value = serde_json::from_str(&seen.assembled.unwrap()).unwrap();
        let chunks = vector.json["openai_chunks"].as_array().unwrap();
        let deltas = || chunks.iter().filter_map(|chunk| chunk["choices"][0].get("delta"));
        let joined = |field: &str| deltas().filter_map(|delta| delta[field].as_str()).collect::<String>();
        let message = &whole["choices"][0]["message"];
        assert_eq!(message["content"], joined("content"), "{}", vector.name);
        assert_eq!(message["reasoning_content"].as_str().unwrap_or(""), joined("reasoning_content"), "{}", vector.name);
        let calls = deltas().filter(|delta| delta["tool_calls"][0].get("id").is_some()).count();
        assert_eq!(message["tool_calls"].as_array().map_or(0, Vec::len), calls, "{}", vector.name);
        let finish = chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).next();
        assert_eq!(whole["choices"][0]["finish_reason"].as_str(), finish, "{}", vector.name);
        assert_eq!(whole["object"], "chat.completion");
        if let Some(usage) = chunks.iter().find_map(|chunk| chunk.get("usage")) {
            assert_eq!(&whole["usage"], usage, "{}", vector.name);
        }
    }
}

#[test]
fn a_stream_may_be_cut_anywhere() {
    for vector in vectors("stream") {
        let (reply, strict) = (vector.translated().reply, vector.json["strict"].as_bool().unwrap());
        let bytes = framed(&vector).concat();
        let whole = streamed(&reply, strict, [bytes.as_bytes()]);
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.as_bytes().split_at(cut);
            assert!(streamed(&reply, strict, [head, tail]) == whole, "{} cut at {cut}", vector.name);
        }
        assert!(streamed(&reply, strict, bytes.as_bytes().chunks(1)) == whole, "{} byte by byte", vector.name);
    }
}

#[test]
fn a_stream_that_ends_early_never_looks_complete() {
    for vector in vectors("stream") {
        let (reply, strict) = (vector.translated().reply, vector.json["strict"].as_bool().unwrap());
        let bytes = framed(&vector).concat();
        // The last byte is the second line feed of the last event: without it there is no event.
        for end in 0..bytes.len() {
            let (text, seen) = streamed(&reply, strict, [&bytes.as_bytes()[..end]]);
            assert_eq!(seen.end, StreamEnd::Truncated, "{} ended at {end}", vector.name);
            assert!(!text.contains("[DONE]"), "{} ended at {end}", vector.name);
            let last = chunks(&text).pop().unwrap();
            assert_eq!(last["error"]["code"], "stream_truncated", "{} ended at {end}", vector.name);
        }
    }
}

/// Bytes changed at random: whatever comes, nothing panics, and `[DONE]` is written for a complete stream alone.
#[test]
fn a_corrupted_stream_does_no_harm() {
    let mut state = 7u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for vector in vectors("stream") {
        let reply = vector.translated().reply;
        for round in 0..500 {
            let mut bytes = framed(&vector).concat().into_bytes();
            for _ in 0..=round % 5 {
                let (at, byte) = (random(bytes.len()), b"{}[]\",:\n\\0a\xff"[random(12)]);
                bytes[at] = byte;
            }
            let (text, seen) = streamed(&reply, false, [bytes.as_slice()]);
            let done = chunks(&text).last() == Some(&json!("[DONE]"));
            assert_eq!(done, seen.end == StreamEnd::Complete, "{}", String::from_utf8_lossy(&bytes));
            assert_eq!(!done, text.contains("\"error\":{"), "{}", String::from_utf8_lossy(&bytes));
        }
    }
}
