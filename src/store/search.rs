//! Questions to the store. Each names the key or index that answers it; `tests/api.rs` holds them to that by their query plans.
//!
//! Pages go by key, never by offset. Every statement is bound to one workspace. The index is named in the SQL, because with
//! the statistics of a small table SQLite takes the primary key where a trace is asked for, and D1 keeps the statistics.

use super::row::{log_id_sql, span_json, whole_span_json};
use crate::ids::{RecordId, Workspace};
use crate::ports::{Param, Statement};
use crate::time::{Millis, UnixMillis};
use crate::trace::span::SpanRecord;
use serde::Serialize;

/// A range of record ids, and thereby of start times: from `from` on, before `before`.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The first that counts.
    pub from: RecordId,
    /// The first that does not.
    pub before: RecordId,
}

impl Range {
    /// What started in `[from, to)`; an absent bound is none.
    pub fn of_times(from: Option<UnixMillis>, to: Option<UnixMillis>) -> Range {
        Range { from: RecordId::floor(from.unwrap_or_default()), before: to.map_or(RecordId([0xff; 16]), RecordId::floor) }
    }

    /// The part of it that comes before `id`, if there is one.
    pub fn up_to(self, id: Option<RecordId>) -> Range {
        Range { before: id.map_or(self.before, |id| id.min(self.before)), ..self }
    }
}

/// A page of the list of traces, newest first.
///
/// A trace stands where its oldest span does. That span can arrive late, and a trace that was shown would then stand on a
/// later page again; therefore the pages after the first are read as of the first one's `generation`.
#[derive(Clone, Copy, Debug)]
pub struct TracePage {
    /// Where to look.
    pub range: Range,
    /// The state of the store to look at; `None` is now.
    pub generation: Option<i64>,
    /// How many.
    pub limit: usize,
}

/// The oldest spans of traces ([`TraceHead`](super::row::TraceHead)), by primary key; each costs one look into `span_by_trace`.
pub fn traces(workspace: &Workspace, page: TracePage) -> Statement {
    let generation = Param::Integer(page.generation.unwrap_or(ANY_GENERATION));
    Statement {
        sql: TRACES,
        params: vec![text(workspace), text(page.range.from), text(page.range.before), generation, count(page.limit)],
    }
}

/// Up to `limit` spans of some traces in no order, without details ([`Row`](super::row::Row)); by `span_by_trace`.
pub fn spans_of_traces(workspace: &Workspace, trace_ids: &[&str], limit: usize) -> Statement {
    Statement { sql: SPANS_OF_TRACES, params: vec![text(workspace), json(&trace_ids), count(limit)] }
}

/// The next spans of one trace by record id, without details; by `span_by_trace`.
pub fn spans_of_trace(workspace: &Workspace, trace_id: &str, after: Option<RecordId>, limit: usize) -> Statement {
    Statement { sql: SPANS_OF_TRACE, ..whole_spans_of_trace(workspace, trace_id, after, limit) }
}

/// The next spans of one trace by record id, whole and with their logs; by `span_by_trace`.
pub fn whole_spans_of_trace(workspace: &Workspace, trace_id: &str, after: Option<RecordId>, limit: usize) -> Statement {
    let after = after.map_or(Param::Text(String::new()), text);
    Statement { sql: WHOLE_SPANS_OF_TRACE, params: vec![text(workspace), text(trace_id), after, count(limit)] }
}

/// A page of the list of logs, newest first.
#[derive(Clone, Copy, Debug)]
pub struct LogPage<'a> {
    /// Where to look.
    pub range: Range,
    /// Only this trace.
    pub trace_id: Option<&'a str>,
    /// Only this raw span id.
    pub span_id: Option<&'a str>,
    /// Only this kind.
    pub kind: Option<&'a str>,
    /// How many.
    pub limit: usize,
}

/// Spans without details ([`Row`](super::row::Row)); by primary key, or by `span_by_trace` where a trace is named.
pub fn logs(workspace: &Workspace, page: LogPage<'_>) -> Statement {
    let optional = |text: Option<&str>| text.map_or(Param::Null, |text| Param::Text(text.to_owned()));
    let (from, before) = (text(page.range.from), text(page.range.before));
    let mut params = vec![text(workspace), from, before, optional(page.span_id), optional(page.kind), count(page.limit)];
    params.extend(page.trace_id.map(text));
    Statement { sql: if page.trace_id.is_some() { LOGS_OF_TRACE } else { LOGS }, params }
}

