//! Calls to store: a request and its attempts, each ten milliseconds after the other.

use super::{TestDb, TestObjects, block_on};
use spangate::consume::{self, Message, MessageOutcome, Store};
use spangate::ids::{OtelSpanId, OtelTraceId, RecordId, SpanId, TraceId, Workspace};
use spangate::llm::usage::Usage;
use spangate::random::{Rng, SeededRng};
use spangate::time::{Millis, UnixMillis};
use spangate::trace::message::{Body, CallRecord, Exchange, HttpMessage, RECORD_VERSION};
use spangate::trace::span::{AttemptFacts, ErrorType, Kind, Reason, SpanError, SpanRecord, Status, UsageSource};

/// 2026-11-20T10:15:30.123Z
pub const T0: u64 = 1_795_169_730_123;

pub fn workspace() -> Workspace {
    Workspace::default_one()
}

/// Makes calls with ids from a seed.
pub struct Maker(SeededRng);

impl Maker {
    pub fn new(seed: u64) -> Maker {
        Maker(SeededRng(seed))
    }

    /// A call of one attempt per status, the last of which the caller sees.
    pub fn call(&mut self, trace_id: &str, start: u64, statuses: &[u16]) -> CallRecord {
        let last = statuses.last().copied().unwrap_or(400);
        let mut request = self.span(trace_id, start, Kind::Request, last);
        request.end = UnixMillis(start + 10 * statuses.len() as u64 + 1);
        request.metadata.insert("_user".into(), "u-9".into());
        let (call_id, parent) = (request.record_id, request.span_id.clone());
        let mut spans = vec![request];
        for (index, status) in (0u32..).zip(statuses) {
            let mut span = self.span(trace_id, start + 10 * u64::from(index), Kind::Attempt, *status);
            span.parent_span_id = Some(parent.clone());
            span.attempt = Some(AttemptFacts {
                index,
                retry: index,
                target: "config".into(),
                reason: if index == 0 { Reason::First } else { Reason::Retry },
                wait_ms: Millis(0),
                wait_reason: None,
            });
            if *status < 400 {
                span.usage = Usage { input: Some(10), output: Some(5), reasoning: Some(2), ..Usage::default() };
                span.usage_source = UsageSource::Reported;
                span.cost_pico_usd = Some(1_234_500);
            }
            spans.push(span);
        }
        CallRecord { v: RECORD_VERSION, workspace: workspace(), call_id, spans, exchanges: vec![], lost_before: 0 }
    }

    pub fn span(&mut self, trace_id: &str, start: u64, kind: Kind, status: u16) -> SpanRecord {
        let start = UnixMillis(start);
        let failed = SpanError { kind: ErrorType::HttpStatus, message: format!("status {status}") };
        SpanRecord {
            record_id: RecordId::mint(start, &mut self.0),
            trace_id: TraceId::parse(trace_id).unwrap(),
            otel_trace_id: OtelTraceId::from_hex("0123456789abcdef0123456789abcdef").unwrap(),
            span_id: SpanId::parse(&format!("sp-{:016x}", self.0.next_u64())).unwrap(),
            otel_span_id: OtelSpanId::random(&mut self.0),
            parent_span_id: None,
            kind,
            name: format!("{} {}", kind.as_str(), trace_id),
            start,
            end: start.plus(Millis(10)),
            status: if status < 400 { Status::Ok } else { Status::Error },
            status_code: Some(status),
            error: (status >= 400).then_some(failed),
            operation: Some("chat".into()),
            provider: Some("openai".into()),
            request_model: Some("gpt-4o".into()),
            response_model: (status < 400).then(|| "gpt-4o-2024-08-06".into()),
            attempt: None,
            usage: Usage::default(),
            usage_source: UsageSource::None,
            cost_pico_usd: None,
            time_to_first_byte_ms: Some(Millis(7)),
            time_to_first_token_ms: None,
            stream: false,
            bytes_in: 100,
            bytes_out: 200,
            cache_status: None,
            metadata: Default::default(),
            attributes: Some(
                serde_json::value::RawValue::from_string(r#"{"big":12345678901234567890,"null":null}"#.into()).unwrap().into(),
            ),
            events: vec![],
        }
    }
}

/// What a caller said and got, with `response` as the body that came back.
pub fn exchange(record_id: RecordId, response: Body) -> Exchange {
    let json = |text: &str| Body::Json(serde_json::value::RawValue::from_string(text.into()).unwrap().into());
    let request = HttpMessage {
        method: Some("POST".into()),
        url: Some("/v1/chat/completions".into()),
        headers: vec![("content-type".into(), "application/json".into())],
        body: json(r#"{"model": "gpt-4o", "seed": 12345678901234567890}"#),
        ..HttpMessage::default()
    };
    let response = HttpMessage { status: Some(200), body: response, ..HttpMessage::default() };
    Exchange { record_id, request: Some(request), response: Some(response) }
}

pub fn message(id: &str, calls: &[CallRecord]) -> Message {
    Message { id: id.into(), body: serde_json::to_string(calls).unwrap(), attempts: 1 }
}

/// One delivery.
pub fn deliver(messages: &[Message], db: &TestDb, objects: &TestObjects) -> Vec<MessageOutcome> {
    let finish = |guard: spangate::trace::message::GuardRecord| guard.record;
    block_on(consume::store(messages, Store { db, objects }, &finish))
}

/// One delivery of one message that must succeed.
pub fn stored(calls: &[CallRecord], db: &TestDb) {
    assert_eq!(deliver(&[message("m", calls)], db, &TestObjects::default()), [MessageOutcome::Stored]);
}
