//! Raw ids become OpenTelemetry ids exactly as the vectors say (otel.md §1.3, §1.4). They were computed by an
//! independent program: what leaves here must join with what others derive from the same raw id.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test fails by panicking

use serde_json::Value;
use spangate::ids::{OtelSpanId, OtelTraceId, SpanId, TraceId, Workspace};
use spangate::random::{Rng, SeededRng};

#[test]
fn trace_ids_derive_as_the_vectors_say() {
    let vectors = vectors();
    let cases = vectors["trace_ids"].as_array().unwrap();
    assert_eq!(cases.len(), 16);
    for case in cases {
        let raw = TraceId::parse(case["raw"].as_str().unwrap()).unwrap();
        let derived = OtelTraceId::derive(case["namespace"].as_str().unwrap(), &raw);
        assert_eq!(derived.to_string(), case["otel_trace_id"].as_str().unwrap(), "{case}");
    }
}

#[test]
fn span_ids_derive_as_the_vectors_say() {
    let vectors = vectors();
    let cases = vectors["span_ids"].as_array().unwrap();
    assert_eq!(cases.len(), 7);
    for case in cases {
        let trace = OtelTraceId::from_hex(case["otel_trace_id"].as_str().unwrap()).unwrap();
        let raw = SpanId::parse(case["raw"].as_str().unwrap()).unwrap();
        assert_eq!(OtelSpanId::derive(trace, &raw).to_string(), case["otel_span_id"].as_str().unwrap(), "{case}");
    }
}

#[test]
fn hyphens_in_the_wrong_place_make_no_uuid() {
    let id = |text| OtelTraceId::derive("", &TraceId::parse(text).unwrap()).to_string();
    assert_eq!(id("550E8400-E29B-41D4-A716-446655440000"), "550e8400e29b41d4a716446655440000");
    for text in
        ["550e840-0e29b-41d4-a716-446655440000", "00000000-0000-0000-0000-000000000000", "été550e84000e29b41d4a716446655440"]
    {
        assert_ne!(id(text), text.replace('-', ""));
    }
}

#[test]
fn only_the_default_workspace_has_no_namespace() {
    assert_eq!(Workspace::parse("default").unwrap().namespace(), "");
    assert_eq!(Workspace::parse("Default").unwrap().namespace(), "Default");
    assert_eq!(Workspace::parse("acme").unwrap().namespace(), "acme");
}

#[test]
fn a_minted_trace_id_is_a_uuid_v4_and_keeps_its_digits() {
    let mut rng = SeededRng(7);
    for _ in 0..100 {
        let raw = TraceId::random(&mut rng);
        let text = raw.as_str();
        assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{text}");
        assert_eq!(&text[14..15], "4", "{text}");
        assert!("89ab".contains(&text[19..20]), "{text}");
        assert_eq!(OtelTraceId::derive("acme", &raw).to_string(), text.replace('-', ""));
    }
}

#[test]
fn a_minted_span_id_is_its_own_otel_side() {
    let raw = SpanId::random(&mut SeededRng(7));
    assert_eq!(raw.as_str().len(), 16);
    assert_eq!(OtelSpanId::derive(OtelTraceId([1; 16]), &raw).to_string(), raw.as_str());
}

#[test]
fn no_minted_id_is_all_zero() {
    struct Stuck;
    impl Rng for Stuck {
        fn next_u64(&mut self) -> u64 {
            0
        }
    }
    assert_eq!(SpanId::random(&mut Stuck).as_str(), "0000000000000001");
    assert_eq!(TraceId::random(&mut Stuck).as_str(), "00000000-0000-4000-8000-000000000000");
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/otlp/ids.json")).unwrap()
}
