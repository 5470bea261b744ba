//! The end of a stream: was it whole, what does the caller hear last, what does the span say.
//!
//! The bytes themselves never come through here while they pass (architecture, decision 4): the shell moves them, keeps a
//! bounded copy, and holds the caller's side open until this file has judged what was seen. A stream that did not reach
//! its dialect's terminator is never closed as if it had: the caller gets an error event in the stream's own language, and
//! no terminator after it.

use crate::dialect::openai_chat::error;
use crate::dialect::openai_chat::observe::{self, StreamObserver};
use crate::dialect::translate::StreamTranslator;
use crate::llm::observed::{ObservedStream, StreamEnd};
use crate::ports::{ConnectionEnd, Passed, Rewrite};
use crate::provider::{self, Dialect};
use crate::trace::cost;
use crate::trace::message::{Body, CallRecord, GuardEnd, GuardRecord};
use crate::trace::redact::Credentials;
use crate::trace::span::{ErrorType, SpanError, Status, UsageSource};
use std::cell::RefCell;
use std::rc::Rc;

/// A stream, judged.
#[derive(Debug)]
pub struct Judged {
    /// What was seen, the answer put together.
    pub stream: ObservedStream,
    /// Why it was not whole.
    pub error: Option<SpanError>,
    /// What the caller gets before the close.
    pub last_words: Option<Vec<u8>>,
}

/// Judges a stream that passed untouched. `lenient` providers may end after a finish reason, without `[DONE]`, which the
/// caller then gets from us.
pub fn judge_untouched(passed: &Passed, lenient: bool) -> Judged {
    let whole_copy = passed.total_bytes == passed.bytes.len() as u64;
    let mut observer = StreamObserver::default();
    observer.push(if whole_copy { &passed.bytes } else { after_the_gap(&passed.bytes) });
    let finished = observer.saw_finish();
    let mut stream = observer.finish();
    if !whole_copy {
        stream.assembled = None; // its middle is not there
    }
    if lenient && finished && stream.end == StreamEnd::Truncated && passed.end == ConnectionEnd::Closed {
        stream.end = StreamEnd::Complete;
        return Judged { stream, error: None, last_words: Some(DONE.to_vec()) };
    }
    if stream.end == StreamEnd::Truncated && stream.assembled.is_none() && !looks_like_events(&passed.bytes) {
        stream.end = StreamEnd::Malformed("not one field of an event in it".to_owned());
    }
    let error = failure(passed.end, &stream.end);
    let told = matches!(stream.end, StreamEnd::Failed(_));
    let inside = !passed.bytes.is_empty() && !passed.bytes.ends_with(b"\n\n") && !passed.bytes.ends_with(b"\r\n\r\n");
    let last_words = error
        .as_ref()
        .filter(|_| !told)
        .map(|error| error::error_event(&error.message, Some(error.kind.as_str()), if inside { b"x" } else { b"" }));
    Judged { stream, error, last_words }
}

/// Of a copy that was too long to keep: its end, from an event boundary on. Usage and terminator are there.
fn after_the_gap(bytes: &[u8]) -> &[u8] {
    let tail = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or(bytes);
    let boundary = tail.windows(2).position(|pair| pair == b"\n\n").map_or(0, |at| at + 2);
    tail.get(boundary..).unwrap_or_default()
}

/// Whether bytes begin as an event stream does: with a field, a comment, or nothing yet.
fn looks_like_events(bytes: &[u8]) -> bool {
    let start = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let begins = |field: &&[u8]| start.starts_with(field) || field.starts_with(start);
    [&b":"[..], b"data", b"event", b"id", b"retry"].iter().any(begins)
}

/// Judges a stream that was translated: its translator has already written what the caller gets last.
pub fn judge_translated(passed: &Passed, translator: StreamTranslator) -> Judged {
    let mut last_words = Vec::new();
    let cut = failure(passed.end, &StreamEnd::Truncated);
    let cut = cut.as_ref().map_or(("stream_truncated", ""), |error| (error.kind.as_str(), error.message.as_str()));
    let stream = translator.finish(cut, &mut last_words);
    Judged { error: failure(passed.end, &stream.end), stream, last_words: Some(last_words) }
}

