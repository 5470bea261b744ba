//! From a request's headers to its config: who wins over whom (protocol §1.1, §1.7, §1.10 B and C, order of §2.11).
//!
//! Most calls carry no config but a provider header; those cost one pass over the headers and next to no memory.

use super::custom_host::BaseUrl;
use super::parse::{self, Context, Kind, Leaf, Node, Settings};
use super::resolve::{self, Overrides};
use super::{Config, MAX_ATTEMPTS, Options, Policy, Retry, written};
use crate::error::GatewayError;
use crate::headers::Headers;
use crate::memo::Memo;
use crate::provider::Provider;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// As [`resolve`], but a config that this isolate has resolved before is not resolved again: clients repeat their headers
/// from call to call. Refusals are not remembered.
pub fn recall(headers: &Headers, policy: &Policy) -> Result<Rc<Config>, GatewayError> {
    let key = key(headers, policy);
    if let Some(config) = KNOWN.with_borrow(|known| known.get(&key).cloned()) {
        return Ok(config);
    }
    let config = Rc::new(resolve(headers, policy)?);
    if key.len() <= MAX_KEY {
        KNOWN.with_borrow_mut(|known| known.put(key, config.clone()));
    }
    Ok(config)
}

thread_local! {
    static KNOWN: RefCell<Memo<String, Rc<Config>>> = const { RefCell::new(Memo::new(MAX_KNOWN)) };
}

/// Everything that a config is made of: the policy, and the headers that [`Given`] takes. The framing is that of
/// [`Headers`], so two requests have one key only if they say the same.
fn key(headers: &Headers, policy: &Policy) -> String {
    let mut key = String::with_capacity(TYPICAL_KEY);
    key.push(if policy.mock_enabled { '+' } else { '-' });
    for host in policy.trusted_hosts {
        key.extend([host, ","]);
    }
    key.extend(["\n", policy.own_host, "\n"]);
    for (name, value) in headers.iter().filter(|(name, _)| is_read(name)) {
        key.extend([name, "\n", value, "\n"]);
    }
    key
}

/// Whether [`Given`] looks at that header; it sees no other.
fn is_read(name: &str) -> bool {
    match name.strip_prefix(PREFIX) {
        Some("trace-id" | "span-id" | "span-name" | "parent-span-id" | "metadata" | "api-key" | "debug") => false,
        Some(_) => true,
        None => BARE_OPTIONS.contains(&name),
    }
}

/// The config that holds for a request.
pub fn resolve(headers: &Headers, policy: &Policy) -> Result<Config, GatewayError> {
    let given = Given::collect(headers);
    given.refuse_unbuilt()?;
    if given.provider.or(given.config).or(given.mode).is_none() {
        return Err(GatewayError::MissingProvider);
    }
    let named = given.provider.map(|name| find(name, policy)).transpose()?;
    let custom_host = match given.custom_host {
        Some(text) => Some(BaseUrl::parse(text, policy).map_err(GatewayError::InvalidCustomHost)?),
        None => None,
    };
    let fields = given.config.map(read_config).transpose()?;
    let provider = match given.mode {
        Some(mode) if named.is_none() && !fields.as_ref().is_some_and(parse::decides) => Some(find(mode, policy)?),
        _ => named,
    };
    let root = match fields {
        Some(fields) => parse::parse(&fields, Context { policy, provider, hosted: custom_host.is_some() })?,
        None => Node::of(provider.ok_or(GatewayError::MissingProvider)?, custom_host.is_some())?,
    };
    let forward_headers = given.forward_headers.map(read_forward_headers).transpose()?;
    let settings = Settings {
        retry: given.retry_count.map(|attempts| Retry { attempts, ..Retry::NONE }),
        request_timeout: given.request_timeout.and_then(whole).and_then(parse::timeout),
        custom_host,
        forward_headers,
        ..Settings::default()
    };
    Ok(resolve::resolve(given.with_options(root), &Overrides { settings, not_strict: given.not_strict }))
}

/// The headers that matter here, found in one pass; blank ones are absent.
#[derive(Default)]
struct Given<'h> {
    config: Option<&'h str>,
    custom_host: Option<&'h str>,
    forward_headers: Option<&'h str>,
    guardrails: Option<&'h str>,
    /// The provider that the legacy header names.
    mode: Option<&'h str>,
    not_strict: bool,
    /// Provider-specific ones, by their full names.
    options: Vec<(&'h str, &'h str)>,
    provider: Option<&'h str>,
    request_timeout: Option<&'h str>,
    retry_count: Option<u32>,
    virtual_key: Option<&'h str>,
}

