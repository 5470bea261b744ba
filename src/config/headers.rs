//! From a request's headers to its config.

use super::{Config, Policy};
use crate::error::GatewayError;
use crate::headers::Headers;

/// The config that holds for a request.
pub fn resolve(_headers: &Headers, _policy: &Policy) -> Result<Config, GatewayError> {
    Err(GatewayError::MissingProvider)
}

/// `xMyHeader` → `x-my-header`.
pub(super) fn kebab(name: &str) -> String {
    name.to_ascii_lowercase()
}
