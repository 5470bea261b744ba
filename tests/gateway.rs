//! The life of a call, told as scenarios: what upstreams do, what the caller gets, what is left behind. Time is virtual.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/world.rs"]
mod world;

use spangate::gateway::Head;
use spangate::settings::Settings;
use spangate::time::Millis;
use spangate::trace::message::{Body, CallRecord, QueueRecord};
use spangate::trace::span::{ErrorType, Kind, Reason, SpanRecord, Status, WaitReason};
use std::rc::Rc;
use world::{Faults, Got, StreamEnds, T0, TestWorld, Upstream};

const CHAT: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#;
const ANSWER: &str = r#"{"id":"c1","model":"gpt-4o-mini-2024-07-18","choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3}}"#;
const BUSY: &str = r#"{"error":{"message":"busy"}}"#;

const ONE: &str = r#"{"provider":"openai","api_key":"sk-one-1"}"#;
const RETRY: &str = r#"{"provider":"openai","api_key":"sk-one-1","retry":{"attempts":2}}"#;
const FALLBACK: &str = r#"{"strategy":{"mode":"fallback"},"targets":[
    {"provider":"openai","api_key":"sk-one-1"},{"provider":"groq","api_key":"sk-two-2"}]}"#;
const CLAUDE: &str = r#"{"provider":"anthropic","api_key":"sk-one-1"}"#;

const WHOLE: [(u64, &str); 3] = [
    (10, "data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"he\"}}]}\n\n"),
    (20, "data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"y\"},\"finish_reason\":\"stop\"}]}\n\n"),
    (5, "data: [DONE]\n\n"),
];

fn settings() -> Rc<Settings> {
    let vars = [("GATEWAY_ADMIN_KEY", "gw-key-1"), ("STREAM_IDLE_TIMEOUT_MS", "1000"), ("MAX_BODY_BYTES", "400000")];
    Rc::new(Settings::parse(vars.into_iter()))
}

fn head(headers: &[(&str, &str)]) -> Head {
    let always = [("x-portkey-api-key", "gw-key-1"), ("content-type", "application/json"), ("x-portkey-trace-id", "t1")];
    let kept = always.iter().filter(|(name, _)| !headers.iter().any(|(own, _)| own == name));
    Head {
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        query: String::new(),
        headers: kept.chain(headers).copied().collect(),
    }
}

fn call(world: &TestWorld, config: &str, body: &str) -> Got {
    world.call(&settings(), head(&[("x-portkey-config", config)]), body.as_bytes())
}

/// The one record that a call left behind.
fn record(world: &TestWorld) -> CallRecord {
    let committed = world.committed();
    assert_eq!(committed.len(), 1, "one call, one record: {committed:#?}");
    match QueueRecord::parse(&committed[0]).unwrap() {
        QueueRecord::Call(call) => *call,
        QueueRecord::Guard(guard) => panic!("a guard's record: {guard:?}"),
    }
}

/// What is true of every call, however it ends: the request span first, around everything; then one attempt span for each
/// request that an upstream was sent, in order, and nothing else.
fn assert_true_to(world: &TestWorld, record: &CallRecord) {
    let (request, attempts) = record.spans.split_first().unwrap();
    assert_eq!((request.kind, request.record_id, request.start), (Kind::Request, record.call_id, T0));
    let sent: Vec<u64> = world.sent().iter().map(|sent| sent.at.0).collect();
    assert_eq!(attempts.iter().map(|attempt| attempt.start.0).collect::<Vec<_>>(), sent, "attempt spans are sends");
    for (index, attempt) in (0..).zip(attempts) {
        assert_eq!((attempt.kind, attempt.attempt.as_ref().unwrap().index), (Kind::Attempt, index));
        assert_eq!((&attempt.trace_id, attempt.parent_span_id.as_ref()), (&request.trace_id, Some(&request.span_id)));
        assert!(attempt.start <= attempt.end && attempt.end <= request.end, "{attempt:#?}");
    }
    for pair in attempts.windows(2) {
        assert!(pair[0].end <= pair[1].start, "attempts do not overlap");
    }
}

fn error_of(span: &SpanRecord) -> Option<ErrorType> {
    span.error.as_ref().map(|error| error.kind)
}

