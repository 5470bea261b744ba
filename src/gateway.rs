//! The life of a request, from its head to its answer and its record.
//!
//! Decides which route a request is for, lets `auth` say who calls, and walks a model call through config, plan, attempts
//! and answer. Every way out of a call ends in [`CallTrace::finish`] exactly once: a refusal, a whole answer, a stream
//! (when its last byte has passed), a caller who left. What is not for this file: when to retry (`route`), what to send
//! (`attempt`), whether a stream was whole (`pump`), where records go (`deliver`).

use crate::api;
use crate::attempt::{self, Answer, Call, Ending, Streaming, Tried};
use crate::auth::{self, Caller};
use crate::config::lint;
use crate::config::parse::Context;
use crate::config::{self, Config, CredentialSource, Policy};
use crate::consume::Store;
use crate::deliver;
use crate::dialect::openai_chat::{error as openai_error, peek};
use crate::error::GatewayError;
use crate::headers::Headers;
use crate::llm::operation::Operation;
use crate::ports::{BodyError, ConnectionEnd, Passing, Rewrite, SendError, Watch, World};
use crate::pump;
use crate::random::Rng;
use crate::route::Step;
use crate::route::condition::{Facts, Key};
use crate::route::decision::Decision;
use crate::route::plan::{Plan, Turn};
use crate::secret::Secret;
use crate::settings::Settings;
use crate::time::UnixMillis;
use crate::trace::call::{AttemptEnd, CallEnd, CallTrace, OpenAttempt, RequestFacts};
use crate::trace::context::CallContext;
use crate::trace::cost;
use crate::trace::message::{Body, HttpMessage};
use crate::trace::redact::{self, Credentials};
use crate::trace::span::{ErrorType, SpanError};
use crate::wire::splice::{Object, OwnedObject, Payload};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A request's head.
#[derive(Clone, Debug)]
pub struct Head {
    /// HTTP method, upper case.
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// The query without its question mark.
    pub query: String,
    /// All headers.
    pub headers: Headers,
}

/// An answer to a request.
#[derive(Debug)]
pub struct Reply<N> {
    /// HTTP status.
    pub status: u16,
    /// Headers; they win over an upstream's.
    pub headers: Headers,
    /// The body.
    pub body: ReplyBody<N>,
}

/// The body of an answer, and whose headers lie under ours.
#[derive(Debug)]
pub enum ReplyBody<N> {
    /// Ours.
    Own(Vec<u8>),
    /// Ours, under the upstream's headers.
    Rewritten(N, Vec<u8>),
    /// The upstream's, untouched.
    Upstream(N),
}

/// What a path is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Endpoint {
    Call(Operation, &'static str),
    Health,
    Preflight,
    Read(api::Route),
    Validate,
}

