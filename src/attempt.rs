//! One attempt: what is sent to a target, and what its answer means.
//!
//! An attempt is one request that reached, or tried to reach, an upstream: it opens a span before the send and closes it
//! with whatever came of it. A target that cannot be asked at all (the translation refuses the body) is no attempt; it
//! ends as a refusal and leaves an event. Retrying is not decided here: the outcome goes back to `route::plan`.

use crate::auth::Caller;
use crate::config::{CredentialSource, Target};
use crate::dialect::anthropic::Caps;
use crate::dialect::openai_chat::error as openai_error;
use crate::dialect::openai_chat::{observe, peek};
use crate::dialect::translate::{self, ReplyTranslator};
use crate::error::GatewayError;
use crate::headers::Headers;
use crate::llm::observed::Observed;
use crate::llm::operation::Operation;
use crate::ports::{Outgoing, Received, ReceivedBody, SendError, World};
use crate::provider::{Credential, Dialect};
use crate::random::Rng;
use crate::route::{Outcome, OutcomeKind, retry};
use crate::secret::Secret;
use crate::settings::Settings;
use crate::time::UnixMillis;
use crate::trace::attributes::Attributes;
use crate::trace::call::{AttemptEnd, CallTrace, OpenAttempt};
use crate::trace::cost;
use crate::trace::message::HttpMessage;
use crate::trace::redact::{self, Credentials};
use crate::trace::span::{ErrorType, Reason, SpanError};
use crate::wire::splice::{OwnedObject, Payload};
use std::borrow::Cow;

/// What all attempts of a call share.
#[derive(Clone, Copy, Debug)]
pub struct Call<'c> {
    /// The deployment.
    pub settings: &'c Settings,
    /// Who calls.
    pub caller: &'c Caller,
    /// The caller's headers.
    pub headers: &'c Headers,
    /// The caller's body.
    pub body: &'c OwnedObject,
    /// What is asked.
    pub operation: Operation,
    /// Every credential of the call.
    pub credentials: &'c Credentials,
    /// Whether bodies may be kept.
    pub keep_bodies: bool,
}

/// An attempt, tried.
#[derive(Debug)]
pub struct Tried<N> {
    /// What `route::plan` is told.
    pub outcome: Outcome,
    /// What the caller gets if this was the last one.
    pub ending: Ending<N>,
}

/// What an attempt came to.
#[derive(Debug)]
pub enum Ending<N> {
    /// No answer; the span is closed.
    Nothing(SendError),
    /// Nothing was sent, or nothing usable came back; the gateway speaks.
    Refused(GatewayError),
    /// An event stream has begun; the span is open until it ends.
    Stream(Box<Streaming<N>>),
    /// A whole answer; the span is closed.
    Whole(Answer<N>),
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer<N> {
    /// The status for the caller.
    pub status: u16,
    /// The upstream's headers as far as they are looked at.
    pub headers: Headers,
    /// The platform's answer.
    pub native: N,
    /// The body for the caller.
    pub body: Payload,
    /// Whether `body` was translated.
    pub translated: bool,
}

/// The head of an answer.
#[derive(Debug)]
pub struct AnswerHead<N> {
    /// HTTP status.
    pub status: u16,
    /// The upstream's headers as far as they are looked at.
    pub headers: Headers,
    /// When they had arrived.
    pub headers_at: UnixMillis,
    /// The platform's answer.
    pub native: N,
}

/// A stream that has begun.
#[derive(Debug)]
pub struct Streaming<N> {
    /// Its attempt.
    pub attempt: OpenAttempt,
    /// The answer's head, and the platform's stream.
    pub received: AnswerHead<N>,
    /// How the answer is translated; `None` when it passes untouched.
    pub translator: Option<ReplyTranslator>,
    /// The attempt's attributes so far.
    pub attributes: Attributes,
    /// What was sent, where it differs from what the caller sent.
    pub request: Option<HttpMessage>,
    /// The model that was asked for.
    pub model: Option<String>,
}

/// What is sent to a target.
struct Prepared<'c> {
    url: String,
    headers: Headers,
    body: Cow<'c, [u8]>,
    translator: Option<ReplyTranslator>,
    model: Option<String>,
    attributes: Attributes,
}

