//! What a call's config says, ready for use.
//!
//! A config passes three stations (architecture, decision 2): [`written`] is what the user typed, with its keys made
//! uniform; [`parse`] reads it and reports every mistake at once, each with its path; [`resolve`] flattens inheritance, so
//! that each [`Target`] carries the values that hold for it and nobody asks "mine or my parent's?" again. [`headers`]
//! starts all that from a request, since most calls have no config but a provider header.
//!
//! What is in the documented schema and not built yet is refused with its path, never ignored: a config that silently
//! runs without its guardrails is worse than one that does not run.

pub mod custom_host;
pub mod headers;
pub mod lint;
pub mod params;
pub mod parse;
pub mod resolve;
pub mod written;

use crate::error::Problem;
use crate::headers::Headers;
use crate::ids::TargetId;
use crate::provider::Provider;
use crate::route::condition::{Key, Query};
use crate::secret::Secret;
use crate::time::Millis;
use custom_host::BaseUrl;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;

/// A whole config: which way through it, and the places where the ways end.
#[derive(Clone, Debug)]
pub struct Config {
    /// The tree of strategies.
    pub route: Route,
    /// Its leaves, in the order of their paths; never empty. [`TargetId`] counts them.
    pub targets: Vec<Target>,
}

/// One leaf, with everything that it inherited.
#[derive(Clone, Debug)]
pub struct Target {
    /// `config`, `config.targets[1].targets[0]`: the value of `x-portkey-last-used-option-index`.
    pub path: Cow<'static, str>,
    /// The name that conditions know it by.
    pub name: Option<String>,
    /// Whom to call.
    pub provider: &'static Provider,
    /// With which key.
    pub credential: CredentialSource,
    /// In place of the provider's base URL; always there when the provider has none.
    pub custom_host: Option<BaseUrl>,
    /// When to try it again.
    pub retry: Retry,
    /// How long until the response headers must be there, for each attempt.
    pub request_timeout: Option<Millis>,
    /// Body parameters that win over the client's (protocol §1.10 C4).
    pub override_params: Map<String, Value>,
    /// Body parameters that fill gaps.
    pub default_params: Map<String, Value>,
    /// Paths of body parameters that are deleted last.
    pub drop_params: Vec<String>,
    /// Request headers to pass on, as they were written; [`Target::forwarded`] finds them.
    pub forward_headers: Vec<String>,
    /// Whether the answer must hold OpenAI's fields only.
    pub strict: bool,
    /// What only this provider understands: `anthropic_version`, `openai_organization`, …
    pub options: Options,
}

/// Where the key of a target comes from (protocol §1.10 A5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// The config holds it.
    ApiKey(Secret),
    /// The caller's `authorization`, when it is a provider key (A2), else the deployment's own.
    Caller,
    /// The deployment's own key only: the provider came from a config, so the caller's bearer was not meant for it.
    Stored,
}

/// When a target is tried again (protocol §2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Extra tries, at most [`MAX_ATTEMPTS`].
    pub attempts: u32,
    /// Statuses that are worth one.
    pub on_status: StatusSet,
    /// Whether the Retry-After of a 429 takes the place of the back-off.
    pub use_retry_after: bool,
}

/// A few HTTP statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet(pub Cow<'static, [u16]>);

/// The tree of strategies. Lists in it are never empty, and every [`TargetId`] in it has its target.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// The first condition that holds chooses.
    Conditional {
        /// Where it stands, as in [`Target::path`].
        path: String,
        /// The candidates.
        targets: OneOrMore<Route>,
        /// In order.
        conditions: OneOrMore<Condition>,
        /// The candidate when none holds.
        default: Option<usize>,
    },
    /// One after the other, until one satisfies.
    Fallback {
        /// Where it stands.
        path: String,
        /// In order.
        targets: OneOrMore<Route>,
        /// What does not satisfy.
        on_status: FallThrough,
    },
    /// A draw.
    Loadbalance {
        /// Where it stands.
        path: String,
        /// The candidates. Their weights are not negative, and their sum is finite and not zero.
        targets: OneOrMore<Weighted>,
    },
    /// Exactly this one.
    Single(Box<Route>),
    /// The end of the way.
    Target(TargetId),
}

/// A candidate in a draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted {
    /// Its share; the shares need not sum to one.
    pub weight: f64,
    /// Where it leads.
    pub route: Route,
}

/// One case of a conditional route.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What it asks (protocol §2.3).
    pub query: Query,
    /// The index of the candidate that it names.
    pub then: usize,
}

/// When a fallback moves on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FallThrough {
    /// On these statuses, be they errors or not; an empty list never moves on.
    Listed(StatusSet),
    /// On everything but 2xx.
    NotSuccess,
}

/// A list that cannot be empty.
#[derive(Clone, Debug, PartialEq)]
pub struct OneOrMore<T> {
    /// The one.
    pub first: Box<T>,
    /// More.
    pub rest: Vec<T>,
}

/// Provider-specific settings, by snake_case name. Some are secrets, therefore `Debug` shows the names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options(pub Vec<(String, String)>);

/// What the deployment allows, and who it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy<'a> {
    /// Whether the provider that lives inside the gateway may be called.
    pub mock_enabled: bool,
    /// Custom hosts beyond suspicion: `host` or `host:port`.
    pub trusted_hosts: &'a [String],
    /// The host (and port) under which this call reached us; never a custom host, since that would be a loop.
    pub own_host: &'a str,
}

impl Config {
    /// The leaf of that id.
    pub fn target(&self, id: TargetId) -> &Target {
        self.targets.get(usize::from(id.0)).expect("ids are minted together with the targets")
    }

