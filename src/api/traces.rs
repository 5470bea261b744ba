//! Traces: the list, and one whole.
//!
//! There is no table of traces: a summary is folded from the spans each time, so it is never stale and never wrong about
//! spans that arrive late. A trace has no upper size (a client may use one id for everything it ever sends), so spans are
//! read in portions, and one trace shows at most [`MAX_SHOWN_BYTES`] of them; its sums are over all of them all the same.

use super::query::{Cursor, Query};
use super::view::{SpanView, Totals, UsageView, usd};
use super::{ApiReply, List, ok};
use crate::error::GatewayError;
use crate::ids::{OtelTraceId, RecordId, SpanId, Workspace};
use crate::ports::{Db, DbError};
use crate::store::row::{self, Row, TraceHead};
use crate::store::search::{self, Range, TracePage};
use crate::time::{Millis, UnixMillis};
use crate::trace::span::{Kind, SpanRecord, Status};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};

/// `GET /v1/traces`
pub async fn list(query: &str, workspace: &Workspace, db: &impl Db) -> Result<ApiReply, GatewayError> {
    let query = Query::parse(query, &["limit", "cursor", "from", "to"])?;
    let (limit, cursor) = (query.limit()?, query.cursor()?);
    let range = Range::of_times(query.time("from")?, query.time("to")?).up_to(cursor.before);
    let page = TracePage { range, generation: cursor.generation, limit: limit + 1 };
    let mut heads: Vec<TraceHead> = row::read(&db.select(search::traces(workspace, page)).await?)?;
    let more = heads.len() > limit;
    heads.truncate(limit);
    let next = heads.last().filter(|_| more).map(|last| {
        let generation = cursor.generation.unwrap_or(last.generation);
        Cursor { before: Some(last.record_id), generation: Some(generation) }.to_string()
    });
    let ids: Vec<&str> = heads.iter().map(|head| head.trace_id.as_str()).collect();
    let summaries = summarize(workspace, &ids, db).await?;
    let data: Vec<SummaryView> = ids.iter().filter_map(|id| Some(SummaryView::of(id, summaries.get(*id)?))).collect();
    ok(&List::page(data, next))
}

/// `GET /v1/traces/{trace_id}`
pub async fn one(id: &str, query: &str, workspace: &Workspace, db: &impl Db) -> Result<ApiReply, GatewayError> {
    Query::parse(query, &[])?;
    let summaries = summarize(workspace, &[id], db).await?;
    let summary = summaries.get(id).ok_or_else(|| GatewayError::UnknownRecord("trace_not_found", id.to_owned()))?;
    let Shown { rows, cut_at } = whole_spans(workspace, id, db).await?;
    let mut sums = Totals::by_call(&rows);
    if let Some(cut_at) = cut_at {
        // Parts of these calls may be among the spans that are not shown.
        let open = rows.iter().filter(|row| row.span.end >= cut_at);
        sums.extend(open.map(|row| (row.call_id, Totals::UNKNOWN)));
    }
    let spans = rows.iter().map(|row| SpanView::whole(row, &sums)).collect();
    let summary = SummaryView { feedback: None, ..SummaryView::of(id, summary) };
    ok(&TraceView { summary, spans, feedback: [] })
}

/// The summaries of some traces, by id; traces without spans have none.
async fn summarize(workspace: &Workspace, ids: &[&str], db: &impl Db) -> Result<BTreeMap<String, Summary>, DbError> {
    let mut summaries = BTreeMap::new();
    let mut portions = vec![ids];
    while let Some(portion) = portions.pop() {
        let [first, others @ ..] = portion else { continue };
        let rows: Vec<Row> = row::read(&db.select(search::spans_of_traces(workspace, portion, PORTION)).await?)?;
        if rows.len() < PORTION {
            fold(rows, &mut summaries);
        } else if others.is_empty() {
            fold_long_trace(workspace, first, db, &mut summaries).await?;
        } else {
            let (left, right) = portion.split_at(portion.len() / 2);
            portions.extend([left, right]);
        }
    }
    Ok(summaries)
}