impl<'h> Given<'h> {
    fn collect(headers: &'h Headers) -> Given<'h> {
        let mut given = Given::default();
        for (name, value) in headers.iter().filter(|(name, _)| is_read(name)) {
            let value = value.trim();
            match name.strip_prefix(PREFIX) {
                _ if value.is_empty() => {}
                None if BARE_OPTIONS.contains(&name) => given.options.push((name, value)),
                None => {}
                Some("config") => given.config = Some(value),
                Some("custom-host") => given.custom_host = Some(value),
                Some("default-input-guardrails" | "default-output-guardrails") => given.guardrails = Some(name),
                Some("forward-headers") => given.forward_headers = Some(value),
                Some("mode") => given.mode = legacy_provider(value),
                Some("provider") => given.provider = Some(value),
                Some("request-timeout") => given.request_timeout = Some(value),
                // What is no number counts as zero, and zero is an answer: it beats the config's.
                Some("retry-count") => given.retry_count = Some(whole(value).unwrap_or(0).min(MAX_ATTEMPTS.into()) as u32),
                Some("strict-open-ai-compliance") => given.not_strict = value.eq_ignore_ascii_case("false"),
                Some("virtual-key") => given.virtual_key = Some(value),
                Some(suffix) if parse::is_option(suffix) => given.options.push((name, value)),
                Some(_) => {}
            }
        }
        given
    }

    fn refuse_unbuilt(&self) -> Result<(), GatewayError> {
        let what = match (self.virtual_key, self.guardrails) {
            (Some(_), _) => "x-portkey-virtual-key (saved providers)".to_owned(),
            (None, Some(name)) => format!("{name} (guardrails)"),
            (None, None) => return Ok(()),
        };
        Err(GatewayError::Unsupported(what))
    }

    /// Provider-specific headers are meant for the provider that the headers name. The config's own come first, and win.
    fn with_options(&self, mut root: Node) -> Node {
        if let Kind::Leaf(leaf) = &mut root.kind
            && leaf.from_headers
        {
            let (prefixed, bare): (Vec<_>, Vec<_>) = self.options.iter().partition(|(name, _)| name.starts_with(PREFIX));
            let all = prefixed.into_iter().chain(bare);
            leaf.options
                .0
                .extend(all.map(|(name, value)| (name.strip_prefix(PREFIX).unwrap_or(name).replace('-', "_"), value.to_owned())));
        }
        root
    }
}

impl Node {
    /// The tree of a call without a config.
    fn of(provider: &'static Provider, hosted: bool) -> Result<Node, GatewayError> {
        if parse::needs_host(provider, hosted) {
            let why = format!("provider '{}' has no host of its own, so x-portkey-custom-host is needed", provider.id);
            return Err(GatewayError::InvalidCustomHost(why));
        }
        let leaf = Leaf { provider, from_headers: true, api_key: None, options: Options::default() };
        Ok(Node { path: String::new(), name: None, weight: 1.0, settings: Settings::default(), kind: Kind::Leaf(leaf) })
    }
}

/// B3: inline JSON, or the id of a saved config.
fn read_config(text: &str) -> Result<Map<String, Value>, GatewayError> {
    if text.starts_with(SAVED_CONFIG) {
        return Err(GatewayError::Unsupported(format!("saved configs ('{text}'); send the config itself")));
    }
    written::read(text).map_err(GatewayError::InvalidConfigJson)
}

fn find(name: &str, policy: &Policy) -> Result<&'static Provider, GatewayError> {
    if name.starts_with('@') {
        return Err(GatewayError::Unsupported(format!("x-portkey-provider '{name}' (saved providers)")));
    }
    parse::known_provider(name, policy).ok_or_else(|| match crate::provider::retired(name) {
        Some(why) => GatewayError::InvalidProvider(format!("{name} ({why})")),
        None => GatewayError::InvalidProvider(name.to_owned()),
    })
}

/// `proxy openai` names openai, `proxy` alone means it; anything else is not this header's grammar and says nothing.
fn legacy_provider(value: &str) -> Option<&str> {
    let mut words = value.split_whitespace();
    words.next().filter(|word| word.eq_ignore_ascii_case("proxy"))?;
    Some(words.next().unwrap_or("openai"))
}

/// A comma list, or the literal of a list: `['A', "B"]`.
fn read_forward_headers(text: &str) -> Result<Vec<String>, GatewayError> {
    let text = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let names = text.split(',').map(|name| name.trim_matches([' ', '\t', '\'', '"'])).filter(|name| !name.is_empty());
    names
        .map(|name| match parse::forward_refusal(name) {
            None => Ok(name.to_owned()),
            Some(refusal) => Err(GatewayError::InvalidHeader(format!("x-portkey-forward-headers: {refusal}"))),
        })
        .collect()
}

/// The whole part of a decimal number.
fn whole(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    whole.parse().ok().filter(|_| fraction.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Ways of calling that an isolate remembers: one a client and a route through it.
const MAX_KNOWN: usize = 64;
/// Bytes of the longest that is remembered, so that all of them stay below half a megabyte.
const MAX_KEY: usize = 4096;
const TYPICAL_KEY: usize = 256;

const PREFIX: &str = "x-portkey-";
const SAVED_CONFIG: &str = "pc-";

/// Provider-specific headers that need no prefix (protocol §1.8).
const BARE_OPTIONS: [&str; 3] = ["anthropic-beta", "anthropic-version", "openai-beta"];
