//! What an answer says about itself, read from a copy after the bytes have passed.
//!
//! Tolerant throughout: a field that is missing or of the wrong type is absent, and no answer is ever refused. Finish
//! reasons are told in the provider's words; naming them alike is for those who show them. Usage is normalised here,
//! because the numbers themselves show how they were counted. A stream's end is judged by its bytes alone: how the
//! connection closed, and whether a provider is known to leave out `[DONE]`, is for the caller to add.

use super::assemble::Assembly;
use super::error::{error_message, in_band_error};
use crate::llm::observed::{Observed, ObservedStream, StreamEnd};
use crate::llm::usage::Usage;
use crate::wire::splice::{self, Object};
use crate::wire::sse::{Decoder, Event, LineTooLong};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Looks at a non-streaming chat or embeddings answer.
pub fn answer(body: &[u8]) -> Observed {
    let text = String::from_utf8_lossy(body);
    let Ok(answer) = Object::parse_text(&text) else { return Observed::default() };
    let choices: Vec<Choice<'_>> = answer.get("choices").and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default();
    Observed {
        model: filled(&answer, "model"),
        response_id: filled(&answer, "id"),
        finish_reasons: choices.iter().filter_map(|choice| owned(choice.finish_reason?.get())).collect(),
        usage: answer.get("usage").map(usage).unwrap_or_default(),
        service_tier: filled(&answer, "service_tier"),
    }
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

/// Normalises a `usage` object as it is written; what is not a whole number that a count can be is unknown.
pub(super) fn usage(written: &str) -> Usage {
    let Ok(usage) = Object::parse_text(written) else { return Usage::default() };
    let details = |key| usage.get(key).and_then(|details| Object::parse_text(details).ok());
    let (input, output) = (details("prompt_tokens_details"), details("completion_tokens_details"));
    let count = |object: &Object<'_>, key| object.get(key)?.parse().ok();
    let part = |object: &Option<Object<'_>>, key| count(object.as_ref()?, key);
    let (prompt, completion) = (count(&usage, "prompt_tokens"), count(&usage, "completion_tokens"));
    let reasoning = part(&output, "reasoning_tokens");
    // Some upstreams (x-ai) count reasoning beside the completion; their total gives them away.
    let all = [prompt, completion, reasoning].into_iter().try_fold(0, |sum: u64, count| sum.checked_add(count?));
    let beside = all.is_some() && all == count(&usage, "total_tokens");
    Usage {
        input: prompt,
        output: if beside { completion.zip(reasoning).map(|(text, thought)| text + thought) } else { completion },
        cache_read: part(&input, "cached_tokens").or_else(|| count(&usage, "prompt_cache_hit_tokens")),
        cache_write: part(&input, "cache_write_tokens"),
        cache_write_1h: None,
        reasoning,
        audio_input: part(&input, "audio_tokens"),
        audio_output: part(&output, "audio_tokens"),
    }
}

/// Looks at a stream of chat completion chunks, in whatever pieces it arrives.
#[derive(Debug, Default)]
pub struct StreamObserver {
    decoder: Decoder,
    seen: Seen,
}

/// What the events so far amount to. Once `end` is set, later events change nothing.
#[derive(Debug, Default)]
struct Seen {
    assembly: Assembly,
    end: Option<StreamEnd>,
}

/// Looks at a whole stream at once.
pub fn stream(bytes: &[u8]) -> ObservedStream {
    let mut observer = StreamObserver::default();
    observer.push(bytes);
    observer.finish()
}

impl StreamObserver {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        let Self { decoder, seen } = self;
        if seen.end.is_none() && decoder.push(bytes, |event| seen.event(&event)) == Err(LineTooLong) {
            seen.end.get_or_insert(StreamEnd::Malformed("a line is longer than 1 MiB".to_owned()));
        }
    }

    /// Whether there were choices and every one of them has its finish reason: for providers that leave out `[DONE]`.
    pub fn saw_finish(&self) -> bool {
        self.seen.assembly.all_finished()
    }

    /// Whether anything that a model said has arrived: text, reasoning, a refusal or a tool call.
    pub fn first_token_seen(&self) -> bool {
        self.seen.assembly.has_output()
    }

    /// Judges the stream, whose bytes are at an end.
    pub fn finish(mut self) -> ObservedStream {
        if self.seen.end.is_none() {
            // Some close right behind `[DONE]`, without the blank line; anything else that is cut off is not looked at.
            let mut rest = None;
            let _ = self.decoder.push(b"\n\n", |event| rest = Some(event));
            self.seen.end = rest.filter(is_done).map(|_| StreamEnd::Complete);
        }
        ObservedStream {
            observed: self.seen.assembly.observed(),
            end: self.seen.end.unwrap_or(StreamEnd::Truncated),
            assembled: self.seen.assembly.answer(),
        }
    }
}

impl Seen {
    fn event(&mut self, event: &Event) {
        // The standard does not even dispatch an event without data.
        if self.end.is_some() || event.data.is_empty() {
            return;
        }
        if is_done(event) {
            self.end = Some(StreamEnd::Complete);
            return;
        }
        let chunk = Object::parse_text(&event.data);
        if let Ok(chunk) = &chunk {
            self.assembly.add(chunk);
        }
        if event.name == "error" || chunk.as_ref().is_ok_and(in_band_error) {
            let message = error_message(event.data.as_bytes()).unwrap_or_else(|| UNNAMED_ERROR.to_owned());
            self.end = Some(StreamEnd::Failed(message));
        } else if let Err(error) = chunk {
            self.end = Some(StreamEnd::Malformed(format!("the data of an event is no chunk: {error}")));
        }
    }
}

fn is_done(event: &Event) -> bool {
    event.data.trim_ascii() == "[DONE]"
}

/// Whether the last bytes of a stream (64 are plenty) hold the line `data: [DONE]`.
pub fn is_terminated(tail: &[u8]) -> bool {
    tail.split(|byte| matches!(byte, b'\n' | b'\r'))
        .filter_map(|line| line.strip_prefix(b"data:"))
        .any(|data| data.trim_ascii() == b"[DONE]")
}

fn filled(object: &Object<'_>, key: &str) -> Option<String> {
    owned(object.get(key)?)
}

/// The text of a JSON string, unless it is empty.
pub(super) fn owned(value: &str) -> Option<String> {
    splice::text(value).filter(|text| !text.is_empty()).map(|text| text.into_owned())
}

const UNNAMED_ERROR: &str = "the provider reported an error and did not say which";