async fn fold_long_trace(
    workspace: &Workspace,
    id: &str,
    db: &impl Db,
    summaries: &mut BTreeMap<String, Summary>,
) -> Result<(), DbError> {
    let mut after = None;
    loop {
        let rows: Vec<Row> = row::read(&db.select(search::spans_of_trace(workspace, id, after, PORTION)).await?)?;
        let last = rows.last().map(|row| row.span.record_id);
        let whole = rows.len() < PORTION;
        fold(rows, summaries);
        if whole {
            return Ok(());
        }
        after = last;
    }
}

/// The spans that one trace shows, in order.
struct Shown {
    rows: Vec<Row>,
    /// Where they end, when there are more.
    cut_at: Option<UnixMillis>,
}

async fn whole_spans(workspace: &Workspace, id: &str, db: &impl Db) -> Result<Shown, DbError> {
    let (mut rows, mut bytes): (Vec<Row>, usize) = (Vec::new(), 0);
    let cut_at = loop {
        let after = rows.last().map(|row| row.span.record_id);
        let texts = db.select(search::whole_spans_of_trace(workspace, id, after, WHOLE_PORTION)).await?;
        bytes += texts.iter().map(String::len).sum::<usize>();
        rows.extend(row::read::<Row>(&texts)?);
        if texts.len() < WHOLE_PORTION {
            break None;
        }
        if bytes >= MAX_SHOWN_BYTES {
            break rows.last().map(|row| row.span.start);
        }
    };
    rows.sort_by_key(Row::order);
    Ok(Shown { rows, cut_at })
}

/// What is known of a trace after some of its spans.
#[derive(Debug)]
struct Summary {
    otel_trace_id: OtelTraceId,
    name: String,
    /// Whether the name is a root's; the first root beats the first span.
    named_by_root: bool,
    start: UnixMillis,
    end: UnixMillis,
    request_count: u64,
    span_count: u64,
    attempt_count: u64,
    error_count: u64,
    providers: Used,
    models: Used,
    totals: Totals,
    calls_with_failures: BTreeSet<RecordId>,
    rescued: bool,
    metadata: BTreeMap<String, String>,
    spans: BTreeSet<SpanId>,
    /// The parents that failed calls name. A call whose parent is not here is a root too (protocol §5.2).
    failed_under: Vec<Option<SpanId>>,
}

/// Names in the order of their first use: by those who were asked, or if nobody was, by the request.
#[derive(Debug, Default)]
struct Used {
    asked: Vec<String>,
    wanted: Vec<String>,
}

fn fold(mut rows: Vec<Row>, summaries: &mut BTreeMap<String, Summary>) {
    rows.sort_by_key(Row::order);
    for row in rows {
        let id = row.span.trace_id.as_str();
        if !summaries.contains_key(id) {
            summaries.insert(id.to_owned(), Summary::before(&row.span));
        }
        if let Some(summary) = summaries.get_mut(id) {
            summary.add(row.call_id, row.span);
        }
    }
}

impl Summary {
    fn before(first: &SpanRecord) -> Summary {
        Summary {
            otel_trace_id: first.otel_trace_id,
            name: first.name.clone(),
            named_by_root: false,
            start: first.start,
            end: first.end,
            request_count: 0,
            span_count: 0,
            attempt_count: 0,
            error_count: 0,
            providers: Used::default(),
            models: Used::default(),
            totals: Totals::default(),
            calls_with_failures: BTreeSet::new(),
            rescued: false,
            metadata: BTreeMap::new(),
            spans: BTreeSet::new(),
            failed_under: Vec::new(),
        }
    }

