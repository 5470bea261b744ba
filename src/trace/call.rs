//! One gateway call as it happens, told by the flows and turned into a record exactly once.
//!
//! [`CallTrace::finish`] consumes the trace: every way out of the gateway ends there, and none ends there twice. Ids are
//! minted here, at request time. Attempts are siblings under the request span; waits lie between them and are told as
//! events (otel.md §2.1, §2.6).

use super::attributes::Attributes;
use super::context::CallContext;
use super::message::{CallRecord, Exchange, HttpMessage, RECORD_VERSION};
use super::span::{AttemptFacts, ErrorType, Kind, Reason, SpanError, SpanEvent, SpanRecord, Status, UsageSource, WaitReason};
use crate::ids::{OtelSpanId, RecordId, SpanId, Workspace};
use crate::llm::observed::Observed;
use crate::llm::usage::Usage;
use crate::random::Rng;
use crate::time::{Millis, UnixMillis};
use serde_json::json;

/// A call under way.
#[derive(Clone, Debug)]
pub struct CallTrace {
    call_id: RecordId,
    workspace: Workspace,
    /// Who it belongs to in the trace.
    pub context: CallContext,
    request: RequestFacts,
    started: UnixMillis,
    attempts: Vec<SpanRecord>,
    exchanges: Vec<Exchange>,
    events: Vec<SpanEvent>,
    /// Facts of the request span, by their OpenTelemetry names.
    pub attributes: Attributes,
    wait: Option<(Millis, WaitReason)>,
}

/// What is known of a call from its request line and body.
#[derive(Clone, Debug, Default)]
pub struct RequestFacts {
    /// HTTP method.
    pub method: String,
    /// The path that was called.
    pub path: String,
    /// The route's template, of low cardinality.
    pub route: &'static str,
    /// `chat`, `embeddings`, …
    pub operation: Option<&'static str>,
    /// The model that the caller named.
    pub model: Option<String>,
    /// Whether the caller asked for a stream.
    pub stream: bool,
    /// Length of the body.
    pub bytes_in: u64,
}

/// An attempt that has been sent and has not ended.
#[derive(Clone, Debug)]
pub struct OpenAttempt {
    span: SpanRecord,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct AttemptEnd {
    /// When its last byte had come, or its failure was known.
    pub at: UnixMillis,
    /// When the response headers had come.
    pub headers_at: Option<UnixMillis>,
    /// When the first streamed byte had come.
    pub first_token_at: Option<UnixMillis>,
    /// The upstream's status, when it answered.
    pub status_code: Option<u16>,
    /// What went wrong.
    pub error: Option<SpanError>,
    /// What the answer says of itself.
    pub observed: Observed,
    /// What that cost, in 1e-12 US dollars.
    pub cost_pico_usd: Option<u64>,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// Bytes of the answer.
    pub bytes_out: u64,
    /// What was sent, where it differs from what the caller sent.
    pub request: Option<HttpMessage>,
    /// What was answered, where it differs from what the caller got.
    pub response: Option<HttpMessage>,
}

/// How a call ended, as its caller saw it.
#[derive(Clone, Debug)]
pub struct CallEnd {
    /// When.
    pub at: UnixMillis,
    /// The status that the caller got; 499 when they had left.
    pub status_code: u16,
    /// What went wrong.
    pub error: Option<SpanError>,
    /// Bytes of the answer.
    pub bytes_out: u64,
    /// What was said; `None` when bodies are off.
    pub exchange: Option<(HttpMessage, HttpMessage)>,
}

impl CallTrace {
    /// A call begins.
    pub fn begin(
        workspace: Workspace,
        context: CallContext,
        request: RequestFacts,
        now: UnixMillis,
        rng: &mut dyn Rng,
    ) -> CallTrace {
        CallTrace {
            call_id: RecordId::mint(now, rng),
            workspace,
            context,
            request,
            started: now,
            attempts: Vec::new(),
            exchanges: Vec::new(),
            events: Vec::new(),
            attributes: Attributes::default(),
            wait: None,
        }
    }

    /// The name of the call, and of its log.
    pub fn call_id(&self) -> RecordId {
        self.call_id
    }

    /// The request's facts, to be completed as they become known.
    pub fn request_mut(&mut self) -> &mut RequestFacts {
        &mut self.request
    }

    /// How many attempts were sent.
    pub fn attempt_count(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)
    }

    /// The gateway is about to wait before the next attempt.
    pub fn wait(&mut self, duration: Millis, reason: WaitReason, now: UnixMillis) {
        self.wait = Some((duration, reason));
        let attributes = [
            ("portkey.retry.delay_ms", json!(duration.0)),
            ("portkey.retry.source", json!(reason.as_str())),
            ("portkey.attempt.index", json!(self.attempt_count())),
        ];
        self.event("portkey.retry", now, attributes);
    }

    /// Something happened on the request span.
    pub fn event<'n>(
        &mut self,
        name: &str,
        time: UnixMillis,
        attributes: impl IntoIterator<Item = (&'n str, serde_json::Value)>,
    ) {
        let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.events.push(SpanEvent { name: name.to_owned(), time, attributes });
    }

