use super::*;
use serde_json::{Value, json};

/// A call with one turn, as the client's dialect would have read it.
fn chat() -> Chat {
    Chat { model: "m".into(), turns: vec![user("hi")], ..Chat::default() }
}

fn turn(role: Role, content: Content) -> Turn {
    Turn { role, parts: vec![content.into()], message: 0 }
}

fn user(text: &str) -> Turn {
    turn(Role::User, Content::Text(text.into()))
}

fn assistant(text: &str) -> Turn {
    turn(Role::Assistant, Content::Text(text.into()))
}

fn tool_use(arguments: &str) -> Turn {
    turn(Role::Assistant, Content::ToolUse { id: "t".into(), name: "f".into(), arguments: arguments.into() })
}

fn tool_result() -> Turn {
    turn(Role::Tool, Content::ToolResult { id: "t".into(), output: ToolOutput::Text("r".into()), is_error: None })
}

fn tool(name: &str) -> Tool {
    Tool { name: name.into(), description: None, parameters: None, cache_control: None }
}

fn schema() -> Option<ResponseFormat> {
    let schema = Json::parse(br#"{"type":"object","properties":{"z":{},"a":{"type":"integer","minimum":1}}}"#).unwrap();
    Some(ResponseFormat::JsonSchema { description: None, schema })
}

fn options(flags: &str) -> RequestOptions {
    RequestOptions { default_max_tokens: 4096, max_output_tokens: None, caps: Caps::from_flags(flags.split(' ')) }
}

/// The request, and the names of what was left out.
fn written(chat: Chat, flags: &str) -> (Value, Vec<String>) {
    let rendered = render(chat, &options(flags)).unwrap();
    (serde_json::from_slice(&rendered.body).unwrap(), rendered.dropped)
}

fn refused(chat: Chat, flags: &str) -> String {
    render(chat, &options(flags)).unwrap_err().path
}

#[test]
fn numbers_are_clamped() {
    let call = Chat { temperature: Some(1.7), top_p: Some(-3.0), max_tokens: Some(0), ..chat() };
    let (body, dropped) = written(call, "");
    assert_eq!((&body["temperature"], &body["top_p"], &body["max_tokens"]), (&json!(1.0), &json!(0.0), &json!(1)));
    assert!(dropped.is_empty());
    let limited = RequestOptions { max_output_tokens: Some(100), ..options("") };
    for max_tokens in [None, Some(5000)] {
        let body = render(Chat { max_tokens, ..chat() }, &limited).unwrap().body;
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["max_tokens"], 100);
    }
}

#[test]
fn a_top_p_that_says_nothing_does_not_stand_beside_a_temperature() {
    let (body, dropped) = written(Chat { temperature: Some(0.5), top_p: Some(1.0), ..chat() }, "");
    assert_eq!((body.get("top_p"), dropped.len()), (None, 0));
    let (body, _) = written(Chat { top_p: Some(1.0), ..chat() }, "");
    assert_eq!(body["top_p"], 1.0);
}

#[test]
fn sampling_is_left_out_where_it_is_refused() {
    let call = Chat { temperature: Some(0.5), top_p: Some(0.5), top_k: Some(5), ..chat() };
    let (body, dropped) = written(call, "no_sampling");
    assert_eq!(dropped, ["temperature", "top_p", "top_k"]);
    assert!(["temperature", "top_p", "top_k"].iter().all(|name| body.get(name).is_none()));
    assert!(written(Chat { temperature: Some(1.0), ..chat() }, "no_sampling").1.is_empty());
}

#[test]
fn thinking_excludes_sampling_and_forced_tools() {
    for kind in ["enabled", "adaptive"] {
        let call = Chat {
            thinking: Some(Object::new().with("type", kind).into()),
            temperature: Some(0.5),
            top_p: Some(0.97),
            top_k: Some(5),
            tools: vec![tool("f")],
            tool_choice: Some(ToolChoice::Required),
            ..chat()
        };
        let (body, dropped) = written(call, "reasoning");
        assert_eq!(dropped, ["tool_choice", "temperature", "top_k"]);
        assert_eq!((&body["tool_choice"], &body["top_p"]), (&json!({"type": "auto"}), &json!(0.97)));
    }
    let off = Chat { thinking: Some(Object::new().with("type", "disabled").into()), temperature: Some(0.5), ..chat() };
    assert_eq!(written(off, "reasoning").0["temperature"], 0.5);
}

