//! What the gateway learns by looking at an answer that it does not change.

use super::usage::Usage;

/// The facts a span needs from an answer, whatever its dialect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The model that the provider says answered.
    pub model: Option<String>,
    /// The provider's id of the answer.
    pub response_id: Option<String>,
    /// One per choice, in the provider's words.
    pub finish_reasons: Vec<String>,
    /// Tokens, when reported.
    pub usage: Usage,
    /// The service class that was billed (`flex`, `priority`, `batch`), when the answer names one.
    pub service_tier: Option<String>,
}

/// How a stream came to its end, judged from its bytes and from how the connection closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The dialect's terminator was seen.
    Complete,
    /// The provider itself reported an error inside the stream; the text is its message.
    Failed(String),
    /// Something that is not the dialect; the text says what.
    Malformed(String),
    /// The bytes ended without the terminator.
    Truncated,
}

/// A stream seen whole: its facts, its end, and the answer put together as one JSON document
/// (the shape of the non-streaming answer of the same dialect), as far as it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedStream {
    /// The facts.
    pub observed: Observed,
    /// How it ended.
    pub end: StreamEnd,
    /// The assembled answer as JSON text; `None` when not one event was understood.
    pub assembled: Option<String>,
}