/// The other spans of some calls, given by their request spans, without details; by `span_by_trace` within the call's time.
pub fn parts_of_calls<'a>(workspace: &Workspace, calls: impl Iterator<Item = &'a SpanRecord>) -> Statement {
    #[derive(Serialize)]
    struct Call<'a> {
        trace_id: &'a str,
        call_id: RecordId,
        from: RecordId,
        before: RecordId,
    }
    let calls: Vec<Call> = calls
        .map(|call| {
            let Range { from, before } = during(call);
            Call { trace_id: call.trace_id.as_str(), call_id: call.record_id, from, before }
        })
        .collect();
    Statement { sql: PARTS_OF_CALLS, params: vec![text(workspace), json(&calls)] }
}

/// One span whole with the place of its exchange ([`LogRow`](super::row::LogRow)); by primary key.
pub fn log(workspace: &Workspace, record_id: RecordId) -> Statement {
    Statement { sql: LOG, params: vec![text(workspace), text(record_id)] }
}

/// The place of the exchange of a call's last attempt ([`Placement`](super::row::Placement)); by `span_by_trace` within the
/// call's time.
pub fn last_attempt(workspace: &Workspace, call: &SpanRecord) -> Statement {
    let Range { from, before } = during(call);
    let params = vec![text(workspace), text(&call.trace_id), text(from), text(before), text(call.record_id)];
    Statement { sql: LAST_ATTEMPT, params }
}

/// The counts of all time ([`Tally`](super::row::Tally)); dead letters without a readable owner count for everyone.
pub fn tally(workspace: &Workspace) -> Statement {
    Statement { sql: TALLY, params: vec![text(workspace)] }
}

/// The counts of calls that started, and of letters that were given up, in `[from, to)`. Reads every span of that time.
pub fn tally_of(workspace: &Workspace, from: Option<UnixMillis>, to: Option<UnixMillis>) -> Statement {
    let Range { from: first, before } = Range::of_times(from, to);
    let millis = |at: UnixMillis| Param::Integer(i64::try_from(at.0).unwrap_or(i64::MAX));
    let (from, to) = (millis(from.unwrap_or_default()), millis(to.unwrap_or(UnixMillis(MAX_EXACT))));
    Statement { sql: TALLY_OF, params: vec![text(workspace), text(first), text(before), from, to] }
}

/// Where the parts of a call are: no attempt starts before its call, nor after its end.
fn during(call: &SpanRecord) -> Range {
    Range::of_times(Some(call.start), Some(call.end.plus(Millis(1))))
}

fn text(value: impl ToString) -> Param {
    Param::Text(value.to_string())
}

fn json(value: &impl Serialize) -> Param {
    Param::Text(serde_json::to_string(value).expect("ids hold nothing that JSON cannot"))
}

fn count(limit: usize) -> Param {
    Param::Integer(i64::try_from(limit).unwrap_or(i64::MAX))
}

/// The largest integer that a double holds exactly: D1 takes numbers as doubles.
const MAX_EXACT: u64 = (1 << 53) - 1;
const ANY_GENERATION: i64 = MAX_EXACT as i64;

const TRACES: &str = "
SELECT json_object('record_id', s.record_id, 'trace_id', s.trace_id,
  'generation', (SELECT stored FROM tally WHERE workspace = ?1))
FROM span s
WHERE s.workspace = ?1 AND s.record_id >= ?2 AND s.record_id < ?3 AND s.generation <= ?4
  AND NOT EXISTS (
    SELECT 1 FROM span older INDEXED BY span_by_trace
    WHERE older.workspace = ?1 AND older.trace_id = s.trace_id AND older.record_id < s.record_id AND older.generation <= ?4)
ORDER BY s.record_id DESC
LIMIT ?5";

macro_rules! brief {
    () => {
        concat!("json_object('call_id', s.call_id, 'position', s.position, 'span', ", span_json!(), ")")
    };
}

macro_rules! brief_with_log {
    () => {
        concat!(
            "json_object('call_id', s.call_id, 'position', s.position, 'log_id', ",
            log_id_sql!(),
            ", 'span', ",
            span_json!(),
            ")"
        )
    };
}

