//! The read API: what was stored is what is told, page by page, by key.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use spangate::api::{self, Route};
use spangate::consume::Store;
use spangate::error::GatewayError;
use spangate::ids::{RecordId, SpanId, Workspace};
use spangate::ports::Statement;
use spangate::store::ingest::INLINE_BYTES;
use spangate::store::search::{self, LogPage, Range, TracePage};
use spangate::time::UnixMillis;
use spangate::trace::message::{Body, CallRecord};
use spangate::trace::span::{Kind, Status};
use spangate::wire::json::JsonText;
use std::collections::BTreeSet;
use support::calls::{Maker, T0, deliver, exchange, message, stored, workspace};
use support::{Fault, TestDb, TestObjects, block_on};

#[test]
fn a_rescued_call_reads_as_the_api_promises() {
    let (db, mut maker) = (TestDb::new(), Maker::new(1));
    let call = maker.call("tr-1", T0, &[429, 200]);
    stored(std::slice::from_ref(&call), &db);
    let summary = json!({
        "trace_id": "tr-1",
        "otel_trace_id": "0123456789abcdef0123456789abcdef",
        "name": "request tr-1",
        "start_time": "2026-11-20T10:15:30.123Z",
        "end_time": "2026-11-20T10:15:30.144Z",
        "duration_ms": 21,
        "status": "ok",
        "request_count": 1,
        "span_count": 3,
        "attempt_count": 2,
        "error_count": 1,
        "providers": ["openai"],
        "models": ["gpt-4o", "gpt-4o-2024-08-06"],
        "usage": usage(10, 5, 2),
        "cost_usd": 0.0000012345,
        "cost_complete": true,
        "rescued": true,
        "metadata": {"_user": "u-9"},
        "feedback": {"count": 0, "weighted_average": null},
    });
    assert_eq!(get("/v1/traces", &db), json!({"object": "list", "data": [summary], "has_more": false, "next_cursor": null}));

    let text = text("/v1/traces/tr-1", &db);
    assert!(text.contains(r#""attributes":{"big":12345678901234567890,"null":null}"#), "attributes pass digit for digit");
    assert!(text.contains(r#""cost_usd":0.0000012345"#), "money is plain and exact");
    let mut trace: Value = serde_json::from_str(&text).unwrap();
    let spans = trace["spans"].take();
    trace.as_object_mut().unwrap().remove("spans");
    let mut expected = summary;
    expected["feedback"] = json!([]);
    assert_eq!(trace, expected);
    let attempt = json!({
        "span_id": call.spans[2].span_id,
        "parent_span_id": call.spans[0].span_id,
        "otel_span_id": call.spans[2].otel_span_id,
        "name": "attempt tr-1",
        "kind": "attempt",
        "start_time": "2026-11-20T10:15:30.133Z",
        "end_time": "2026-11-20T10:15:30.143Z",
        "duration_ms": 10,
        "status": "ok",
        "status_code": 200,
        "error": null,
        "operation": "chat",
        "provider": "openai",
        "request_model": "gpt-4o",
        "response_model": "gpt-4o-2024-08-06",
        "attempt": {"index": 1, "retry": 1, "target": "config", "reason": "retry", "wait_ms": 0, "wait_reason": null},
        "usage": usage(10, 5, 2),
        "cost_usd": 0.0000012345,
        "usage_source": "reported",
        "time_to_first_byte_ms": 7,
        "time_to_first_token_ms": null,
        "stream": false,
        "bytes_in": 100,
        "bytes_out": 200,
        "cache_status": null,
        "metadata": {},
        "log_id": null,
        "attributes": {"big": 12345678901234567890u64, "null": null},
        "events": [],
    });
    assert_eq!(spans[2], attempt);
    let request = &spans[0];
    assert_eq!(request["kind"], "request");
    assert_eq!((&request["usage"], &request["cost_usd"]), (&usage(10, 5, 2), &json!(0.0000012345)));
    assert_eq!((&request["usage_source"], &request["attempt"]), (&json!("reported"), &Value::Null));
    assert_eq!(spans[1]["error"], json!({"type": "http_status", "message": "status 429"}));
}

#[test]
fn unknown_cost_is_null_and_no_cost_is_zero() {
    let (db, mut maker) = (TestDb::new(), Maker::new(2));
    let refused = maker.call("refused", T0, &[429, 500]);
    let mut unpriced = maker.call("unpriced", T0 + 1, &[200]);
    unpriced.spans[1].cost_pico_usd = None;
    let mut half = maker.call("half", T0 + 2, &[200, 200]);
    half.spans[1].cost_pico_usd = None;
    half.spans[1].usage = Default::default();
    stored(&[refused, unpriced, half], &db);
    let traces = get("/v1/traces", &db);
    let logs = get("/v1/logs?kind=request", &db);
    let told = |at: usize| (&traces["data"][at]["cost_usd"], &traces["data"][at]["cost_complete"], &logs["data"][at]["cost_usd"]);
    assert_eq!(told(0), (&json!(0.0000012345), &json!(false), &Value::Null), "half");
    assert_eq!(told(1), (&Value::Null, &json!(false), &Value::Null), "unpriced");
    assert_eq!(told(2), (&json!(0), &json!(true), &json!(0)), "refused");
    assert_eq!(logs["data"][2]["usage"]["total_tokens"], Value::Null);
    assert_eq!(logs["data"][1]["usage"], usage(10, 5, 2));
}

#[test]
fn a_trace_fails_only_if_a_root_call_failed() {
    let (db, mut maker) = (TestDb::new(), Maker::new(3));
    let root = maker.call("child-failed", T0, &[200]);
    let mut child = maker.call("child-failed", T0 + 1, &[500]);
    child.spans[0].parent_span_id = Some(root.spans[0].span_id.clone());
    let mut orphan = maker.call("orphan", T0 + 2, &[500]);
    orphan.spans[0].parent_span_id = SpanId::parse("never-seen");
    let mut own_parent = maker.call("own-parent", T0 + 3, &[500]);
    own_parent.spans[0].parent_span_id = Some(own_parent.spans[0].span_id.clone());
    let mut left = maker.call("left", T0 + 4, &[200]);
    left.spans.iter_mut().for_each(|span| span.status = Status::Cancelled);
    stored(&[root, child, orphan, own_parent, left], &db);
    let traces = get("/v1/traces", &db);
    let statuses: Vec<(&str, &str)> = traces["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| (t["trace_id"].as_str().unwrap(), t["status"].as_str().unwrap()))
        .collect();
    assert_eq!(statuses, [("left", "ok"), ("own-parent", "error"), ("orphan", "error"), ("child-failed", "ok")]);
    assert_eq!((&traces["data"][3]["error_count"], &traces["data"][3]["rescued"]), (&json!(2), &json!(false)));
}

#[test]
fn spans_come_by_start_then_by_order_of_recording() {
    let (db, mut maker) = (TestDb::new(), Maker::new(4));
    let mut calls: Vec<CallRecord> = (0..20).map(|n| maker.call("tr", T0 + n / 10, &[500, 500, 200])).collect();
    for call in &mut calls {
        let start = call.spans[0].start;
        call.spans.iter_mut().for_each(|span| span.start = start);
    }
    calls.reverse();
    stored(&calls, &db);
    let trace = get("/v1/traces/tr", &db);
    let spans = trace["spans"].as_array().unwrap();
    let position = |span: &Value| span["attempt"]["index"].as_u64().map_or(0, |index| index + 1);
    assert_eq!(spans.iter().map(position).collect::<Vec<_>>(), [0, 1, 2, 3].repeat(20));
    assert!(spans.is_sorted_by_key(|span| span["start_time"].as_str().unwrap().to_owned()));
    assert!(spans.chunks(4).all(|call| call[1..].iter().all(|attempt| attempt["parent_span_id"] == call[0]["span_id"])));
}

#[test]
fn a_trace_of_a_thousand_spans_is_whole() {
    let (db, mut maker) = (TestDb::new(), Maker::new(5));
    let calls: Vec<CallRecord> = (0..500).map(|n| maker.call("tr", T0 + n, &[200])).collect();
    stored(&calls, &db);
    let trace = get("/v1/traces/tr", &db);
    let spans = trace["spans"].as_array().unwrap();
    assert_eq!((spans.len(), &trace["span_count"], &trace["usage"]["total_tokens"]), (1_000, &json!(1_000), &json!(7_500)));
    let ids: BTreeSet<&str> = spans.iter().map(|span| span["span_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1_000);
    assert_eq!(trace["cost_usd"], json!(0.00061725));
}

#[test]
fn a_trace_without_end_has_true_sums_and_a_bounded_answer() {
    let (db, mut maker) = (TestDb::new(), Maker::new(6));
    let mut calls: Vec<CallRecord> = (0..2_200).map(|n| maker.call("endless", T0 + n, &[200])).collect();
    let note = serde_json::value::RawValue::from_string(format!("{{\"note\":\"{}\"}}", "x".repeat(15_000))).unwrap();
    let note = JsonText::from(note);
    calls.iter_mut().for_each(|call| call.spans[1].attributes = Some(note.clone()));
    calls.push(maker.call("other", T0 + 9_000, &[200]));
    stored(&calls, &db);
    let list = get("/v1/traces", &db);
    assert_eq!((&list["data"][0]["span_count"], &list["data"][1]["span_count"]), (&json!(2), &json!(4_400)));
    assert_eq!(list["data"][1]["usage"]["input_tokens"], json!(22_000));

    let trace = get("/v1/traces/endless", &db);
    let spans = trace["spans"].as_array().unwrap();
    assert_eq!(trace["span_count"], json!(4_400));
    assert!((2_000..4_000).contains(&spans.len()), "{}", spans.len());
    let request = |span: &&Value| span["kind"] == "request";
    assert_eq!(spans.iter().find(request).unwrap()["cost_usd"], json!(0.0000012345));
    assert_eq!(spans.iter().rfind(request).unwrap()["cost_usd"], Value::Null, "its attempt may not be among the shown");
}

#[test]
fn paging_shows_every_trace_once_while_others_arrive() {
    let (db, mut maker) = (TestDb::new(), Maker::new(7));
    let calls: Vec<CallRecord> = (0..23).map(|n| maker.call(&format!("tr-{}", n % 17), T0 + 10 * n, &[200])).collect();
    stored(&calls, &db);
    let existed: BTreeSet<String> = (0..17).map(|n| format!("tr-{n}")).collect();
    let (mut seen, mut cursor, mut page) = (Vec::new(), String::new(), 0);
    loop {
        let list = get(&format!("/v1/traces?limit=4&cursor={cursor}"), &db);
        seen.extend(list["data"].as_array().unwrap().iter().map(|trace| trace["trace_id"].as_str().unwrap().to_owned()));
        let Some(next) = list["next_cursor"].as_str() else { break };
        cursor = next.to_owned();
        page += 1;
        // New ones; traces still to be shown that grow at either end; traces just shown that turn out to have begun long ago; latecomers in between.
        stored(&[maker.call(&format!("new-{page}"), T0 + 1_000, &[200])], &db);
        stored(&[maker.call("tr-3", T0 + 1_001, &[200]), maker.call("tr-1", T0 - page, &[200])], &db);
        let shown = seen.last().unwrap().clone();
        stored(&[maker.call(&shown, T0 - 500, &[200]), maker.call(&format!("late-{page}"), T0 + 15, &[200])], &db);
        assert!(page < 20, "paging does not end");
    }
    let unique: BTreeSet<String> = seen.iter().cloned().collect();
    assert_eq!(unique.len(), seen.len(), "a trace was shown twice: {seen:?}");
    assert!(existed.is_subset(&unique), "skipped: {:?}", existed.difference(&unique));
}

#[test]
fn pages_end_exactly() {
    let (db, mut maker) = (TestDb::new(), Maker::new(8));
    for n in 0..4 {
        stored(&[maker.call(&format!("tr-{n}"), T0 + n, &[])], &db);
    }
    for (path, ids) in [("/v1/traces", ["tr-3", "tr-2", "tr-1", "tr-0"]), ("/v1/logs", ["tr-3", "tr-2", "tr-1", "tr-0"])] {
        let first = get(&format!("{path}?limit=2"), &db);
        let second = get(&format!("{path}?limit=2&cursor={}", first["next_cursor"].as_str().unwrap()), &db);
        assert_eq!(first["data"].as_array().unwrap().len(), 2);
        assert_eq!(
            (&first["has_more"], &second["has_more"], &second["next_cursor"]),
            (&json!(true), &json!(false), &Value::Null)
        );
        let told: Vec<&Value> =
            [&first, &second].iter().flat_map(|page| page["data"].as_array().unwrap()).map(|t| &t["trace_id"]).collect();
        assert_eq!(told, ids, "{path}");
    }
}

#[test]
fn a_range_of_time_holds_what_started_in_it() {
    let (db, mut maker) = (TestDb::new(), Maker::new(9));
    let hour = 3_600_000;
    stored(&[maker.call("early", T0, &[]), maker.call("mid", T0 + hour, &[]), maker.call("late", T0 + 2 * hour, &[])], &db);
    let at = |n: u64| UnixMillis(T0 + n * hour).rfc3339();
    for (query, expected) in [
        (format!("from={}&to={}", at(0), at(2)), vec!["mid", "early"]),
        (format!("from={}", at(1)), vec!["late", "mid"]),
        (format!("to={}", at(1)), vec!["early"]),
        (format!("from={}&to={}", at(2), at(1)), vec![]),
        (format!("to={}&cursor={}", at(1), "f".repeat(32)), vec!["early"]),
    ] {
        for path in ["/v1/traces", "/v1/logs"] {
            let list = get(&format!("{path}?{query}"), &db);
            let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|t| t["trace_id"].as_str().unwrap()).collect();
            assert_eq!(ids, expected, "{path}?{query}");
        }
    }
    assert_eq!(get(&format!("/v1/accounting?from={}", at(1)), &db)["stored"], json!(2));
}

#[test]
fn logs_filter_by_trace_span_and_kind() {
    let (db, mut maker) = (TestDb::new(), Maker::new(10));
    let calls = [maker.call("tr 1/é", T0, &[500, 200]), maker.call("tr-2", T0 + 1, &[200])];
    stored(&calls, &db);
    let span = calls[0].spans[1].span_id.as_str();
    for (query, count) in [
        ("", 5),
        ("trace_id=tr+1%2F%C3%A9", 3),
        ("trace_id=tr-2&kind=attempt", 1),
        ("kind=request", 2),
        ("kind=cache", 0),
        (&format!("span_id={span}"), 1),
        (&format!("span_id={span}&trace_id=tr-2"), 0),
        ("trace_id=", 5),
    ] {
        assert_eq!(get(&format!("/v1/logs?{query}"), &db)["data"].as_array().unwrap().len(), count, "{query}");
    }
    let row = &get("/v1/logs?kind=request&limit=1", &db)["data"][0];
    assert_eq!(row.get("attributes"), None);
    assert_eq!(row["usage"], usage(10, 5, 2), "a request's sums need not have its attempts on the page");
    assert_eq!(get("/v1/traces/tr%201%2F%C3%A9", &db)["span_count"], json!(3));
}

#[test]
fn a_log_has_what_was_said_wherever_it_is_kept() {
    let (db, objects, mut maker) = (TestDb::new(), TestObjects::default(), Maker::new(11));
    let large = format!("{}\u{0}\"é", "é".repeat(INLINE_BYTES));
    let raw = |text: &str| Body::Json(serde_json::value::RawValue::from_string(text.into()).unwrap().into());
    objects.stored.borrow_mut().insert("big/1".into(), br#"{"from": "the producer"}"#.to_vec());
    let deep = "[".repeat(3_000) + &"]".repeat(3_000);
    for (body, expected) in [
        (Body::None, Value::Null),
        (Body::Text(large.clone()), json!(large)),
        (Body::Text("".into()), json!("")),
        (raw(r#"{"choices": [1.10, 12345678901234567890]}"#), json!({"choices": [1.10, 12345678901234567890u64]})),
        (Body::Truncated { bytes: 99, head: "{\"a\":".into() }, json!({"truncated": true, "bytes": 99, "head": "{\"a\":"})),
        (Body::Object { key: "big/1".into(), bytes: 24, json: true }, json!({"from": "the producer"})),
        (Body::Object { key: "big/1".into(), bytes: 24, json: false }, json!(r#"{"from": "the producer"}"#)),
        (
            Body::Object { key: "gone".into(), bytes: 5, json: true },
            json!({"truncated": true, "bytes": 5, "head": "", "missing": true}),
        ),
    ] {
        let mut call = maker.call("tr", T0, &[500, 200]);
        call.exchanges = vec![exchange(call.call_id, body)];
        assert_eq!(deliver(&[message("m", &[call.clone()])], &db, &objects), [spangate::consume::MessageOutcome::Stored]);
        let log: Value = serde_json::from_str(&ask(&format!("/v1/logs/{}", call.call_id), &db, &objects).unwrap().body).unwrap();
        assert_eq!(log["response"], json!({"status": 200, "headers": {}, "body": expected}));
        assert_eq!(
            (&log["request"]["method"], &log["request"]["headers"]),
            (&json!("POST"), &json!({"content-type": "application/json"}))
        );
        assert_eq!((&log["upstream_request"], &log["upstream_response"]), (&Value::Null, &Value::Null));
        assert_eq!((&log["log_id"], &log["kind"], &log["trace_id"]), (&json!(call.call_id), &json!("request"), &json!("tr")));
    }
    let mut call = maker.call("tr", T0, &[200]);
    call.exchanges = vec![exchange(call.call_id, raw(&deep))];
    deliver(&[message("m", &[call.clone()])], &db, &objects);
    let body = ask(&format!("/v1/logs/{}", call.call_id), &db, &objects).unwrap().body;
    assert!(
        body.contains(&deep) && body.contains(r#""seed": 12345678901234567890"#),
        "a JSON body passes byte for byte, however deep"
    );
}

#[test]
fn a_log_belongs_to_the_span_or_to_its_call() {
    let (db, objects, mut maker) = (TestDb::new(), TestObjects::default(), Maker::new(12));
    let mut call = maker.call("tr", T0, &[500, 200]);
    let (failed, last) = (call.spans[1].record_id, call.spans[2].record_id);
    let said = |text: &str| Body::Text(text.into());
    call.exchanges = vec![exchange(call.call_id, said("to the caller")), exchange(failed, said("by the first"))];
    let mut translated = maker.call("tr-2", T0, &[500, 200]);
    translated.exchanges =
        vec![exchange(translated.call_id, said("to the caller")), exchange(translated.spans[2].record_id, said("by the last"))];
    let silent = maker.call("tr-3", T0, &[200]);
    deliver(&[message("m", &[call.clone(), translated.clone(), silent.clone()])], &db, &objects);
    let logs = |trace: &str| {
        let trace = get(&format!("/v1/traces/{trace}"), &db);
        trace["spans"].as_array().unwrap().iter().map(|span| span["log_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(logs("tr"), [json!(call.call_id), json!(failed), json!(call.call_id)]);
    assert_eq!(logs("tr-3"), [Value::Null, Value::Null]);
    let log = |id: RecordId| get(&format!("/v1/logs/{id}"), &db);
    assert_eq!(log(failed)["response"]["body"], "by the first");
    assert_eq!(log(call.call_id)["upstream_response"], Value::Null, "the last attempt was passed through untouched");
    assert_eq!(log(translated.call_id)["upstream_response"]["body"], "by the last");
    assert_eq!((&log(last)["kind"], &log(last)["request"]), (&json!("attempt"), &Value::Null));
    assert_eq!(log(silent.call_id)["response"], Value::Null);
}

#[test]
fn accounting_says_what_it_knows() {
    let (db, objects, mut maker) = (TestDb::new(), TestObjects::default(), Maker::new(13));
    let mut call = maker.call("tr", T0, &[200]);
    call.lost_before = 4;
    let lost = maker.call("tr", T0, &[200]);
    deliver(&[message("a", &[call.clone(), maker.call("tr", T0, &[])]), message("b", &[call])], &db, &objects);
    block_on(spangate::consume::keep_dead_letters(&[message("d", &[lost])], UnixMillis(T0), &db));
    let expected = json!({"accepted": null, "stored": 2, "pending": null, "dead_lettered": 1, "dropped": {"queue_refused": 4}});
    assert_eq!(get("/v1/accounting", &db), expected);
    assert_eq!(get("/v1/accounting?from=2026-11-20&to=2026-11-21", &db), expected);
    let empty = json!({"accepted": null, "stored": 0, "pending": null, "dead_lettered": 0, "dropped": {"queue_refused": 0}});
    assert_eq!(get("/v1/accounting?from=2026-11-21", &db), empty);
    assert_eq!(get("/v1/accounting", &TestDb::new()), empty);
}

#[test]
fn nothing_crosses_from_one_workspace_to_another() {
    let (db, objects, mut maker) = (TestDb::new(), TestObjects::default(), Maker::new(14));
    let (mut ours, mut theirs) = (maker.call("same", T0, &[200]), maker.call("same", T0 - 1, &[200]));
    ours.exchanges = vec![exchange(ours.call_id, Body::Text("ours".into()))];
    theirs.workspace = Workspace::parse("other").unwrap();
    theirs.exchanges = vec![exchange(theirs.call_id, Body::Text("theirs".into()))];
    deliver(&[message("m", &[ours, theirs.clone()])], &db, &objects);
    assert_eq!(get("/v1/traces/same", &db)["span_count"], json!(2));
    assert_eq!(get("/v1/logs", &db)["data"].as_array().unwrap().len(), 2);
    assert_eq!(get("/v1/traces", &db)["data"].as_array().unwrap().len(), 1, "an older span elsewhere hides nothing here");
    assert_eq!(get("/v1/accounting", &db)["stored"], json!(1));
    let stranger = ask(&format!("/v1/logs/{}", theirs.call_id), &db, &objects);
    assert!(matches!(stranger, Err(GatewayError::UnknownRecord("log_not_found", _))));
}

#[test]
fn what_is_unknown_or_unreadable_is_refused_by_name() {
    let (db, objects) = (TestDb::new(), TestObjects::default());
    let refusal = |path: &str| ask(path, &db, &objects).unwrap_err().public();
    for (path, status, code, word) in [
        ("/v1/traces/nope", 404, "trace_not_found", "'nope'"),
        ("/v1/traces/%27%3B--", 404, "trace_not_found", "'';--'"),
        ("/v1/logs/nope", 404, "log_not_found", "'nope'"),
        ("/v1/logs/0123456789abcdef0123456789abcdef", 404, "log_not_found", "'0123"),
        ("/v1/traces?limit=0", 400, "invalid_query", "'limit'"),
        ("/v1/logs?kind=nope", 400, "invalid_query", "'kind'"),
        ("/v1/logs?cursor=nope", 400, "invalid_query", "'cursor'"),
        ("/v1/accounting?to=nope", 400, "invalid_query", "'to'"),
        ("/v1/traces/x?format=otlp", 501, "not_supported", "'format'"),
    ] {
        let public = refusal(path);
        assert_eq!((public.status, public.code), (status, code), "{path}");
        assert!(public.message.contains(word), "{path}: {}", public.message);
    }
    db.connection.execute_batch("DROP TABLE span").unwrap();
    assert_eq!(refusal("/v1/traces").code, "store_unavailable");
    assert!(!refusal("/v1/traces").message.contains("span"));
}

#[test]
fn object_storage_that_is_out_of_order_is_said_to_be() {
    let (db, objects, mut maker) = (TestDb::new(), TestObjects::default(), Maker::new(15));
    let mut call = maker.call("tr", T0, &[200]);
    call.exchanges = vec![exchange(call.call_id, Body::Text("x".repeat(INLINE_BYTES)))];
    let path = format!("/v1/logs/{}", call.call_id);
    deliver(&[message("m", &[call])], &db, &objects);
    objects.failing_gets.set(1);
    assert_eq!(ask(&path, &db, &objects).unwrap_err().public().code, "store_unavailable");
    assert_eq!(ask(&path, &db, &objects).unwrap().status, 200);
    objects.stored.borrow_mut().clear();
    let log: Value = serde_json::from_str(&ask(&path, &db, &objects).unwrap().body).unwrap();
    assert_eq!((&log["response"], &log["kind"]), (&Value::Null, &json!("request")), "the span outlives its body");
}

#[test]
fn every_question_is_answered_by_its_key() {
    let (db, mut maker) = (TestDb::new(), Maker::new(16));
    let calls: Vec<CallRecord> = (0..50).map(|n| maker.call(&format!("tr-{}", n % 20), T0 + n, &[500, 200])).collect();
    stored(&calls, &db);
    for analysed in [false, true] {
        if analysed {
            db.connection.execute_batch("ANALYZE").unwrap();
        }
        let (ours, range) = (workspace(), Range::of_times(Some(UnixMillis(T0)), None));
        let logs = LogPage { range, trace_id: None, span_id: Some("s"), kind: None, limit: 50 };
        let request = &calls[0].spans[0];
        for (name, statement, index) in [
            ("traces", search::traces(&ours, TracePage { range, generation: Some(9), limit: 50 }), "s USING PRIMARY KEY"),
            (
                "traces",
                search::traces(&ours, TracePage { range, generation: None, limit: 50 }),
                "older USING INDEX span_by_trace (workspace=? AND trace_id=? AND record_id<?)",
            ),
            ("spans of traces", search::spans_of_traces(&ours, &["tr-1", "tr-2"], 50), "s USING INDEX span_by_trace"),
            ("spans of a trace", search::spans_of_trace(&ours, "tr-1", None, 50), "s USING INDEX span_by_trace"),
            ("whole spans", search::whole_spans_of_trace(&ours, "tr-1", None, 50), "s USING INDEX span_by_trace"),
            ("logs", search::logs(&ours, logs), "s USING PRIMARY KEY"),
            ("logs of a trace", search::logs(&ours, LogPage { trace_id: Some("tr-1"), ..logs }), "s USING INDEX span_by_trace"),
            ("parts of calls", search::parts_of_calls(&ours, [request].into_iter()), "s USING INDEX span_by_trace"),
            ("log", search::log(&ours, request.record_id), "s USING PRIMARY KEY"),
            ("last attempt", search::last_attempt(&ours, request), "s USING INDEX span_by_trace"),
            ("tally of", search::tally_of(&ours, None, None), "span USING PRIMARY KEY"),
        ] {
            let plan = db.plan(&statement);
            assert!(plan.iter().any(|step| step.contains(index)), "{name}: {plan:#?}");
            let scans = plan
                .iter()
                .filter(|step| step.starts_with("SCAN") && !step.contains("VIRTUAL TABLE") && !step.contains("CONSTANT ROW"));
            // Dead letters are few and have no index.
            assert_eq!(scans.filter(|step| !step.contains("dead_letter")).count(), 0, "{name}: {plan:#?}");
            // The attempts of one call are few; every list comes in the order of its key.
            let sorts = plan.iter().any(|step| step.contains("TEMP B-TREE"));
            assert_eq!(sorts, name == "last attempt", "{name}: {plan:#?}");
        }
    }
}

#[test]
fn a_list_of_traces_reads_about_as_many_rows_as_it_shows() {
    let (db, mut maker) = (TestDb::new(), Maker::new(17));
    let calls: Vec<CallRecord> = (0..400).map(|n| maker.call(&format!("tr-{n}"), T0 + n, &[200])).collect();
    stored(&calls, &db);
    let steps = |statement: &Statement| {
        let mut prepared = db.connection.prepare(statement.sql).unwrap();
        let bound: Vec<String> = statement
            .params
            .iter()
            .map(|p| match p {
                spangate::ports::Param::Text(text) => text.clone(),
                spangate::ports::Param::Integer(number) => number.to_string(),
                spangate::ports::Param::Null => String::new(),
            })
            .collect();
        let rows = prepared.query_map(rusqlite::params_from_iter(bound), |row| row.get::<_, String>(0)).unwrap().count();
        (rows, prepared.get_status(rusqlite::StatementStatus::VmStep))
    };
    let page = |limit| search::traces(&workspace(), TracePage { range: Range::of_times(None, None), generation: None, limit });
    let ((few, few_steps), (many, many_steps)) = (steps(&page(10)), steps(&page(300)));
    assert_eq!((few, many), (10, 300));
    assert!(few_steps * 20 < many_steps, "{few_steps} steps for 10 traces, {many_steps} for 300");
}

#[test]
fn a_failing_delivery_shows_nothing_of_itself() {
    let (db, objects, mut maker) = (TestDb::new(), TestObjects::default(), Maker::new(18));
    db.break_writes(Fault { times: 1, words: "D1_ERROR: overloaded", committed: false });
    deliver(&[message("m", &[maker.call("tr", T0, &[200])])], &db, &objects);
    assert_eq!(get("/v1/traces", &db)["data"], json!([]));
}

#[test]
fn a_cache_hit_has_no_attempt_and_costs_nothing() {
    let (db, mut maker) = (TestDb::new(), Maker::new(19));
    let mut call = maker.call("hit", T0, &[]);
    call.spans[0].status = Status::Ok;
    call.spans[0].cache_status = Some("HIT".into());
    let mut look_up = maker.span("hit", T0, Kind::Cache, 200);
    (look_up.provider, look_up.request_model, look_up.response_model, look_up.status_code) = (None, None, None, None);
    call.spans.push(look_up);
    stored(&[call], &db);
    let trace = &get("/v1/traces", &db)["data"][0];
    assert_eq!((&trace["attempt_count"], &trace["cost_usd"], &trace["cost_complete"]), (&json!(0), &json!(0), &json!(true)));
    assert_eq!((&trace["providers"], &trace["models"]), (&json!(["openai"]), &json!(["gpt-4o"])), "as the request wanted");
}

fn usage(input: u64, output: u64, reasoning: u64) -> Value {
    json!({"input_tokens": input, "output_tokens": output, "cache_read_tokens": null, "cache_write_tokens": null,
        "reasoning_tokens": reasoning, "total_tokens": input + output})
}

fn ask(target: &str, db: &TestDb, objects: &TestObjects) -> Result<api::ApiReply, GatewayError> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let route: Route = api::route(path).unwrap_or_else(|| panic!("{path} is no route"));
    block_on(api::respond(&route, query, &workspace(), Store { db, objects }))
}

fn text(target: &str, db: &TestDb) -> String {
    ask(target, db, &TestObjects::default()).unwrap_or_else(|e| panic!("{target}: {e:?}")).body
}

fn get(target: &str, db: &TestDb) -> Value {
    serde_json::from_str(&text(target, db)).unwrap()
}
