//! From what was written to a tree that can be trusted, or to every mistake in it (protocol §2.11, V6–V8).
//!
//! Three verdicts, in this order: mistakes are a 400 that lists them all; what is right but not built yet is a 501 that
//! lists it all; else there is a [`Node`]. A feature is never skipped silently: see [`NOT_YET`].
//!
//! Where the sources disagree on a leaf (V7b), one is good as soon as a provider can be derived for it; whether it has a
//! key is decided at the call, since the deployment may hold one.

use super::custom_host::BaseUrl;
use super::written::{MAX_MISTAKES, Mistakes, Object};
use super::{Condition, FallThrough, MAX_ATTEMPTS, MAX_DEPTH, MAX_TARGETS, OneOrMore, Options, Policy, Retry, StatusSet};
use crate::error::{GatewayError, Problem};
use crate::provider::{self, Provider};
use crate::route::condition::{self, MAX_PATTERNS, MAX_TESTS, Query};
use crate::secret::Secret;
use crate::time::Millis;
use serde_json::{Map, Value};

/// A node of the tree, each value checked, nothing inherited yet.
#[derive(Clone, Debug)]
pub struct Node {
    /// `targets[1].targets[0]`; empty for the root.
    pub path: String,
    /// What conditions call it.
    pub name: Option<String>,
    /// Its share in a draw.
    pub weight: f64,
    /// What it says for itself and those below.
    pub settings: Settings,
    /// What it is.
    pub kind: Kind,
}

/// A strategy or a leaf.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `conditional`; the numbers are indices of targets.
    Conditional {
        /// The candidates.
        targets: OneOrMore<Node>,
        /// Query and candidate.
        conditions: OneOrMore<Condition>,
        /// When none holds.
        default: Option<usize>,
    },
    /// `fallback`.
    Fallback {
        /// In order.
        targets: OneOrMore<Node>,
        /// What does not satisfy.
        on_status: FallThrough,
    },
    /// A provider.
    Leaf(Leaf),
    /// `loadbalance`.
    Loadbalance(OneOrMore<Node>),
    /// `single`, or targets without a strategy; those after the first are read for their mistakes only.
    Single(OneOrMore<Node>),
}

/// What only a leaf has.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Whom to call.
    pub provider: &'static Provider,
    /// Whether the request's headers named it, not the config.
    pub from_headers: bool,
    /// The key in the config.
    pub api_key: Option<Secret>,
    /// What only that provider understands.
    pub options: Options,
}

/// What is inherited, as one node says it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whole, or the parent's.
    pub retry: Option<Retry>,
    /// Never zero.
    pub request_timeout: Option<Millis>,
    /// Instead of the provider's own.
    pub custom_host: Option<BaseUrl>,
    /// Win over the client's.
    pub override_params: Map<String, Value>,
    /// Fill gaps.
    pub default_params: Map<String, Value>,
    /// Are deleted.
    pub drop_params: Vec<String>,
    /// An empty list replaces too.
    pub forward_headers: Option<Vec<String>>,
    /// OpenAI's fields only.
    pub strict: Option<bool>,
}

/// What a config is read against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The deployment's rules.
    pub policy: &'a Policy<'a>,
    /// The provider that the headers name, for a root that names none (protocol §1.10 B2).
    pub provider: Option<&'static Provider>,
    /// Whether the headers give a custom host, for every leaf.
    pub hosted: bool,
}

/// What stands in the way of a config.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Wrong.
    pub mistakes: Vec<Problem>,
    /// Right, and not built: `'@team' (saved providers)`, `(caching)`.
    pub not_yet: Vec<Problem>,
}

/// Reads the fields of a config ([`written::read`](super::written::read)), or says what is in the way of it.
pub fn parse(fields: &Map<String, Value>, context: Context) -> Result<Node, GatewayError> {
    match read(fields, context) {
        (_, Findings { mistakes, .. }) if !mistakes.is_empty() => Err(GatewayError::InvalidConfig(mistakes)),
        (_, Findings { not_yet, .. }) if !not_yet.is_empty() => {
            let listed: Vec<String> = not_yet.iter().map(|Problem { path, message }| format!("{path} {message}")).collect();
            Err(GatewayError::Unsupported(format!("config: {}", listed.join(", "))))
        }
        (Some(node), _) => Ok(node),
        (None, _) => Err(GatewayError::Internal("a config was neither read nor refused".into())),
    }
}

