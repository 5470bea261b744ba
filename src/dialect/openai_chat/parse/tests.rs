use super::*;
use serde_json::{Value, json};

fn call(more: Value) -> Value {
    let mut call = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    call
}

fn read(more: Value) -> Result<Chat, Problem> {
    parse(call(more).to_string().as_bytes())
}

fn said(message: Value) -> Vec<String> {
    let chat = read(json!({"messages": [message]})).unwrap();
    chat.turns[0].parts.iter().map(|part| format!("{:?}", part.content)).collect()
}

#[test]
fn a_mistake_is_named_with_its_path() {
    for (more, path) in [
        (json!({"model": null}), "model"),
        (json!({"model": 7}), "model"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": {}}), "messages"),
        (json!({"messages": ["hi"]}), "messages[0]"),
        (json!({"messages": [{"content": "hi"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "function", "content": "hi"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": [{"type": "video"}]}]}), "messages[0].content[0].type"),
        (json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}), "messages[0].content[0].text"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,x"}}]}]}),
            "messages[0].content[0].image_url.url",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}),
            "messages[0].content[0].file.file_data",
        ),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].tool_call_id"),
        (json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}), "messages[0].tool_calls[0].function"),
        (json!({"messages": [{"role": "assistant", "tool_calls": [{"type": "custom"}]}]}), "messages[0].tool_calls[0].type"),
        (json!({"tools": [{"type": "custom"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}), "tools[0].function.parameters"),
        (json!({"tool_choice": "sometimes"}), "tool_choice"),
        (json!({"tool_choice": {"type": "function"}}), "tool_choice.function"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_tokens": 1.5}), "max_tokens"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"stop": ["a", 7]}), "stop[1]"),
        (json!({"stop": 7}), "stop"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"reasoning_effort": "huge"}), "reasoning_effort"),
        (json!({"response_format": {"type": "xml"}}), "response_format.type"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
    ] {
        assert_eq!(read(more.clone()).err().map(|problem| problem.path).as_deref(), Some(path), "{more}");
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for body in ["", "{", "[]", "7", "{\"model\":\"m\"}"] {
        assert!(parse(body.as_bytes()).is_err(), "{body}");
    }
    let deep = format!(r#"{{"model":"m","messages":{}"#, "[".repeat(100_000));
    assert!(parse(deep.as_bytes()).is_err());
}

#[test]
fn what_cannot_be_carried_is_listed_once() {
    let chat = read(json!({
        "seed": 7, "logit_bias": {}, "store": null, "stream_options": {"include_usage": true, "x": 1},
        "messages": [
            {"role": "user", "name": "a", "content": [{"type": "image_url", "image_url": {"url": "https://x/y", "detail": "low"}}]},
            {"role": "user", "name": "b", "content": "hi"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "strict": true}}],
    }));
    let mut dropped = chat.unwrap().dropped;
    dropped.sort();
    assert_eq!(
        dropped,
        [
            "logit_bias",
            "messages[].content[].image_url.detail",
            "messages[].name",
            "seed",
            "stream_options.x",
            "tools[].function.strict",
        ]
    );
}

#[test]
fn made_up_fields_cannot_fill_the_span() {
    let many: serde_json::Map<String, Value> = (0..1000).map(|n| (format!("{n}{}", "x".repeat(500)), json!(1))).collect();
    let dropped = read(many.into()).unwrap().dropped;
    assert_eq!(dropped.len(), crate::llm::chat::MAX_DROPPED);
    assert!(dropped.iter().all(|name| name.len() <= MAX_NAME));
}

#[test]
fn the_new_output_limit_wins() {
    assert_eq!(read(json!({"max_tokens": 1, "max_completion_tokens": 2})).unwrap().max_tokens, Some(2));
    assert_eq!(read(json!({"max_tokens": 1})).unwrap().max_tokens, Some(1));
}

#[test]
fn allowed_tools_leave_the_others_out() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let choice = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("b")]}});
    let chat = read(json!({"tools": [tool("a"), tool("b")], "tool_choice": choice})).unwrap();
    assert_eq!(chat.tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(chat.tool_choice, Some(ToolChoice::Required));
}

#[test]
fn thoughts_come_back_in_three_forms_but_once() {
    let sealed = r#"Thinking { text: "t", signature: Some("s") }"#;
    let thinking = json!([{"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "text", "text": "again"}]);
    let details =
        json!([{"type": "reasoning.text", "text": "t", "signature": "s"}, {"type": "reasoning.encrypted", "data": "d"}]);
    let message = |field: &str, value: &Value| said(json!({"role": "assistant", "content": "x", field: value}));
    assert_eq!(message("thinking_blocks", &thinking), [sealed, "Text(\"x\")"]);
    assert_eq!(message("content_blocks", &thinking), [sealed, "Text(\"x\")"]);
    assert_eq!(message("reasoning_details", &details), [sealed, "RedactedThinking(\"d\")", "Text(\"x\")"]);
    let both = json!({"role": "assistant", "thinking_blocks": thinking, "reasoning_details": details});
    assert_eq!(said(both), [sealed]);
}

#[test]
fn files_come_in_every_form() {
    let file = |file: Value| said(json!({"role": "user", "content": [{"type": "file", "file": file}]}));
    let source = |media_type: &str| format!("Base64 {{ media_type: {media_type:?}, data: \"eA==\" }}");
    let document = |source: String| vec![format!("Document {{ source: {source}, title: None }}")];
    assert_eq!(file(json!({"file_data": "data:Text/CSV;charset=utf-8;base64,eA=="})), document(source("text/csv")));
    assert_eq!(file(json!({"file_data": "eA=="})), document(source("application/pdf")));
    assert_eq!(file(json!({"file_id": "f"})), document("FileId(\"f\")".into()));
    let picture = json!({"type": "image_url", "image_url": {"url": "data:application/pdf;base64,eA=="}});
    assert_eq!(said(json!({"role": "user", "content": [picture]})), document(source("application/pdf")));
}

#[test]
fn a_breakpoint_on_a_message_stands_after_its_last_part() {
    let content = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    let message = |role: &str| json!({"role": role, "content": content, "cache_control": {"type": "ephemeral"}});
    let chat = read(json!({"messages": [message("system"), message("user")]})).unwrap();
    let marked: Vec<bool> = chat.system.iter().map(|system| system.cache_control.is_some()).collect();
    assert_eq!(marked, [false, true]);
    let marked: Vec<bool> = chat.turns[0].parts.iter().map(|part| part.cache_control.is_some()).collect();
    assert_eq!(marked, [false, true]);
}
