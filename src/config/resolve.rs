//! Flattens inheritance, so that each leaf carries what holds for it (protocol §2.2, §1.10 C1 and C2).
//!
//! The rules differ by key, and this file is their list: parameters merge, names to drop add up, everything else is the
//! nearest node's that says something. Provider, key, name, weight and provider options are never inherited; they are not
//! in [`Settings`], so they cannot be.

use super::parse::{Kind, Leaf, Node, Settings};
use super::{Config, CredentialSource, OneOrMore, Retry, Route, Target, Weighted};
use crate::ids::TargetId;

/// What the request's headers say, which beats every level of the config.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Custom host, timeout, forwarded headers and retry.
    pub settings: Settings,
    /// `x-portkey-strict-open-ai-compliance: false`; `true` cannot undo a config's `false`, so it is not kept.
    pub not_strict: bool,
}

/// Flattens a tree.
pub fn resolve(root: Node, overrides: &Overrides) -> Config {
    let mut flattening = Flattening { overrides, targets: Vec::with_capacity(1) };
    let route = flattening.node(root, &Settings::default());
    Config { route, targets: flattening.targets }
}

struct Flattening<'a> {
    overrides: &'a Overrides,
    targets: Vec<Target>,
}

impl Flattening<'_> {
    fn node(&mut self, node: Node, above: &Settings) -> Route {
        let Node { path, name, weight: _, settings, kind } = node;
        let settings = settings.under(above);
        let whole_path = |path: String| if path.is_empty() { "config".to_owned() } else { format!("config.{path}") };
        match kind {
            Kind::Conditional { targets, conditions, default } => Route::Conditional {
                path: whole_path(path),
                targets: targets.map(|target| self.node(target, &settings)),
                conditions,
                default,
            },
            Kind::Fallback { targets, on_status } => {
                Route::Fallback { path: whole_path(path), targets: targets.map(|target| self.node(target, &settings)), on_status }
            }
            Kind::Leaf(leaf) => self.leaf(path, name, leaf, settings),
            Kind::Loadbalance(targets) => Route::Loadbalance {
                path: whole_path(path),
                targets: targets.map(|target| Weighted { weight: target.weight, route: self.node(target, &settings) }),
            },
            Kind::Single(targets) => Route::Single(Box::new(self.node(*targets.first, &settings))),
        }
    }

    fn leaf(&mut self, path: String, name: Option<String>, leaf: Leaf, settings: Settings) -> Route {
        let settings = self.overrides.settings.clone().under(&settings);
        let forward_headers = settings.forward_headers.unwrap_or_default();
        // Who lists `authorization` means the caller's key for this target, too.
        let callers = leaf.from_headers || forward_headers.iter().any(|name| name.eq_ignore_ascii_case("authorization"));
        let credential = match leaf.api_key {
            Some(key) => CredentialSource::ApiKey(key),
            None if callers => CredentialSource::Caller,
            None => CredentialSource::Stored,
        };
        let id = TargetId(u16::try_from(self.targets.len()).unwrap_or(u16::MAX));
        self.targets.push(Target {
            path: if path.is_empty() { "config".into() } else { format!("config.{path}").into() },
            name,
            provider: leaf.provider,
            credential,
            custom_host: settings.custom_host,
            retry: settings.retry.unwrap_or(Retry::NONE),
            request_timeout: settings.request_timeout,
            override_params: settings.override_params,
            default_params: settings.default_params,
            drop_params: settings.drop_params,
            forward_headers,
            strict: settings.strict.unwrap_or(true) && !self.overrides.not_strict,
            options: leaf.options,
        });
        Route::Target(id)
    }
}

impl Settings {
    /// These, with what they leave open taken from `above`.
    fn under(self, above: &Settings) -> Settings {
        let merge = |own: serde_json::Map<_, _>, above: &serde_json::Map<_, _>| {
            let mut merged = above.clone();
            merged.extend(own);
            merged
        };
        let mut drop_params = above.drop_params.clone();
        drop_params.extend(self.drop_params.into_iter().filter(|path| !above.drop_params.contains(path)));
        Settings {
            retry: self.retry.or_else(|| above.retry.clone()),
            request_timeout: self.request_timeout.or(above.request_timeout),
            custom_host: self.custom_host.or_else(|| above.custom_host.clone()),
            override_params: merge(self.override_params, &above.override_params),
            default_params: merge(self.default_params, &above.default_params),
            drop_params,
            forward_headers: self.forward_headers.or_else(|| above.forward_headers.clone()),
            strict: self.strict.or(above.strict),
        }
    }
}

impl<T> OneOrMore<T> {
    fn map<U>(self, mut each: impl FnMut(T) -> U) -> OneOrMore<U> {
        OneOrMore { first: Box::new(each(*self.first)), rest: self.rest.into_iter().map(each).collect() }
    }
}
