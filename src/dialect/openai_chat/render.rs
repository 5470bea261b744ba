//! An [`Answer`], a stream of events or a failure, written as OpenAI's chat completions do.
//!
//! *Strict* writes only what OpenAI's schema has; otherwise thoughts go along as `reasoning_content` and
//! `thinking_blocks` (conventions, modes). `[DONE]` is written for [`Event::End`] and for nothing else, so that a client can
//! tell an answer that was cut from one that ended.

use crate::llm::chat::{Answer, Content, Failure, Finish};
use crate::llm::event::Event;
use crate::llm::usage::Usage;
use crate::wire::document::{Json, Object};

/// How to write an answer; constant over it.
#[derive(Clone, Debug)]
pub struct Style {
    /// When the answer was made, by the gateway's clock, in Unix seconds.
    pub created: u64,
    /// The model asked for, where the answer names none.
    pub model: String,
    /// Whether only OpenAI's own fields may appear.
    pub strict: bool,
}

/// The body of an answer.
pub fn answer(answer: &Answer, style: &Style) -> Vec<u8> {
    let choice = Object::new()
        .with("index", 0u32)
        .with("message", message(answer, style.strict))
        .with("finish_reason", answer.finish.map_or(Json::Null, |finish| finish.as_str().into()));
    let body = head(&answer.id, "chat.completion", &answer.model, style)
        .with("choices", vec![choice.into()])
        .with_some("usage", usage(&answer.usage));
    Json::from(body).to_bytes()
}

/// The body of an error.
pub fn failure(failure: &Failure) -> Vec<u8> {
    Json::from(error(failure)).to_bytes()
}

/// Writes a stream, event by event.
#[derive(Debug)]
pub struct StreamWriter {
    style: Style,
    include_usage: bool,
    usage: Usage,
    /// The text that every chunk begins with, up to its choices.
    opening: Vec<u8>,
}

impl StreamWriter {
    /// A writer; `include_usage` adds the chunk that the client asked for.
    pub fn new(style: Style, include_usage: bool) -> StreamWriter {
        StreamWriter { style, include_usage, usage: Usage::default(), opening: Vec::new() }
    }

    /// Appends what the client gets for `event`.
    pub fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        let extended = !self.style.strict;
        match event {
            Event::Start { id, model } => {
                let head = head(id, "chat.completion.chunk", model, &self.style);
                self.opening = Json::from(head).to_bytes();
                self.opening.pop(); // the closing brace: more fields follow
                self.delta(Object::new().with("role", "assistant").with("content", ""), out);
            }
            Event::Text(text) => self.delta(Object::new().with("content", text.as_str()), out),
            Event::Refusal(text) => self.delta(Object::new().with("refusal", text.as_str()), out),
            Event::Thinking(text) if extended => self.delta(Object::new().with("reasoning_content", text.as_str()), out),
            Event::Signature(seal) if extended => {
                let block = Object::new().with("type", "thinking").with("signature", seal.as_str());
                self.delta(Object::new().with("thinking_blocks", vec![block.into()]), out);
            }
            Event::RedactedThinking(data) if extended => {
                self.delta(Object::new().with("thinking_blocks", vec![redacted(data)]), out);
            }
            Event::Thinking(_) | Event::Signature(_) | Event::RedactedThinking(_) => {}
            Event::ToolStart { index, id, name } => {
                let function = Object::new().with("name", name.as_str()).with("arguments", "");
                let call = Object::new().with("index", *index).with("id", id.as_str());
                self.call(call.with("type", "function").with("function", function), out);
            }
            Event::ToolArguments { index, fragment } => {
                let function = Object::new().with("arguments", fragment.as_str());
                self.call(Object::new().with("index", *index).with("function", function), out);
            }
            Event::Usage { usage, .. } => self.usage = *usage,
            Event::Finish { reason, .. } => self.choice(Object::new(), Some(*reason), out),
            Event::Error(failure) => {
                out.extend_from_slice(b"event: error\n"); // one SDK looks at the name only
                write_event(&[&Json::from(error(failure)).to_bytes()], out);
            }
            Event::End => {
                if let Some(usage) = usage(&self.usage).filter(|_| self.include_usage) {
                    self.chunk(Vec::new(), Some(usage), out);
                }
                write_event(&[b"[DONE]"], out);
            }
        }
    }

    fn call(&self, call: Object, out: &mut Vec<u8>) {
        self.delta(Object::new().with("tool_calls", vec![call.into()]), out);
    }

    fn delta(&self, delta: Object, out: &mut Vec<u8>) {
        self.choice(delta, None, out);
    }

    fn choice(&self, delta: Object, finish: Option<Finish>, out: &mut Vec<u8>) {
        let finish = finish.map_or(Json::Null, |finish| finish.as_str().into());
        let choice = Object::new().with("index", 0u32).with("delta", delta).with("finish_reason", finish);
        self.chunk(vec![choice.into()], None, out);
    }

    fn chunk(&self, choices: Vec<Json>, usage: Option<Object>, out: &mut Vec<u8>) {
        let rest = Json::from(Object::new().with("choices", choices).with_some("usage", usage)).to_bytes();
        // `{"id":…` and `{"choices":…}`: a comma takes the place of the second brace.
        write_event(&[&self.opening, b",", rest.get(1..).unwrap_or_default()], out);
    }
}

