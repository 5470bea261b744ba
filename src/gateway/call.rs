//! A model call from its authenticated head to the last attempt: what is checked before the first one, and the walk through
//! the plan. How it ends is told in `session`.

use super::reply::Reply;
use super::session::{Contract, Rules, Session};
use super::{Head, JSON, drain, policy};
use crate::attempt::{self, Call, Ending, Streaming, Tried};
use crate::auth::Caller;
use crate::config::{self, Config, CredentialSource};
use crate::dialect::openai_chat::peek;
use crate::error::GatewayError;
use crate::headers::Headers;
use crate::llm::operation::Operation;
use crate::ports::{BodyError, SendError, World};
use crate::random::Rng;
use crate::route::Step;
use crate::route::condition::{Facts, Key};
use crate::route::decision::Decision;
use crate::route::plan::{Plan, Turn};
use crate::secret::Secret;
use crate::settings::Settings;
use crate::time::UnixMillis;
use crate::trace::call::{AttemptEnd, CallTrace, RequestFacts};
use crate::trace::context::CallContext;
use crate::trace::redact::Credentials;
use crate::wire::splice::{Object, OwnedObject, Payload};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::rc::Rc;

/// One model call, from an authenticated head to its answer.
pub(super) async fn call<W: World>(
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
pub(super) async fn admit<W: World>(world: &W, settings: &Settings, session: &mut Session) -> Result<Rc<Config>, GatewayError> {
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
pub(super) fn note(body: Object<'_>, session: &mut Session) -> Result<(), GatewayError> {
    let peeked = peek::of(body).map_err(|error| GatewayError::InvalidBody(error.to_string()))?;
    let facts = session.trace.request_mut();
    facts.model = peeked.model.as_deref().map(|model| session.credentials.scrub(model.to_owned()));
    facts.stream = peeked.stream;
    if let Some(user) = &peeked.user {
        session.trace.context.with_user(user);
    }
    Ok(())
}

/// The last attempt of a call.
pub(super) struct Last<N> {
    pub(super) tried: Tried<N>,
    pub(super) target: crate::ids::TargetId,
}

/// Follows the plan until it answers; the number is `x-portkey-retry-attempt-count`.
pub(super) async fn walk<W: World>(
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
pub(super) fn asked(
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
pub(super) fn record(decision: Decision, keep_bodies: bool, trace: &mut CallTrace, now: UnixMillis) {
    let mut attributes = decision.attributes();
    for values in attributes.iter_mut().filter_map(|(_, value)| value.as_object_mut()).filter(|_| !keep_bodies) {
        values.retain(|key, value| !(key.starts_with("params.") && value.is_string()));
    }
    trace.event("portkey.decision", now, attributes);
}

/// The caller left while the gateway was waiting: nothing is sent.
pub(super) fn left<N>() -> Tried<N> {
    Tried { outcome: crate::route::OutcomeKind::GatewayException.into(), ending: Ending::Nothing(SendError::ClientGone) }
}

/// A stream had begun, and the config moves on all the same (its status is listed): the upstream is let go.
pub(super) fn abandon<W: World>(world: &W, streaming: Streaming<W::Native>, trace: &mut CallTrace) {
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

/// What the caller says of itself. Told last, when every credential of the call is known: a caller may put a key where no
/// key belongs.
pub(super) fn describe_caller(trace: &mut CallTrace, head: &Head, credentials: &Credentials) {
    let context = &mut trace.context;
    context.metadata.values_mut().chain(&mut context.span_name).for_each(|text| credentials.scrub_in(text));
    let agent = head.headers.text("user-agent").map(|agent| credentials.scrub(agent.to_owned()));
    trace.attributes.set_some("user_agent.original", agent);
}

/// Every credential that this call could leak.
pub(super) fn credentials(headers: &Headers, caller: &Caller, settings: &Settings) -> Credentials {
    let mut credentials = Credentials::default();
    credentials.add(settings.admin_key.as_ref());
    credentials.add(caller.provider_key.as_ref());
    credentials.add(headers.text("x-api-key").and_then(Secret::new).as_ref());
    for key in settings.provider_keys.values() {
        credentials.add(Some(key));
    }
    credentials
}