/// As [`parse`], but tells everything at once. Where nothing was found there is a tree.
pub fn read(fields: &Map<String, Value>, context: Context) -> (Option<Node>, Findings) {
    let mistakes = Mistakes::default();
    let root = Object::root(fields, &mistakes);
    if root.has("options") {
        let message = "this is version 1 of the config format, which is not read any more; write `targets` in place of `options`";
        root.mistake("options", message);
        return (None, Findings { mistakes: mistakes.take(), not_yet: Vec::new() });
    }
    let mut reading = Reading { context, targets: 0, queries: condition::Reading::default(), not_yet: Vec::new() };
    let node = reading.node(&root, 1, context.hosted);
    (node, Findings { mistakes: mistakes.take(), not_yet: reading.not_yet })
}

/// Whether a config decides on the provider itself, so that one in the headers does not matter (B1).
pub fn decides(fields: &Map<String, Value>) -> bool {
    let said = |key: &str| fields.get(key).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)));
    ["provider", "strategy", "targets", "virtual_key", "passthrough", "prompt_id"].into_iter().any(said)
}

/// The provider of that name, if this deployment has it.
pub fn known_provider(name: &str, policy: &Policy) -> Option<&'static Provider> {
    provider::find(name).filter(|provider| policy.mock_enabled || !provider.is_mock())
}

/// Why a header must not be passed upstream on request, if so.
pub fn forward_refusal(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    UNFORWARDABLE.contains(&name.as_str()).then(|| format!("'{name}' may not be forwarded"))
}

struct Reading<'a> {
    context: Context<'a>,
    /// Leaves met so far.
    targets: usize,
    /// What was met in queries so far.
    queries: condition::Reading,
    /// What is understood and not built.
    not_yet: Vec<Problem>,
}

