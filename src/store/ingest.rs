//! From finished calls to one transaction.
//!
//! Every insert is `ON CONFLICT DO NOTHING` on our own record ids, so a second delivery changes nothing, and a count moves
//! only by calls that the same transaction sees for the first time. Exchanges up to [`INLINE_BYTES`] a call live in their
//! row; larger ones of a whole delivery share one object (CF-19), named by its content: the same delivery overwrites it with
//! itself, and no two different deliveries can write over each other.

use crate::ids::{RecordId, Workspace};
use crate::ports::{Param, Statement};
use crate::time::UnixMillis;
use crate::trace::message::CallRecord;
use crate::trace::span::SpanRecord;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write;

/// A call on its way into the store.
#[derive(Debug)]
pub struct Entry<'a> {
    call: &'a CallRecord,
    exchanges: Vec<Exchange>,
}

#[derive(Debug)]
struct Exchange {
    record_id: RecordId,
    document: Document,
}

#[derive(Debug)]
enum Document {
    Inline(String),
    Slice { key: String, offset: usize, length: usize },
}

/// The object that holds a delivery's large exchanges, one JSON document a line.
#[derive(Debug)]
pub struct Bundle {
    /// Its name: `bodies/YYYY/MM/DD/<digest>`, so that retention is a rule on a prefix.
    pub key: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Each call once, with its exchanges spelled out.
pub fn entries<'a>(calls: impl IntoIterator<Item = &'a CallRecord>) -> Vec<Entry<'a>> {
    let mut seen = BTreeSet::new();
    let fresh = calls.into_iter().filter(|call| seen.insert((&call.workspace, call.call_id)));
    fresh.map(Entry::new).collect()
}

impl<'a> Entry<'a> {
    fn new(call: &'a CallRecord) -> Entry<'a> {
        let spell = |exchange: &crate::trace::message::Exchange| Exchange {
            record_id: exchange.record_id,
            document: Document::Inline(json(exchange)),
        };
        Entry { call, exchanges: call.exchanges.iter().map(spell).collect() }
    }

    /// Whether its exchanges are too large for a row.
    fn is_large(&self) -> bool {
        let inline = |exchange: &Exchange| match &exchange.document {
            Document::Inline(text) => text.len(),
            Document::Slice { .. } => 0,
        };
        self.exchanges.iter().map(inline).sum::<usize>() > INLINE_BYTES
    }

    fn start(&self) -> UnixMillis {
        self.call.spans.iter().map(|span| span.start).min().unwrap_or_default()
    }
}

/// Asks which of the calls with large exchanges are there already, as JSON strings of their ids; `None` when no call has any.
pub fn stored_already(entries: &[Entry]) -> Option<Statement> {
    let large: Vec<CallName> = entries.iter().filter(|entry| entry.is_large()).map(CallName::of).collect();
    let ask = || Statement { sql: SELECT_STORED, params: vec![Param::Text(json(&large))] };
    (!large.is_empty()).then(ask)
}

/// Moves the large exchanges of calls that are not `stored` yet into one object, and leaves their places behind. Those of
/// stored calls are dropped: their rows exist. `None` when there is nothing to write.
pub fn bundle(entries: &mut [Entry], stored: &BTreeSet<RecordId>) -> Option<Bundle> {
    let mut large: Vec<&mut Entry> = entries.iter_mut().filter(|entry| entry.is_large()).collect();
    let day = large.iter().map(|entry| entry.start()).min()?.rfc3339();
    let (mut content, mut slices) = (String::new(), Vec::new());
    for entry in &mut large {
        if stored.contains(&entry.call.call_id) {
            entry.exchanges.clear();
        }
        for exchange in &mut entry.exchanges {
            if let Document::Inline(text) = &exchange.document {
                let (offset, length) = (content.len(), text.len());
                content.push_str(text);
                content.push('\n');
                slices.push((offset, length, &mut exchange.document));
            }
        }
    }
    if slices.is_empty() {
        return None;
    }
    let key = format!("bodies/{}/{}", day.get(..10).unwrap_or_default().replace('-', "/"), digest(&content));
    for (offset, length, document) in slices {
        *document = Document::Slice { key: key.clone(), offset, length };
    }
    Some(Bundle { key, bytes: content.into_bytes() })
}

/// All that one transaction must do, in order: count what is new first, then insert.
pub fn statements(entries: &[Entry]) -> Vec<Statement> {
    let names = entries.iter().map(CallName::of);
    let spans = entries.iter().flat_map(|entry| {
        let place = move |(position, span)| SpanRow { name: CallName::of(entry), position, span };
        entry.call.spans.iter().enumerate().map(place)
    });
    let exchanges = entries.iter().flat_map(|entry| entry.exchanges.iter().map(|e| ExchangeRow::new(entry, e)));
    let losses = entries.iter().filter(|entry| entry.call.lost_before > 0);
    let losses = losses.map(|entry| LossRow { name: CallName::of(entry), lost: entry.call.lost_before });
    let mut out = Vec::new();
    insert(COUNT_NEW_CALLS, names, &mut out);
    insert(INSERT_SPANS, spans, &mut out);
    insert(INSERT_EXCHANGES, exchanges, &mut out);
    insert(INSERT_LOSSES, losses, &mut out);
    out
}

/// A record that nobody could store.
#[derive(Debug, Serialize)]
pub struct DeadLetter<'a> {
    /// The queue's id of its message.
    pub message_id: &'a str,
    /// Its place in the message.
    pub position: usize,
    /// When it was given up.
    pub received_at: UnixMillis,
    /// Its owner, if it says so.
    pub workspace: Option<String>,
    /// Its call, if it says so.
    pub call_id: Option<String>,
    /// Why it was not stored.
    pub reason: String,
    /// The record.
    pub body: &'a str,
}