/// What a stream's end means for its span: first how the connection ended, then what the bytes say.
fn failure(connection: ConnectionEnd, end: &StreamEnd) -> Option<SpanError> {
    let error = |kind, message: &str| Some(SpanError { kind, message: message.to_owned() });
    match (end, connection) {
        (StreamEnd::Complete, _) => None,
        (StreamEnd::Failed(message), _) => {
            error(ErrorType::StreamTruncated, &format!("The provider ended the stream with an error: {message}"))
        }
        (StreamEnd::Malformed(what), _) => error(
            ErrorType::StreamMalformed,
            &format!("The upstream sent something that is no event stream of its dialect: {what}"),
        ),
        (_, ConnectionEnd::ClientGone) => {
            error(ErrorType::ClientDisconnected, "The caller closed the connection before the stream had ended.")
        }
        (_, ConnectionEnd::Stalled) => {
            error(ErrorType::StreamStalled, "The upstream sent nothing for too long, and the stream was cut.")
        }
        (_, ConnectionEnd::Closed | ConnectionEnd::Reset) => {
            error(ErrorType::StreamTruncated, "The upstream ended the stream before the answer was complete.")
        }
    }
}

/// A translator that the shell drives while the stream passes, and that is taken from it for the last words.
pub struct Shared(pub Rc<RefCell<Option<StreamTranslator>>>);

impl Rewrite for Shared {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if let Some(translator) = self.0.borrow_mut().as_mut() {
            translator.push(bytes, out);
        }
    }
}

/// Finishes the record of a stream whose gateway died under it.
pub fn finish_guard(record: GuardRecord) -> CallRecord {
    let GuardRecord { record: mut call, raw, end, first, ended, bytes, .. } = record;
    let seen = if bytes > raw.len() as u64 { after_the_gap(raw.as_bytes()) } else { raw.as_bytes() };
    let provider = call.spans.last().and_then(|span| provider::find(span.provider.as_deref()?));
    let stream = match provider.map(|provider| provider.dialect) {
        Some(Dialect::Anthropic) => crate::dialect::translate::observe_anthropic(seen),
        Some(Dialect::OpenAi) | None => observe::stream(seen),
    };
    let end = match end {
        GuardEnd::ClientGone => ConnectionEnd::ClientGone,
        GuardEnd::Closed => ConnectionEnd::Closed,
        GuardEnd::Reset => ConnectionEnd::Reset,
        GuardEnd::Stalled => ConnectionEnd::Stalled,
    };
    let error = failure(end, &stream.end);
    for span in call.spans.iter_mut().rev().take(1) {
        span.time_to_first_token_ms = first.map(|first| first.since(span.start));
        span.response_model = stream.observed.model.clone();
        span.usage = stream.observed.usage;
        span.usage_source = if span.usage.is_known() { UsageSource::Reported } else { UsageSource::None };
        span.cost_pico_usd =
            provider.and_then(|provider| cost::of(provider.id, &stream.observed, span.request_model.as_deref(), span.start));
    }
    let last = call.spans.len().saturating_sub(1);
    for (index, span) in call.spans.iter_mut().enumerate().filter(|(index, _)| *index == 0 || *index == last) {
        span.end = ended.max(span.start);
        span.bytes_out = bytes;
        span.status = match error.as_ref().map(|error| error.kind) {
            None => Status::Ok,
            Some(ErrorType::ClientDisconnected) => Status::Cancelled,
            Some(_) => Status::Error,
        };
        span.error = error.clone();
        if index == 0 {
            span.response_model = stream.observed.model.clone();
        }
    }
    let call_id = call.call_id;
    let response =
        call.exchanges.iter_mut().find(|exchange| exchange.record_id == call_id).and_then(|exchange| exchange.response.as_mut());
    if let (Some(response), Some(assembled)) = (response, stream.assembled) {
        response.body = Credentials::default().body(assembled.into_bytes(), true);
    } else if let Some(response) = call.exchanges.first_mut().and_then(|exchange| exchange.response.as_mut()) {
        response.body = Body::Text(raw);
    }
    call
}

/// Bytes at the end of a stream that `bridge.js` keeps whatever its length.
const TAIL: usize = 48 << 10;
const DONE: &[u8] = b"data: [DONE]\n\n";