/// Sends the call to `target` once.
pub async fn run<W: World>(
    world: &W,
    call: &Call<'_>,
    target: &Target,
    why: (Reason, u32),
    trace: &mut CallTrace,
    rng: &mut dyn Rng,
) -> Tried<W::Native> {
    let prepared = match prepare(call, target) {
        Ok(prepared) => prepared,
        Err(error) => {
            let reason = error.public().message;
            trace.event(
                "portkey.target.skipped",
                world.now(),
                [("portkey.target.path", (&*target.path).into()), ("reason", reason.into())],
            );
            return Tried { outcome: OutcomeKind::Status(error.public().status).into(), ending: Ending::Refused(error) };
        }
    };
    let mut attempt = trace.open_attempt(&target.path, target.provider.id, why, world.now(), rng);
    attempt.asks(call.operation.as_str(), prepared.model.clone(), prepared.body.len() as u64);
    let trace_id = trace.context.trace_id.clone();
    let sent = world
        .send(Outgoing {
            url: &prepared.url,
            method: "POST",
            headers: &prepared.headers,
            body: &prepared.body,
            timeout: target.request_timeout,
            trace_id: trace_id.as_str(),
        })
        .await;
    let now = world.now();
    match sent {
        Err(error) => nothing(call, prepared, attempt, error, trace, now),
        Ok(Received { body: ReceivedBody::Stream, status, headers, headers_at, native }) => {
            begin_stream(call, prepared, attempt, AnswerHead { status, headers, headers_at, native })
        }
        Ok(Received { body: ReceivedBody::Whole(bytes), status, headers, headers_at, native }) => {
            whole(call, target, prepared, attempt, (AnswerHead { status, headers, headers_at, native }, bytes), trace, now)
        }
    }
}

fn nothing<N>(
    call: &Call<'_>,
    prepared: Prepared<'_>,
    attempt: OpenAttempt,
    error: SendError,
    trace: &mut CallTrace,
    now: UnixMillis,
) -> Tried<N> {
    let (outcome, kind, message) = match &error {
        SendError::ClientGone => (OutcomeKind::GatewayException, ErrorType::ClientDisconnected, CLIENT_LEFT.to_owned()),
        SendError::Connect(words) => {
            (OutcomeKind::Connect, ErrorType::Connect, format!("The upstream could not be reached: {words}"))
        }
        SendError::Timeout => {
            (OutcomeKind::Timeout, ErrorType::Timeout, "No response headers within the request timeout.".to_owned())
        }
    };
    let request = upstream_request(call, &prepared);
    let end = AttemptEnd { error: Some(SpanError { kind, message }), request, ..AttemptEnd::at(now) };
    trace.close_attempt(attempt, end, prepared.attributes);
    Tried { outcome: outcome.into(), ending: Ending::Nothing(error) }
}

fn begin_stream<N>(call: &Call<'_>, prepared: Prepared<'_>, attempt: OpenAttempt, received: AnswerHead<N>) -> Tried<N> {
    let outcome = Outcome { kind: OutcomeKind::Status(received.status), retry_after: None };
    let request = upstream_request(call, &prepared);
    let Prepared { translator, attributes, model, .. } = prepared;
    let streaming = Streaming { attempt, received, translator, attributes, request, model };
    Tried { outcome, ending: Ending::Stream(Box::new(streaming)) }
}

fn whole<N>(
    call: &Call<'_>,
    target: &Target,
    mut prepared: Prepared<'_>,
    attempt: OpenAttempt,
    (head, bytes): (AnswerHead<N>, Vec<u8>),
    trace: &mut CallTrace,
    now: UnixMillis,
) -> Tried<N> {
    let AnswerHead { status, headers, headers_at, native } = head;
    let request = upstream_request(call, &prepared);
    let retry_after = retry::retry_after(&headers);
    let upstream_length = bytes.len() as u64;
    let is_json = headers.text("content-type").is_none_or(|kind| kind.contains("json"));
    let is_cut = is_json && matches!(status, 200 | 201) && !bytes.trim_ascii_end().ends_with(b"}");
    let kept = (call.keep_bodies && (status >= 400 || is_cut || prepared.translator.is_some())).then(|| HttpMessage {
        status: Some(status),
        headers: redact::response_headers(&headers, call.credentials),
        body: call.credentials.body(bytes.clone(), true),
        ..HttpMessage::default()
    });
    let read = if is_cut { Err(CUT.to_owned()) } else { read_answer(&prepared, target, status, bytes, now) };
    let observed = read.as_ref().map(|read| read.observed.clone()).unwrap_or_default();
    describe_answer(&mut prepared.attributes, &observed);
    let error = match &read {
        Ok(read) => {
            read.error.clone().map(|message| SpanError { kind: ErrorType::HttpStatus, message: call.credentials.scrub(message) })
        }
        Err(what) => Some(SpanError { kind: ErrorType::StreamMalformed, message: what.clone() }),
    };
    let end = AttemptEnd {
        headers_at: Some(headers_at),
        status_code: Some(status),
        error,
        cost_pico_usd: cost::of(target.provider.id, &observed, prepared.model.as_deref(), headers_at),
        observed,
        bytes_out: upstream_length,
        request,
        response: kept,
        ..AttemptEnd::at(now)
    };
    trace.close_attempt(attempt, end, prepared.attributes);
    match read {
        Ok(read) => {
            let answer =
                Answer { status: read.status, headers, native, body: read.body, translated: prepared.translator.is_some() };
            Tried { outcome: Outcome { kind: OutcomeKind::Status(status), retry_after }, ending: Ending::Whole(answer) }
        }
        Err(what) => {
            let error = GatewayError::UpstreamMalformed(what);
            Tried { outcome: OutcomeKind::Status(error.public().status).into(), ending: Ending::Refused(error) }
        }
    }
}

