//! Who calls, and which of the keys they sent may travel on (protocol §1.10, A1–A3).
//!
//! The gateway key and the provider key can arrive in the same header, so this is the one place that tells them apart: a
//! bearer that is a gateway key, or one of the placeholders that SDKs send when they have none, never leaves.

use crate::error::GatewayError;
use crate::headers::Headers;
use crate::ids::Workspace;
use crate::secret::Secret;
use crate::settings::Settings;

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose rows these are.
    pub workspace: Workspace,
    /// The key that the caller brought for the provider.
    pub provider_key: Option<Secret>,
}

/// Checks the gateway key of a request.
pub fn authenticate(headers: &Headers, settings: &Settings) -> Result<Caller, GatewayError> {
    let admin = settings.admin_key.as_ref().ok_or(GatewayError::NotConfigured)?;
    let bearer = headers.text("authorization").map(strip_bearer);
    let (matches, provider_key) = match headers.text("x-portkey-api-key") {
        Some(key) => (admin.matches(key), bearer),
        None => (bearer.is_some_and(|token| admin.matches(token)), None),
    };
    if !matches {
        return Err(GatewayError::Unauthorized);
    }
    let provider_key = provider_key.filter(|token| !PLACEHOLDERS.contains(token) && !admin.matches(token));
    Ok(Caller { workspace: Workspace::default_one(), provider_key: provider_key.and_then(Secret::new) })
}

/// Drops one leading `Bearer `, in any case.
fn strip_bearer(value: &str) -> &str {
    match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer ") => token.trim(),
        _ => value,
    }
}

/// Bearers that SDKs send when their user gave no key (protocol §1.10, A2).
const PLACEHOLDERS: [&str; 3] = ["OPENAI_API_KEY", "DUMMY-KEY", ""];

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(headers: &[(&str, &str)]) -> Result<Option<String>, GatewayError> {
        let settings = Settings::parse([("GATEWAY_ADMIN_KEY", "gw-1")].into_iter());
        let headers = headers.iter().copied().collect();
        authenticate(&headers, &settings).map(|caller| caller.provider_key.map(|key| key.expose().to_owned()))
    }

    #[test]
    fn the_table_of_who_gets_in_and_what_travels_on() {
        let (in_without, sk) = (Ok(None), Ok(Some("sk-up".to_owned())));
        for (headers, expected) in [
            (vec![("x-portkey-api-key", "gw-1")], in_without.clone()),
            (vec![("x-portkey-api-key", "gw-1"), ("authorization", "Bearer sk-up")], sk.clone()),
            (vec![("x-portkey-api-key", "gw-1"), ("authorization", "sk-up")], sk.clone()),
            (vec![("x-portkey-api-key", "gw-1"), ("authorization", "Bearer gw-1")], in_without.clone()),
            (vec![("x-portkey-api-key", "gw-1"), ("authorization", "Bearer OPENAI_API_KEY")], in_without.clone()),
            (vec![("x-portkey-api-key", "gw-1"), ("authorization", "bearer DUMMY-KEY")], in_without.clone()),
            (vec![("authorization", "Bearer gw-1")], in_without),
            (vec![("authorization", "Bearer sk-up")], Err(GatewayError::Unauthorized)),
            (vec![("x-portkey-api-key", "gw-2"), ("authorization", "Bearer gw-1")], Err(GatewayError::Unauthorized)),
            (vec![], Err(GatewayError::Unauthorized)),
        ] {
            assert_eq!(caller(&headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_deployment_without_a_key_lets_nobody_in() {
        let headers = [("x-portkey-api-key", "")].into_iter().collect();
        let refused = authenticate(&headers, &Settings::parse([].into_iter()));
        assert!(matches!(refused, Err(GatewayError::NotConfigured)));
    }
}
