//! A Messages answer, read into an [`Answer`].
//!
//! Blocks of other kinds (server tools and their results) are skipped: OpenAI has no place for them. Where the call had an
//! answer tool, its input *is* the answer: it becomes the only text, and the finish reason `stop` unless the caller's own
//! tools are called too.

use crate::llm::chat::{Answer, Content, Finish};
use crate::llm::usage::Usage;
use crate::wire::document::{Json, compact};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Reads the body of a successful answer; the error says why it is none.
pub fn parse(body: &[u8], answer_tool: Option<&str>) -> Result<Answer, String> {
    let message: Message = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if message.kind != "message" {
        return Err(format!("the type is {:?} where \"message\" was expected", message.kind));
    }
    let mut answer_input = None;
    let mut parts = Vec::new();
    for block in message.content {
        match block.into_content() {
            Some(Content::ToolUse { name, arguments, .. }) if Some(name.as_str()) == answer_tool => {
                answer_input.get_or_insert(arguments);
            }
            content => parts.extend(content),
        }
    }
    let finish = finish(message.stop_reason.as_deref());
    let calls_tools = parts.iter().any(|part| matches!(part, Content::ToolUse { .. }));
    let gave_answer = answer_input.is_some();
    if let Some(input) = answer_input {
        parts.retain(|part| !matches!(part, Content::Text(_)));
        parts.push(Content::Text(input));
    }
    let counts = Counts::default().overlaid(&message.usage);
    Ok(Answer {
        id: message.id,
        model: message.model,
        parts,
        finish: Some(if gave_answer && !calls_tools && finish == Finish::ToolCalls { Finish::Stop } else { finish }),
        native_finish: message.stop_reason,
        usage: counts.usage(),
        refusal: explanation(&message.stop_details),
        service_tier: counts.service_tier,
    })
}

/// OpenAI's class of a `stop_reason`; one that is not known is an end like another.
pub(super) fn finish(stop_reason: Option<&str>) -> Finish {
    match stop_reason {
        Some("max_tokens" | "model_context_window_exceeded") => Finish::Length,
        Some("refusal") => Finish::ContentFilter,
        Some("tool_use") => Finish::ToolCalls,
        _ => Finish::Stop,
    }
}

/// Why the model declined, from `stop_details`.
pub(super) fn explanation(stop_details: &Json) -> Option<String> {
    stop_details.get("explanation").and_then(Json::as_str).map(str::to_owned)
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    id: Option<String>,
    model: Option<String>,
    #[serde(borrow)]
    content: Vec<Block<'a>>,
    stop_reason: Option<String>,
    #[serde(default = "null")]
    stop_details: Json,
    #[serde(default = "null")]
    usage: Json,
}

fn null() -> Json {
    Json::Null
}

/// A block of any kind. The input of a tool stays text: its digits and the order of its keys are the model's.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    data: Option<Json>,
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

impl Block<'_> {
    fn into_content(self) -> Option<Content> {
        Some(match self.kind.as_ref() {
            "redacted_thinking" => Content::RedactedThinking(self.data?.as_str()?.to_owned()),
            "text" => Content::Text(self.text?),
            "thinking" => Content::Thinking { text: self.thinking.unwrap_or_default(), signature: self.signature },
            "tool_use" => Content::ToolUse {
                id: self.id.unwrap_or_default(),
                name: self.name.unwrap_or_default(),
                arguments: self.input.map_or_else(|| "{}".to_owned(), compact),
            },
            _ => return None,
        })
    }
}

/// The figures of a `usage` object as the API counts them: `input` leaves the cache out.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    input: Option<u64>,
    output: Option<u64>,
    cache_creation: Option<u64>,
    cache_creation_1h: Option<u64>,
    cache_read: Option<u64>,
    thinking: Option<u64>,
    pub(super) service_tier: Option<String>,
}

impl Counts {
    /// With the figures of `usage` in place of those held; figures are cumulative over a stream, never to be added.
    pub(super) fn overlaid(self, usage: &Json) -> Counts {
        let count = |name: &str| usage.get(name).and_then(Json::as_u64);
        let nested = |outer: &str, name: &str| usage.get(outer)?.get(name)?.as_u64();
        Counts {
            input: count("input_tokens").or(self.input),
            output: count("output_tokens").or(self.output),
            cache_creation: count("cache_creation_input_tokens").or(self.cache_creation),
            cache_creation_1h: nested("cache_creation", "ephemeral_1h_input_tokens").or(self.cache_creation_1h),
            cache_read: count("cache_read_input_tokens").or(self.cache_read),
            thinking: nested("output_tokens_details", "thinking_tokens").or(self.thinking),
            service_tier: usage.get("service_tier").and_then(Json::as_str).map(str::to_owned).or(self.service_tier),
        }
    }