impl Reading<'_> {
    /// `None` only after a mistake or a `not_yet` was noted. `hosted`: a custom host comes from above.
    fn node(&mut self, object: &Object, depth: usize, hosted: bool) -> Option<Node> {
        self.note_unbuilt(object);
        let settings = read_settings(object, self.context.policy);
        let name = object.text("name").map(str::to_owned);
        let weight = object.number("weight").unwrap_or(1.0);
        let hosted = hosted || settings.custom_host.is_some();
        let kind = if object.has("strategy") || object.has("targets") {
            self.strategy(object, depth, hosted)?
        } else {
            Kind::Leaf(self.leaf(object, depth == 1, hosted)?)
        };
        Some(Node { path: object.path().to_owned(), name, weight, settings, kind })
    }

    fn strategy(&mut self, object: &Object, depth: usize, hosted: bool) -> Option<Kind> {
        let strategy = object.object("strategy");
        let targets = self.targets(object, depth, hosted);
        let Some(strategy) = strategy else {
            return Some(Kind::Single(targets?));
        };
        self.note_unbuilt(&strategy);
        let mode = strategy.word("mode", &["single", "loadbalance", "fallback", "conditional"])?;
        match mode {
            "conditional" => self.conditional(object, &strategy, targets),
            "fallback" => {
                let on_status = strategy.statuses("on_status_codes").map_or(FallThrough::NotSuccess, FallThrough::Listed);
                Some(Kind::Fallback { targets: targets?, on_status })
            }
            "loadbalance" => read_loadbalance(object, targets?),
            _ => Some(Kind::Single(targets?)),
        }
    }

    fn conditional(&mut self, object: &Object, strategy: &Object, targets: Option<OneOrMore<Node>>) -> Option<Kind> {
        // Looked up in what was written, so that a mistake in a target does not make its name a mistake too.
        let written = object.value("targets").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let named = |object: &Object, key: &str| {
            let name = object.text(key)?;
            let has_it = |target: &Value| target.get("name").and_then(Value::as_str).map(str::trim) == Some(name);
            let found = written.iter().position(has_it);
            if found.is_none() {
                object.mistake(key, format!("no target has the name '{name}'"));
            }
            found
        };
        let conditions = strategy.objects("conditions", "a conditional strategy needs at least one condition");
        let conditions = conditions.into_iter().flatten().filter_map(|condition| {
            for key in ["query", "then"].into_iter().filter(|key| !condition.has(key)) {
                condition.mistake(key, "needed in a condition");
            }
            let (query, then) = (self.query(&condition), named(&condition, "then"));
            Some(Condition { query: query?, then: then? })
        });
        let (conditions, default) = (OneOrMore::new(conditions), named(strategy, "default"));
        Some(Kind::Conditional { targets: targets?, conditions: conditions?, default })
    }

    fn query(&mut self, condition: &Object) -> Option<Query> {
        let (tests, patterns) = (self.queries.tests, self.queries.patterns);
        let query = Query::parse(condition.map("query")?, "query", &mut self.queries);
        for (path, message) in self.queries.mistakes.drain(..) {
            condition.mistake(&path, message);
        }
        if tests <= MAX_TESTS && self.queries.tests > MAX_TESTS {
            condition.mistake("query", format!("with this one, the config's conditions make more than {MAX_TESTS} tests"));
        }
        if patterns <= MAX_PATTERNS && self.queries.patterns > MAX_PATTERNS {
            condition.mistake("query", format!("with this one, the config's conditions have more than {MAX_PATTERNS} patterns"));
        }
        Some(query)
    }

    fn targets(&mut self, object: &Object, depth: usize, hosted: bool) -> Option<OneOrMore<Node>> {
        let targets = object.objects("targets", "a strategy needs at least one target")?;
        if depth >= MAX_DEPTH {
            object.mistake("targets", format!("nested more than {MAX_DEPTH} levels deep"));
            return None;
        }
        let mut nodes = Vec::with_capacity(targets.len().min(MAX_TARGETS));
        for target in targets {
            if self.targets == MAX_TARGETS {
                object.mistake("targets", format!("the config has more than {MAX_TARGETS} targets"));
                return None;
            }
            nodes.extend(self.node(&target, depth + 1, hosted));
        }
        OneOrMore::new(nodes)
    }

    fn leaf(&mut self, object: &Object, is_root: bool, hosted: bool) -> Option<Leaf> {
        self.targets += 1;
        let api_key = object.text("api_key").and_then(Secret::new);
        let name = object.text("provider");
        let provider = match (name, self.context.provider.filter(|_| is_root)) {
            (Some(name), _) => self.named_provider(object, name)?,
            (None, Some(provider)) => provider,
            (None, None) => {
                self.note_no_provider(object, is_root);
                return None;
            }
        };
        if needs_host(provider, hosted) {
            object.mistake("custom_host", format!("needed, since provider '{}' has no host of its own", provider.id));
        }
        Some(Leaf { provider, from_headers: name.is_none(), api_key, options: read_options(object) })
    }

    fn named_provider(&mut self, object: &Object, name: &str) -> Option<&'static Provider> {
        if name.starts_with('@') {
            self.not_yet(object.at("provider"), format!("'{name}' (saved providers)"));
            return None;
        }
        let known = known_provider(name, self.context.policy);
        if known.is_none() {
            let why = provider::retired(name).map_or(String::new(), |why| format!(": {why}"));
            object.mistake("provider", format!("'{name}' is not a known provider{why}"));
        }
        known
    }

    fn note_no_provider(&mut self, object: &Object, is_root: bool) {
        // A wrong type is noted already, and these come with a provider of their own, which is noted as not built.
        let elsewhere = ["virtual_key", "prompt_id"].into_iter().any(|key| object.text(key).is_some())
            || object.value("provider").is_some_and(|value| !value.is_string())
            || object.value("passthrough") == Some(&Value::Bool(true));
        let model = object.value("override_params").and_then(|params| params.get("model")?.as_str());
        if let Some(model) = model.filter(|model| model.starts_with('@') && model.contains('/') && !elsewhere) {
            self.not_yet(object.at("override_params.model"), format!("'{model}' (saved providers)"));
        } else if !elsewhere {
            let header = if is_root { ", and there is no x-portkey-provider header" } else { "" };
            object.mistake("provider", format!("there is neither a provider nor targets here{header}"));
        }
    }

    fn note_unbuilt(&mut self, object: &Object) {
        check_cache(object);
        for (key, what) in NOT_YET {
            let set = object.value(key).is_some_and(|value| match value {
                Value::Bool(flag) => *flag,
                Value::String(text) => !text.trim().is_empty(),
                Value::Array(items) => !items.is_empty(),
                Value::Object(fields) => !fields.is_empty() && fields.get("enabled") != Some(&Value::Bool(false)),
                Value::Null | Value::Number(_) => true,
            });
            if set {
                self.not_yet(object.at(key), format!("({what})"));
            }
        }
    }

    fn not_yet(&mut self, path: String, message: String) {
        if self.not_yet.len() < MAX_MISTAKES {
            self.not_yet.push(Problem { path, message });
        }
    }
}

/// Whether a call to `provider` would not know where to go.
pub fn needs_host(provider: &Provider, hosted: bool) -> bool {
    provider.base_url.is_none() && !hosted
}

fn read_loadbalance(object: &Object, targets: OneOrMore<Node>) -> Option<Kind> {
    let sum: f64 = targets.iter().map(|target| target.weight).sum();
    if sum == 0.0 {
        object.mistake("targets", "no target selectable: every weight is 0");
        return None;
    }
    if !sum.is_finite() {
        object.mistake("targets", "the weights add up to more than a number can hold");
        return None;
    }
    Some(Kind::Loadbalance(targets))
}

