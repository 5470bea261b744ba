//! The endings of a call, and its one exit.
//!
//! A refusal, no answer, a whole answer, a stream: each tells the trace what happened, and each goes through
//! `Session::finish`, which consumes the session. What the caller is told about the call (protocol §1.11) is the `Contract`.

use super::call::{Last, describe_caller};
use super::reply::{Reply, ReplyBody, own, refusal};
use super::{Head, JSON};
use crate::attempt::{self, Answer, Streaming};
use crate::config::{self, Config};
use crate::deliver;
use crate::dialect::openai_chat::error as openai_error;
use crate::error::GatewayError;
use crate::headers::Headers;
use crate::ports::{ConnectionEnd, Passing, Rewrite, SendError, Watch, World};
use crate::pump;
use crate::trace::call::{AttemptEnd, CallEnd, CallTrace, OpenAttempt};
use crate::trace::cost;
use crate::trace::message::{Body, HttpMessage};
use crate::trace::redact::{self, Credentials};
use crate::trace::span::{ErrorType, SpanError};
use crate::wire::splice::Payload;
use std::cell::RefCell;
use std::rc::Rc;

/// A call under way: its trace, and what it needs to be told.
pub(super) struct Session {
    pub(super) trace: CallTrace,
    pub(super) credentials: Credentials,
    pub(super) head: Head,
    pub(super) body: Payload,
    pub(super) keep_bodies: bool,
}

/// How a stream of this target is treated.
pub(super) struct Rules<'c> {
    pub(super) idle: crate::time::Millis,
    pub(super) strict: bool,
    pub(super) target: &'c config::Target,
}

impl Session {
    /// The gateway says no, or has nothing better to say than what went wrong.
    pub(super) fn refuse<W: World>(self, world: &W, error: &GatewayError, contract: Option<Contract>) -> Reply<W::Native> {
        let public = error.public();
        let kind = match error {
            GatewayError::Internal(_) | GatewayError::StoreUnavailable(_) => ErrorType::Internal,
            GatewayError::UpstreamMalformed(_) => ErrorType::StreamMalformed,
            _ => ErrorType::Config,
        };
        let mut reply = refusal(error);
        contract.unwrap_or_else(|| Contract::bare(&self)).write(&mut reply.headers);
        let span_error = SpanError { kind, message: self.credentials.scrub(public.message) };
        self.finish_own(world, &reply, Some(span_error));
        reply
    }

    /// No upstream answered.
    pub(super) fn unanswered<W: World>(
        self,
        world: &W,
        error: SendError,
        contract: Contract,
        timeout_ms: Option<u64>,
    ) -> Reply<W::Native> {
        let (status, kind, body_kind, message) = match error {
            SendError::ClientGone => {
                (499, ErrorType::ClientDisconnected, "client_closed_request", attempt::CLIENT_LEFT.to_owned())
            }
            SendError::Connect(_) => (503, ErrorType::Connect, "gateway_error", "The upstream could not be reached.".to_owned()),
            SendError::Timeout => {
                let limit = timeout_ms.unwrap_or_default();
                (
                    408,
                    ErrorType::Timeout,
                    "timeout_error",
                    format!("The upstream sent no response within the request timeout of {limit} ms."),
                )
            }
        };
        let body = serde_json::json!({
            "status": "failure", "message": message,
            "error": {"message": message, "type": body_kind, "param": null, "code": null},
        });
        let mut reply = own(status, body.to_string());
        contract.write(&mut reply.headers);
        self.finish_own(world, &reply, Some(SpanError { kind, message }));
        reply
    }

    /// An upstream answered, whole.
    pub(super) fn answer<W: World>(self, world: &W, answer: Answer<W::Native>, contract: Contract) -> Reply<W::Native> {
        let mut headers = Headers::default();
        contract.write(&mut headers);
        let error = (answer.status >= 400).then(|| SpanError {
            kind: ErrorType::HttpStatus,
            message: self.credentials.scrub(
                openai_error::error_message(answer.body.as_bytes())
                    .unwrap_or_else(|| format!("The upstream answered {}.", answer.status)),
            ),
        });
        let bytes_out = answer.body.as_bytes().len() as u64;
        let (body, kept) = if answer.translated {
            headers.push("content-type", JSON);
            (ReplyBody::Rewritten(answer.native, answer.body.as_bytes().to_vec()), answer.body)
        } else {
            (ReplyBody::Upstream(answer.native), answer.body)
        };
        let kept = self.response(answer.status, &answer.headers, |credentials| credentials.payload(kept));
        self.finish(world, answer.status, error, bytes_out, kept);
        Reply { status: answer.status, headers, body }
    }

