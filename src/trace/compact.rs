//! The form in which a record travels: small, and written without a detour.
//!
//! The hot path pays for every byte of a record twice, here and in the queue. Left out is what its reader knows anyway:
//! defaults, and what follows from another part of the record (the ids of the trace and the parent of an attempt from the
//! request span, the name of the request span from the call's, an OpenTelemetry span id from the raw one that it equals).
//! [`complete`] puts back the latter when a record is read; serde's defaults do the former. Both forms are read: the full
//! one, which `Serialize` writes, is what the store is given.

use super::message::{Body, CallRecord, Exchange, HttpMessage};
use super::span::{AttemptFacts, SpanError, SpanEvent, SpanRecord, Status, UsageSource};
use crate::ids::{OtelSpanId, RecordId};
use crate::llm::usage::Usage;
use crate::wire::json::{ObjectWriter, Put, put_list};

impl CallRecord {
    /// The record as it travels.
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(self.room());
        let mut record = ObjectWriter::open(&mut out);
        record.set("v", &u64::from(self.v)).set("workspace", self.workspace.as_str()).set("call_id", &self.call_id);
        put_list(&self.spans, record.member("spans"), |span, out| put_span(span, self.spans.first().unwrap_or(span), self, out));
        if !self.exchanges.is_empty() {
            put_list(&self.exchanges, record.member("exchanges"), Exchange::put_in);
        }
        record.set_count("lost_before", self.lost_before).close();
        out
    }

    /// About how long it will be: one allocation instead of eight.
    fn room(&self) -> usize {
        let messages = self.exchanges.iter().flat_map(|exchange| [&exchange.request, &exchange.response]).flatten();
        self.spans.len() * TYPICAL_SPAN + messages.map(|message| message.body.kept_bytes() + TYPICAL_MESSAGE).sum::<usize>()
    }
}

/// Puts back what [`CallRecord::to_json`] left out because another part of the record says it.
pub(super) fn complete(record: &mut CallRecord) {
    let mut spans = record.spans.iter_mut();
    let Some(first) = spans.next() else { return };
    if first.record_id == RecordId::default() {
        first.record_id = record.call_id;
    }
    derive_span_id(first);
    for span in spans {
        if span.trace_id.as_str().is_empty() {
            span.trace_id = first.trace_id.clone();
            span.otel_trace_id = first.otel_trace_id;
            span.parent_span_id.get_or_insert_with(|| first.span_id.clone());
        }
        derive_span_id(span);
    }
}

fn derive_span_id(span: &mut SpanRecord) {
    if span.otel_span_id == OtelSpanId::default() {
        span.otel_span_id = OtelSpanId::from_hex(span.span_id.as_str()).unwrap_or_default();
    }
}

/// A span; `first` is the one whose trace it can leave out, if it is a child of it.
fn put_span(span: &SpanRecord, first: &SpanRecord, call: &CallRecord, out: &mut String) {
    let is_first = std::ptr::eq(span, first);
    let is_child = !is_first
        && span.parent_span_id.as_ref() == Some(&first.span_id)
        && (&span.trace_id, span.otel_trace_id) == (&first.trace_id, first.otel_trace_id);
    let mut object = ObjectWriter::open(out);
    if !(is_first && span.record_id == call.call_id) {
        object.set("record_id", &span.record_id);
    }
    if !is_child {
        object.set("trace_id", span.trace_id.as_str()).set("otel_trace_id", &span.otel_trace_id);
        object.set_some("parent_span_id", span.parent_span_id.as_ref().map(|id| id.as_str()));
    }
    object.set("span_id", span.span_id.as_str());
    if OtelSpanId::from_hex(span.span_id.as_str()) != Some(span.otel_span_id) {
        object.set("otel_span_id", &span.otel_span_id);
    }
    object.set("kind", span.kind.as_str()).set("name", &span.name).set("start", &span.start.0).set("end", &span.end.0);
    if span.status != Status::Ok {
        object.set("status", span.status.as_str());
    }
    object.set_some("status_code", span.status_code.as_ref());
    if let Some(SpanError { kind, message }) = &span.error {
        let mut error = ObjectWriter::open(object.member("error"));
        error.set("type", kind.as_str()).set("message", message).close();
    }
    object
        .set_some("operation", span.operation.as_ref())
        .set_some("provider", span.provider.as_ref())
        .set_some("request_model", span.request_model.as_ref())
        .set_some("response_model", span.response_model.as_ref());
    if let Some(facts) = &span.attempt {
        put_facts(facts, object.member("attempt"));
    }
    if span.usage != Usage::default() {
        put_usage(&span.usage, object.member("usage"));
    }
    if span.usage_source != UsageSource::None {
        object.set("usage_source", span.usage_source.as_str());
    }
    object
        .set_some("cost_pico_usd", span.cost_pico_usd.as_ref())
        .set_some("time_to_first_byte_ms", span.time_to_first_byte_ms.map(|time| time.0).as_ref())
        .set_some("time_to_first_token_ms", span.time_to_first_token_ms.map(|time| time.0).as_ref())
        .set_some("stream", span.stream.then_some(&true))
        .set_count("bytes_in", span.bytes_in)
        .set_count("bytes_out", span.bytes_out)
        .set_some("cache_status", span.cache_status.as_ref());
    if !span.metadata.is_empty() {
        let mut metadata = ObjectWriter::open(object.member("metadata"));
        for (key, value) in &span.metadata {
            metadata.set_named(key, value);
        }
        metadata.close();
    }
    object.set_some("attributes", span.attributes.as_ref());
    if !span.events.is_empty() {
        put_list(&span.events, object.member("events"), put_event);
    }
    object.close();
}

