//! The span model (query-api §1): what one thing that took time says about itself.

use crate::ids::{OtelSpanId, OtelTraceId, RecordId, SpanId, TraceId};
use crate::llm::usage::Usage;
use crate::time::{Millis, UnixMillis};
use crate::wire::json::JsonText;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Stamps an enum whose serde form and [`as_str`](Kind::as_str) are one word each.
macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// The word on the wire and in the store.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// Every case, in the order of the definition.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
        }
    };
}

word_enum!(
    /// What a span stands for.
    Kind {
        /// One upstream try.
        Attempt = "attempt",
        /// A cache look-up.
        Cache = "cache",
        /// An inserted log, or OTLP.
        External = "external",
        /// One guardrail check.
        Guardrail = "guardrail",
        /// One gateway call as its caller saw it.
        Request = "request",
    }
);

word_enum!(
    /// How a span ended.
    Status {
        /// The caller left before the end.
        Cancelled = "cancelled",
        /// A status of 400 or more, or no whole answer.
        Error = "error",
        /// A whole answer.
        Ok = "ok",
    }
);

word_enum!(
    /// The class of a failure: closed and of low cardinality, so it may be a metric label.
    ErrorType {
        /// The caller went away.
        ClientDisconnected = "client_disconnected",
        /// The config or the request was refused by the gateway.
        Config = "config",
        /// Refused or reset connection.
        Connect = "connect",
        /// A guardrail said no.
        Guardrail = "guardrail",
        /// An upstream status of 400 or more.
        HttpStatus = "http_status",
        /// A fault of the gateway.
        Internal = "internal",
        /// Bytes that are not the dialect.
        StreamMalformed = "stream_malformed",
        /// A stream without a byte for longer than allowed.
        StreamStalled = "stream_stalled",
        /// A stream that ended without its terminator.
        StreamTruncated = "stream_truncated",
        /// No headers within the request timeout.
        Timeout = "timeout",
    }
);

word_enum!(
    /// Why an attempt was made.
    Reason {
        /// A conditional route chose the target.
        Condition = "condition",
        /// The target before it failed.
        Fallback = "fallback",
        /// Nothing came before it.
        First = "first",
        /// A race against a slow sibling.
        Hedge = "hedge",
        /// A draw chose the target.
        Loadbalance = "loadbalance",
        /// The same target again.
        Retry = "retry",
    }
);

word_enum!(
    /// Where the length of a wait came from.
    WaitReason {
        /// Exponential back-off.
        Backoff = "backoff",
        /// The upstream named it.
        RetryAfter = "retry-after",
    }
);

word_enum!(
    /// Where token counts came from.
    UsageSource {
        /// Counted from the text, because the provider said nothing.
        Estimated = "estimated",
        /// Nothing known.
        None = "none",
        /// The provider said so.
        Reported = "reported",
    }
);

/// What a record on its way leaves out.
impl Default for Status {
    fn default() -> Status {
        Status::Ok
    }
}

/// What a record on its way leaves out.
impl Default for UsageSource {
    fn default() -> UsageSource {
        UsageSource::None
    }
}

/// A failure on a span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanError {
    /// Its class.
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// One line for a person; never a prompt, never a credential.
    pub message: String,
}

/// What only an attempt has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptFacts {
    /// 0-based over the whole call.
    pub index: u32,
    /// 0-based at this target.
    pub retry: u32,
    /// The target's path in the config: `config`, `config.targets[1]`.
    pub target: String,
    /// Why it was made.
    pub reason: Reason,
    /// Slept before it, in milliseconds; not part of the span's own time.
    #[serde(default)]
    pub wait_ms: Millis,
    /// Why that long; `None` when nothing was slept.
    pub wait_reason: Option<WaitReason>,
}

/// A moment inside a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpanEvent {
    /// Its name, `portkey.retry` and the like (otel.md §2.6).
    pub name: String,
    /// When.
    pub time: UnixMillis,
    /// Its details.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, serde_json::Value>,
}

/// One span as it travels through the queue. Ids are minted when the thing happened, never by the consumer, so that a
/// redelivery is the same span again. What may be left out on the way is put back by `compact`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpanRecord {
    /// Our own, unique, time-ordered name.
    #[serde(default)]
    pub record_id: RecordId,
    /// The raw trace id.
    #[serde(default)]
    pub trace_id: TraceId,
    /// The derived one.
    #[serde(default)]
    pub otel_trace_id: OtelTraceId,
    /// The raw span id.
    pub span_id: SpanId,
    /// The derived one.
    #[serde(default)]
    pub otel_span_id: OtelSpanId,
    /// The raw parent; `None` is a root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<SpanId>,
    /// What it stands for.
    pub kind: Kind,
    /// For people.
    pub name: String,
    /// Start.
    pub start: UnixMillis,
    /// End; never before the start.
    pub end: UnixMillis,
    /// How it ended.
    #[serde(default)]
    pub status: Status,
    /// HTTP status, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<SpanError>,
    /// `chat`, `embeddings`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Provider id of the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model asked for (after overrides, on an attempt).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_model: Option<String>,
    /// The model that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_model: Option<String>,
    /// Attempts only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptFacts>,
    /// Tokens. On attempts; a request's are the sum, made by the reader of the store, never stored twice.
    #[serde(default)]
    pub usage: Usage,
    /// Where the tokens came from.
    #[serde(default)]
    pub usage_source: UsageSource,
    /// Cost in 1e-12 US dollars; `None` is unknown. On attempts only, as `usage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_pico_usd: Option<u64>,
    /// Request sent to response headers, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_first_byte_ms: Option<Millis>,
    /// Request sent to the first streamed token, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_first_token_ms: Option<Millis>,
    /// Whether the answer was a stream.
    #[serde(default)]
    pub stream: bool,
    /// Request body bytes.
    #[serde(default)]
    pub bytes_in: u64,
    /// Response body bytes.
    #[serde(default)]
    pub bytes_out: u64,
    /// `HIT`, `MISS`, `DISABLED`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_status: Option<String>,
    /// The caller's metadata (request spans; readers show it on the whole call).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Everything else, by OpenTelemetry name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<JsonText>,
    /// Moments inside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<SpanEvent>,
}