fn read_settings(object: &Object, policy: &Policy) -> Settings {
    Settings {
        retry: object.object("retry").map(|retry| read_retry(&retry)),
        request_timeout: object.whole("request_timeout").and_then(timeout),
        custom_host: object.text("custom_host").and_then(|text| {
            BaseUrl::parse(text, policy).map_err(|why| object.mistake("custom_host", format!("invalid custom host: {why}"))).ok()
        }),
        override_params: object.map("override_params").cloned().unwrap_or_default(),
        default_params: object.map("default_params").cloned().unwrap_or_default(),
        drop_params: object.texts("drop_params").unwrap_or_default(),
        forward_headers: object.texts("forward_headers").inspect(|names| {
            for (index, refusal) in names.iter().enumerate().filter_map(|(index, name)| Some((index, forward_refusal(name)?))) {
                object.mistake(&format!("forward_headers[{index}]"), refusal);
            }
        }),
        strict: object.flag("strict_open_ai_compliance"),
    }
}

fn read_retry(retry: &Object) -> Retry {
    if !retry.has("attempts") {
        retry.mistake("attempts", "needed in a retry");
    }
    let attempts = retry.whole("attempts").unwrap_or(0).min(MAX_ATTEMPTS.into()) as u32;
    let on_status = retry.statuses("on_status_codes").unwrap_or(StatusSet::RETRY_DEFAULT);
    // Both spellings are documented.
    let obeys = ["use_retry_after_header", "use_retry_after_headers"].map(|key| retry.flag(key).unwrap_or(false));
    Retry { attempts, on_status, use_retry_after: obeys.contains(&true) }
}

/// A timeout of zero is none.
pub fn timeout(millis: u64) -> Option<Millis> {
    (millis > 0).then_some(Millis(millis.min(MAX_TIMEOUT)))
}

/// Caching is not built, but a config that would be wrong with it is wrong without.
fn check_cache(object: &Object) {
    let cache = object.value("cache").filter(|cache| cache.is_object()).and_then(|_| object.object("cache"));
    if let Some(cache) = cache {
        cache.word("mode", &CACHE_MODES);
        cache.number("max_age");
    } else if object.has("cache") {
        object.word("cache", &CACHE_MODES);
    }
}

fn read_options(object: &Object) -> Options {
    let options = object.iter().filter(|(key, _)| is_option(key));
    Options(
        options.map(|(key, value)| (key.to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))).collect(),
    )
}

/// Whether a key, or the rest of a header's name, belongs to one provider (protocol §1.8).
pub fn is_option(key: &str) -> bool {
    let alike = |(have, wanted): (u8, u8)| have == wanted || (have, wanted) == (b'-', b'_');
    OPTION_PREFIXES.iter().any(|prefix| key.len() >= prefix.len() && key.bytes().zip(prefix.bytes()).all(alike))
}

const CACHE_MODES: [&str; 2] = ["simple", "semantic"];

/// What the schema has and the gateway has not. A config that sets one is refused, since it would run differently from what
/// it says. Building one starts with deleting its row.
const NOT_YET: [(&str, &str); 14] = [
    ("after_request_hooks", "guardrails"),
    ("before_request_hooks", "guardrails"),
    ("cache", "caching"),
    ("cb_config", "circuit breaking"),
    ("default_input_guardrails", "guardrails"),
    ("default_output_guardrails", "guardrails"),
    ("input_guardrails", "guardrails"),
    ("input_mutators", "guardrails"),
    ("output_guardrails", "guardrails"),
    ("output_mutators", "guardrails"),
    ("passthrough", "providers from the request"),
    ("prompt_id", "saved prompts"),
    ("sticky", "sticky draws"),
    ("virtual_key", "saved providers"),
];

/// The list itself, and the headers that open a cloud's metadata service.
const UNFORWARDABLE: [&str; 4] =
    ["metadata-flavor", "x-aws-ec2-metadata-token", "x-google-metadata-request", "x-portkey-forward-headers"];

/// The first words of provider-specific keys.
const OPTION_PREFIXES: [&str; 19] = [
    "amz_",
    "amzn_",
    "anthropic_",
    "aws_",
    "azure_",
    "file_purpose",
    "file_upload_size",
    "fireworks_",
    "huggingface_",
    "mistral_",
    "openai_",
    "oracle_",
    "provider_batch_endpoint",
    "provider_file_name",
    "provider_model",
    "snowflake_",
    "stability_",
    "vertex_",
    "workers_ai_",
];

/// The platform's timers count in 31 bits, and a longer delay would fire at once.
const MAX_TIMEOUT: u64 = 0x7fff_ffff;
