//! What happened, as spans: the model, a call as it happens, the record that travels, what it cost, what it may keep.

pub mod attributes;
pub mod call;
mod compact;
pub mod context;
pub mod cost;
pub mod message;
pub mod redact;
pub mod span;