#[test]
fn an_answer_passes_untouched_and_is_accounted_for() {
    let world = TestWorld::new([Upstream::status(200, ANSWER).after(120)]);
    let got = call(&world, ONE, CHAT);
    assert_eq!((got.status, got.body.as_str(), got.at.since(T0)), (200, ANSWER, Millis(120)));
    assert_eq!(world.sent()[0].url, "https://api.openai.com/v1/chat/completions");
    assert_eq!((world.sent()[0].headers.get("authorization"), world.sent()[0].body.as_str()), (Some("Bearer sk-one-1"), CHAT));

    let record = record(&world);
    assert_true_to(&world, &record);
    let [request, attempt] = &record.spans[..] else { panic!("{record:#?}") };
    assert_eq!(got.headers.get("x-portkey-request-id"), Some(record.call_id.to_string().as_str()));
    assert_eq!((got.headers.get("x-portkey-trace-id"), request.trace_id.as_str()), (Some("t1"), "t1"));
    assert_eq!((attempt.usage.input, attempt.usage.output, attempt.cost_pico_usd.is_some()), (Some(9), Some(3), true));
    assert_eq!((request.usage.is_known(), attempt.time_to_first_byte_ms), (false, Some(Millis(120))));
    let exchange = &record.exchanges[0];
    let bodies = [&exchange.request, &exchange.response].map(|message| match &message.as_ref().unwrap().body {
        Body::Json(json) => json.as_str(),
        other => panic!("{other:?}"),
    });
    assert_eq!(bodies, [CHAT, ANSWER]);
}

#[test]
fn retries_wait_one_second_then_two() {
    let busy = || Upstream::status(500, BUSY).after(5);
    let world = TestWorld::new([busy(), busy(), Upstream::status(200, ANSWER)]);
    let got = call(&world, RETRY, CHAT);
    assert_eq!((got.status, got.headers.get("x-portkey-retry-attempt-count")), (200, Some("2")));
    let at: Vec<u64> = world.sent().iter().map(|sent| sent.at.since(T0).0).collect();
    assert_eq!(at, [0, 1_005, 3_010]);
    let record = record(&world);
    assert_true_to(&world, &record);
    let waits: Vec<_> = record.spans[1..].iter().map(|span| span.attempt.clone().unwrap()).collect();
    assert_eq!(waits.iter().map(|facts| facts.wait_ms.0).collect::<Vec<_>>(), [0, 1_000, 2_000]);
    assert_eq!((waits[2].reason, waits[2].wait_reason), (Reason::Retry, Some(WaitReason::Backoff)));
    assert_eq!(record.spans[0].events.iter().filter(|event| event.name == "portkey.retry").count(), 2);
}

#[test]
fn an_upstream_may_name_the_wait() {
    let config = r#"{"provider":"openai","api_key":"sk-one-1","retry":{"attempts":1,"use_retry_after_header":true}}"#;
    let world = TestWorld::new([Upstream::status(429, BUSY).with("retry-after-ms", "250"), Upstream::status(200, ANSWER)]);
    assert_eq!(call(&world, config, CHAT).at.since(T0), Millis(250));
    let record = record(&world);
    assert_eq!(record.spans[2].attempt.as_ref().unwrap().wait_reason, Some(WaitReason::RetryAfter));
}

#[test]
fn retries_that_do_not_help_end_with_the_last_answer() {
    let world = TestWorld::new([500, 500, 503].map(|status| Upstream::status(status, BUSY)));
    let got = call(&world, RETRY, CHAT);
    assert_eq!((got.status, got.body.as_str(), got.headers.get("x-portkey-retry-attempt-count")), (503, BUSY, Some("-1")));
    assert_true_to(&world, &record(&world));
}

#[test]
fn a_fallback_takes_the_next_target_with_its_own_key() {
    let world = TestWorld::new([Upstream::Unreachable("refused"), Upstream::status(200, ANSWER)]);
    let got = call(&world, FALLBACK, CHAT);
    assert_eq!((got.status, got.headers.get("x-portkey-last-used-option-index")), (200, Some("config.targets[1]")));
    assert_eq!(world.sent()[1].headers.get("authorization"), Some("Bearer sk-two-2"));
    let record = record(&world);
    assert_true_to(&world, &record);
    assert_eq!((error_of(&record.spans[1]), error_of(&record.spans[0])), (Some(ErrorType::Connect), None));
    assert_eq!(record.spans[2].attempt.as_ref().unwrap().reason, Reason::Fallback);
}