/// Answers one request.
pub async fn handle<W: World>(world: &W, settings: &Rc<Settings>, head: Head) -> Reply<W::Native> {
    let endpoint = match endpoint(&head.method, &head.path) {
        Ok(endpoint) => endpoint,
        Err(error) => return refusal(&error),
    };
    let authenticated = || auth::authenticate(&head.headers, settings);
    match endpoint {
        Endpoint::Health => own(200, format!(r#"{{"status":"ok","version":"{}"}}"#, env!("CARGO_PKG_VERSION"))),
        Endpoint::Preflight => preflight(&head.headers),
        Endpoint::Call(operation, route) => match authenticated() {
            Ok(caller) => call(world, settings, head, caller, (operation, route)).await,
            Err(error) => {
                drain(world, &head.headers).await;
                refusal(&error)
            }
        },
        Endpoint::Read(route) => match authenticated() {
            Ok(caller) => read(world, &route, &head.query, &caller).await,
            Err(error) => refusal(&error),
        },
        Endpoint::Validate => match authenticated() {
            Ok(_) => validate(world, settings, &head.headers).await,
            Err(error) => {
                drain(world, &head.headers).await;
                refusal(&error)
            }
        },
    }
}

async fn read<W: World>(world: &W, route: &api::Route, query: &str, caller: &Caller) -> Reply<W::Native> {
    let store = Store { db: &world.db(), objects: &world.objects() };
    match api::respond(route, query, &caller.workspace, store).await {
        Ok(answer) => own(answer.status, answer.body),
        Err(error) => refusal(&error),
    }
}

/// Finds what a path is for (protocol §2.11, V13).
fn endpoint(method: &str, path: &str) -> Result<Endpoint, GatewayError> {
    let (endpoint, allowed) = match path {
        "/health" => (Endpoint::Health, "GET"),
        "/v1/chat/completions" => (Endpoint::Call(Operation::Chat, "/v1/chat/completions"), "POST"),
        "/v1/configs/validate" => (Endpoint::Validate, "POST"),
        "/v1/embeddings" => (Endpoint::Call(Operation::Embeddings, "/v1/embeddings"), "POST"),
        _ => (Endpoint::Read(api::route(path).ok_or(GatewayError::NotFound)?), "GET"),
    };
    match method {
        "OPTIONS" => Ok(Endpoint::Preflight),
        _ if method == allowed => Ok(endpoint),
        _ => Err(GatewayError::MethodNotAllowed(allowed)),
    }
}

/// One model call, from an authenticated head to its answer.
async fn call<W: World>(
    world: &W,
    settings: &Rc<Settings>,
    head: Head,
    caller: Caller,
    what: (Operation, &'static str),
) -> Reply<W::Native> {
    let mut rng = world.rng();
    let now = world.now();
    let context = CallContext::from_headers(&head.headers, &caller.workspace, &mut *rng);
    let facts = RequestFacts {
        method: head.method.clone(),
        path: head.path.clone(),
        route: what.1,
        operation: Some(what.0.as_str()),
        ..RequestFacts::default()
    };
    let mut session = Session {
        trace: CallTrace::begin(caller.workspace.clone(), context, facts, now, &mut *rng),
        keep_bodies: !head.headers.text("x-portkey-debug").is_some_and(|value| value.eq_ignore_ascii_case("false")),
        credentials: credentials(&head.headers, &caller, settings),
        head,
        body: Payload::default(),
    };
    let config = match admit(world, settings, &mut session).await {
        Ok(config) => config,
        Err(error) => {
            if session.body.as_bytes().is_empty() {
                drain(world, &session.head.headers).await;
            }
            return session.refuse(world, &error, None);
        }
    };
    let (last, retry_count) = match walk(world, settings, &caller, &config, what.0, &mut session, &mut *rng).await {
        Ok(walked) => walked,
        Err(error) => return session.refuse(world, &error, None),
    };
    let contract = Contract::of(&session, &config, &last, retry_count);
    match last.tried.ending {
        Ending::Refused(error) => session.refuse(world, &error, Some(contract)),
        Ending::Nothing(error) => {
            session.unanswered(world, error, contract, config.target(last.target).request_timeout.map(|timeout| timeout.0))
        }
        Ending::Whole(answer) => session.answer(world, answer, contract),
        Ending::Stream(streaming) => {
            let target = config.target(last.target);
            session.stream(
                world,
                *streaming,
                contract,
                Rules { idle: settings.stream_idle_timeout, strict: target.strict, target },
            )
        }
    }
}

/// Everything that is checked before the first attempt: content type, config, credentials, body. In the order of protocol §2.11.
async fn admit<W: World>(world: &W, settings: &Settings, session: &mut Session) -> Result<Rc<Config>, GatewayError> {
    let headers = &session.head.headers;
    let kind = headers.text("content-type").unwrap_or(JSON).to_ascii_lowercase();
    if kind.split(';').next().map(str::trim) != Some(JSON) {
        return Err(GatewayError::InvalidContentType);
    }
    let policy = policy(settings, headers);
    let config = config::headers::recall(headers, &policy)?;
    for target in &config.targets {
        if let CredentialSource::ApiKey(key) = &target.credential {
            session.credentials.add(Some(key));
        }
    }
    if let Some(excess) = config.excess() {
        return Err(GatewayError::InvalidConfig(vec![excess]));
    }
    let too_large = GatewayError::BodyTooLarge(settings.max_body_bytes);
    let announced = headers.text("content-length").and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > settings.max_body_bytes) {
        return Err(too_large);
    }
    let body = world.read_body(settings.max_body_bytes, announced.is_some()).await.map_err(|error| match error {
        BodyError::TooLarge => too_large,
        BodyError::Broken(_) => GatewayError::InvalidBody("it ended before it was complete".to_owned()),
    })?;
    session.trace.request_mut().bytes_in = body.len() as u64;
    let object = match OwnedObject::parse(body) {
        Ok(object) => object,
        Err((error, bytes)) => {
            session.body = Payload::Bytes(bytes);
            return Err(GatewayError::InvalidBody(error.to_string()));
        }
    };
    let noted = note(object.object(), session);
    session.body = Payload::Object(object);
    noted.map(|()| config)
}

/// Tells the trace what the body asks for.
fn note(body: Object<'_>, session: &mut Session) -> Result<(), GatewayError> {
    let peeked = peek::of(body).map_err(|error| GatewayError::InvalidBody(error.to_string()))?;
    let facts = session.trace.request_mut();
    facts.model = peeked.model.as_deref().map(|model| session.credentials.scrub(model.to_owned()));
    facts.stream = peeked.stream;
    if let Some(user) = &peeked.user {
        session.trace.context.with_user(user);
    }
    Ok(())
}

fn policy<'a>(settings: &'a Settings, headers: &'a Headers) -> Policy<'a> {
    let own_host = headers.text("host").unwrap_or("");
    Policy { mock_enabled: settings.mock_enabled, trusted_hosts: &settings.trusted_hosts, own_host }
}

/// Judges the config in the body, as if a call had brought it with the same provider header.
async fn validate<W: World>(world: &W, settings: &Settings, headers: &Headers) -> Reply<W::Native> {
    let refused = |why: String| refusal(&GatewayError::InvalidBody(why));
    let body = match world.read_body(config::MAX_BYTES, headers.text("content-length").is_some()).await {
        Ok(body) => body,
        Err(BodyError::TooLarge) => return refused(format!("a config has at most {} bytes", config::MAX_BYTES)),
        Err(BodyError::Broken(_)) => return refused("it ended before it was complete".to_owned()),
    };
    let Ok(text) = std::str::from_utf8(&body) else { return refused("it is not UTF-8".to_owned()) };
    let policy = policy(settings, headers);
    let provider = headers.text("x-portkey-provider").and_then(|name| config::parse::known_provider(name, &policy));
    let hosted = headers.text("x-portkey-custom-host").is_some();
    own(200, lint::lint(text, Context { policy: &policy, provider, hosted }).to_json())
}

/// Takes a small body that nobody will look at: a connection with an unread body is closed, and the client that meant to
/// use it again sees that as an error of its next request.
async fn drain<W: World>(world: &W, headers: &Headers) {
    let announced = headers.text("content-length").and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length <= DRAINED) {
        let _ = world.read_body(DRAINED, true).await; // whatever it is
    }
}

/// The last attempt of a call.
struct Last<N> {
    tried: Tried<N>,
    target: crate::ids::TargetId,
}

/// Follows the plan until it answers; the number is `x-portkey-retry-attempt-count`.
async fn walk<W: World>(
    world: &W,
    settings: &Settings,
    caller: &Caller,
    config: &Config,
    operation: Operation,
    session: &mut Session,
    rng: &mut dyn Rng,
) -> Result<(Last<W::Native>, i32), GatewayError> {
    let Session { trace, credentials, head, body, keep_bodies } = session;
    let Payload::Object(body) = body else {
        return Err(GatewayError::Internal("a body was let in without being read".to_owned()));
    };
    let (metadata, params) = asked(config, &trace.context.metadata, body, credentials);
    let call = Call { settings, caller, headers: &head.headers, body, operation, credentials, keep_bodies: *keep_bodies };
    for target in &config.targets {
        attempt::credential(&call, target)?;
    }
    let mut plan = Plan::new(config, Facts { metadata: &metadata, params: &params, pathname: &head.path });
    let mut outcome = None;
    let mut last: Option<Last<W::Native>> = None;
    loop {
        let Turn { step, decisions } = plan.next(outcome.take(), rng);
        let undecided = decisions.last().map_or_else(String::new, |decision| decision.path.to_owned());
        for decision in decisions {
            record(decision, *keep_bodies, trace, world.now());
        }
        match step {
            Step::Wait { duration, reason } => {
                trace.wait(duration, reason, world.now());
                world.sleep(duration).await;
            }
            Step::Send { target: id, reason, retry } => {
                if let Some(Last { tried: Tried { ending: Ending::Stream(streaming), .. }, .. }) = last.take() {
                    abandon(world, *streaming, trace);
                }
                let target = config.target(id);
                let gone = world.client_gone();
                let tried = if gone { left() } else { attempt::run(world, &call, target, (reason, retry), trace, rng).await };
                let gone = gone || matches!(tried.ending, Ending::Nothing(SendError::ClientGone));
                outcome = Some(tried.outcome);
                last = Some(Last { tried, target: id });
                if gone && let Some(last) = last.take() {
                    return Ok((last, 0));
                }
            }
            Step::NoTarget => {
                if let Some(Last { tried: Tried { ending: Ending::Stream(streaming), .. }, .. }) = last.take() {
                    abandon(world, *streaming, trace);
                }
                return Err(GatewayError::NoTarget(undecided));
            }
            Step::Answer(answer) => {
                let last = last.ok_or_else(|| GatewayError::Internal("the plan answered before it sent".to_owned()))?;
                return Ok((last, answer.retry_count()));
            }
        }
    }
}

/// What the config's conditions ask for: metadata, and members of the body. Credentials are masked here already, since what a
/// condition sees is recorded.
fn asked(
    config: &Config,
    metadata: &BTreeMap<String, String>,
    body: &OwnedObject,
    credentials: &Credentials,
) -> (BTreeMap<String, String>, Map<String, Value>) {
    let (mut texts, mut params) = (BTreeMap::new(), Map::new());
    let keys = config.route.keys();
    if keys.is_empty() {
        return (texts, params); // as in most calls
    }
    let body = body.object();
    for key in keys {
        match key {
            Key::Metadata(name) => {
                texts.extend(metadata.get(name).map(|text| (name.clone(), credentials.scrub(text.clone()))));
            }
            Key::Params(name) => {
                let value = body.get(name).and_then(|text| serde_json::from_str(text).ok());
                params.extend(value.map(|value| match value {
                    Value::String(text) => (name.clone(), credentials.scrub(text).into()),
                    value => (name.clone(), value),
                }));
            }
            Key::Pathname => {}
        }
    }
    (texts, params)
}

/// Leaves a decision on the request span. What the body said in words is not kept with a call that keeps no bodies.
fn record(decision: Decision, keep_bodies: bool, trace: &mut CallTrace, now: UnixMillis) {
    let mut attributes = decision.attributes();
    for values in attributes.iter_mut().filter_map(|(_, value)| value.as_object_mut()).filter(|_| !keep_bodies) {
        values.retain(|key, value| !(key.starts_with("params.") && value.is_string()));
    }
    trace.event("portkey.decision", now, attributes);
}

/// The caller left while the gateway was waiting: nothing is sent.
fn left<N>() -> Tried<N> {
    Tried { outcome: crate::route::OutcomeKind::GatewayException.into(), ending: Ending::Nothing(SendError::ClientGone) }
}

/// A stream had begun, and the config moves on all the same (its status is listed): the upstream is let go.
fn abandon<W: World>(world: &W, streaming: Streaming<W::Native>, trace: &mut CallTrace) {
    let Streaming { attempt, received, attributes, request, .. } = streaming;
    world.discard(received.native);
    let end = AttemptEnd {
        headers_at: Some(received.headers_at),
        status_code: Some(received.status),
        stream: true,
        request,
        ..AttemptEnd::at(world.now())
    };
    trace.close_attempt(attempt, end, attributes);
}

/// A call under way: its trace, and what it needs to be told.
struct Session {
    trace: CallTrace,
    credentials: Credentials,
    head: Head,
    body: Payload,
    keep_bodies: bool,
}

/// How a stream of this target is treated.
struct Rules<'c> {
    idle: crate::time::Millis,
    strict: bool,
    target: &'c config::Target,
}

