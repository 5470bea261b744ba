//! A call's headers place it in its trace (otel.md §1.7–1.10, protocol §1.2, §1.5).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test fails by panicking

use serde_json::Value;
use spangate::headers::Headers;
use spangate::ids::Workspace;
use spangate::random::SeededRng;
use spangate::trace::context::{CallContext, TraceParent};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const TRACEPARENT: (&str, &str) = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");

#[test]
fn traceparent_reads_as_the_vectors_say() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/otlp/traceparent.json")).unwrap();
    let cases = vectors["traceparent"].as_array().unwrap();
    assert_eq!(cases.len(), 24);
    for case in cases {
        let parsed = TraceParent::parse(case["header"].as_str().unwrap());
        assert_eq!(parsed.is_some(), case["valid"].as_bool().unwrap(), "{case}");
        let Some(parsed) = parsed else { continue };
        assert_eq!(parsed.trace_id.to_string(), case["trace_id"].as_str().unwrap(), "{case}");
        assert_eq!(parsed.parent_id.to_string(), case["parent_id"].as_str().unwrap(), "{case}");
        assert_eq!(format!("{:02x}", parsed.flags), case["flags"].as_str().unwrap(), "{case}");
        assert_eq!(parsed.sampled(), case["sampled"].as_bool().unwrap(), "{case}");
    }
}

#[test]
fn repeated_future_traceparents_are_invalid_too() {
    let one = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x";
    assert!(TraceParent::parse(one).is_some());
    assert!(TraceParent::parse(&format!("{one}, {one}")).is_none());
}

#[test]
fn a_call_without_headers_is_a_root_of_its_own_trace() {
    let call = read(&[]);
    assert_eq!(call.trace_id.as_str().len(), 36);
    assert_eq!(call.otel_trace_id.to_string(), call.trace_id.as_str().replace('-', ""));
    assert_eq!(call.otel_span_id.to_string(), call.span_id.as_str());
    assert!(!call.span_id_given && call.sampled);
    assert_eq!((call.parent_span_id, call.otel_parent, call.caller_link, call.span_name), (None, None, None, None));
    assert!(call.metadata.is_empty());
}

#[test]
fn portkey_ids_are_kept_raw_and_derived() {
    let call = read(&[
        ("x-portkey-trace-id", " 1729 "),
        ("x-portkey-span-id", "11"),
        ("x-portkey-parent-span-id", "rag-step"),
        ("x-portkey-span-name", "answer"),
    ]);
    assert_eq!((call.trace_id.as_str(), call.span_id.as_str(), call.span_id_given), ("1729", "11", true));
    assert_eq!(call.otel_trace_id.to_string(), "0cdd55ecd49d5a0e0442ef285597da5d");
    assert_eq!(call.otel_span_id.to_string(), "58696f1ac14adeba");
    assert_eq!(call.parent_span_id.unwrap().as_str(), "rag-step");
    assert_eq!(call.otel_parent.unwrap().to_string(), "ba165a5ea66a5d75");
    assert_eq!(call.span_name.as_deref(), Some("answer"));
}

#[test]
fn a_named_workspace_derives_other_ids() {
    let headers = [("x-portkey-trace-id", "1729")].into_iter().collect();
    let call = CallContext::from_headers(&headers, &Workspace::parse("acme").unwrap(), &mut SeededRng(1));
    assert_eq!(call.otel_trace_id.to_string(), "1934b9b532d75e0489ae2a4984ba93c8");
}

#[test]
fn a_traceparent_alone_is_continued() {
    let call = read(&[TRACEPARENT]);
    assert_eq!((call.trace_id.as_str(), call.otel_trace_id.to_string().as_str()), (TRACE, TRACE));
    assert_eq!(call.parent_span_id.unwrap().as_str(), PARENT);
    assert_eq!(call.otel_parent.unwrap().to_string(), PARENT);
    assert_eq!((call.caller_link, call.sampled, call.span_id_given), (None, true, false));
}

#[test]
fn an_explicit_id_that_derives_to_the_same_trace_continues_it() {
    for same in [TRACE, "4BF92F3577B34DA6A3CE929D0E0E4736", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"] {
        let call = read(&[TRACEPARENT, ("x-portkey-trace-id", same)]);
        assert_eq!(call.trace_id.as_str(), same);
        assert_eq!(call.otel_parent.unwrap().to_string(), PARENT);
        assert_eq!(call.caller_link, None);
    }
}

#[test]
fn an_explicit_id_of_another_trace_restarts_it_with_a_link() {
    let call = read(&[("x-portkey-trace-id", "1729"), TRACEPARENT]);
    assert_eq!(call.otel_trace_id.to_string(), "0cdd55ecd49d5a0e0442ef285597da5d");
    assert_eq!(call.parent_span_id.unwrap().as_str(), PARENT, "the raw column keeps it");
    assert_eq!(call.otel_parent, None, "a parent is in the same trace");
    let (trace, span) = call.caller_link.unwrap();
    assert_eq!((trace.to_string().as_str(), span.to_string().as_str()), (TRACE, PARENT));
}

#[test]
fn an_explicit_parent_beats_the_traceparents() {
    let call = read(&[TRACEPARENT, ("x-portkey-parent-span-id", "42DF8AC2DDE4AC52")]);
    assert_eq!(call.parent_span_id.unwrap().as_str(), "42DF8AC2DDE4AC52");
    assert_eq!(call.otel_parent.unwrap().to_string(), "42df8ac2dde4ac52");
    assert_eq!(call.trace_id.as_str(), TRACE);
}

