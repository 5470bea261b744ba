//! What a deployment says about itself: its vars and secrets, read once an isolate.
//!
//! Every setting is parsed before the first request is served; one that cannot be read falls back to its default and is
//! named in [`Settings::complaints`], so that a typo costs a feature and never the gateway. Each default stands at the
//! bottom with the reason for the number.

use crate::provider;
use crate::secret::Secret;
use crate::time::Millis;
use std::collections::HashMap;

/// The settings of one deployment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The root key; without it every keyed route answers 503.
    pub admin_key: Option<Secret>,
    /// The deployment's own provider keys, by provider id.
    pub provider_keys: HashMap<&'static str, Secret>,
    /// Whether the `mock` provider exists.
    pub mock_enabled: bool,
    /// Hosts that may be called although they are private: `host` or `host:port`.
    pub trusted_hosts: Vec<String>,
    /// The longest request body, in bytes.
    pub max_body_bytes: u64,
    /// How long a stream may be silent.
    pub stream_idle_timeout: Millis,
    /// `max_tokens` where a dialect demands one and the caller named none.
    pub default_max_tokens: u64,
    /// Vars that could not be read, for the console.
    pub complaints: Vec<String>,
}

impl Settings {
    /// From the environment's text bindings: pairs of name and value.
    pub fn parse<'a>(vars: impl Iterator<Item = (&'a str, &'a str)>) -> Settings {
        let vars: HashMap<&str, &str> = vars.collect();
        let mut complaints = Vec::new();
        let mut number = |name: &str, default: u64| match vars.get(name).map(|text| text.trim().parse::<u64>()) {
            None => default,
            Some(Ok(number)) if number > 0 => number,
            Some(_) => {
                complaints.push(format!("{name} is not a positive whole number; {default} is used"));
                default
            }
        };
        Settings {
            max_body_bytes: number("MAX_BODY_BYTES", DEFAULT_MAX_BODY_BYTES),
            stream_idle_timeout: Millis(number("STREAM_IDLE_TIMEOUT_MS", DEFAULT_STREAM_IDLE_MS)),
            default_max_tokens: number("DEFAULT_MAX_TOKENS", DEFAULT_MAX_TOKENS),
            admin_key: vars.get("GATEWAY_ADMIN_KEY").and_then(|key| Secret::new(key.trim())),
            provider_keys: provider::ALL
                .iter()
                .filter_map(|provider| Some((provider.id, Secret::new(vars.get(provider.key_var)?.trim())?)))
                .collect(),
            mock_enabled: vars.get("ENABLE_MOCK_PROVIDER").is_some_and(|text| text.trim() == "true"),
            trusted_hosts: vars.get("TRUSTED_CUSTOM_HOSTS").map(|list| hosts(list)).unwrap_or_default(),
            complaints,
        }
    }
}

fn hosts(list: &str) -> Vec<String> {
    list.split(',').map(|host| host.trim().to_ascii_lowercase()).filter(|host| !host.is_empty()).collect()
}

/// 10 MiB: a long conversation with a few images; an isolate has 128 MB for all its calls (CF-12).
pub const DEFAULT_MAX_BODY_BYTES: u64 = 10 << 20;
/// Two minutes: reasoning models are silent for long, and a dead connection must not hold a caller forever.
pub const DEFAULT_STREAM_IDLE_MS: u64 = 120_000;
/// What the anthropic dialect sheet suggests; every current model takes it.
pub const DEFAULT_MAX_TOKENS: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_without_vars_is_closed() {
        let settings = Settings::parse([].into_iter());
        assert!(settings.admin_key.is_none() && !settings.mock_enabled && settings.trusted_hosts.is_empty());
        assert_eq!(settings.max_body_bytes, 10 * 1024 * 1024);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_defaults() {
        let vars =
            [("MAX_BODY_BYTES", "10MB"), ("STREAM_IDLE_TIMEOUT_MS", "0"), ("TRUSTED_CUSTOM_HOSTS", " LOCALHOST, ,127.0.0.1")];
        let settings = Settings::parse(vars.into_iter());
        assert_eq!(settings.max_body_bytes, DEFAULT_MAX_BODY_BYTES);
        assert_eq!(settings.complaints.len(), 2);
        assert_eq!(settings.trusted_hosts, ["localhost", "127.0.0.1"]);
    }

    #[test]
    fn provider_keys_come_from_their_own_secrets() {
        let settings = Settings::parse([("ANTHROPIC_API_KEY", "sk-ant"), ("OPENAI_API_KEY", " ")].into_iter());
        assert!(settings.provider_keys.get("anthropic").is_some_and(|key| key.matches("sk-ant")));
        assert!(!settings.provider_keys.contains_key("openai"));
    }
}
