//! A Messages stream, read into events: bytes in, events out, however they are cut.
//!
//! Order is checked where a mistake would corrupt the answer (nothing before `message_start`, no argument text for another
//! block than the open one); event types, block types and deltas that are not known are skipped, because the API adds some
//! over time. Only `message_stop` makes a stream complete.
//!
//! Where the call had an answer tool, its argument text *is* the answer and comes out as text. Words beside it would spoil
//! the document, so words are held back until it is known whether the tool is called.

use super::error;
use super::response::{Counts, explanation, finish};
use crate::llm::chat::{Failure, Finish};
use crate::llm::event::Event;
use crate::llm::observed::StreamEnd;
use crate::wire::document::Json;
use crate::wire::sse;

/// Reads one stream.
#[derive(Debug)]
pub struct StreamReader {
    decoder: sse::Decoder,
    phase: Phase,
    /// The first byte that is not blank: a document or a page begins otherwise than a stream.
    first_byte: Option<u8>,
    counts: Counts,
    block: Block,
    /// How many of the caller's tools were called.
    calls: u32,
    answer_tool: Option<String>,
    words: Words,
}

#[derive(Debug)]
enum Phase {
    /// `message_start` is still to come.
    Awaited,
    /// In the message.
    Begun,
    /// The reason for its end is known; the terminator is still to come.
    Finished,
    /// Nothing that comes now counts.
    Over(StreamEnd),
}

/// The block that is open, as far as it matters.
#[derive(Debug)]
enum Block {
    /// The answer tool's; `index` is the block's own.
    Answer { index: Option<u64>, empty: bool },
    /// One whose argument text means nothing to the caller, or none.
    Other,
    /// A tool's; `call` counts the tools.
    Tool { index: Option<u64>, call: u32, empty: bool },
}

/// What happens to words.
#[derive(Debug)]
enum Words {
    /// The answer tool was called: they are beside the answer.
    Discarded,
    /// It may yet be called.
    Held(String),
    /// There is no answer tool.
    Passed,
}

/// Takes events.
type Sink<'a> = &'a mut dyn FnMut(Event);

/// The stream is not what it should be; the text says why.
struct Malformed(String);

impl StreamReader {
    /// A reader for the answer to a call, with its answer tool.
    pub fn new(answer_tool: Option<String>) -> StreamReader {
        StreamReader {
            decoder: sse::Decoder::default(),
            phase: Phase::Awaited,
            first_byte: None,
            counts: Counts::default(),
            block: Block::Other,
            calls: 0,
            words: if answer_tool.is_some() { Words::Held(String::new()) } else { Words::Passed },
            answer_tool,
        }
    }

    /// Takes what has arrived, and hands on every event that it completes.
    pub fn push(&mut self, bytes: &[u8], mut on_event: impl FnMut(Event)) {
        if self.is_over() {
            return;
        }
        self.first_byte = self.first_byte.or_else(|| bytes.iter().copied().find(|byte| !byte.is_ascii_whitespace()));
        let mut decoder = std::mem::take(&mut self.decoder);
        let decoded = decoder.push(bytes, |event| self.take(event, &mut on_event));
        self.decoder = decoder;
        if decoded.is_err() && !self.is_over() {
            self.phase = Phase::Over(StreamEnd::Malformed("a line is longer than any event".into()));
        }
    }

    /// Whether the end is known, so that nothing more needs to be read.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// How the stream ended, now that no more comes.
    pub fn finish(self) -> StreamEnd {
        match (self.phase, self.first_byte) {
            (Phase::Over(end), _) => end,
            (Phase::Awaited, Some(b'{' | b'[' | b'<')) => {
                StreamEnd::Malformed("a document came where a stream was expected".into())
            }
            _ => StreamEnd::Truncated,
        }
    }

