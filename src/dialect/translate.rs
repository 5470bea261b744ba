//! Joins a client's dialect and an upstream's, through the middle language; the only place that knows two of them.
//!
//! A [`Translated`] call carries the [`ReplyTranslator`] that brings its answer back, because the way back depends on what
//! was asked: the model's name, whether usage was wanted, whether a schema had to become a tool.

use super::anthropic::stream::StreamReader;
use super::anthropic::{error, request, response};
use super::openai_chat::parse::parse;
use super::openai_chat::render::{self, StreamWriter, Style};
use crate::error::Problem;
use crate::llm::chat::{Answer, Failure};
use crate::llm::event::{Event, Fold};
use crate::llm::observed::{Observed, ObservedStream, StreamEnd};
use std::fmt;

pub use super::anthropic::request::RequestOptions as Options;

/// Why a call cannot be translated: the caller's mistake, with the path of the field. A 400.
pub type TranslateError = Problem;

/// A call in the upstream's dialect.
#[derive(Clone, Debug)]
pub struct Translated {
    /// The body to send.
    pub body: Vec<u8>,
    /// Names of the fields that could not be carried (`spangate.dropped_params`).
    pub dropped: Vec<String>,
    /// Brings the answer back.
    pub reply: ReplyTranslator,
}

/// An OpenAI chat call as Anthropic Messages.
pub fn openai_to_anthropic(body: &[u8], options: &Options) -> Result<Translated, TranslateError> {
    let chat = parse(body)?;
    let (model, include_usage) = (chat.model.clone(), chat.include_usage);
    let rendered = request::render(chat, options)?;
    let reply = ReplyTranslator { model, include_usage, answer_tool: rendered.answer_tool };
    Ok(Translated { body: rendered.body, dropped: rendered.dropped, reply })
}

/// Brings the answer to one call back: Anthropic Messages as OpenAI chat.
#[derive(Clone, Debug, Default)]
pub struct ReplyTranslator {
    model: String,
    include_usage: bool,
    answer_tool: Option<String>,
}

/// A successful status with a body that is no answer; the text says why. The upstream's fault: a 502.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedAnswer(pub String);

impl fmt::Display for MalformedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "The upstream's answer is not a message of its dialect: {}", self.0)
    }
}

impl ReplyTranslator {
    /// A whole answer, and the facts in it. `created` is the gateway's clock in Unix seconds.
    pub fn answer(&self, bytes: &[u8], created: u64, strict: bool) -> Result<(Vec<u8>, Observed), MalformedAnswer> {
        let answer = response::parse(bytes, self.answer_tool.as_deref()).map_err(MalformedAnswer)?;
        Ok((render::answer(&answer, &self.style(created, strict)), observed(&answer)))
    }

    /// A streamed answer.
    pub fn stream(&self, created: u64, strict: bool) -> StreamTranslator {
        let style = self.style(created, strict);
        StreamTranslator {
            reader: StreamReader::new(self.answer_tool.clone()),
            writer: StreamWriter::new(style.clone(), self.include_usage),
            fold: Fold::default(),
            style,
            first_token_seen: false,
        }
    }

    /// An error answer: its status and body for the caller.
    pub fn error(&self, status: u16, body: &[u8]) -> (u16, Vec<u8>) {
        let failure = error::parse(status, body);
        (failure.status, render::failure(&failure))
    }

    fn style(&self, created: u64, strict: bool) -> Style {
        Style { created, model: self.model.clone(), strict }
    }
}

/// Translates one stream, however it is cut.
#[derive(Debug)]
pub struct StreamTranslator {
    reader: StreamReader,
    writer: StreamWriter,
    fold: Fold,
    style: Style,
    first_token_seen: bool,
}

impl StreamTranslator {
    /// Takes what arrived, and appends what the client gets.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.reader.push(bytes, |event| {
            self.first_token_seen |= event.is_token();
            self.fold.push(&event);
            self.writer.write(&event, out);
        });
    }

    /// Whether something that the model generated has come.
    pub fn first_token_seen(&self) -> bool {
        self.first_token_seen
    }

    /// Whether the end is known: what comes now is not read.
    pub fn is_over(&self) -> bool {
        self.reader.is_over()
    }

    /// Judges the stream, and appends what the client gets last: after an end that was not announced, an error event. (An
    /// error that the provider announced has been passed on when it came.) `cut` is the code and the message for a stream
    /// that ended too early: only the connection knows why. `assembled` is a chat completion, as far as it got.
    pub fn finish(mut self, cut: (&str, &str), out: &mut Vec<u8>) -> ObservedStream {
        let end = self.reader.finish();
        let unannounced = match &end {
            StreamEnd::Complete | StreamEnd::Failed(_) => None,
            StreamEnd::Malformed(what) => {
                Some(("stream_malformed", format!("The upstream sent something that is not its dialect: {what}.")))
            }
            StreamEnd::Truncated => Some((cut.0, cut.1.to_owned())),
        };
        if let Some((code, message)) = unannounced {
            let failure = Failure { status: 502, kind: "server_error", code: Some(code.to_owned()), message };
            self.writer.write(&Event::Error(failure), out);
        }
        let answer = self.fold.answer();
        ObservedStream {
            observed: answer.map(observed).unwrap_or_default(),
            assembled: answer.and_then(|answer| String::from_utf8(render::answer(answer, &self.style)).ok()),
            end,
        }
    }
}

