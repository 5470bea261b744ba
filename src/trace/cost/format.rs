//! The shape of the price table: what `build.rs` writes and [`table`](super::table) reads. Both compile this file.
//!
//! Eleven sections, each preceded by its length (u32; everything is little endian):
//!
//! | section | holds |
//! | --- | --- |
//! | keys | `provider/model`, sorted, front-coded: shared bytes (u8), length of the rest (u8), the rest; a block's first key is whole |
//! | blocks | u32 each: where every [`BLOCK`]th key begins |
//! | prices | u16 a key: where its price begins in *pool* |
//! | flags | u8 a key: which of *masks* |
//! | outputs | u8 a key: which of *limits* |
//! | pool | the distinct prices: a byte of classes, the base schedule, a schedule a class, the off-peak hours |
//! | values | u64 each: the distinct rates in 1e-18 US dollars, most frequent first |
//! | masks, limits | u32 each: a bit a capability; the most output tokens (0: unknown) |
//! | rules | a provider: length (u8), name, bytes that follow (u16), then a rule: length (u8), `=^*$` and text, key number (u16) |
//! | words | the capabilities, in the order of the bits, comma separated |
//!
//! A schedule is rates, a count of tiers, and for each the first prompt size it is for and the rates it changes. Rates are
//! a mask of [`RATES`], then for each bit the number of a value. Off-peak hours are a mask of 24 hours a weekday. Numbers
//! without a width are LEB128. Equal prices are stored once: two thirds of the models share theirs with another.

/// Keys between two whole ones.
pub const BLOCK: usize = 16;

/// The classes of service with rates of their own, in the order of the bits.
pub const CLASSES: [&str; 4] = ["batch", "flex", "priority", "off_peak"];

/// What is priced, by the names of `data/prices.json`; their places are the numbers of [`Rate`].
pub const RATES: [&str; 14] = [
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "input_audio",
    "output_audio",
    "per_query",
    "per_request",
    "per_web_search",
    "eu_uplift",
    "us_uplift",
    "regional_uplift",
];

/// A place in [`RATES`]. All but the last three are in 1e-18 US dollars a unit; an uplift is a factor times 1e18.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// A token of the prompt.
    Input,
    /// A token of the answer.
    Output,
    /// A token read from a prompt cache.
    CacheRead,
    /// A token written to a prompt cache.
    CacheWrite,
    /// A token written to a prompt cache for an hour.
    CacheWrite1h,
    /// A token of reasoning.
    Reasoning,
    /// A token of heard audio.
    InputAudio,
    /// A token of spoken audio.
    OutputAudio,
    /// A search unit of a rerank.
    PerQuery,
    /// A request, whatever its size.
    PerRequest,
    /// A web search of the provider's own.
    PerWebSearch,
    /// On the host for European data residency.
    EuUplift,
    /// On the host for American data residency.
    UsUplift,
    /// In a region instead of the global location.
    RegionalUplift,
}
