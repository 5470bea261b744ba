//! The record of one finished call: what the producer sends through the queue and the consumer stores.
//!
//! One record carries the whole call with all its attempts (CF-16). A queue message is a JSON array of records, and each
//! is read by itself: one that cannot be understood says why and leaves its neighbours alone.

use super::compact;
use super::span::SpanRecord;
use crate::ids::{RecordId, Workspace};
use crate::time::UnixMillis;
use crate::wire::json::JsonText;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One element of a queue message.
#[derive(Clone, Debug)]
pub enum QueueRecord {
    /// A finished call.
    Call(Box<CallRecord>),
    /// A call whose stream was seen to its end by the guard alone (cloudflare.md §2.7): the consumer finishes it.
    Guard(Box<GuardRecord>),
}

/// What the guard of a stream sends when the Rust side did not live to do it: `{"v":1,"guard":{…}}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GuardRecord {
    /// The call as it was known when the stream began, without the facts of the stream.
    pub record: CallRecord,
    /// The attempt whose stream this is.
    pub attempt_record_id: RecordId,
    /// The stream's text, as far as it was kept.
    pub raw: String,
    /// How it ended.
    pub end: GuardEnd,
    /// When the request was sent.
    pub started: UnixMillis,
    /// When the first byte of the body arrived.
    pub first: Option<UnixMillis>,
    /// When the last one did.
    pub ended: UnixMillis,
    /// Bytes of the stream, kept or not.
    #[serde(default)]
    pub bytes: u64,
}

/// How the connection of a guarded stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardEnd {
    /// The caller left.
    ClientGone,
    /// The upstream closed it.
    Closed,
    /// The upstream broke it.
    Reset,
    /// Nothing came for too long.
    Stalled,
}

impl QueueRecord {
    /// Reads a message: each record, or why it cannot be read. Fails as a whole when it is not a JSON array.
    pub fn parse_message(text: &str) -> Result<Vec<Result<QueueRecord, String>>, String> {
        let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| format!("not a JSON array of records: {e}"))?;
        Ok(elements.into_iter().map(|element| QueueRecord::parse(element.get())).collect())
    }

    /// Reads one record.
    pub fn parse(text: &str) -> Result<QueueRecord, String> {
        #[derive(Deserialize)]
        struct Head<'a> {
            v: u64,
            #[serde(borrow)]
            guard: Option<&'a RawValue>,
        }
        let unreadable = |e: serde_json::Error| format!("not a record: {e}");
        let head: Head = serde_json::from_str(text).map_err(unreadable)?;
        if head.v != u64::from(RECORD_VERSION) {
            return Err(format!("record version {} is not known here", head.v));
        }
        let mut record = match head.guard {
            Some(guard) => QueueRecord::Guard(serde_json::from_str(guard.get()).map_err(unreadable)?),
            None => QueueRecord::Call(serde_json::from_str(text).map_err(unreadable)?),
        };
        compact::complete(record.call_mut());
        record.call().check().map(|()| record)
    }

    fn call_mut(&mut self) -> &mut CallRecord {
        match self {
            QueueRecord::Call(call) => call,
            QueueRecord::Guard(guard) => &mut guard.record,
        }
    }

    /// The call, finished or not.
    pub fn call(&self) -> &CallRecord {
        match self {
            QueueRecord::Call(call) => call,
            QueueRecord::Guard(guard) => &guard.record,
        }
    }
}

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

impl CallRecord {
    /// What the store relies on: the span that names the call is there.
    fn check(&self) -> Result<(), String> {
        let named = self.spans.iter().any(|span| span.record_id == self.call_id);
        if named { Ok(()) } else { Err(format!("call {} has no span of that id", self.call_id)) }
    }
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
    Json(JsonText),
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

impl Body {
    /// Its length in a record.
    pub fn kept_bytes(&self) -> usize {
        match self {
            Body::Json(json) => json.as_str().len(),
            Body::Text(text) => text.len(),
            Body::Truncated { head, .. } => head.len(),
            Body::None | Body::Object { .. } => 0,
        }
    }
}

/// The version of [`CallRecord`] that this build writes; a consumer refuses what it does not know.
pub const RECORD_VERSION: u8 = 1;

fn is_zero(count: &u64) -> bool {
    *count == 0
}
