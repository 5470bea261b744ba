//! The vectors of `tests/vectors/<dialect>`: recorded calls with the expected translation in both directions.
//!
//! Comparison (conventions.md): JSON equality whatever the order of keys; numbers by value; `arguments` as parsed JSON; in
//! chunks, null and absent are equal.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail loudly")]

use serde_json::{Value, json};
use spangate::dialect::anthropic::Caps;
use spangate::dialect::anthropic::request::RequestOptions;
use spangate::dialect::translate::{Translated, openai_to_anthropic};

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