    /// The same in the gateway's classes: `input` is everything that went in.
    pub(super) fn usage(&self) -> Usage {
        let cached = self.cache_creation.unwrap_or(0).saturating_add(self.cache_read.unwrap_or(0));
        Usage {
            input: self.input.map(|input| input.saturating_add(cached)),
            output: self.output,
            cache_read: self.cache_read,
            cache_write: self.cache_creation,
            cache_write_1h: self.cache_creation_1h,
            reasoning: self.thinking,
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(content: serde_json::Value, stop_reason: &str) -> Answer {
        let body = json!({"type": "message", "id": "m", "model": "c", "content": content, "stop_reason": stop_reason});
        parse(body.to_string().as_bytes(), Some("answer")).unwrap()
    }

    #[test]
    fn the_answer_tool_is_the_answer() {
        let call = |name: &str| json!({"type": "tool_use", "id": "t", "name": name, "input": {"n": 1}});
        let alone = read(json!([{"type": "text", "text": "Here:"}, call("answer"), call("answer")]), "tool_use");
        assert_eq!(alone.finish, Some(Finish::Stop));
        assert!(matches!(alone.parts.as_slice(), [Content::Text(text)] if text == r#"{"n":1}"#));

        let both = read(json!([call("answer"), call("other")]), "tool_use");
        assert_eq!(both.finish, Some(Finish::ToolCalls));
        assert_eq!(both.parts.len(), 2);

        assert_eq!(read(json!([call("answer")]), "max_tokens").finish, Some(Finish::Length));
    }

    #[test]
    fn every_stop_reason_has_its_class() {
        for (native, expected) in [
            ("end_turn", Finish::Stop),
            ("stop_sequence", Finish::Stop),
            ("pause_turn", Finish::Stop),
            ("something_new", Finish::Stop),
            ("max_tokens", Finish::Length),
            ("model_context_window_exceeded", Finish::Length),
            ("tool_use", Finish::ToolCalls),
            ("refusal", Finish::ContentFilter),
        ] {
            let answer = read(json!([]), native);
            assert_eq!((answer.finish, answer.native_finish.as_deref()), (Some(expected), Some(native)));
        }
    }

    #[test]
    fn the_input_of_a_tool_keeps_its_digits_and_order() {
        let body = br#"{"type":"message","content":[{"type":"tool_use","id":"t","name":"f",
            "input": { "z" : 12345678901234567890123 , "a" : 1.10 }}]}"#;
        let answer = parse(body, None).unwrap();
        assert!(matches!(answer.parts.as_slice(),
            [Content::ToolUse { arguments, .. }] if arguments == r#"{"z":12345678901234567890123,"a":1.10}"#));
    }

    #[test]
    fn server_tools_are_skipped() {
        let answer = read(
            json!([{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                   {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                   {"type": "text", "text": "Found.", "citations": [{}]}]),
            "end_turn",
        );
        assert_eq!(answer.parts.len(), 1);
    }

    #[test]
    fn usage_counts_everything_that_went_in() {
        let usage = json!({"input_tokens": 12, "output_tokens": 3, "cache_creation_input_tokens": 200,
            "cache_read_input_tokens": 1800, "service_tier": "batch",
            "cache_creation": {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 150}});
        let counts = Counts::default().overlaid(&Json::parse(usage.to_string().as_bytes()).unwrap());
        let expected = Usage {
            input: Some(2012),
            output: Some(3),
            cache_read: Some(1800),
            cache_write: Some(200),
            cache_write_1h: Some(150),
            ..Usage::default()
        };
        assert_eq!(counts.usage(), expected);
        assert_eq!(counts.service_tier.as_deref(), Some("batch"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for body in ["", "[]", "{}", "<html>", r#"{"type":"error","error":{}}"#, r#"{"type":"message","content":"x"}"#] {
            assert!(parse(body.as_bytes(), None).is_err(), "{body}");
        }
    }

    #[test]
    fn absurd_figures_do_no_harm() {
        let body = format!(
            r#"{{"type":"message","content":[],"usage":{{"input_tokens":{0},"cache_read_input_tokens":{0},"output_tokens":-1,
                "cache_creation":[],"output_tokens_details":7}}}}"#,
            u64::MAX
        );
        let usage = parse(body.as_bytes(), None).unwrap().usage;
        assert_eq!((usage.input, usage.output), (Some(u64::MAX), None));
    }
}