    /// An attempt is being sent.
    pub fn open_attempt(
        &mut self,
        target: &str,
        provider: &str,
        (reason, retry): (Reason, u32),
        now: UnixMillis,
        rng: &mut dyn Rng,
    ) -> OpenAttempt {
        let index = self.attempt_count();
        if reason == Reason::Fallback
            && let Some(last) = self.attempts.last().and_then(|last| last.attempt.as_ref())
        {
            let from = last.target.clone();
            self.event("portkey.fallback", now, [("portkey.fallback.from", json!(from)), ("portkey.fallback.to", json!(target))]);
        }
        let (wait_ms, wait_reason) = self.wait.take().map_or((Millis(0), None), |(wait, reason)| (wait, Some(reason)));
        let otel_span_id = OtelSpanId::random(rng);
        let mut span = self.blank_span(Kind::Attempt, now, RecordId::mint(now, rng));
        span.span_id = SpanId::from(otel_span_id);
        span.otel_span_id = otel_span_id;
        span.parent_span_id = Some(self.context.span_id.clone());
        span.provider = Some(provider.to_owned());
        span.attempt = Some(AttemptFacts { index, retry, target: target.to_owned(), reason, wait_ms, wait_reason });
        OpenAttempt { span }
    }

    /// An attempt has ended; `attributes` are its OpenTelemetry ones.
    pub fn close_attempt(&mut self, attempt: OpenAttempt, end: AttemptEnd, attributes: Attributes) {
        let mut span = attempt.span;
        let since_start = |at: Option<UnixMillis>| at.map(|at| at.since(span.start));
        span.time_to_first_byte_ms = since_start(end.headers_at);
        span.time_to_first_token_ms = since_start(end.first_token_at);
        span.end = end.at.max(span.start);
        span.status = status_of(end.error.as_ref());
        span.status_code = end.status_code;
        span.error = end.error;
        span.response_model = end.observed.model;
        span.usage = end.observed.usage;
        span.usage_source = if end.observed.usage.is_known() { UsageSource::Reported } else { UsageSource::None };
        span.cost_pico_usd = end.cost_pico_usd;
        span.stream = end.stream;
        span.bytes_out = end.bytes_out;
        span.attributes = attributes.finish();
        if end.request.is_some() || end.response.is_some() {
            self.exchanges.push(Exchange { record_id: span.record_id, request: end.request, response: end.response });
        }
        self.attempts.push(span);
    }

    /// The call has ended.
    pub fn finish(mut self, end: CallEnd) -> CallRecord {
        let mut span = self.blank_span(Kind::Request, self.started, self.call_id);
        span.span_id = self.context.span_id.clone();
        span.otel_span_id = self.context.otel_span_id;
        span.parent_span_id = self.context.parent_span_id.clone();
        span.name = match &self.context.span_name {
            Some(name) => name.clone(),
            None => format!("{} {}", self.request.method, self.request.route),
        };
        let last_end = self.attempts.iter().map(|attempt| attempt.end).max();
        span.end = last_end.map_or(end.at, |last| last.max(end.at)).max(span.start);
        span.status = status_of(end.error.as_ref());
        span.status_code = Some(end.status_code);
        span.error = end.error;
        span.stream = self.request.stream;
        span.bytes_in = self.request.bytes_in;
        span.bytes_out = end.bytes_out;
        span.metadata = std::mem::take(&mut self.context.metadata);
        span.cache_status = Some("DISABLED".to_owned());
        if let Some(last) = self.attempts.last() {
            span.provider = last.provider.clone();
            span.response_model = last.response_model.clone();
        }
        span.events = std::mem::take(&mut self.events);
        let attempts = self.attempt_count();
        self.attributes
            .set("http.request.method", self.request.method.as_str())
            .set("http.route", self.request.route)
            .set("url.path", self.request.path.as_str())
            .set("http.response.status_code", end.status_code)
            .set("portkey.attempt.count", attempts);
        if let Some((trace, span)) = self.context.caller_link {
            self.attributes.set("portkey.link.caller", format!("{trace}-{span}"));
        }
        span.attributes = std::mem::take(&mut self.attributes).finish();
        if let Some((request, response)) = end.exchange {
            let whole = Exchange { record_id: self.call_id, request: Some(request), response: Some(response) };
            self.exchanges.insert(0, whole);
        }
        let mut spans = Vec::with_capacity(1 + self.attempts.len());
        spans.push(span);
        spans.append(&mut self.attempts);
        let (workspace, call_id) = (self.workspace, self.call_id);
        CallRecord { v: RECORD_VERSION, workspace, call_id, spans, exchanges: self.exchanges, lost_before: 0 }
    }

    fn blank_span(&self, kind: Kind, start: UnixMillis, record_id: RecordId) -> SpanRecord {
        SpanRecord {
            record_id,
            trace_id: self.context.trace_id.clone(),
            otel_trace_id: self.context.otel_trace_id,
            span_id: self.context.span_id.clone(),
            otel_span_id: self.context.otel_span_id,
            parent_span_id: None,
            kind,
            name: String::new(),
            start,
            end: start,
            status: Status::Ok,
            status_code: None,
            error: None,
            operation: self.request.operation.map(str::to_owned),
            provider: None,
            request_model: self.request.model.clone(),
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
            events: Vec::new(),
        }
    }
}

impl OpenAttempt {
    /// When it was sent.
    pub fn started(&self) -> UnixMillis {
        self.span.start
    }

    /// Its own name in the store.
    pub fn record_id(&self) -> RecordId {
        self.span.record_id
    }

    /// What is asked of the target: the operation, and the model after overrides. Names the span (otel.md §2.2).
    pub fn asks(&mut self, operation: &str, model: Option<String>, bytes: u64) {
        self.span.name = match &model {
            Some(model) => format!("{operation} {model}"),
            None => operation.to_owned(),
        };
        self.span.request_model = model;
        self.span.bytes_in = bytes;
    }
}

/// A failure: an error, unless it is the caller who left.
fn status_of(error: Option<&SpanError>) -> Status {
    match error.map(|error| error.kind) {
        None => Status::Ok,
        Some(ErrorType::ClientDisconnected) => Status::Cancelled,
        Some(_) => Status::Error,
    }
}
