//! Spangate: an AI gateway as one Cloudflare Worker that records every upstream attempt as a span.
//!
//! # The floors
//!
//! A module imports its own floor and below, never above; `tests/floors.rs` holds every `use` against this table.
//!
//! | floor | modules | rule |
//! | --- | --- | --- |
//! | 4 shell | `edge` (wasm32 only) | the only place that names the platform; converts types, decides nothing |
//! | 3 flows | `gateway` `attempt` `pump` `deliver` `consume` `api` | async, generic over `ports` |
//! | 2 policy | `auth` `settings` `config` `route` `trace` `store` `mock` | pure decisions; no await, no clock, no randomness of its own |
//! | 1 languages | `llm` `wire` `dialect` `provider` | pure translation: bytes and types in, bytes and types out |
//! | 0 vocabulary | `ids` `time` `random` `secret` `headers` `memo` `error` `ports` | types and traits |

pub mod api;
pub mod attempt;
pub mod auth;
pub mod config;
pub mod consume;
pub mod deliver;
pub mod dialect;
#[cfg(target_arch = "wasm32")]
pub mod edge;
pub mod error;
pub mod gateway;
pub mod headers;
pub mod ids;
pub mod llm;
pub mod memo;
pub mod mock;
pub mod ports;
pub mod provider;
pub mod pump;
pub mod random;
pub mod route;
pub mod secret;
pub mod settings;
pub mod store;
pub mod time;
pub mod trace;
pub mod wire;
