use super::*;
use serde_json::{Value, json};

fn read(bytes: &[u8], answer_tool: Option<&str>) -> (Vec<Event>, StreamEnd) {
    let (mut reader, mut events) = (StreamReader::new(answer_tool.map(str::to_owned)), Vec::new());
    reader.push(bytes, |event| events.push(event));
    (events, reader.finish())
}

fn frame(events: &[Value]) -> Vec<u8> {
    events.iter().map(|event| format!("data: {event}\n\n")).collect::<String>().into_bytes()
}

fn start() -> Value {
    json!({"type": "message_start", "message": {"id": "i", "model": "m"}})
}

fn block(index: u64, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn tool(index: u64, name: &str) -> Value {
    block(index, json!({"type": "tool_use", "id": "t", "name": name, "input": {}}))
}

fn delta(index: u64, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn input(index: u64, json: &str) -> Value {
    delta(index, json!({"type": "input_json_delta", "partial_json": json}))
}

fn words(text: &str) -> Value {
    delta(0, json!({"type": "text_delta", "text": text}))
}

fn stop(reason: &str) -> [Value; 2] {
    [json!({"type": "message_delta", "delta": {"stop_reason": reason}}), json!({"type": "message_stop"})]
}

/// The events between the start and the end.
fn body(events: &[Value], answer_tool: Option<&str>) -> Vec<Event> {
    let (mut events, end) = read(&frame(events), answer_tool);
    assert_eq!(end, StreamEnd::Complete);
    assert!(matches!(events.remove(0), Event::Start { .. }));
    assert_eq!(events.pop(), Some(Event::End));
    events
}

fn said(text: &str) -> Event {
    Event::Text(text.into())
}

fn finished(reason: Finish, native: &str) -> Event {
    Event::Finish { reason, native: Some(native.into()) }
}

fn called(index: u32, name: &str) -> Event {
    Event::ToolStart { index, id: "t".into(), name: name.into() }
}

fn arguments(index: u32, fragment: &str) -> Event {
    Event::ToolArguments { index, fragment: fragment.into() }
}

#[test]
fn what_is_unknown_is_skipped() {
    let [delta_event, stop_event] = stop("end_turn");
    let events = [
        json!({"type": "ping"}),
        start(),
        json!({"type": "new_event"}),
        block(0, json!({"type": "server_tool_use", "id": "s", "name": "web_search"})),
        input(0, "{\"q\":1}"),
        json!({"type": "content_block_stop", "index": 0}),
        block(1, json!({"type": "web_search_tool_result"})),
        delta(1, json!({"type": "citations_delta"})),
        block(2, json!({"type": "text", "text": "a"})),
        words("b"),
        tool(3, "f"),
        delta_event,
        stop_event,
    ];
    let expected = [said("a"), said("b"), called(0, "f"), arguments(0, "{}"), finished(Finish::Stop, "end_turn")];
    assert_eq!(body(&events, None), expected);
}

#[test]
fn the_answer_tool_speaks() {
    let [finish, end] = stop("tool_use");
    let events = [
        start(),
        words("Here: "),
        tool(1, "answer"),
        input(1, "{\"n\":"),
        input(1, "1}"),
        words("Done."),
        tool(2, "answer"),
        input(2, "{}"),
        finish,
        end,
    ];
    let expected = [said("{\"n\":"), said("1}"), finished(Finish::Stop, "tool_use")];
    assert_eq!(body(&events, Some("answer")), expected);
}

#[test]
fn words_that_were_held_back_come_when_no_answer_does() {
    let [finish, end] = stop("end_turn");
    let events = [start(), words("a"), words("b"), finish, end];
    assert_eq!(body(&events, Some("answer")), [said("ab"), finished(Finish::Stop, "end_turn")]);

    let [finish, end] = stop("tool_use");
    let events = [start(), words("a"), tool(1, "f"), finish, end];
    let expected = [called(0, "f"), arguments(0, "{}"), said("a"), finished(Finish::ToolCalls, "tool_use")];
    assert_eq!(body(&events, Some("answer")), expected);
}

#[test]
fn words_are_not_held_back_without_bound() {
    let long = "x".repeat(MAX_HELD);
    let (events, _) = read(&frame(&[start(), words(&long), words("y"), words("z")]), Some("answer"));
    assert_eq!(events.get(1..), Some([said(&(long + "y")), said("z")].as_slice()));
}

#[test]
fn a_message_that_stops_without_a_reason_is_still_finished() {
    let end = json!({"type": "message_stop"});
    let finish = |reason| Event::Finish { reason, native: None };
    assert_eq!(body(&[start(), words("a"), end.clone()], None), [said("a"), finish(Finish::Stop)]);
    assert_eq!(body(&[start(), tool(0, "f"), end], None).pop(), Some(finish(Finish::ToolCalls)));
}

#[test]
fn a_refusal_says_why() {
    let details = json!({"stop_reason": "refusal", "stop_details": {"explanation": "No."}});
    let events = [start(), json!({"type": "message_delta", "delta": details}), json!({"type": "message_stop"})];
    assert_eq!(body(&events, None), [Event::Refusal("No.".into()), finished(Finish::ContentFilter, "refusal")]);
}

#[test]
fn later_counts_replace_earlier_ones() {
    let mut start = start();
    start["message"]["usage"] = json!({"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 1});
    let counted = json!({"type": "message_delta", "delta": {}, "usage": {"input_tokens": null, "output_tokens": 9}});
    let (events, _) = read(&frame(&[start, counted]), None);
    let Some(Event::Usage { usage, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!((usage.input, usage.output, usage.cache_read), (Some(12), Some(9), Some(7)));
}

#[test]
fn what_comes_after_the_end_is_not_read() {
    let [finish, end] = stop("end_turn");
    let mut bytes = frame(&[start(), finish, end]);
    let whole = read(&bytes, None);
    bytes.extend_from_slice(b"data: garbage\n\n");
    assert_eq!(read(&bytes, None), whole);
}

#[test]
fn an_announced_error_is_the_last_event() {
    let error = |error: Value| {
        let (events, end) = read(&frame(&[start(), json!({"type": "error", "error": error}), words("a")]), None);
        let Some(Event::Error(failure)) = events.last() else { panic!("{events:?}") };
        assert_eq!(end, StreamEnd::Failed(failure.message.clone()));
        failure.clone()
    };
    let known = error(json!({"type": "rate_limit_error", "message": "slow"}));
    assert_eq!((known.status, known.kind, known.message.as_str()), (429, "rate_limit_error", "slow"));
    assert_eq!(error(json!({"type": "new_error", "message": "m"})).kind, "server_error");
    assert_eq!(error(Value::Null).code, None);
}

#[test]
fn what_is_not_the_dialect_is_malformed() {
    let openai = json!({"object": "chat.completion.chunk", "choices": []});
    for bytes in [
        b"data: [DONE]\n\n".to_vec(),
        b"data: {\n\n".to_vec(),
        b"data: 7\n\n".to_vec(),
        frame(&[openai]),
        frame(&[words("a")]),
        frame(&[start(), start()]),
        frame(&[start(), tool(1, "f"), input(2, "{}")]),
        b"<html>\n\n</html>".to_vec(),
        br#"{"type":"message"}"#.to_vec(),
        vec![b'x'; crate::wire::sse::MAX_LINE + 1],
    ] {
        let (_, end) = read(&bytes, None);
        let shown = String::from_utf8_lossy(bytes.get(..60).unwrap_or(&bytes)).into_owned();
        assert!(matches!(end, StreamEnd::Malformed(_)), "{shown}: {end:?}");
    }
    assert_eq!(read(b"", None).1, StreamEnd::Truncated);
    assert_eq!(read(b"event: mess", None).1, StreamEnd::Truncated);
}

/// Every field of every event replaced by every kind of value: nothing may panic, and nothing may pass for complete
/// without its terminator.
#[test]
fn hostile_events_do_no_harm() {
    let [finish, end] = stop("tool_use");
    let events = [
        start(),
        block(0, json!({"type": "text", "text": "a"})),
        words("b"),
        tool(1, "f"),
        input(1, "{}"),
        delta(2, json!({"type": "thinking_delta", "thinking": "t", "signature": "s"})),
        finish,
        end,
    ];
    let values = [json!(null), json!(true), json!(-1.5), json!(u64::MAX), json!(""), json!([[]]), json!({"type": {}})];
    let paths = [
        "/type",
        "/index",
        "/message",
        "/message/usage",
        "/message/id",
        "/content_block",
        "/content_block/type",
        "/content_block/name",
        "/delta",
        "/delta/type",
        "/delta/text",
        "/delta/partial_json",
        "/delta/stop_reason",
    ];
    let mut tried = 0;
    for at in 0..events.len() {
        for path in paths {
            for value in &values {
                let mut hostile = events.clone();
                let Some(field) = hostile[at].pointer_mut(path) else { continue };
                *field = value.clone();
                let (events, end) = read(&frame(&hostile), Some("answer"));
                assert_eq!(end == StreamEnd::Complete, events.last() == Some(&Event::End), "{hostile:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 150, "{tried}");
}