#[test]
fn blank_headers_are_absent_but_words_are_ids() {
    let call = read(&[("x-portkey-parent-span-id", "  "), ("x-portkey-span-id", ""), ("x-portkey-trace-id", " ")]);
    assert_eq!((call.parent_span_id, call.span_id_given, call.trace_id.as_str().len()), (None, false, 36));
    assert_eq!(read(&[("x-portkey-parent-span-id", "root")]).parent_span_id.unwrap().as_str(), "root");
}

#[test]
fn an_invalid_traceparent_is_absent() {
    let call = read(&[("traceparent", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-00")]);
    assert_eq!((call.parent_span_id, call.otel_parent, call.sampled), (None, None, true));
}

#[test]
fn the_callers_flag_decides_sampling() {
    assert!(!read(&[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02")]).sampled);
    assert!(read(&[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03")]).sampled);
}

#[test]
fn metadata_is_read_leniently() {
    let long = "é".repeat(200);
    let cut = "é".repeat(128);
    let cases: &[(&str, &[(&str, &str)])] = &[
        (r#"{"_user":"u1","env":"prod"}"#, &[("_user", "u1"), ("env", "prod")]),
        (r#"{"n":12345678901234567890123,"f":1.50,"b":true}"#, &[("b", "true"), ("f", "1.50"), ("n", "12345678901234567890123")]),
        (r#"{"o":{"z": 1,"a":[2]},"l":[1,"x"]}"#, &[("l", r#"[1,"x"]"#), ("o", r#"{"z": 1,"a":[2]}"#)]),
        (r#"{"a":null,"b":""}"#, &[("b", "")]),
        (r#"{"t":"q\"\u00e9\n"}"#, &[("t", "q\"é\n")]),
        (r#"{"t":1,"t":2}"#, &[("t", "2")]),
        (r#"{"lone":"\ud800"}"#, &[("lone", r#""\ud800""#)]),
        ("{'_user':'u1'}", &[]),
        ("plain", &[]),
        (r#""text""#, &[]),
        ("[1]", &[]),
        ("null", &[]),
        (r#"{"a":"#, &[]),
    ];
    for (header, expected) in cases {
        assert_eq!(metadata(&[("x-portkey-metadata", header)]), *expected, "{header}");
    }
    assert_eq!(metadata(&[("x-portkey-metadata", &format!(r#"{{"k":"{long}"}}"#))]), [("k", cut.as_str())]);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    metadata(&[("x-portkey-metadata", &format!(r#"{{"k":{deep}}}"#))]); // survives
}

#[test]
fn baggage_is_read_member_by_member() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("a=1,b=2", &[("a", "1"), ("b", "2")]),
        (" a = 1 ; p=q ; r , b=2;x", &[("a", "1"), ("b", "2")]),
        ("user=a=b", &[("user", "a=b")]),
        ("name=J%C3%BCrgen%20X", &[("name", "Jürgen X")]),
        ("bad=%ff%4", &[("bad", "\u{fffd}%4")]),
        ("p=100%,q=%zz,r=%+1", &[("p", "100%"), ("q", "%zz"), ("r", "%+1")]),
        ("novalue,=x,k y=1,ok=,,k=v", &[("k", "v"), ("ok", "")]),
        ("k=1,k=2", &[("k", "2")]),
    ];
    for (header, expected) in cases {
        assert_eq!(metadata(&[("baggage", header)]), *expected, "{header}");
    }
}

#[test]
fn baggage_is_bounded() {
    let many: String = (0..200).map(|n| format!("k{n:03}={n},")).collect();
    let kept = read(&[("baggage", &many)]).metadata;
    assert_eq!((kept.len(), kept.contains_key("k179"), kept.contains_key("k180")), (180, true, false));
    let exact = format!("a=1,b={}", "x".repeat(8192 - 6));
    assert_eq!(read(&[("baggage", &exact)]).metadata.len(), 2);
    assert_eq!(read(&[("baggage", &format!("{exact}y"))]).metadata.len(), 1);
    assert_eq!(read(&[("baggage", &format!("a={}", "é".repeat(200)))]).metadata["a"].chars().count(), 128);
}

#[test]
fn metadata_beats_baggage_and_both_beat_the_body() {
    let both = [("baggage", "_user=low,only=baggage"), ("x-portkey-metadata", r#"{"_user":"high"}"#)];
    assert_eq!(metadata(&both), [("_user", "high"), ("only", "baggage")]);
    let mut call = read(&both);
    call.with_user("body");
    assert_eq!(call.metadata["_user"], "high");

    let mut call = read(&[]);
    call.with_user(" ");
    assert!(call.metadata.is_empty());
    call.with_user(&"u".repeat(200));
    assert_eq!(call.metadata["_user"].len(), 128);
}

fn read(headers: &[(&str, &str)]) -> CallContext {
    let headers: Headers = headers.iter().copied().collect();
    CallContext::from_headers(&headers, &Workspace::parse("default").unwrap(), &mut SeededRng(1))
}

/// The metadata as comparable pairs; leaks a few bytes, which a test may.
fn metadata(headers: &[(&str, &str)]) -> Vec<(&'static str, &'static str)> {
    let pairs = read(headers).metadata.into_iter();
    pairs.map(|(key, value)| (&*String::leak(key), &*String::leak(value))).collect()
}
