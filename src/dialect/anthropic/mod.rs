//! Anthropic Messages, as an upstream (dialect sheet `anthropic`).

pub mod error;
pub mod request;
pub mod response;
pub mod schema;
pub mod stream;

/// What a model can and cannot do, where that changes the request: the words of `caps` in the price list. A model that is
/// not in the list has none of them, and gets what every model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// `adaptive`: thinks as hard as `output_config.effort` says.
    pub adaptive: bool,
    /// `always_thinks`: thinking cannot be switched off.
    pub always_thinks: bool,
    /// `effort_max`: knows the effort `max`.
    pub effort_max: bool,
    /// `effort_xhigh`: knows the effort `xhigh`.
    pub effort_xhigh: bool,
    /// `native_schema`: takes a schema for its answer.
    pub native_schema: bool,
    /// `no_forced_tool`: refuses a forced tool call.
    pub no_forced_tool: bool,
    /// `no_prefill`: refuses to continue an answer.
    pub no_prefill: bool,
    /// `no_sampling`: refuses sampling parameters.
    pub no_sampling: bool,
    /// `reasoning`: thinks within a budget, if asked to.
    pub reasoning: bool,
}

impl Caps {
    /// From the words of the price list; others are skipped.
    pub fn from_flags<'a>(flags: impl Iterator<Item = &'a str>) -> Caps {
        let mut caps = Caps::default();
        for flag in flags {
            match flag {
                "adaptive" => caps.adaptive = true,
                "always_thinks" => caps.always_thinks = true,
                "effort_max" => caps.effort_max = true,
                "effort_xhigh" => caps.effort_xhigh = true,
                "native_schema" => caps.native_schema = true,
                "no_forced_tool" => caps.no_forced_tool = true,
                "no_prefill" => caps.no_prefill = true,
                "no_sampling" => caps.no_sampling = true,
                "reasoning" => caps.reasoning = true,
                _ => {}
            }
        }
        caps
    }
}