/// An answer as the caller gets it.
struct Read {
    status: u16,
    body: Payload,
    observed: Observed,
    error: Option<String>,
}

/// Reads a whole answer; the error says why it is none.
fn read_answer(prepared: &Prepared<'_>, target: &Target, status: u16, bytes: Vec<u8>, now: UnixMillis) -> Result<Read, String> {
    if status >= 400 {
        let message = openai_error::error_message(&bytes).unwrap_or_else(|| format!("The upstream answered {status}."));
        let (status, body) = match &prepared.translator {
            Some(translator) => translator.error(status, &bytes),
            None => (status, bytes),
        };
        return Ok(Read { status, body: Payload::read(body), observed: Observed::default(), error: Some(message) });
    }
    let (body, observed) = match &prepared.translator {
        Some(translator) => {
            let translated = translator.answer(&bytes, now.0 / 1000, target.strict);
            translated.map(|(body, observed)| (Payload::read(body), observed)).map_err(|error| error.to_string())?
        }
        None => {
            let body = Payload::read(bytes);
            let observed = match &body {
                Payload::Object(answer) => observe::of(&answer.object()),
                Payload::Bytes(bytes) => observe::answer(bytes),
            };
            (body, observed)
        }
    };
    Ok(Read { status, body, observed, error: None })
}

/// What an answer says of itself, by OpenTelemetry names (otel.md §2.5).
pub fn describe_answer(attributes: &mut Attributes, observed: &Observed) {
    attributes.set_some("gen_ai.response.id", observed.response_id.as_deref());
    if !observed.finish_reasons.is_empty() {
        attributes.set("gen_ai.response.finish_reasons", &observed.finish_reasons);
    }
}

fn prepare<'c>(call: &Call<'c>, target: &Target) -> Result<Prepared<'c>, GatewayError> {
    let provider = target.provider;
    let endpoint = provider.endpoint(call.operation).ok_or_else(|| {
        GatewayError::UnsupportedOperation(format!("{} has no {} ({}).", provider.name, call.operation.as_str(), target.path))
    })?;
    let key = credential(call, target)?;
    let body = crate::config::params::apply(target, call.body.as_bytes())?;
    let peeked = match &body {
        Cow::Borrowed(_) => peek::of(call.body.object()),
        Cow::Owned(edited) => peek::peek(edited),
    };
    let peeked = peeked.map_err(|error| GatewayError::InvalidBody(error.to_string()))?;
    let model = peeked.model.as_deref().map(|model| call.credentials.scrub(model.to_owned()));
    let mut attributes = Attributes::default();
    for (name, value) in peeked.attributes() {
        attributes.set(name, value);
    }
    if peeked.stream {
        attributes.set("gen_ai.request.stream", true);
    }
    let url = target.url(endpoint);
    let (host, port) = authority(&url);
    attributes.set("server.address", host).set_some("server.port", port);
    let mut translator = None;
    let body = match provider.dialect {
        Dialect::OpenAi => body,
        Dialect::Anthropic => {
            let options = translate::Options {
                default_max_tokens: call.settings.default_max_tokens,
                max_output_tokens: cost::max_output(provider.id, model.as_deref().unwrap_or_default()).map(u64::from),
                caps: Caps::from_flags(cost::caps(provider.id, model.as_deref().unwrap_or_default())),
            };
            let translated =
                translate::openai_to_anthropic(&body, &options).map_err(|error| GatewayError::InvalidBody(error.to_string()))?;
            if !translated.dropped.is_empty() {
                attributes.set("spangate.dropped_params", translated.dropped);
            }
            translator = Some(translated.reply);
            Cow::Owned(translated.body)
        }
    };
    Ok(Prepared { headers: upstream_headers(call, target, key.as_deref()), url, body, translator, model, attributes })
}