    /// An upstream streams: the answer goes out at once, the record when the last byte has passed.
    pub(super) fn stream<W: World>(
        self,
        world: &W,
        streaming: Streaming<W::Native>,
        contract: Contract,
        rules: Rules<'_>,
    ) -> Reply<W::Native> {
        let Streaming { attempt, received, translator, mut attributes, request, model } = streaming;
        let (status, upstream_headers, headers_at) = (received.status, received.headers, received.headers_at);
        let mut headers = Headers::default();
        headers.push("cache-control", "no-cache, no-transform");
        headers.push("content-type", "text/event-stream; charset=utf-8");
        contract.write(&mut headers);
        let (provider, lenient) = (rules.target.provider.id, rules.target.provider.ends_without_done);
        let watch = Watch {
            idle: rules.idle,
            last_words: openai_error::error_event("The gateway failed under this stream.", Some("internal_error"), b"x"),
            terminator: if translator.is_some() { "message_stop\"}" } else { "data: [DONE]" },
            guard: self.guard(&attempt, status, &upstream_headers),
        };
        let created = world.now().0 / 1000;
        let translator = translator.map(|translator| Rc::new(RefCell::new(Some(translator.stream(created, rules.strict)))));
        let rewrite = translator.clone().map(|shared| Rc::new(RefCell::new(pump::Shared(shared))) as Rc<RefCell<dyn Rewrite>>);
        let (native, mut passing) = world.pass(received.native, watch, rewrite);
        let after = world.clone();
        world.defer(async move {
            let mut session = self;
            let passed = passing.passed().await;
            let judged = match translator.and_then(|shared| shared.borrow_mut().take()) {
                None => pump::judge_untouched(&passed, lenient),
                Some(translator) => pump::judge_translated(&passed, translator),
            };
            let observed = judged.stream.observed;
            attempt::describe_answer(&mut attributes, &observed);
            let error = judged.error.map(|error| SpanError { message: session.credentials.scrub(error.message), ..error });
            let end = AttemptEnd {
                headers_at: Some(headers_at),
                first_token_at: passed.first_at,
                status_code: Some(status),
                error: error.clone(),
                cost_pico_usd: cost::of(provider, &observed, model.as_deref(), headers_at),
                observed,
                stream: true,
                bytes_out: passed.total_bytes,
                request,
                ..AttemptEnd::at(passed.ended_at)
            };
            session.trace.close_attempt(attempt, end, attributes);
            let assembled = judged.stream.assembled;
            let kept = session.response(status, &upstream_headers, |credentials| match assembled {
                Some(assembled) => credentials.body(assembled.into_bytes(), true),
                None if passed.total_bytes > passed.bytes.len() as u64 => {
                    credentials.beginning(&passed.bytes, passed.total_bytes)
                }
                None => credentials.body(passed.bytes, false),
            });
            // The claim is the last thing that a panic before it could have prevented: until here the guard stands by.
            if passing.claim() {
                session.finish(&after, status, error, passed.total_bytes, kept);
            }
            let gone = passed.end == ConnectionEnd::ClientGone;
            passing.close(judged.last_words.filter(|_| !gone).as_deref()).await;
        });
        Reply { status, headers, body: ReplyBody::Upstream(native) }
    }

    /// What the shell sends if the gateway dies under the stream, without what it will have seen.
    pub(super) fn guard(&self, attempt: &OpenAttempt, status: u16, headers: &Headers) -> String {
        let mut trace = self.trace.clone();
        describe_caller(&mut trace, &self.head, &self.credentials);
        let end = AttemptEnd { status_code: Some(status), stream: true, ..AttemptEnd::at(attempt.started()) };
        trace.close_attempt(attempt.clone(), end, Default::default());
        let end = CallEnd {
            at: attempt.started(),
            status_code: status,
            error: None,
            bytes_out: 0,
            exchange: self
                .response(status, headers, |_| Body::None)
                .map(|response| (self.request(self.guarded_body()), response)),
        };
        deliver::guard_text(&trace.finish(end))
    }

    /// The request's body as a guard carries it: above a limit by its length and beginning.
    pub(super) fn guarded_body(&self) -> Body {
        let bytes = self.body.as_bytes();
        match bytes.get(..GUARD_HEAD) {
            Some(head) if bytes.len() > GUARD_BODY_LIMIT => self.credentials.beginning(head, bytes.len() as u64),
            _ => self.credentials.payload(self.body.clone()),
        }
    }