    fn add(&mut self, call_id: RecordId, span: SpanRecord) {
        self.start = self.start.min(span.start);
        self.end = self.end.max(span.end);
        self.span_count += 1;
        self.request_count += u64::from(span.kind == Kind::Request);
        self.error_count += u64::from(span.status == Status::Error);
        self.totals.add(&span);
        self.providers.add(span.kind, span.provider.as_deref());
        self.models.add(span.kind, span.response_model.as_deref().or(span.request_model.as_deref()));
        if span.kind == Kind::Attempt {
            self.attempt_count += 1;
            match span.status {
                Status::Error => _ = self.calls_with_failures.insert(call_id),
                Status::Ok => self.rescued |= self.calls_with_failures.contains(&call_id),
                Status::Cancelled => {}
            }
            return;
        }
        let parent = span.parent_span_id.filter(|parent| *parent != span.span_id);
        if parent.is_none() && !self.named_by_root {
            (self.name, self.named_by_root) = (span.name, true);
        }
        if span.status == Status::Error {
            self.failed_under.push(parent);
        }
        for (key, value) in span.metadata {
            self.metadata.entry(key).or_insert(value);
        }
        self.spans.insert(span.span_id);
    }

    /// What the callers saw: an error only if some root call ended in one.
    fn status(&self) -> Status {
        let is_root = |parent: &Option<SpanId>| parent.as_ref().is_none_or(|parent| !self.spans.contains(parent));
        if self.failed_under.iter().any(is_root) { Status::Error } else { Status::Ok }
    }
}

impl Used {
    fn add(&mut self, by: Kind, name: Option<&str>) {
        let list = if by == Kind::Request { &mut self.wanted } else { &mut self.asked };
        if let Some(name) = name.filter(|name| !list.iter().any(|have| have == name)) {
            list.push(name.to_owned());
        }
    }

    fn names(&self) -> &[String] {
        if self.asked.is_empty() { &self.wanted } else { &self.asked }
    }
}

#[derive(Serialize)]
struct TraceView<'a> {
    #[serde(flatten)]
    summary: SummaryView<'a>,
    spans: Vec<SpanView<'a>>,
    feedback: [(); 0],
}

#[derive(Serialize)]
struct SummaryView<'a> {
    trace_id: &'a str,
    otel_trace_id: OtelTraceId,
    name: &'a str,
    start_time: String,
    end_time: String,
    duration_ms: Millis,
    status: Status,
    request_count: u64,
    span_count: u64,
    attempt_count: u64,
    error_count: u64,
    providers: &'a [String],
    models: &'a [String],
    usage: UsageView,
    cost_usd: Option<Box<RawValue>>,
    cost_complete: bool,
    rescued: bool,
    metadata: &'a BTreeMap<String, String>,
    /// Left out of a whole trace, which lists its feedback under the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    feedback: Option<FeedbackView>,
}

/// There is no feedback yet.
#[derive(Serialize)]
struct FeedbackView {
    count: u64,
    weighted_average: Option<f64>,
}

impl<'a> SummaryView<'a> {
    fn of(trace_id: &'a str, summary: &'a Summary) -> SummaryView<'a> {
        SummaryView {
            trace_id,
            otel_trace_id: summary.otel_trace_id,
            name: &summary.name,
            start_time: summary.start.rfc3339(),
            end_time: summary.end.rfc3339(),
            duration_ms: summary.end.since(summary.start),
            status: summary.status(),
            request_count: summary.request_count,
            span_count: summary.span_count,
            attempt_count: summary.attempt_count,
            error_count: summary.error_count,
            providers: summary.providers.names(),
            models: summary.models.names(),
            usage: UsageView::from(summary.totals.usage),
            cost_usd: summary.totals.cost_so_far().and_then(usd),
            cost_complete: summary.totals.complete,
            rescued: summary.rescued,
            metadata: &summary.metadata,
            feedback: Some(FeedbackView { count: 0, weighted_average: None }),
        }
    }
}

/// Spans read at once for their sums (under 1 KB each).
const PORTION: usize = 4_000;
/// Spans read at once to be shown (a few KB each).
const WHOLE_PORTION: usize = 500;
/// About so much of a trace is shown; beyond it `spans` is shorter than `span_count`.
const MAX_SHOWN_BYTES: usize = 16 << 20;