impl Session {
    /// The gateway says no, or has nothing better to say than what went wrong.
    fn refuse<W: World>(self, world: &W, error: &GatewayError, contract: Option<Contract>) -> Reply<W::Native> {
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
    fn unanswered<W: World>(self, world: &W, error: SendError, contract: Contract, timeout_ms: Option<u64>) -> Reply<W::Native> {
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
    fn answer<W: World>(self, world: &W, answer: Answer<W::Native>, contract: Contract) -> Reply<W::Native> {
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
    fn stream<W: World>(
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
    fn guard(&self, attempt: &OpenAttempt, status: u16, headers: &Headers) -> String {
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
    fn guarded_body(&self) -> Body {
        let bytes = self.body.as_bytes();
        match bytes.get(..GUARD_HEAD) {
            Some(head) if bytes.len() > GUARD_BODY_LIMIT => self.credentials.beginning(head, bytes.len() as u64),
            _ => self.credentials.payload(self.body.clone()),
        }
    }

    /// The request's body as it is kept: one that is no JSON object was refused, and shows why.
    fn kept_body(&mut self) -> Body {
        match std::mem::take(&mut self.body) {
            Payload::Bytes(bytes) => match self.credentials.body(bytes.clone(), true) {
                Body::Truncated { .. } => self.credentials.body(bytes, false),
                other => other,
            },
            object => self.credentials.payload(object),
        }
    }

    /// The request as it is kept.
    fn request(&self, body: Body) -> HttpMessage {
        HttpMessage {
            method: Some(self.head.method.clone()),
            url: Some(self.head.path.clone()),
            headers: redact::request_headers(&self.head.headers, &self.credentials),
            body,
            ..HttpMessage::default()
        }
    }

    /// The response as it is kept; `None` when bodies are off.
    fn response(&self, status: u16, headers: &Headers, body: impl FnOnce(&Credentials) -> Body) -> Option<HttpMessage> {
        self.keep_bodies.then(|| HttpMessage {
            status: Some(status),
            headers: redact::response_headers(headers, &self.credentials),
            body: body(&self.credentials),
            ..HttpMessage::default()
        })
    }

    fn finish_own<W: World>(self, world: &W, reply: &Reply<W::Native>, error: Option<SpanError>) {
        let bytes = match &reply.body {
            ReplyBody::Own(bytes) => bytes.clone(),
            ReplyBody::Rewritten(..) | ReplyBody::Upstream(_) => Vec::new(),
        };
        let length = bytes.len() as u64;
        let kept = self.response(reply.status, &Headers::default(), |credentials| credentials.body(bytes, true));
        self.finish(world, reply.status, error, length, kept);
    }

    /// The one exit of a call.
    fn finish<W: World>(
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
struct Contract {
    trace_id: String,
    request_id: String,
    retry_count: i32,
    used: Option<(String, &'static str)>,
    /// Whether a page in a browser called, which is all that CORS is for.
    to_a_page: bool,
}

impl Contract {
    fn bare(session: &Session) -> Contract {
        Contract {
            trace_id: session.trace.context.trace_id.to_string(),
            request_id: session.trace.call_id().to_string(),
            retry_count: 0,
            used: None,
            to_a_page: session.head.headers.get("origin").is_some(),
        }
    }

    fn of<N>(session: &Session, config: &Config, last: &Last<N>, retry_count: i32) -> Contract {
        let target = config.target(last.target);
        Contract { retry_count, used: Some((target.path.to_string(), target.provider.id)), ..Contract::bare(session) }
    }

    fn write(&self, headers: &mut Headers) {
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

/// What the caller says of itself. Told last, when every credential of the call is known: a caller may put a key where no
/// key belongs.
fn describe_caller(trace: &mut CallTrace, head: &Head, credentials: &Credentials) {
    let context = &mut trace.context;
    context.metadata.values_mut().chain(&mut context.span_name).for_each(|text| credentials.scrub_in(text));
    let agent = head.headers.text("user-agent").map(|agent| credentials.scrub(agent.to_owned()));
    trace.attributes.set_some("user_agent.original", agent);
}

/// Every credential that this call could leak.
fn credentials(headers: &Headers, caller: &Caller, settings: &Settings) -> Credentials {
    let mut credentials = Credentials::default();
    credentials.add(settings.admin_key.as_ref());
    credentials.add(caller.provider_key.as_ref());
    credentials.add(headers.text("x-api-key").and_then(Secret::new).as_ref());
    for key in settings.provider_keys.values() {
        credentials.add(Some(key));
    }
    credentials
}

fn own<N>(status: u16, body: String) -> Reply<N> {
    let mut headers = Headers::default();
    headers.push("content-type", JSON);
    headers.push("access-control-allow-origin", "*");
    Reply { status, headers, body: ReplyBody::Own(body.into_bytes()) }
}

fn refusal<N>(error: &GatewayError) -> Reply<N> {
    let mut reply = own(error.public().status, error.body());
    for (name, value) in error.headers().iter() {
        reply.headers.push(name, value);
    }
    reply
}

fn preflight<N>(headers: &Headers) -> Reply<N> {
    let asked = headers.text("access-control-request-headers").unwrap_or("*");
    let headers = [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "GET, POST, PUT, DELETE, OPTIONS"),
        ("access-control-allow-headers", asked),
        ("access-control-max-age", "86400"),
        ("vary", "access-control-request-headers"),
    ];
    Reply { status: 204, headers: headers.into_iter().collect(), body: ReplyBody::Own(Vec::new()) }
}

const JSON: &str = "application/json";
/// Bytes of a refused request that are read for the sake of its connection.
const DRAINED: u64 = 64 << 10;
const EXPOSED: &str = "x-portkey-trace-id, x-portkey-request-id, x-portkey-retry-attempt-count, x-portkey-cache-status, x-portkey-last-used-option-index, x-portkey-provider";
/// Bytes of a request body that the guard of a stream carries: it must fit a message beside the stream's own text.
const GUARD_BODY_LIMIT: usize = 20_000;
/// Bytes that it carries of a longer one.
const GUARD_HEAD: usize = 1_000;