/// The key for a target (protocol §1.10 A5). A key that the deployment stores goes to the provider's own host only.
pub fn credential<'k>(call: &'k Call<'_>, target: &'k Target) -> Result<Option<Cow<'k, str>>, GatewayError> {
    let stored = || call.settings.provider_keys.get(target.provider.id).filter(|_| target.custom_host.is_none());
    let key = match &target.credential {
        CredentialSource::ApiKey(key) => Some(key),
        CredentialSource::Caller => call.caller.provider_key.as_ref().or_else(stored),
        CredentialSource::Stored => stored(),
    };
    let needed = target.custom_host.is_none() && target.provider.credential != Credential::Optional;
    match key {
        None if needed => {
            let (name, path, secret) = (target.provider.name, &target.path, target.provider.key_var);
            let bring = match &target.credential {
                CredentialSource::Caller => "send one as 'Authorization: Bearer …'",
                CredentialSource::ApiKey(_) | CredentialSource::Stored => "put api_key into the config there",
            };
            Err(GatewayError::MissingCredential(format!("No key for {name} at {path}: {bring}, or set the secret {secret}.")))
        }
        key => Ok(key.map(Secret::expose).map(Cow::Borrowed)),
    }
}

fn upstream_headers(call: &Call<'_>, target: &Target, key: Option<&str>) -> Headers {
    let mut headers = Headers::default();
    headers.push("content-type", "application/json");
    for (name, value) in target.provider.headers {
        let option = target.options.get(&name.replace('-', "_"));
        headers.push(name, option.unwrap_or(value));
    }
    for (option, name) in OPTION_HEADERS {
        if let Some(value) = target.options.get(option) {
            headers.push(name, value);
        }
    }
    let is_ours = |value: &str| call.settings.admin_key.as_ref().is_some_and(|key| value.contains(key.expose()));
    for (name, value) in target.forwarded(call.headers).filter(|(_, value)| !is_ours(value)) {
        headers.push(name, value);
    }
    match (target.provider.credential, key) {
        (_, None) => {}
        (Credential::Bearer | Credential::Optional, Some(key)) => headers.push("authorization", &format!("Bearer {key}")),
        (Credential::Header(name), Some(key)) => headers.push(name, key),
    }
    headers
}

/// What was sent, where it is not what the caller sent.
fn upstream_request(call: &Call<'_>, prepared: &Prepared<'_>) -> Option<HttpMessage> {
    let changed = matches!(prepared.body, Cow::Owned(_));
    (call.keep_bodies && changed).then(|| HttpMessage {
        method: Some("POST".to_owned()),
        url: Some(prepared.url.clone()),
        headers: redact::request_headers(&prepared.headers, call.credentials),
        body: call.credentials.body(prepared.body.to_vec(), true),
        ..HttpMessage::default()
    })
}

/// Host and port of a URL that the gateway itself has put together.
fn authority(url: &str) -> (&str, Option<u16>) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, port.parse().ok()),
        _ => (
            authority,
            match scheme {
                "https" => Some(443),
                "http" => Some(80),
                _ => None,
            },
        ),
    }
}

impl AttemptEnd {
    /// An end at which nothing is known but the moment.
    pub fn at(at: UnixMillis) -> AttemptEnd {
        AttemptEnd {
            at,
            headers_at: None,
            first_token_at: None,
            status_code: None,
            error: None,
            observed: Observed::default(),
            cost_pico_usd: None,
            stream: false,
            bytes_out: 0,
            request: None,
            response: None,
        }
    }
}

/// Provider options that travel as headers (protocol §1.8).
const OPTION_HEADERS: [(&str, &str); 4] = [
    ("openai_organization", "openai-organization"),
    ("openai_project", "openai-project"),
    ("openai_beta", "openai-beta"),
    ("anthropic_beta", "anthropic-beta"),
];

/// The message of an attempt that its caller did not wait for.
pub const CLIENT_LEFT: &str = "The caller closed the connection before the answer had come.";
/// What a JSON answer is told that does not end as JSON does.
const CUT: &str = "The upstream's answer says it is JSON, and ends in its middle.";