/// Keeps dead letters, except those whose call was stored after all.
pub fn dead_letters<'a>(letters: impl Iterator<Item = DeadLetter<'a>>) -> Vec<Statement> {
    let mut out = Vec::new();
    insert(INSERT_DEAD_LETTERS, letters, &mut out);
    out
}

/// One statement for as many rows as fit a parameter; a row that is larger than that goes alone.
fn insert(sql: &'static str, rows: impl Iterator<Item = impl Serialize>, out: &mut Vec<Statement>) {
    let mut param = String::new();
    let mut flush = |param: &mut String| {
        if !param.is_empty() {
            param.push(']');
            out.push(Statement { sql, params: vec![Param::Text(std::mem::take(param))] });
        }
    };
    for row in rows {
        let row = json(&row);
        if param.len() + row.len() + 2 > PARAM_BYTES {
            flush(&mut param);
        }
        param.push(if param.is_empty() { '[' } else { ',' });
        param.push_str(&row);
    }
    flush(&mut param);
}

#[derive(Clone, Debug, Serialize)]
struct CallName<'a> {
    workspace: &'a Workspace,
    call_id: RecordId,
}

impl<'a> CallName<'a> {
    fn of(entry: &Entry<'a>) -> CallName<'a> {
        CallName { workspace: &entry.call.workspace, call_id: entry.call.call_id }
    }
}

#[derive(Serialize)]
struct SpanRow<'a> {
    name: CallName<'a>,
    position: usize,
    span: &'a SpanRecord,
}

/// The document travels as a string, not as JSON in JSON: what a client nested a thousand deep is then no business of SQLite.
#[derive(Serialize)]
struct ExchangeRow<'a> {
    workspace: &'a Workspace,
    record_id: RecordId,
    document: Option<&'a str>,
    key: Option<&'a str>,
    offset: Option<usize>,
    length: Option<usize>,
}

impl<'a> ExchangeRow<'a> {
    fn new(entry: &Entry<'a>, exchange: &'a Exchange) -> ExchangeRow<'a> {
        let (document, key, offset, length) = match &exchange.document {
            Document::Inline(text) => (Some(text.as_str()), None, None, None),
            Document::Slice { key, offset, length } => (None, Some(key.as_str()), Some(*offset), Some(*length)),
        };
        ExchangeRow { workspace: &entry.call.workspace, record_id: exchange.record_id, document, key, offset, length }
    }
}

#[derive(Serialize)]
struct LossRow<'a> {
    name: CallName<'a>,
    lost: u64,
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records hold nothing that JSON cannot: string keys only, no failing Serialize")
}