#[test]
fn runs_of_one_role_are_one_turn_and_results_come_first() {
    let call =
        Chat { turns: vec![user("a"), user("b"), tool_use("{}"), assistant("x"), user("c"), tool_result(), user("d")], ..chat() };
    let (body, _) = written(call, "");
    let text = |text: &str| json!({"type": "text", "text": text});
    let expected = json!([
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}, text("x")]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}, text("c"), text("d")]},
    ]);
    assert_eq!(body["messages"], expected);
}

#[test]
fn blank_text_and_unsealed_thoughts_are_no_content() {
    let unsealed = Content::Thinking { text: "hm".into(), signature: Some(String::new()) };
    let turns = vec![user("hi"), assistant(""), turn(Role::Assistant, unsealed), user(" \n")];
    let system = vec![SystemText { text: " ".into(), cache_control: None }];
    let (body, _) = written(Chat { turns, system, ..chat() }, "");
    assert_eq!(body["messages"], json!([{"role": "user", "content": [{"type": "text", "text": "hi"}]}]));
    assert_eq!(body.get("system"), None);
    assert_eq!(refused(Chat { turns: vec![user("")], ..chat() }, ""), "messages");
}

#[test]
fn a_prefill_ends_without_white_space() {
    let call = || Chat { turns: vec![user("hi"), Turn { message: 7, ..assistant(" {\"a\": \n") }], ..chat() };
    assert_eq!(written(call(), "").0["messages"][1]["content"][0]["text"], " {\"a\":");
    assert_eq!(refused(call(), "no_prefill"), "messages[7]");
}