fn put_facts(facts: &AttemptFacts, out: &mut String) {
    let AttemptFacts { index, retry, target, reason, wait_ms, wait_reason } = facts;
    let mut object = ObjectWriter::open(out);
    object.set("index", index).set("retry", retry).set("target", target).set("reason", reason.as_str());
    object.set_count("wait_ms", wait_ms.0).set_some("wait_reason", wait_reason.map(|reason| reason.as_str())).close();
}

fn put_usage(usage: &Usage, out: &mut String) {
    let Usage { input, output, cache_read, cache_write, cache_write_1h, reasoning, audio_input, audio_output } = usage;
    let mut object = ObjectWriter::open(out);
    for (name, count) in [
        ("input", input),
        ("output", output),
        ("cache_read", cache_read),
        ("cache_write", cache_write),
        ("cache_write_1h", cache_write_1h),
        ("reasoning", reasoning),
        ("audio_input", audio_input),
        ("audio_output", audio_output),
    ] {
        object.set_some(name, count.as_ref());
    }
    object.close();
}

fn put_event(event: &SpanEvent, out: &mut String) {
    let mut object = ObjectWriter::open(out);
    object.set("name", &event.name).set("time", &event.time.0);
    if !event.attributes.is_empty() {
        let mut attributes = ObjectWriter::open(object.member("attributes"));
        for (name, value) in &event.attributes {
            attributes.set_named(name, value);
        }
        attributes.close();
    }
    object.close();
}

impl Exchange {
    fn put_in(&self, out: &mut String) {
        let mut object = ObjectWriter::open(out);
        object.set("record_id", &self.record_id);
        object.set_some("request", self.request.as_ref()).set_some("response", self.response.as_ref()).close();
    }
}

impl Put for HttpMessage {
    fn put(&self, out: &mut String) {
        let mut object = ObjectWriter::open(out);
        object
            .set_some("method", self.method.as_ref())
            .set_some("url", self.url.as_ref())
            .set_some("status", self.status.as_ref());
        if !self.headers.is_empty() {
            put_list(&self.headers, object.member("headers"), |(name, value), out| [name, value].put(out));
        }
        if !matches!(self.body, Body::None) {
            object.set("body", &self.body);
        }
        object.close();
    }
}

impl Put for Body {
    fn put(&self, out: &mut String) {
        let mut object = match self {
            Body::None => return "none".put(out),
            _ => ObjectWriter::open(out),
        };
        match self {
            Body::None => {}
            Body::Json(json) => {
                object.set("json", json);
            }
            Body::Text(text) => {
                object.set("text", text);
            }
            Body::Truncated { bytes, head } => {
                let mut inner = ObjectWriter::open(object.member("truncated"));
                inner.set("bytes", bytes).set("head", head).close();
            }
            Body::Object { key, bytes, json } => {
                let mut inner = ObjectWriter::open(object.member("object"));
                inner.set("key", key).set("bytes", bytes).set("json", json).close();
            }
        }
        object.close();
    }
}

