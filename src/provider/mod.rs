//! The registry of providers: a slice of rows (architecture, style §9).
//!
//! A provider that speaks a known dialect is one row. Whatever is particular to it is a field here; comparing
//! `provider.id` with a constant anywhere else is a missing field.

mod table;

pub use table::{ALL, RETIRED};

use crate::llm::operation::Operation;

/// A wire language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI chat completions and its siblings.
    OpenAi,
}

/// How the key travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `authorization: Bearer <key>`.
    Bearer,
    /// `<name>: <key>`; the name is lower case.
    Header(&'static str),
    /// No key is needed; one that the caller gives is sent as a bearer.
    Optional,
}

/// One provider.
#[derive(Debug)]
pub struct Provider {
    /// The name in `x-portkey-provider` and in configs.
    pub id: &'static str,
    /// For people.
    pub name: &'static str,
    /// What it speaks.
    pub dialect: Dialect,
    /// Where it lives, without a trailing slash; `None` where every account has its own host (`custom_host` is required).
    pub base_url: Option<&'static str>,
    /// How it is told who calls.
    pub credential: Credential,
    /// The secret that holds the deployment's own key for it: `OPENAI_API_KEY`.
    pub key_var: &'static str,
    /// `gen_ai.provider.name` (otel.md §2.3).
    pub otel_name: &'static str,
    /// Operations and the path of each below the base URL.
    pub endpoints: &'static [(Operation, &'static str)],
    /// Headers that every request carries: lower-case name, value.
    pub headers: &'static [(&'static str, &'static str)],
    /// Whether a stream of it may end after a finish reason, without `data: [DONE]`.
    pub ends_without_done: bool,
}

impl Provider {
    /// Whether it lives inside the gateway and costs nothing.
    pub fn is_mock(&self) -> bool {
        self.base_url.is_some_and(|url| url.starts_with("mock:"))
    }

    /// The path of `operation` below the base URL; `None` where the provider does not have it.
    pub fn endpoint(&self, operation: Operation) -> Option<&'static str> {
        self.endpoints.iter().find(|(have, _)| *have == operation).map(|(_, path)| *path)
    }
}

/// Why the provider of that id cannot be used any more, if it is known to be gone.
pub fn retired(id: &str) -> Option<&'static str> {
    RETIRED.iter().find(|(have, _)| *have == id).map(|(_, why)| *why)
}

/// The provider of that id.
pub fn find(id: &str) -> Option<&'static Provider> {
    ALL.iter().find(|provider| provider.id == id)
}
