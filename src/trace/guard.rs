//! The record of a stream whose gateway died under it.
//!
//! A panic anywhere in an isolate takes the Rust side of every stream in flight; the bytes go on, and the shell sends what
//! it saw together with this prefix, made when the stream began. The consumer finishes it (`pump::finish_guard`).

use super::message::CallRecord;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};

/// What a queue message holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum QueueRecord {
    /// A whole call.
    Call(Box<CallRecord>),
    /// A call whose stream has to be read first.
    Guard(Box<GuardRecord>),
}

/// A call as it stood when its stream began, and the stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GuardRecord {
    /// The call; its last span is the attempt that was streaming.
    pub guard: CallRecord,
    /// What passed.
    pub seen: Seen,
}

/// What the shell saw of a stream. `bridge.js` writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The end of the upstream's text (all of it, when it was short).
    pub raw: String,
    /// How the connection ended.
    pub end: SeenEnd,
    /// When the headers had come.
    pub started: UnixMillis,
    /// When the first byte had.
    pub first: Option<UnixMillis>,
    /// When the last one had.
    pub ended: UnixMillis,
    /// Bytes of the stream.
    pub bytes: u64,
}

/// How the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenEnd {
    /// The caller left.
    ClientGone,
    /// The upstream closed it.
    Closed,
    /// The upstream broke it.
    Reset,
    /// Nothing came for too long.
    Stalled,
}