const TYPICAL_SPAN: usize = 900;
const TYPICAL_MESSAGE: usize = 600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{OtelTraceId, SpanId, TraceId, Workspace};
    use crate::random::SeededRng;
    use crate::time::{Millis, UnixMillis};
    use crate::trace::message::{QueueRecord, RECORD_VERSION};
    use crate::trace::span::{ErrorType, Kind, Reason, WaitReason};
    use crate::wire::json::JsonText;
    use serde_json::json;

    fn span(kind: Kind, raw_id: &str, rng: &mut SeededRng) -> SpanRecord {
        let (trace_id, span_id) = (TraceId::parse("t \"1\"").unwrap(), SpanId::parse(raw_id).unwrap());
        let otel_trace_id = OtelTraceId::derive("", &trace_id);
        SpanRecord {
            record_id: RecordId::mint(UnixMillis(7), rng),
            otel_span_id: OtelSpanId::derive(otel_trace_id, &span_id),
            trace_id,
            otel_trace_id,
            span_id,
            parent_span_id: None,
            kind,
            name: "chat é\n".into(),
            start: UnixMillis(7),
            end: UnixMillis(9),
            status: Status::Ok,
            status_code: None,
            error: None,
            operation: None,
            provider: None,
            request_model: None,
            response_model: None,
            attempt: None,
            usage: Usage::default(),
            usage_source: UsageSource::None,
            cost_pico_usd: None,
            time_to_first_byte_ms: None,
            time_to_first_token_ms: None,
            stream: false,
            bytes_in: 0,
            bytes_out: 0,
            cache_status: None,
            metadata: Default::default(),
            attributes: None,
            events: vec![],
        }
    }

    fn full(span: SpanRecord) -> SpanRecord {
        let json = |text: &str| JsonText::parse(text.into()).unwrap();
        SpanRecord {
            status: Status::Error,
            status_code: Some(429),
            error: Some(SpanError { kind: ErrorType::HttpStatus, message: "no \\ more".into() }),
            operation: Some("chat".into()),
            provider: Some("openai".into()),
            request_model: Some("m".into()),
            response_model: Some("n".into()),
            attempt: Some(AttemptFacts {
                index: 1,
                retry: 2,
                target: "config".into(),
                reason: Reason::Retry,
                wait_ms: Millis(3),
                wait_reason: Some(WaitReason::RetryAfter),
            }),
            usage: Usage {
                input: Some(0),
                output: Some(1),
                cache_read: Some(2),
                cache_write: Some(3),
                cache_write_1h: Some(4),
                reasoning: Some(5),
                audio_input: Some(6),
                audio_output: Some(u64::MAX),
            },
            usage_source: UsageSource::Reported,
            cost_pico_usd: Some(0),
            time_to_first_byte_ms: Some(Millis(0)),
            time_to_first_token_ms: Some(Millis(1)),
            stream: true,
            bytes_in: 10,
            bytes_out: 11,
            cache_status: Some("DISABLED".into()),
            metadata: [("a\"".into(), "b\t".into()), ("c".into(), String::new())].into(),
            attributes: Some(json("{\"big\":12345678901234567890, \"x\": null}")),
            events: vec![
                SpanEvent { name: "bare".into(), time: UnixMillis(8), attributes: Default::default() },
                SpanEvent { name: "e".into(), time: UnixMillis(8), attributes: [("k".into(), json!([1.5, "x"]))].into() },
            ],
            ..span
        }
    }

    /// A record travels in the compact form and arrives as the full form says it is.
    fn assert_arrives(record: &CallRecord) {
        let read = QueueRecord::parse(&record.to_json()).unwrap();
        let (sent, got) = (serde_json::to_value(record).unwrap(), serde_json::to_value(read.call()).unwrap());
        assert_eq!(got, sent, "{}", record.to_json());
    }

    #[test]
    fn a_record_arrives_as_it_was_sent() {
        let rng = &mut SeededRng(1);
        let bodies = [
            Body::None,
            Body::Json(JsonText::parse("{\"n\": 1.0}".into()).unwrap()),
            Body::Text("t\r\u{1}".into()),
            Body::Truncated { bytes: 9, head: "h".into() },
            Body::Object { key: "k".into(), bytes: 9, json: true },
        ];
        for (root, child) in [("00f067aa0ba902b7", "b7ad6b7169203331"), ("run 1", "run 1"), ("00F067AA0BA902B7", "x")] {
            let request = span(Kind::Request, root, rng);
            let mut attempt = span(Kind::Attempt, child, rng);
            attempt.parent_span_id = Some(request.span_id.clone());
            let mut stranger = span(Kind::External, "s", rng);
            stranger.trace_id = TraceId::parse("another").unwrap();
            stranger.parent_span_id = Some(request.span_id.clone());
            let spans =
                [full(request.clone()), full(attempt.clone()), request, attempt, stranger, span(Kind::Cache, "orphan", rng)];
            for first in [0, 2] {
                let mut spans = spans.to_vec();
                spans.swap(0, first);
                let call_id = spans[0].record_id;
                let exchanges = bodies.iter().map(|body| Exchange {
                    record_id: call_id,
                    request: Some(HttpMessage { method: Some("POST".into()), url: Some("/".into()), ..HttpMessage::default() }),
                    response: Some(HttpMessage {
                        status: Some(200),
                        headers: vec![("a".into(), "\"b\"".into())],
                        body: body.clone(),
                        ..HttpMessage::default()
                    }),
                });
                let workspace = Workspace::default_one();
                let record =
                    CallRecord { v: RECORD_VERSION, workspace, call_id, spans, exchanges: exchanges.collect(), lost_before: 3 };
                assert_arrives(&record);
                assert_arrives(&CallRecord { exchanges: vec![], lost_before: 0, ..record });
            }
        }
    }

    #[test]
    fn a_record_without_the_span_that_names_it_is_refused() {
        for spans in [
            "",
            r#"{"record_id":"00000000000000000000000000000001","trace_id":"t","span_id":"s","kind":"request","name":"","start":1,"end":1}"#,
        ] {
            let text =
                format!(r#"{{"v":1,"workspace":"default","call_id":"00000000000000000000000000000002","spans":[{spans}]}}"#);
            assert!(QueueRecord::parse(&text).is_err(), "{text}");
        }
    }
}
