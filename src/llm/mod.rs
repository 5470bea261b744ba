//! The gateway's own language: what a call says and what it cost, whatever the dialect.

pub mod chat;
pub mod event;
pub mod observed;
pub mod operation;
pub mod usage;