#[test]
fn a_stream_that_the_config_refuses_is_let_go() {
    let config = FALLBACK.replace(r#""mode":"fallback""#, r#""mode":"fallback","on_status_codes":[200]"#);
    let world = TestWorld::new([Upstream::stream(&WHOLE, StreamEnds::Closes), Upstream::status(201, ANSWER)]);
    assert_eq!((call(&world, &config, CHAT).status, world.discarded()), (201, 1));
    assert_true_to(&world, &record(&world));
}

#[test]
fn a_caller_who_leaves_during_a_wait_causes_no_further_request() {
    let world = TestWorld::new([Upstream::status(500, BUSY)]);
    world.caller_leaves_after(400);
    assert_eq!(call(&world, RETRY, CHAT).status, 499);
    let record = record(&world);
    assert_true_to(&world, &record);
    assert_eq!((record.spans.len(), record.spans[0].status), (2, Status::Cancelled));
}

/// Every way in which a call ends, and what its record says of it.
#[test]
fn every_ending_leaves_one_true_record() {
    use ErrorType::{ClientDisconnected, Config, Connect, HttpStatus, StreamMalformed, Timeout};
    let timed = r#"{"provider":"openai","api_key":"sk-one-1","request_timeout":50}"#;
    let none: Vec<Upstream> = vec![];
    let whole = || vec![Upstream::status(200, ANSWER).after(10)];
    for (name, config, body, leaves, upstreams, status, error) in [
        ("a whole answer", ONE, CHAT, None, whole(), 200, None),
        ("an error", ONE, CHAT, None, vec![Upstream::status(404, BUSY)], 404, Some(HttpStatus)),
        ("no connection", ONE, CHAT, None, vec![Upstream::Unreachable("refused")], 503, Some(Connect)),
        ("too slow", timed, CHAT, None, vec![Upstream::status(200, ANSWER).after(51)], 408, Some(Timeout)),
        ("just in time", timed, CHAT, None, vec![Upstream::status(200, ANSWER).after(49)], 200, None),
        ("the caller leaves", ONE, CHAT, Some(5), whole(), 499, Some(ClientDisconnected)),
        ("the caller had left", ONE, CHAT, Some(0), none.clone(), 499, Some(ClientDisconnected)),
        ("half an answer", ONE, CHAT, None, vec![Upstream::status(200, "{\"id\":")], 502, Some(StreamMalformed)),
        ("an answer that is none", CLAUDE, CHAT, None, vec![Upstream::status(200, "<html>")], 502, Some(StreamMalformed)),
        ("a body that cannot be translated", CLAUDE, r#"{"model":"c"}"#, None, none.clone(), 400, Some(Config)),
        ("no JSON", ONE, "{", None, none.clone(), 400, Some(Config)),
        ("a field of the wrong type", ONE, r#"{"model":7}"#, None, none.clone(), 400, Some(Config)),
        ("no config", "{", CHAT, None, none.clone(), 400, Some(Config)),
        ("no such provider", r#"{"provider":"nobody"}"#, CHAT, None, none.clone(), 400, Some(Config)),
        ("no key", r#"{"provider":"openai"}"#, CHAT, None, none.clone(), 401, Some(Config)),
    ] {
        let world = TestWorld::new(upstreams);
        if let Some(millis) = leaves {
            world.caller_leaves_after(millis);
        }
        let got = call(&world, config, body);
        let record = record(&world);
        assert_true_to(&world, &record);
        let request = &record.spans[0];
        assert_eq!((got.status, request.status_code, error_of(request)), (status, Some(status), error), "{name}: {}", got.body);
        assert_eq!((got.at, request.bytes_out), (request.end, got.body.len() as u64), "{name}");
        assert_eq!(got.headers.get("x-portkey-request-id"), Some(record.call_id.to_string().as_str()), "{name}");
        assert_eq!(record.exchanges[0].record_id, record.call_id, "{name}: what was said is kept");
    }
}

/// Every way in which a stream ends: what the caller hears last, and the error on both spans.
#[test]
fn every_stream_ends_honestly() {
    use ErrorType::{ClientDisconnected, StreamMalformed, StreamStalled, StreamTruncated};
    use StreamEnds::{Closes, Never, Resets};
    let cut = &WHOLE[..1];
    let late = [WHOLE[0], (1_001, WHOLE[1].1)];
    for (name, pieces, ends, leaves, error, millis) in [
        ("complete", &WHOLE[..], Closes, None, None, 35),
        ("complete, then reset", &WHOLE, Resets, None, None, 35),
        ("cut", cut, Closes, None, Some(StreamTruncated), 10),
        ("reset", cut, Resets, None, Some(StreamTruncated), 10),
        ("silent", cut, Never, None, Some(StreamStalled), 1_010),
        ("too slow", &late, Closes, None, Some(StreamStalled), 1_010),
        ("nothing at all", &[], Closes, None, Some(StreamTruncated), 0),
        ("no events", &[(3, "<html>")], Closes, None, Some(StreamMalformed), 3),
        ("the caller leaves", &WHOLE, Closes, Some(15), Some(ClientDisconnected), 15),
    ] {
        let world = TestWorld::new([Upstream::stream(pieces, ends)]);
        if let Some(millis) = leaves {
            world.caller_leaves_after(millis);
        }
        let got = call(&world, ONE, &CHAT.replace("}]}", "}],\"stream\":true}"));
        let record = record(&world);
        assert_true_to(&world, &record);
        let [request, attempt] = &record.spans[..] else { panic!("{name}: {record:#?}") };
        assert_eq!((error_of(request), error_of(attempt)), (error, error), "{name}");
        assert_eq!((got.status, got.closed, got.at), (200, true, T0), "{name}");
        assert_eq!((request.end.since(T0).0, attempt.end), (millis, request.end), "{name}");
        let told = got.body.contains("\"error\"");
        assert_eq!(told, error.is_some() && leaves.is_none(), "{name}: {}", got.body);
        assert_eq!(got.body.ends_with("data: [DONE]\n\n"), error.is_none(), "{name}: {}", got.body);
        let first = (!pieces.is_empty()).then(|| Millis(pieces[0].0));
        assert_eq!((attempt.time_to_first_token_ms, attempt.stream), (first, true), "{name}");
    }
}

#[test]
fn a_translated_stream_that_is_cut_says_so_in_the_callers_language() {
    let begin = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"c\",\"usage\":{\"input_tokens\":3}}}\n\n";
    let world = TestWorld::new([Upstream::stream(&[(4, begin)], StreamEnds::Closes)]);
    let got = call(&world, CLAUDE, &CHAT.replace("}]}", "}],\"stream\":true}"));
    assert!(got.body.contains("chat.completion.chunk") && got.body.contains("stream_truncated"), "{}", got.body);
    let record = record(&world);
    assert_true_to(&world, &record);
    assert_eq!((error_of(&record.spans[1]), record.spans[1].usage.input), (Some(ErrorType::StreamTruncated), Some(3)));
}

#[test]
fn a_stream_that_its_guard_recorded_is_not_recorded_twice() {
    let world = TestWorld::new([Upstream::stream(&WHOLE, StreamEnds::Closes)]);
    world.break_things(Faults { guard_is_faster: true, ..Faults::default() });
    assert!(call(&world, ONE, CHAT).closed);
    assert_eq!(world.committed(), [""; 0]);
}

#[test]
fn who_may_not_enter_leaves_nothing_behind() {
    for (headers, status) in [(("x-portkey-api-key", "wrong"), 401), (("x-portkey-api-key", ""), 401)] {
        let world = TestWorld::new([]);
        let got = world.call(&settings(), head(&[headers]), CHAT.as_bytes());
        assert_eq!((got.status, world.committed().len(), world.sent().len()), (status, 0, 0));
    }
}

#[test]
fn a_body_that_does_not_arrive_is_refused_and_recorded() {
    let broken = TestWorld::new([]);
    broken.break_things(Faults { broken_body: true, ..Faults::default() });
    let large = format!(r#"{{"model":"{}"}}"#, "x".repeat(400_000));
    for (world, body, status) in [(broken, CHAT, 400), (TestWorld::new([]), large.as_str(), 413)] {
        assert_eq!(call(&world, ONE, body).status, status);
        assert_true_to(&world, &record(&world));
    }
}

#[test]
fn records_that_were_lost_are_told_once() {
    let world = TestWorld::new([Upstream::status(200, ANSWER), Upstream::status(200, ANSWER)]);
    world.lose(3);
    call(&world, ONE, CHAT);
    assert_eq!(record(&world).lost_before, 3);
    world.forget();
    call(&world, ONE, CHAT);
    let committed = world.committed();
    assert!(!committed[0].contains("lost_before"), "{committed:?}");
}

#[test]
fn a_record_too_large_for_a_message_gives_its_bodies_away() {
    let large = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "é\\n".repeat(60_000));
    for broken_objects in [false, true] {
        let world = TestWorld::new([Upstream::status(200, ANSWER)]);
        world.break_things(Faults { broken_objects, ..Faults::default() });
        assert_eq!((call(&world, ONE, &large).status, world.sent()[0].body == large), (200, true));
        assert!(world.committed()[0].len() < 120_000);
        let record = record(&world);
        assert_true_to(&world, &record);
        match (&record.exchanges[0].request.as_ref().unwrap().body, broken_objects) {
            (Body::Object { key, bytes, json: true }, false) => {
                assert_eq!((*bytes, &world.stored()[key][..]), (large.len() as u64, large.as_bytes()));
            }
            (Body::Truncated { bytes, head }, true) => {
                assert!(*bytes == large.len() as u64 && large.starts_with(head.as_str()), "{head}");
            }
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[test]
fn no_credential_is_left_behind_even_if_an_upstream_echoes_it() {
    let echo = r#"{"error":{"message":"Incorrect API key: sk-one-1 (gw-key-1)"}}"#;
    let world = TestWorld::new([Upstream::status(401, echo).with("location", "https://x/?k=sk-one-1")]);
    let headers = [
        ("x-portkey-config", ONE),
        ("x-portkey-metadata", r#"{"k":"sk-one-1"}"#),
        ("x-portkey-span-name", "sk-one-1"),
        ("user-agent", "sk-one-1"),
    ];
    let body = CHAT.replace("hi", "my key is sk-one-1").replace("}]}", "}],\"user\":\"sk-one-1\"}");
    let got = world.call(&settings(), head(&headers), body.as_bytes());
    assert_eq!((got.status, got.body.as_str()), (401, echo), "the caller gets what was said");
    let text = &world.committed()[0];
    assert!(!text.contains("sk-one-1") && !text.contains("gw-key-1") && text.contains("[masked]"), "{text}");

    let stream = TestWorld::new([Upstream::stream(&WHOLE, StreamEnds::Closes)]);
    stream.call(&settings(), head(&headers), body.as_bytes());
    let texts = [&stream.committed()[0], &stream.guards()[0]];
    assert!(texts.iter().all(|text| !text.contains("sk-one-1") && text.contains("user_agent.original")), "{texts:#?}");
}

/// What the guard of a stream sends, once the shell has added what it saw, is a record of the same call.
#[test]
fn a_guard_knows_the_call() {
    let world = TestWorld::new([Upstream::stream(&WHOLE, StreamEnds::Closes)]);
    call(&world, ONE, &CHAT.replace("}]}", "}],\"stream\":true}"));
    let seen = format!(r#","raw":"x","end":"closed","started":{T0},"first":null,"ended":{T0},"bytes":1}}}}"#, T0 = T0.0);
    let QueueRecord::Guard(guard) = QueueRecord::parse(&(world.guards()[0].clone() + &seen)).unwrap() else { panic!() };
    let (guarded, told) = (&guard.record, record(&world));
    assert_eq!((guarded.call_id, guard.attempt_record_id), (told.call_id, told.spans[1].record_id));
    assert_eq!(guarded.spans[1].parent_span_id, told.spans[1].parent_span_id);
    assert_eq!(guarded.exchanges[0].record_id, told.call_id);
}

#[test]
fn bodies_are_kept_only_if_they_may_be() {
    let world = TestWorld::new([Upstream::status(400, BUSY)]);
    let headers = head(&[("x-portkey-config", ONE), ("x-portkey-debug", "false")]);
    assert_eq!(world.call(&settings(), headers, CHAT.as_bytes()).status, 400);
    assert!(record(&world).exchanges.is_empty());
}

#[test]
fn parameters_of_a_target_reach_only_that_target() {
    let config = r#"{"strategy":{"mode":"fallback"},"targets":[
        {"provider":"openai","api_key":"sk-one-1","override_params":{"model":"other","n":1}},{"provider":"groq","api_key":"sk-two-2"}]}"#;
    let world = TestWorld::new([Upstream::status(500, BUSY), Upstream::status(200, ANSWER)]);
    call(&world, config, CHAT);
    let bodies: Vec<String> = world.sent().into_iter().map(|sent| sent.body).collect();
    assert_eq!(bodies, [CHAT.replace("gpt-4o-mini", "other").replace("}]}", "}],\"n\":1}"), CHAT.to_owned()]);
    let record = record(&world);
    let models: Vec<_> = record.spans.iter().map(|span| span.request_model.as_deref().unwrap()).collect();
    assert_eq!(models, ["gpt-4o-mini", "other", "gpt-4o-mini"]);
}