macro_rules! whole {
    () => {
        concat!(
            "json_object('call_id', s.call_id, 'position', s.position, 'log_id', ",
            log_id_sql!(),
            ", 'span', ",
            whole_span_json!(),
            ")"
        )
    };
}

const SPANS_OF_TRACES: &str = concat!(
    "SELECT ",
    brief!(),
    "
FROM json_each(?2) AS wanted
CROSS JOIN span s INDEXED BY span_by_trace ON s.workspace = ?1 AND s.trace_id = wanted.value
LIMIT ?3"
);

macro_rules! of_one_trace {
    () => {
        "
FROM span s INDEXED BY span_by_trace
WHERE s.workspace = ?1 AND s.trace_id = ?2 AND s.record_id > ?3
ORDER BY s.record_id
LIMIT ?4"
    };
}

const SPANS_OF_TRACE: &str = concat!("SELECT ", brief!(), of_one_trace!());
const WHOLE_SPANS_OF_TRACE: &str = concat!("SELECT ", whole!(), of_one_trace!());

macro_rules! logs {
    ($index:literal, $trace:literal) => {
        concat!(
            "SELECT ",
            brief_with_log!(),
            "
FROM span s ",
            $index,
            "
WHERE s.workspace = ?1 AND s.record_id >= ?2 AND s.record_id < ?3",
            $trace,
            "
  AND (?4 IS NULL OR s.span_id = ?4) AND (?5 IS NULL OR s.kind = ?5)
ORDER BY s.record_id DESC
LIMIT ?6"
        )
    };
}

const LOGS: &str = logs!("", "");
const LOGS_OF_TRACE: &str = logs!("INDEXED BY span_by_trace", " AND s.trace_id = ?7");

const PARTS_OF_CALLS: &str = concat!(
    "SELECT ",
    brief!(),
    "
FROM json_each(?2) AS wanted
CROSS JOIN span s INDEXED BY span_by_trace ON s.workspace = ?1 AND s.trace_id = wanted.value->>'$.trace_id'
  AND s.record_id >= wanted.value->>'$.from' AND s.record_id < wanted.value->>'$.before'
WHERE s.call_id = wanted.value->>'$.call_id' AND s.kind <> 'request'"
);

macro_rules! placement {
    () => {
        "json_object('document', e.document, 'object_key', e.object_key, 'object_offset', e.object_offset,
  'object_length', e.object_length)"
    };
}

const LOG: &str = concat!(
    "SELECT json_object('row', ",
    whole!(),
    ", 'placement', ",
    placement!(),
    ")
FROM span s LEFT JOIN exchange e ON e.workspace = s.workspace AND e.record_id = s.record_id
WHERE s.workspace = ?1 AND s.record_id = ?2"
);

const LAST_ATTEMPT: &str = concat!(
    "SELECT ",
    placement!(),
    "
FROM span s INDEXED BY span_by_trace
LEFT JOIN exchange e ON e.workspace = s.workspace AND e.record_id = s.record_id
WHERE s.workspace = ?1 AND s.trace_id = ?2 AND s.record_id >= ?3 AND s.record_id < ?4
  AND s.call_id = ?5 AND s.kind = 'attempt'
ORDER BY s.position DESC
LIMIT 1"
);

const TALLY: &str = "
SELECT json_object(
  'stored', coalesce((SELECT stored FROM tally WHERE workspace = ?1), 0),
  'dead_lettered', (SELECT count(*) FROM dead_letter WHERE workspace = ?1 OR workspace IS NULL),
  'lost', coalesce((SELECT sum(lost) FROM loss WHERE workspace = ?1), 0))";

const TALLY_OF: &str = "
SELECT json_object(
  'stored', (SELECT count(*) FROM span
    WHERE workspace = ?1 AND record_id >= ?2 AND record_id < ?3 AND record_id = call_id),
  'dead_lettered', (SELECT count(*) FROM dead_letter
    WHERE (workspace = ?1 OR workspace IS NULL) AND received_at >= ?4 AND received_at < ?5),
  'lost', coalesce((SELECT sum(lost) FROM loss WHERE workspace = ?1 AND record_id >= ?2 AND record_id < ?3), 0))";