    fn take(&mut self, event: sse::Event, sink: Sink<'_>) {
        if self.is_over() || event.data.trim().is_empty() {
            return;
        }
        if let Err(Malformed(what)) = self.read(&event, sink) {
            self.phase = Phase::Over(StreamEnd::Malformed(what));
        }
    }

    fn read(&mut self, event: &sse::Event, sink: Sink<'_>) -> Result<(), Malformed> {
        let data = Json::parse(event.data.as_bytes()).map_err(|how| Malformed(format!("an event's data is not JSON: {how}")))?;
        let kind = match data.get("type").and_then(Json::as_str).unwrap_or(&event.name) {
            "" => return Err(Malformed("an event has no type".into())),
            kind => kind,
        };
        let known = ["content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"];
        match (kind, &self.phase) {
            ("error", _) => self.fail(&data, sink),
            ("message_start", Phase::Awaited) => self.begin(&data, sink),
            ("message_start", _) => return Err(Malformed("message_start came twice".into())),
            (kind, Phase::Awaited) if known.contains(&kind) => {
                return Err(Malformed(format!("{kind} came before message_start")));
            }
            ("content_block_start", _) => self.open_block(&data, sink),
            ("content_block_delta", _) => self.extend_block(&data, sink)?,
            ("content_block_stop", _) => self.close_block(sink),
            ("message_delta", _) => self.change_message(&data, sink),
            ("message_stop", _) => {
                self.close_block(sink);
                self.conclude(None, sink);
                self.phase = Phase::Over(StreamEnd::Complete);
                sink(Event::End);
            }
            _ => {}
        }
        Ok(())
    }

    fn fail(&mut self, data: &Json, sink: Sink<'_>) {
        let code = data.get("error").and_then(|error| error.get("type")).and_then(Json::as_str);
        let status = code.and_then(error::usual_status).unwrap_or(500);
        let failure = error::from_event(data, status).unwrap_or_else(|| Failure {
            status,
            kind: "server_error",
            code: None,
            message: "The provider reported an error without saying which.".into(),
        });
        self.phase = Phase::Over(StreamEnd::Failed(failure.message.clone()));
        sink(Event::Error(failure));
    }

    fn begin(&mut self, data: &Json, sink: Sink<'_>) {
        self.phase = Phase::Begun;
        let message = data.get("message").unwrap_or(&Json::Null);
        sink(Event::Start { id: text(message, "id"), model: text(message, "model") });
        self.count(message.get("usage"), sink);
    }

    fn count(&mut self, usage: Option<&Json>, sink: Sink<'_>) {
        if let Some(usage) = usage {
            self.counts = std::mem::take(&mut self.counts).overlaid(usage);
            sink(Event::Usage { usage: self.counts.usage(), service_tier: self.counts.service_tier.clone() });
        }
    }

    fn open_block(&mut self, data: &Json, sink: Sink<'_>) {
        self.close_block(sink);
        let index = data.get("index").and_then(Json::as_u64);
        let block = data.get("content_block").unwrap_or(&Json::Null);
        match block.get("type").and_then(Json::as_str) {
            Some("text") => self.say(non_empty(block, "text"), sink),
            Some("thinking") => self.think(block, sink),
            Some("redacted_thinking") => {
                if let Some(data) = text(block, "data") {
                    sink(Event::RedactedThinking(data));
                }
            }
            Some("tool_use") => {
                let name = text(block, "name").unwrap_or_default();
                if self.answer_tool.as_ref() == Some(&name) {
                    // A second answer would spoil the first.
                    if !matches!(self.words, Words::Discarded) {
                        self.words = Words::Discarded;
                        self.block = Block::Answer { index, empty: true };
                    }
                } else {
                    let call = self.calls;
                    self.calls = call.saturating_add(1);
                    self.block = Block::Tool { index, call, empty: true };
                    sink(Event::ToolStart { index: call, id: text(block, "id").unwrap_or_default(), name });
                }
            }
            _ => {}
        }
    }

