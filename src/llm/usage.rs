//! What a call consumed, in classes that are priced apart.

use serde::{Deserialize, Serialize};

/// Token counts of one answer, as the provider reported them. `None` means unknown, never zero.
///
/// `input` holds **all** input tokens, cache reads and writes included; `output` holds all output tokens, reasoning
/// included (otel.md §2.5). The rest are parts of those two. Dialects normalise to this before anyone counts money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All input tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// All output tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Part of `input`: read from a prompt cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<u64>,
    /// Part of `input`: written to a prompt cache, whatever its lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    /// Part of `cache_write`: written with a lifetime of one hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<u64>,
    /// Part of `output`: reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
    /// Part of `input`: audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<u64>,
    /// Part of `output`: audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<u64>,
}

impl Usage {
    /// Whether the provider reported anything at all.
    pub fn is_known(&self) -> bool {
        self.input.is_some() || self.output.is_some()
    }

    /// Input and output together; `None` when neither is known.
    pub fn total(&self) -> Option<u64> {
        self.is_known().then(|| self.input.unwrap_or(0).saturating_add(self.output.unwrap_or(0)))
    }
}
