//! The life of a request, from its head to its answer and its record.
//!
//! Decides which route a request is for, lets `auth` say who calls, and walks a model call through config, plan, attempts
//! and answer. Every way out of a call ends in [`CallTrace::finish`] exactly once: a refusal, a whole answer, a stream
//! (when its last byte has passed), a caller who left. What is not for this file: when to retry (`route`), what to send
//! (`attempt`), whether a stream was whole (`pump`), where records go (`deliver`).

mod call;
mod reply;
mod session;

pub use reply::{Reply, ReplyBody};

use crate::api;
use crate::auth::{self, Caller};
use crate::config::lint;
use crate::config::parse::Context;
use crate::config::{self, Policy};
use crate::consume::Store;
use crate::error::GatewayError;
use crate::headers::Headers;
use crate::llm::operation::Operation;
use crate::ports::{BodyError, World};
use crate::settings::Settings;
use call::call;
use reply::{own, preflight, refusal};
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

pub(super) const JSON: &str = "application/json";
/// Bytes of a refused request that are read for the sake of its connection.
pub(super) const DRAINED: u64 = 64 << 10;