#[test]
fn arguments_cross_as_they_are_or_not_at_all() {
    let body = |arguments| render(Chat { turns: vec![user("hi"), tool_use(arguments), tool_result()], ..chat() }, &options(""));
    let text = String::from_utf8(body(" {\"z\":12345678901234567890123,\"a\":1.10} ").unwrap().body).unwrap();
    assert!(text.contains(r#""input":{"z":12345678901234567890123,"a":1.10}"#), "{text}");
    for arguments in ["{", "[]", "7", "{} {}"] {
        assert_eq!(body(arguments).unwrap_err().path, "messages[0].tool_calls[0].function.arguments", "{arguments}");
    }
}

#[test]
fn what_would_change_the_meaning_is_refused() {
    assert_eq!(refused(Chat { n: Some(2), ..chat() }, ""), "n");
    assert!(render(Chat { n: Some(1), ..chat() }, &options("")).is_ok());
    let sound = Turn { message: 3, ..turn(Role::User, Content::Audio) };
    assert_eq!(refused(Chat { turns: vec![sound], ..chat() }, ""), "messages[3].content");
}

#[test]
fn blank_stop_texts_are_left_out() {
    let (body, dropped) = written(Chat { stop: vec!["\n".into(), "END".into(), "".into()], ..chat() }, "");
    assert_eq!((&body["stop_sequences"], dropped), (&json!(["END"]), vec!["stop".to_owned()]));
    assert_eq!(written(Chat { stop: vec![" ".into()], ..chat() }, "").0.get("stop_sequences"), None);
}

#[test]
fn a_user_that_the_api_refuses_is_left_out() {
    for (name, kept) in [("u-42", true), ("a@b.example", false), ("+4712345678", false), (&*"x".repeat(257), false)] {
        let (body, dropped) = written(Chat { user: Some(name.into()), ..chat() }, "");
        assert_eq!(body.get("metadata").is_some(), kept, "{name}");
        assert_eq!(dropped.is_empty(), kept, "{name}");
    }
}

#[test]
fn service_tiers_have_other_words() {
    for (word, expected) in [("auto", json!("auto")), ("default", json!("standard_only")), ("flex", Value::Null)] {
        let (body, dropped) = written(Chat { service_tier: Some(word.into()), ..chat() }, "");
        assert_eq!((&body["service_tier"], dropped.is_empty()), (&expected, word != "flex"));
    }
}

#[test]
fn effort_is_a_word_for_adaptive_models() {
    use Effort::*;
    let all = "adaptive effort_xhigh effort_max";
    for (effort, flags, word) in [
        (Minimal, all, "low"),
        (Low, all, "low"),
        (Medium, all, "medium"),
        (High, all, "high"),
        (XHigh, all, "xhigh"),
        (XHigh, "adaptive effort_max", "high"),
        (Max, all, "max"),
        (Max, "adaptive", "high"),
    ] {
        let (body, dropped) = written(Chat { reasoning_effort: Some(effort), ..chat() }, flags);
        assert_eq!((&body["thinking"], &body["output_config"]), (&json!({"type": "adaptive"}), &json!({"effort": word})));
        assert_eq!((&body["max_tokens"], dropped.len()), (&json!(4096), 0), "{effort:?}");
    }
    let none = |flags| written(Chat { reasoning_effort: Some(None), ..chat() }, flags);
    assert_eq!(none("adaptive").0["thinking"], json!({"type": "disabled"}));
    assert_eq!(none("adaptive always_thinks"), (none("").0, vec!["reasoning_effort".to_owned()]));
}

#[test]
fn effort_is_a_budget_below_the_limit_for_others() {
    use Effort::*;
    for (effort, max_tokens, budget, limit) in [
        (Minimal, Option::None, 1024, 4096 + 1024),
        (Low, Some(9000), 1024, 9000),
        (Medium, Some(9000), 2048, 9000),
        (High, Some(9000), 4096, 9000),
        (High, Some(4096), 4095, 4096),
        (XHigh, Option::None, 8192, 4096 + 8192),
        (Max, Some(1025), 1024, 1025),
        (Max, Option::None, 16384, 4096 + 16384),
    ] {
        let (body, dropped) = written(Chat { reasoning_effort: Some(effort), max_tokens, ..chat() }, "reasoning");
        assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": budget}), "{effort:?}");
        assert_eq!((&body["max_tokens"], dropped.len()), (&json!(limit), 0), "{effort:?}");
    }
}

#[test]
fn effort_is_left_out_where_thinking_cannot_be() {
    let high = || Chat { reasoning_effort: Some(Effort::High), ..chat() };
    let cannot = [
        (Chat { max_tokens: Some(1024), ..high() }, "reasoning"),
        (high(), ""),
        (Chat { turns: vec![user("a"), assistant("b")], ..high() }, "reasoning"),
        (Chat { turns: vec![user("a"), tool_use("{}"), tool_result()], ..high() }, "reasoning"),
        (Chat { turns: vec![user("a"), tool_use("{}"), tool_result(), user("b")], ..high() }, "reasoning"),
    ];
    for (call, flags) in cannot {
        let (body, dropped) = written(call, flags);
        assert_eq!((body.get("thinking"), dropped), (None, vec!["reasoning_effort".to_owned()]));
    }
    let seal = Content::Thinking { text: "t".into(), signature: Some("s".into()) };
    let sealed = vec![user("a"), turn(Role::Assistant, seal), tool_use("{}"), tool_result()];
    let over = vec![user("a"), tool_use("{}"), tool_result(), assistant("b"), user("c")];
    for turns in [sealed, over] {
        assert!(written(Chat { turns, ..high() }, "reasoning").0.get("thinking").is_some());
    }
}

#[test]
fn thinking_given_by_the_caller_stays_as_it_is() {
    let given = || Some(Json::parse(br#"{"type":"enabled","budget_tokens":10000,"x":1}"#).unwrap());
    let (body, dropped) = written(Chat { thinking: given(), reasoning_effort: Some(Effort::Low), ..chat() }, "reasoning");
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 10000, "x": 1}));
    assert_eq!((&body["max_tokens"], dropped), (&json!(14096), vec!["reasoning_effort".to_owned()]));
    let absurd = Json::parse(br#"{"type":"enabled","budget_tokens":18446744073709551615}"#).unwrap();
    assert!(render(Chat { thinking: Some(absurd), ..chat() }, &options("reasoning")).is_ok());
}

#[test]
fn tool_choices_follow_the_table() {
    let choice = |choice, parallel, flags: &str| {
        let call = Chat { tools: vec![tool("f")], tool_choice: choice, parallel_tool_calls: parallel, ..chat() };
        written(call, flags).0["tool_choice"].clone()
    };
    assert_eq!(choice(None, None, ""), Value::Null);
    assert_eq!(choice(None, Some(true), ""), Value::Null);
    assert_eq!(choice(None, Some(false), ""), json!({"type": "auto", "disable_parallel_tool_use": true}));
    assert_eq!(choice(Some(ToolChoice::None), Some(false), ""), json!({"type": "none"}));
    assert_eq!(choice(Some(ToolChoice::Required), None, ""), json!({"type": "any"}));
    assert_eq!(choice(Some(ToolChoice::Required), None, "no_forced_tool"), json!({"type": "auto"}));
    assert_eq!(choice(Some(ToolChoice::Named("f".into())), None, "no_forced_tool"), json!({"type": "auto"}));
    let without_tools = Chat { tool_choice: Some(ToolChoice::Required), parallel_tool_calls: Some(false), ..chat() };
    assert_eq!(written(without_tools, "").0.get("tool_choice"), None);
}

#[test]
fn a_schema_keeps_its_order_and_loses_its_limits() {
    let body = render(Chat { response_format: schema(), ..chat() }, &options("native_schema")).unwrap().body;
    let text = String::from_utf8(body).unwrap();
    let expected = r#""schema":{"type":"object","properties":{"z":{},"a":{"type":"integer"}},"additionalProperties":false}"#;
    assert!(text.contains(expected), "{text}");
}

#[test]
fn without_native_support_a_schema_is_a_tool_that_must_be_called() {
    let ask = |tools: Vec<Tool>, choice, flags: &str| {
        let call = Chat { response_format: schema(), tools, tool_choice: choice, ..chat() };
        let rendered = render(call, &options(flags)).unwrap();
        let body: Value = serde_json::from_slice(&rendered.body).unwrap();
        (body["tool_choice"].clone(), body["tools"].clone(), rendered.answer_tool)
    };
    let (choice, tools, name) = ask(vec![], None, "");
    assert_eq!(choice, json!({"type": "tool", "name": ANSWER_TOOL, "disable_parallel_tool_use": true}));
    assert_eq!((&tools[0]["input_schema"]["properties"]["a"]["minimum"], name.as_deref()), (&json!(1), Some(ANSWER_TOOL)));

    let (choice, tools, name) = ask(vec![tool(ANSWER_TOOL)], None, "");
    assert_eq!((choice, tools.as_array().unwrap().len()), (json!({"type": "any"}), 2));
    assert_eq!(name.as_deref(), Some("structured_answer_"));

    assert_eq!(ask(vec![tool("f")], Some(ToolChoice::None), "").0["type"], "tool");
    assert_eq!(ask(vec![], None, "no_forced_tool").0, json!({"type": "auto"}));
    // A caller that forces a tool of its own wants no other answer.
    assert_eq!(ask(vec![tool("f")], Some(ToolChoice::Required), "").2, None);
}

#[test]
fn an_answer_tool_excludes_thinking() {
    let call = Chat { response_format: schema(), reasoning_effort: Some(Effort::High), ..chat() };
    let (body, dropped) = written(call, "reasoning");
    assert_eq!((body.get("thinking"), dropped), (None, vec!["reasoning_effort".to_owned()]));
}

#[test]
fn files_and_pictures_find_their_source() {
    let base64 = |media_type: &str, data: &str| Source::Base64 { media_type: media_type.into(), data: data.into() };
    let block =
        |content| written(Chat { turns: vec![turn(Role::User, content)], ..chat() }, "").0["messages"][0]["content"][0].clone();
    let document = |source| Content::Document { source, title: None };
    assert_eq!(block(Content::Image(base64("image/jpg", "eA==")))["source"]["media_type"], "image/jpeg");
    assert_eq!(block(document(Source::FileId("f".into())))["source"], json!({"type": "file", "file_id": "f"}));
    assert_eq!(
        block(document(base64("text/csv", "YSxi")))["source"],
        json!({"type": "text", "media_type": "text/plain", "data": "a,b"})
    );
    let broken = turn(Role::User, document(base64("text/plain", "/w==")));
    assert_eq!(refused(Chat { turns: vec![broken], ..chat() }, ""), "messages[0].content");
}

#[test]
fn a_tool_without_schema_takes_an_empty_object() {
    let mut untyped = tool("g");
    untyped.parameters = Some(Object::new().into());
    let (body, _) = written(Chat { tools: vec![tool("f"), untyped], ..chat() }, "");
    assert_eq!(body["tools"][0]["input_schema"], json!({"type": "object", "properties": {}}));
    assert_eq!(body["tools"][1]["input_schema"], json!({"type": "object"}));
}
