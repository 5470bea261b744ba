//! Recorded chat streams: `tests/vectors/openai_chat/<case>/stream.txt`, and in `expect.json` what must be seen in them.
//!
//! `why` says what a case is for. `end` is `complete`, `truncated`, `failed: …` or `malformed: …`; `saw_finish` needs to be
//! given only where the end does not already tell.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use spangate::dialect::openai_chat::observe::{StreamObserver, is_terminated, stream};
use spangate::llm::observed::{ObservedStream, StreamEnd};
use std::path::Path;

#[test]
fn every_stream_is_seen_as_expected() {
    for case in cases() {
        let seen = as_json(&stream(&case.stream));
        let expected = without(&case.expect, &["why", "saw_finish"]);
        assert_eq!(seen, expected, "{}:\n{seen:#}\nis not\n{expected:#}", case.name);
    }
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for case in cases() {
        let whole = stream(&case.stream);
        for cut in 0..=case.stream.len() {
            let (head, tail) = case.stream.split_at(cut);
            assert_eq!(in_pieces([head, tail]), whole, "{} cut at {cut}", case.name);
        }
        assert_eq!(in_pieces(case.stream.chunks(1)), whole, "{} byte by byte", case.name);
    }
}

/// However little of a stream has come, what is assembled is JSON, and the tail alone tells whether it was terminated.
#[test]
fn every_beginning_of_a_stream_is_judged_alike_by_its_tail() {
    for case in cases() {
        for cut in 0..=case.stream.len() {
            let head = &case.stream[..cut];
            let seen = stream(head);
            let assembled = seen.assembled.as_deref().unwrap_or("{}");
            // Half a surrogate pair is the one thing that RawValue takes and Value does not.
            assert!(
                serde_json::from_str::<&serde_json::value::RawValue>(assembled).is_ok(),
                "{} until {cut}: {assembled}",
                case.name
            );
            let by_tail = is_terminated(&head[cut.saturating_sub(64)..]);
            match seen.end {
                StreamEnd::Complete if case.name == "end-text-after-done" => {}
                StreamEnd::Complete => assert!(by_tail, "{} until {cut}", case.name),
                StreamEnd::Truncated => assert!(!by_tail, "{} until {cut}", case.name),
                StreamEnd::Failed(_) | StreamEnd::Malformed(_) => {}
            }
        }
    }
}

#[test]
fn finish_reasons_show_the_end_where_the_terminator_is_left_out() {
    for case in cases() {
        let mut observer = StreamObserver::default();
        observer.push(&case.stream);
        let finished = case.expect["finish_reasons"].as_array().is_some_and(|reasons| !reasons.is_empty());
        assert_eq!(observer.saw_finish(), case.expect["saw_finish"].as_bool().unwrap_or(finished), "{}", case.name);
    }
}

struct Case {
    name: String,
    stream: Vec<u8>,
    expect: Value,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/openai_chat");
    let cases: Vec<Case> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| Case {
            name: entry.file_name().into_string().unwrap(),
            stream: std::fs::read(entry.path().join("stream.txt")).unwrap(),
            expect: serde_json::from_slice(&std::fs::read(entry.path().join("expect.json")).unwrap()).unwrap(),
        })
        .collect();
    assert!(cases.len() > 25);
    cases
}

fn in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> ObservedStream {
    let mut observer = StreamObserver::default();
    pieces.into_iter().for_each(|piece| observer.push(piece));
    observer.finish()
}

fn as_json(seen: &ObservedStream) -> Value {
    let end = match &seen.end {
        StreamEnd::Complete => "complete".to_owned(),
        StreamEnd::Failed(message) => format!("failed: {message}"),
        StreamEnd::Malformed(what) => format!("malformed: {what}"),
        StreamEnd::Truncated => "truncated".to_owned(),
    };
    let answer: Value = seen.assembled.as_deref().map_or(Value::Null, |answer| serde_json::from_str(answer).unwrap());
    let mut all =
        json!({"end": end, "finish_reasons": seen.observed.finish_reasons, "usage": seen.observed.usage, "answer": answer});
    let facts = [
        ("model", &seen.observed.model),
        ("response_id", &seen.observed.response_id),
        ("service_tier", &seen.observed.service_tier),
    ];
    for (key, fact) in facts {
        if let Some(fact) = fact {
            all[key] = fact.as_str().into();
        }
    }
    all
}

fn without(value: &Value, keys: &[&str]) -> Value {
    let mut value = value.clone();
    keys.iter().for_each(|key| drop(value.as_object_mut().unwrap().remove(*key)));
    value
}
