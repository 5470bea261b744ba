//! Spangate: an AI gateway as one Cloudflare Worker that records every upstream attempt as a span.
//!
//! # The floors
//!
//! A module imports its own floor and below, never above; `tests/floors.rs` holds every `use` against this table.
//!
//! | floor | modules | rule |
//! | --- | --- | --- |
//! | 4 shell | `edge` (wasm32 only) | the only place that names the platform; converts types, decides nothing |
//! | 3 flows | `gateway` `attempt` `pump` `consume` `api` | async, generic over `ports` |
//! | 2 policy | `auth` `settings` `config` `route` `trace` `store` `mock` | pure decisions; no await, no clock, no randomness of its own |
//! | 1 languages | `llm` `wire` `dialect` `provider` | pure translation: bytes and types in, bytes and types out |
//! | 0 vocabulary | `ids` `time` `random` `secret` `headers` `error` `ports` | types and traits |

pub mod api;
pub mod auth;
pub mod consume;
pub mod error;
pub mod headers;
pub mod ids;
pub mod mock;
pub mod ports;
pub mod random;
pub mod secret;
pub mod settings;
pub mod store;
pub mod time;

pub mod llm {
    //! The gateway's own language: what a call says and what it cost, whatever the dialect.
    pub mod observed;
    pub mod operation;
    pub mod usage;
}

pub mod provider;

pub mod wire {
    //! Framings and encodings, free of meaning and indifferent to chunking.
    pub mod sse;
}

pub mod trace {
    //! What happened, as spans: the model, the record that travels, what it cost.
    pub mod message;
    pub mod span;
}
