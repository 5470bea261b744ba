//! The record of one finished call: what the producer sends through the queue and the consumer stores.
//!
//! One record carries the whole call with all its attempts (CF-16). A queue message is a JSON array of records.

use super::span::SpanRecord;
use crate::ids::{RecordId, Workspace};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A whole call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallRecord {
    /// Version of this shape; see [`RECORD_VERSION`].
    pub v: u8,
    /// Its owner.
    pub workspace: Workspace,
    /// The request span's record id: the name of the call, and of its log.
    pub call_id: RecordId,
    /// The request span first, then its attempts in start order.
    pub spans: Vec<SpanRecord>,
    /// What was said. Empty when bodies are off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exchanges: Vec<Exchange>,
    /// Records that this isolate had to drop before this one; added to the count of losses.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_before: u64,
}

/// The request and response behind one span.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// The span it belongs to: the request span's (what the caller sent and got), or an attempt's (what the upstream got
    /// and sent) where that differs or failed.
    pub record_id: RecordId,
    /// What was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<HttpMessage>,
    /// What was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<HttpMessage>,
}

/// One side of an exchange; a request has `method` and `url`, a response has `status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HttpMessage {
    /// HTTP method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// URL without credentials; a path for what the caller called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Allow-listed headers, secrets masked.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(default)]
    pub body: Body,
}

/// A body as it is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// There was none, or it is not kept.
    #[default]
    None,
    /// JSON, as it was sent.
    Json(Box<RawValue>),
    /// Any other text.
    Text(String),
    /// Too large to keep whole: how large it was, and how it began.
    Truncated {
        /// Its whole length in bytes.
        bytes: u64,
        /// Its beginning.
        head: String,
    },
    /// Too large for a message: put into object storage by the producer.
    Object {
        /// Where.
        key: String,
        /// Its length in bytes.
        bytes: u64,
        /// Whether it is JSON (else text).
        json: bool,
    },
}

/// The version of [`CallRecord`] that this build writes; a consumer refuses what it does not know.
pub const RECORD_VERSION: u8 = 1;

fn is_zero(count: &u64) -> bool {
    *count == 0
}