    /// The request's body as it is kept: one that is no JSON object was refused, and shows why.
    pub(super) fn kept_body(&mut self) -> Body {
        match std::mem::take(&mut self.body) {
            Payload::Bytes(bytes) => match self.credentials.body(bytes.clone(), true) {
                Body::Truncated { .. } => self.credentials.body(bytes, false),
                other => other,
            },
            object => self.credentials.payload(object),
        }
    }

    /// The request as it is kept.
    pub(super) fn request(&self, body: Body) -> HttpMessage {
        HttpMessage {
            method: Some(self.head.method.clone()),
            url: Some(self.head.path.clone()),
            headers: redact::request_headers(&self.head.headers, &self.credentials),
            body,
            ..HttpMessage::default()
        }
    }

    /// The response as it is kept; `None` when bodies are off.
    pub(super) fn response(
        &self,
        status: u16,
        headers: &Headers,
        body: impl FnOnce(&Credentials) -> Body,
    ) -> Option<HttpMessage> {
        self.keep_bodies.then(|| HttpMessage {
            status: Some(status),
            headers: redact::response_headers(headers, &self.credentials),
            body: body(&self.credentials),
            ..HttpMessage::default()
        })
    }

    pub(super) fn finish_own<W: World>(self, world: &W, reply: &Reply<W::Native>, error: Option<SpanError>) {
        let bytes = match &reply.body {
            ReplyBody::Own(bytes) => bytes.clone(),
            ReplyBody::Rewritten(..) | ReplyBody::Upstream(_) => Vec::new(),
        };
        let length = bytes.len() as u64;
        let kept = self.response(reply.status, &Headers::default(), |credentials| credentials.body(bytes, true));
        self.finish(world, reply.status, error, length, kept);
    }

    /// The one exit of a call.
    pub(super) fn finish<W: World>(
        mut self,
        world: &W,
        status_code: u16,
        error: Option<SpanError>,
        bytes_out: u64,
        response: Option<HttpMessage>,
    ) {
        let exchange = response.map(|response| {
            let body = self.kept_body();
            (self.request(body), response)
        });
        describe_caller(&mut self.trace, &self.head, &self.credentials);
        let record = self.trace.finish(CallEnd { at: world.now(), status_code, error, bytes_out, exchange });
        deliver::deliver(world, record);
    }
}

/// The response headers that a Portkey client reads (protocol §1.11).
pub(super) struct Contract {
    pub(super) trace_id: String,
    pub(super) request_id: String,
    pub(super) retry_count: i32,
    pub(super) used: Option<(String, &'static str)>,
    /// Whether a page in a browser called, which is all that CORS is for.
    pub(super) to_a_page: bool,
}

impl Contract {
    pub(super) fn bare(session: &Session) -> Contract {
        Contract {
            trace_id: session.trace.context.trace_id.to_string(),
            request_id: session.trace.call_id().to_string(),
            retry_count: 0,
            used: None,
            to_a_page: session.head.headers.get("origin").is_some(),
        }
    }

    pub(super) fn of<N>(session: &Session, config: &Config, last: &Last<N>, retry_count: i32) -> Contract {
        let target = config.target(last.target);
        Contract { retry_count, used: Some((target.path.to_string(), target.provider.id)), ..Contract::bare(session) }
    }

    pub(super) fn write(&self, headers: &mut Headers) {
        if self.to_a_page {
            headers.push("access-control-allow-origin", "*");
            headers.push("access-control-expose-headers", EXPOSED);
        }
        headers.push("x-portkey-trace-id", &self.trace_id);
        headers.push("x-portkey-request-id", &self.request_id);
        headers.push("x-portkey-retry-attempt-count", &self.retry_count.to_string());
        headers.push("x-portkey-cache-status", "DISABLED");
        if let Some((path, provider)) = &self.used {
            headers.push("x-portkey-last-used-option-index", path);
            headers.push("x-portkey-provider", provider);
        }
        if self.retry_count < 0 {
            headers.push("x-should-retry", "false");
        }
    }
}

const EXPOSED: &str = "x-portkey-trace-id, x-portkey-request-id, x-portkey-retry-attempt-count, x-portkey-cache-status, x-portkey-last-used-option-index, x-portkey-provider";

/// Bytes of a request body that the guard of a stream carries: it must fit a message beside the stream's own text.
const GUARD_BODY_LIMIT: usize = 20_000;

/// Bytes that it carries of a longer one.
const GUARD_HEAD: usize = 1_000;