/// Looks at an Anthropic stream that nobody translated. `assembled` is a chat completion all the same.
pub fn observe_anthropic(bytes: &[u8]) -> ObservedStream {
    let (mut stream, mut unread) = (ReplyTranslator::default().stream(0, false), Vec::new());
    stream.push(bytes, &mut unread);
    stream.finish(("stream_truncated", ""), &mut unread)
}

fn observed(answer: &Answer) -> Observed {
    Observed {
        model: answer.model.clone(),
        response_id: answer.id.clone(),
        finish_reasons: answer.native_finish.iter().cloned().collect(),
        usage: answer.usage,
        service_tier: answer.service_tier.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::anthropic::Caps;
    use super::*;
    use serde_json::{Value, json};

    const OPTIONS: Options = Options {
        default_max_tokens: 4096,
        max_output_tokens: None,
        caps: Caps {
            adaptive: false,
            always_thinks: false,
            effort_max: false,
            effort_xhigh: false,
            native_schema: false,
            no_forced_tool: false,
            no_prefill: false,
            no_sampling: false,
            reasoning: false,
        },
    };

    fn reply(more: Value) -> ReplyTranslator {
        let mut call = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        openai_to_anthropic(call.to_string().as_bytes(), &OPTIONS).unwrap().reply
    }

    fn message(content: Value, stop_reason: &str) -> Vec<u8> {
        json!({"type": "message", "content": content, "stop_reason": stop_reason}).to_string().into_bytes()
    }

    fn frame(events: &[Value]) -> Vec<u8> {
        events.iter().map(|event| format!("data: {event}\n\n")).collect::<String>().into_bytes()
    }

    fn thoughtful() -> (Value, Vec<Value>) {
        let blocks = json!([{"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"}, {"type": "text", "text": "x"}]);
        let opened =
            blocks.as_array().unwrap().iter().map(|block| json!({"type": "content_block_start", "content_block": block}));
        let events = std::iter::once(json!({"type": "message_start"})).chain(opened);
        (blocks.clone(), events.collect())
    }

    #[test]
    fn thoughts_stay_away_in_strict_mode() {
        let (blocks, events) = thoughtful();
        for strict in [true, false] {
            let reply = ReplyTranslator::default();
            let (whole, _) = reply.answer(&message(blocks.clone(), "end_turn"), 1, strict).unwrap();
            let (mut stream, mut streamed) = (reply.stream(1, strict), Vec::new());
            stream.push(&frame(&events), &mut streamed);
            for text in [whole, streamed] {
                let text = String::from_utf8(text).unwrap();
                assert_eq!(text.contains("hm") || text.contains("reasoning_content"), !strict, "{text}");
                assert_eq!(text.contains("thinking"), !strict, "{text}");
            }
        }
    }

    #[test]
    fn a_schema_comes_back_as_content() {
        let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}});
        let reply = reply(json!({"response_format": format}));
        let tool = json!({"type": "tool_use", "id": "t", "name": "structured_answer", "input": {"n": 1}});
        let (body, observed) = reply.answer(&message(json!([tool]), "tool_use"), 1, true).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["choices"][0]["message"], json!({"role": "assistant", "content": "{\"n\":1}"}));
        assert_eq!(
            (&body["choices"][0]["finish_reason"], observed.finish_reasons),
            (&json!("stop"), vec!["tool_use".to_owned()])
        );

        let (mut stream, mut out) = (reply.stream(1, true), Vec::new());
        let delta = json!({"type": "input_json_delta", "partial_json": "{\"n\":1}"});
        stream.push(
            &frame(&[json!({"type": "message_start"}), json!({"type": "content_block_start", "content_block": tool})]),
            &mut out,
        );
        assert!(!stream.first_token_seen());
        stream.push(&frame(&[json!({"type": "content_block_delta", "delta": delta})]), &mut out);
        assert!(stream.first_token_seen() && !stream.is_over());
        stream.push(&frame(&[json!({"type": "message_stop"})]), &mut out);
        assert!(stream.is_over());
        let whole: Value =
            serde_json::from_str(&stream.finish(("stream_truncated", "cut"), &mut out).assembled.unwrap()).unwrap();
        assert_eq!(whole["choices"], body["choices"]);
    }

    #[test]
    fn a_nameless_answer_gets_the_names_that_are_known() {
        let (body, _) = reply(json!({})).answer(&message(json!([]), "end_turn"), 17, true).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["id"], &body["model"], body.get("usage")), (&json!("chatcmpl-17"), &json!("m"), None));
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        let error = ReplyTranslator::default().answer(b"<html>", 1, true).unwrap_err();
        assert!(error.to_string().starts_with("The upstream's answer is not a message"), "{error}");
    }

    #[test]
    fn what_was_seen_before_a_cut_is_kept() {
        let mut events = thoughtful().1;
        events[0] = json!({"type": "message_start", "message": {"id": "i", "model": "c", "usage": {"input_tokens": 3}}});
        let seen = observe_anthropic(&frame(&events));
        assert_eq!(seen.end, StreamEnd::Truncated);
        assert_eq!((seen.observed.response_id.as_deref(), seen.observed.usage.input), (Some("i"), Some(3)));
        let whole: Value = serde_json::from_str(&seen.assembled.unwrap()).unwrap();
        assert_eq!(
            (&whole["choices"][0]["message"]["content"], &whole["choices"][0]["finish_reason"]),
            (&json!("x"), &Value::Null)
        );
        assert_eq!(observe_anthropic(b"<html>").assembled, None);
    }
}
