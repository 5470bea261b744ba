//! A stored span as it comes back: the SQL that spells it as JSON, beside the struct that reads it.
//!
//! `json_object` takes at most 32 arguments on D1, hence the `json_set` around it.

use crate::ids::RecordId;
use crate::ports::DbError;
use crate::trace::span::SpanRecord;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The span `s` without attributes and events, in the shape of [`SpanRecord`].
macro_rules! span_json {
    () => {
        "json_set(
  json_object(
    'record_id', s.record_id, 'trace_id', s.trace_id, 'otel_trace_id', s.otel_trace_id, 'span_id', s.span_id,
    'otel_span_id', s.otel_span_id, 'parent_span_id', s.parent_span_id, 'kind', s.kind, 'name', s.name,
    'start', s.start_ms, 'end', s.end_ms, 'status', s.status, 'status_code', s.status_code,
    'operation', s.operation, 'provider', s.provider, 'request_model', s.request_model, 'response_model', s.response_model),
  '$.error', iif(s.error_type IS NULL, NULL, json_object('type', s.error_type, 'message', s.error_message)),
  '$.attempt', iif(s.attempt_index IS NULL, NULL, json_object(
    'index', s.attempt_index, 'retry', s.attempt_retry, 'target', s.attempt_target, 'reason', s.attempt_reason,
    'wait_ms', s.attempt_wait_ms, 'wait_reason', s.attempt_wait_reason)),
  '$.usage', json_object(
    'input', s.input_tokens, 'output', s.output_tokens, 'cache_read', s.cache_read_tokens,
    'cache_write', s.cache_write_tokens, 'cache_write_1h', s.cache_write_1h_tokens, 'reasoning', s.reasoning_tokens,
    'audio_input', s.audio_input_tokens, 'audio_output', s.audio_output_tokens),
  '$.usage_source', s.usage_source, '$.cost_pico_usd', s.cost_pico_usd,
  '$.time_to_first_byte_ms', s.time_to_first_byte_ms, '$.time_to_first_token_ms', s.time_to_first_token_ms,
  '$.stream', json(iif(s.stream, 'true', 'false')), '$.bytes_in', s.bytes_in, '$.bytes_out', s.bytes_out,
  '$.cache_status', s.cache_status, '$.metadata', json(s.metadata))"
    };
}

/// The span `s` whole.
macro_rules! whole_span_json {
    () => {
        concat!("json_set(", span_json!(), ", '$.attributes', json(s.attributes), '$.events', json(s.events))")
    };
}

/// The log of the span `s`: its own exchange, else its call's, else none.
macro_rules! log_id_sql {
    () => {
        "coalesce(
  (SELECT e.record_id FROM exchange e WHERE e.workspace = s.workspace AND e.record_id = s.record_id),
  (SELECT e.record_id FROM exchange e WHERE e.workspace = s.workspace AND e.record_id = s.call_id))"
    };
}

pub(super) use {log_id_sql, span_json, whole_span_json};

/// A stored span and its place.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// The call it belongs to.
    pub call_id: RecordId,
    /// Its place in the call's record.
    pub position: u32,
    /// The stored exchange behind it. Not selected where only sums are wanted.
    #[serde(default)]
    pub log_id: Option<RecordId>,
    /// What it says.
    pub span: SpanRecord,
}

impl Row {
    /// Sorts by start, then by order of recording.
    pub fn order(&self) -> impl Ord + use<> {
        (self.span.start, self.call_id, self.position)
    }
}

/// The first span of a trace, on a page of the list.
#[derive(Clone, Debug, Deserialize)]
pub struct TraceHead {
    /// The trace's oldest span: its place in the list.
    pub record_id: RecordId,
    /// The raw trace id.
    pub trace_id: String,
    /// The state of the store that the page shows (see [`search::TracePage`](super::search::TracePage)).
    pub generation: i64,
}

/// Where the exchange of a span is.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Placement {
    /// The document itself.
    pub document: Option<String>,
    /// Or the object that holds it,
    pub object_key: Option<String>,
    /// from this byte,
    pub object_offset: Option<u64>,
    /// so many bytes.
    pub object_length: Option<u64>,
}

/// A span with the place of its exchange.
#[derive(Clone, Debug, Deserialize)]
pub struct LogRow {
    /// The span.
    pub row: Row,
    /// Its exchange.
    pub placement: Placement,
}

/// What the accounting says.
#[derive(Clone, Debug, Deserialize)]
pub struct Tally {
    /// Calls stored.
    pub stored: u64,
    /// Records given up.
    pub dead_lettered: u64,
    /// Records lost before the queue.
    pub lost: u64,
}

/// Reads every row of an answer.
pub fn read<T: DeserializeOwned>(rows: &[String]) -> Result<Vec<T>, DbError> {
    let unreadable = |e: serde_json::Error| DbError(format!("a row cannot be read: {e}"));
    rows.iter().map(|row| serde_json::from_str(row).map_err(unreadable)).collect()
}