fn write_event(data: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    for piece in data {
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(b"\n\n");
}

fn head(id: &Option<String>, object: &str, model: &Option<String>, style: &Style) -> Object {
    // A provider that names no answer is against its own contract; the clock must do then.
    let id = id.clone().unwrap_or_else(|| format!("chatcmpl-{}", style.created));
    let model = model.as_ref().unwrap_or(&style.model);
    Object::new().with("id", id).with("object", object).with("created", style.created).with("model", model.as_str())
}

fn message(answer: &Answer, strict: bool) -> Object {
    let (mut text, mut thoughts) = (String::new(), String::new());
    let (mut calls, mut blocks) = (Vec::new(), Vec::new());
    for part in &answer.parts {
        match part {
            Content::Text(words) => text.push_str(words),
            Content::Thinking { text, signature } => {
                thoughts.push_str(text);
                let block = Object::new().with("type", "thinking").with("thinking", text.as_str());
                blocks.push(block.with_some("signature", signature.as_deref()).into());
            }
            Content::RedactedThinking(data) => blocks.push(redacted(data)),
            Content::ToolUse { id, name, arguments } => {
                let function = Object::new().with("name", name.as_str()).with("arguments", arguments.as_str());
                calls.push(Object::new().with("id", id.as_str()).with("type", "function").with("function", function).into());
            }
            Content::Audio | Content::Document { .. } | Content::Image(_) | Content::ToolResult { .. } => {}
        }
    }
    let content = if text.is_empty() && !calls.is_empty() { Json::Null } else { text.into() };
    Object::new()
        .with("role", "assistant")
        .with("content", content)
        .with_some("refusal", answer.refusal.as_deref())
        .with_some("reasoning_content", Some(thoughts).filter(|thoughts| !strict && !thoughts.is_empty()))
        .with_some("thinking_blocks", Some(blocks).filter(|blocks| !strict && !blocks.is_empty()))
        .with_some("tool_calls", Some(calls).filter(|calls| !calls.is_empty()))
}

fn redacted(data: &str) -> Json {
    Object::new().with("type", "redacted_thinking").with("data", data).into()
}

/// A detail appears when the provider reported it, even as 0; the whole when it reported anything.
fn usage(usage: &Usage) -> Option<Object> {
    let input = Object::new()
        .with_some("cached_tokens", usage.cache_read)
        .with_some("cache_write_tokens", usage.cache_write)
        .with_some("audio_tokens", usage.audio_input);
    let output = Object::new().with_some("reasoning_tokens", usage.reasoning).with_some("audio_tokens", usage.audio_output);
    let counts = Object::new()
        .with("prompt_tokens", usage.input.unwrap_or(0))
        .with("completion_tokens", usage.output.unwrap_or(0))
        .with("total_tokens", usage.total()?)
        .with_some("prompt_tokens_details", Some(input).filter(|details| !details.is_empty()))
        .with_some("completion_tokens_details", Some(output).filter(|details| !details.is_empty()));
    Some(counts)
}

fn error(failure: &Failure) -> Object {
    let code = failure.code.as_deref().map_or(Json::Null, Json::from);
    let error = Object::new().with("message", failure.message.as_str()).with("type", failure.kind);
    Object::new().with("error", error.with("param", Json::Null).with("code", code))
}