    fn extend_block(&mut self, data: &Json, sink: Sink<'_>) -> Result<(), Malformed> {
        let delta = data.get("delta").unwrap_or(&Json::Null);
        match delta.get("type").and_then(Json::as_str) {
            Some("text_delta") => self.say(non_empty(delta, "text"), sink),
            Some("thinking_delta" | "signature_delta") => self.think(delta, sink),
            Some("input_json_delta") => {
                let Some(fragment) = non_empty(delta, "partial_json") else { return Ok(()) };
                let meant = data.get("index").and_then(Json::as_u64);
                match &mut self.block {
                    Block::Other => {}
                    Block::Answer { index, .. } | Block::Tool { index, .. } if meant.is_some() && *index != meant => {
                        return Err(Malformed("argument text came for a block that is not open".into()));
                    }
                    Block::Answer { empty, .. } => {
                        *empty = false;
                        sink(Event::Text(fragment));
                    }
                    Block::Tool { call, empty, .. } => {
                        *empty = false;
                        sink(Event::ToolArguments { index: *call, fragment });
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A call without argument text has no arguments: `{}`.
    fn close_block(&mut self, sink: Sink<'_>) {
        match std::mem::replace(&mut self.block, Block::Other) {
            Block::Answer { empty: true, .. } => sink(Event::Text("{}".into())),
            Block::Tool { call, empty: true, .. } => sink(Event::ToolArguments { index: call, fragment: "{}".into() }),
            _ => {}
        }
    }

    fn say(&mut self, words: Option<String>, sink: Sink<'_>) {
        let Some(words) = words else { return };
        match &mut self.words {
            Words::Discarded => {}
            Words::Held(held) if held.len() + words.len() <= MAX_HELD => held.push_str(&words),
            Words::Held(held) => {
                let held = std::mem::take(held) + &words;
                self.words = Words::Passed;
                sink(Event::Text(held));
            }
            Words::Passed => sink(Event::Text(words)),
        }
    }

    fn think(&mut self, from: &Json, sink: Sink<'_>) {
        if let Some(thoughts) = non_empty(from, "thinking") {
            sink(Event::Thinking(thoughts));
        }
        if let Some(seal) = non_empty(from, "signature") {
            sink(Event::Signature(seal));
        }
    }

    fn change_message(&mut self, data: &Json, sink: Sink<'_>) {
        self.count(data.get("usage"), sink);
        let delta = data.get("delta").unwrap_or(&Json::Null);
        let Some(reason) = text(delta, "stop_reason") else { return };
        self.close_block(sink);
        if let Some(why) = delta.get("stop_details").and_then(explanation) {
            sink(Event::Refusal(why));
        }
        self.conclude(Some(reason), sink);
    }

    /// Says why the message ended, once.
    fn conclude(&mut self, native: Option<String>, sink: Sink<'_>) {
        if matches!(self.phase, Phase::Finished) {
            return;
        }
        self.phase = Phase::Finished;
        if let Words::Held(held) = &mut self.words
            && !held.is_empty()
        {
            sink(Event::Text(std::mem::take(held)));
        }
        let answered = matches!(self.words, Words::Discarded);
        let reason = match finish(native.as_deref()) {
            Finish::ToolCalls if answered && self.calls == 0 => Finish::Stop,
            Finish::Stop if native.is_none() && self.calls > 0 => Finish::ToolCalls,
            reason => reason,
        };
        sink(Event::Finish { reason, native });
    }
}

fn text(from: &Json, name: &str) -> Option<String> {
    from.get(name).and_then(Json::as_str).map(str::to_owned)
}

fn non_empty(from: &Json, name: &str) -> Option<String> {
    text(from, name).filter(|text| !text.is_empty())
}

/// The most words that are held back, in bytes; a model that says more has not called the answer tool, and will not.
const MAX_HELD: usize = 1 << 18;

#[cfg(test)]
mod tests;