    /// The most upstream calls that one call can cause.
    pub fn worst_case_attempts(&self) -> u32 {
        self.route.worst_case(&|id| 1 + self.target(id).retry.attempts)
    }

    /// What is wrong with a config that can cause more calls than one call may.
    pub fn excess(&self) -> Option<Problem> {
        let worst = self.worst_case_attempts();
        let message = format!("this config can cause {worst} attempts; at most {MAX_CALL_ATTEMPTS} are allowed");
        (worst > MAX_CALL_ATTEMPTS).then_some(Problem { path: String::new(), message })
    }
}

impl Route {
    /// What its conditions ask for, in any order.
    pub fn keys(&self) -> Vec<&Key> {
        match self {
            Route::Conditional { targets, conditions, .. } => {
                let own = conditions.iter().flat_map(|condition| condition.query.tests()).map(|(key, _)| key);
                own.chain(targets.iter().flat_map(Route::keys)).collect()
            }
            Route::Fallback { targets, .. } => targets.iter().flat_map(Route::keys).collect(),
            Route::Loadbalance { targets, .. } => targets.iter().flat_map(|target| target.route.keys()).collect(),
            Route::Single(route) => route.keys(),
            Route::Target(_) => Vec::new(),
        }
    }

    fn worst_case(&self, tries: &dyn Fn(TargetId) -> u32) -> u32 {
        let worst = |route: &Route| route.worst_case(tries);
        match self {
            Route::Conditional { targets, conditions, default, .. } => {
                let chosen = conditions.iter().map(|condition| condition.then).chain(*default);
                chosen.filter_map(|index| targets.get(index)).map(worst).max().unwrap_or(0)
            }
            Route::Fallback { targets, .. } => targets.iter().map(worst).sum(),
            Route::Loadbalance { targets, .. } => {
                targets.iter().filter(|target| target.weight > 0.0).map(|target| worst(&target.route)).max().unwrap_or(0)
            }
            Route::Single(route) => worst(route),
            Route::Target(id) => tries(*id),
        }
    }
}

impl Target {
    /// The absolute URL of an endpoint (`/chat/completions`) at this target.
    pub fn url(&self, endpoint: &str) -> String {
        match &self.custom_host {
            Some(base) => base.join(endpoint),
            None => [self.provider.base_url.unwrap_or_default(), endpoint].concat(),
        }
    }

    /// The request headers that `forward_headers` names. A listed name is looked for as it stands, then with its capitals
    /// turned to dashes, since the Node SDK lists `xMyHeader` for `x-my-header` (protocol §1.1).
    ///
    /// Never among them: our own headers, what belongs to the connection, and credentials, which travel as such
    /// ([`CredentialSource`]): a caller's bearer may be our own key.
    pub fn forwarded<'h>(&self, request: &'h Headers) -> impl Iterator<Item = (&'h str, &'h str)> {
        self.forward_headers.iter().filter_map(|listed| {
            let found = |name: &str| request.iter().find(|(have, _)| *have == name);
            found(&listed.to_ascii_lowercase())
                .or_else(|| found(&written::uncamel(listed, '-')))
                .filter(|(name, _)| !name.starts_with("x-portkey-") && !NEVER_FORWARDED.contains(name))
        })
    }
}

impl Retry {
    /// No second try.
    pub const NONE: Retry = Retry { attempts: 0, on_status: StatusSet::RETRY_DEFAULT, use_retry_after: false };
}

impl StatusSet {
    /// What is retried when nothing else is said: rate limits and faults that pass.
    pub const RETRY_DEFAULT: StatusSet = StatusSet(Cow::Borrowed(&[429, 500, 502, 503, 504, 529]));

    /// Whether `status` is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.contains(&status)
    }
}

impl FallThrough {
    /// Whether an answer of that status makes room for the next target.
    pub fn on(&self, status: u16) -> bool {
        match self {
            FallThrough::Listed(statuses) => statuses.contains(status),
            FallThrough::NotSuccess => !(200..300).contains(&status),
        }
    }
}

impl<T> OneOrMore<T> {
    /// `None` when there is none.
    pub fn new(all: impl IntoIterator<Item = T>) -> Option<OneOrMore<T>> {
        let mut all = all.into_iter();
        Some(OneOrMore { first: Box::new(all.next()?), rest: all.collect() })
    }

    /// The one at that index.
    pub fn get(&self, index: usize) -> Option<&T> {
        index.checked_sub(1).map_or(Some(&*self.first), |index| self.rest.get(index))
    }

    /// Each in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&*self.first).chain(&self.rest)
    }
}

impl Options {
    /// The value of `name` (snake_case). A value that was not text in the config is its JSON.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

const NEVER_FORWARDED: [&str; 6] = ["authorization", "connection", "content-length", "host", "transfer-encoding", "x-api-key"];

/// Extra tries at one target: more waits longer than a caller does (31 s of back-off already), and the peer stops here too.
pub const MAX_ATTEMPTS: u32 = 5;

/// Attempts that one call may cause at worst: more than the platform allows subrequests on its free plan, and nobody waits
/// for them.
pub const MAX_CALL_ATTEMPTS: u32 = 50;

/// Length of a config that is sent to be judged: more than fits into the headers of a call, and its tree fits into memory.
pub const MAX_BYTES: u64 = 128 << 10;

/// Levels of nested strategies: real ones have two or three, and each is a frame of recursion.
pub const MAX_DEPTH: usize = 16;

/// Leaves of one config: more cannot be tried within one call's subrequests, and each costs memory in a shared isolate.
pub const MAX_TARGETS: usize = 64;

#[cfg(test)]
mod tests;