fn digest(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().take(16).fold(String::new(), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

/// Exchanges of one call up to this many bytes stay in the database (CF-19).
pub const INLINE_BYTES: usize = 16 * 1024;

/// A parameter stays below this (CF-23); D1 takes 2 MB.
pub const PARAM_BYTES: usize = 1_000_000;

const SELECT_STORED: &str = "
SELECT json_quote(s.record_id)
FROM json_each(?1) AS wanted
CROSS JOIN span s ON s.workspace = wanted.value->>'$.workspace' AND s.record_id = wanted.value->>'$.call_id'";

/// Runs before the inserts: a call counts when its request span is not there yet.
const COUNT_NEW_CALLS: &str = "
INSERT INTO tally (workspace, stored)
SELECT value->>'$.workspace', count(*)
FROM json_each(?1)
WHERE NOT EXISTS (
  SELECT 1 FROM span WHERE span.workspace = value->>'$.workspace' AND span.record_id = value->>'$.call_id')
GROUP BY 1
ON CONFLICT (workspace) DO UPDATE SET stored = stored + excluded.stored";

/// The casts keep a count readable that a provider made larger than an i64. `MATERIALIZED` makes SQLite spell each row once
/// instead of once per column: on D1, 20 ms instead of 200 for 900 spans.
const INSERT_SPANS: &str = "
INSERT INTO span (
  workspace, record_id, call_id, position, generation,
  trace_id, otel_trace_id, span_id, otel_span_id, parent_span_id,
  kind, name, start_ms, end_ms, status, status_code, error_type, error_message,
  operation, provider, request_model, response_model,
  attempt_index, attempt_retry, attempt_target, attempt_reason, attempt_wait_ms, attempt_wait_reason,
  input_tokens, output_tokens,
  cache_read_tokens, cache_write_tokens,
  cache_write_1h_tokens, reasoning_tokens,
  audio_input_tokens, audio_output_tokens,
  usage_source, cost_pico_usd, time_to_first_byte_ms, time_to_first_token_ms,
  stream, bytes_in, bytes_out, cache_status,
  metadata, attributes, events)
WITH arrived AS MATERIALIZED (SELECT value FROM json_each(?1))
SELECT
  value->>'$.name.workspace', value->>'$.span.record_id', value->>'$.name.call_id', value->>'$.position',
  (SELECT stored FROM tally WHERE workspace = value->>'$.name.workspace'),
  value->>'$.span.trace_id', value->>'$.span.otel_trace_id', value->>'$.span.span_id', value->>'$.span.otel_span_id',
  value->>'$.span.parent_span_id',
  value->>'$.span.kind', value->>'$.span.name', value->>'$.span.start', value->>'$.span.end', value->>'$.span.status',
  value->>'$.span.status_code', value->>'$.span.error.type', value->>'$.span.error.message',
  value->>'$.span.operation', value->>'$.span.provider', value->>'$.span.request_model', value->>'$.span.response_model',
  value->>'$.span.attempt.index', value->>'$.span.attempt.retry', value->>'$.span.attempt.target',
  value->>'$.span.attempt.reason', value->>'$.span.attempt.wait_ms', value->>'$.span.attempt.wait_reason',
  CAST(value->>'$.span.usage.input' AS INTEGER), CAST(value->>'$.span.usage.output' AS INTEGER),
  CAST(value->>'$.span.usage.cache_read' AS INTEGER), CAST(value->>'$.span.usage.cache_write' AS INTEGER),
  CAST(value->>'$.span.usage.cache_write_1h' AS INTEGER), CAST(value->>'$.span.usage.reasoning' AS INTEGER),
  CAST(value->>'$.span.usage.audio_input' AS INTEGER), CAST(value->>'$.span.usage.audio_output' AS INTEGER),
  value->>'$.span.usage_source', CAST(value->>'$.span.cost_pico_usd' AS INTEGER),
  value->>'$.span.time_to_first_byte_ms', value->>'$.span.time_to_first_token_ms',
  value->>'$.span.stream', value->>'$.span.bytes_in', value->>'$.span.bytes_out', value->>'$.span.cache_status',
  coalesce(value->'$.span.metadata', '{}'), value->'$.span.attributes', coalesce(value->'$.span.events', '[]')
FROM arrived
WHERE true
ON CONFLICT DO NOTHING";

const INSERT_EXCHANGES: &str = "
INSERT INTO exchange (workspace, record_id, document, object_key, object_offset, object_length)
WITH arrived AS MATERIALIZED (SELECT value FROM json_each(?1))
SELECT value->>'$.workspace', value->>'$.record_id', value->>'$.document', value->>'$.key', value->>'$.offset',
  value->>'$.length'
FROM arrived
WHERE true
ON CONFLICT DO NOTHING";

const INSERT_LOSSES: &str = "
INSERT INTO loss (workspace, record_id, lost)
SELECT value->>'$.name.workspace', value->>'$.name.call_id', CAST(value->>'$.lost' AS INTEGER)
FROM json_each(?1)
WHERE true
ON CONFLICT DO NOTHING";

const INSERT_DEAD_LETTERS: &str = "
INSERT INTO dead_letter (message_id, position, received_at, workspace, call_id, reason, body)
SELECT value->>'$.message_id', value->>'$.position', value->>'$.received_at', value->>'$.workspace', value->>'$.call_id',
  value->>'$.reason', value->>'$.body'
FROM json_each(?1)
WHERE NOT EXISTS (
  SELECT 1 FROM span WHERE span.workspace = value->>'$.workspace' AND span.record_id = value->>'$.call_id')
ON CONFLICT DO NOTHING";
