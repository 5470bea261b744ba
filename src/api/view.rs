//! How spans, sums and money look from outside (query-api §1): `null` is unknown, never 0.

use crate::ids::{OtelSpanId, RecordId, SpanId, TraceId};
use crate::llm::usage::Usage;
use crate::store::row::Row;
use crate::time::Millis;
use crate::trace::span::{AttemptFacts, Kind, SpanError, SpanRecord, Status, UsageSource};
use crate::wire::json::JsonText;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A span.
#[derive(Serialize)]
pub struct SpanView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a TraceId>,
    span_id: &'a SpanId,
    parent_span_id: Option<&'a SpanId>,
    otel_span_id: OtelSpanId,
    name: &'a str,
    kind: Kind,
    start_time: String,
    end_time: String,
    duration_ms: Millis,
    status: Status,
    status_code: Option<u16>,
    error: Option<&'a SpanError>,
    operation: Option<&'a str>,
    provider: Option<&'a str>,
    request_model: Option<&'a str>,
    response_model: Option<&'a str>,
    attempt: Option<&'a AttemptFacts>,
    usage: UsageView,
    cost_usd: Option<Box<RawValue>>,
    usage_source: UsageSource,
    time_to_first_byte_ms: Option<Millis>,
    time_to_first_token_ms: Option<Millis>,
    stream: bool,
    bytes_in: u64,
    bytes_out: u64,
    cache_status: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
    log_id: Option<RecordId>,
    #[serde(flatten)]
    details: Option<Details<'a>>,
}

/// What lists leave out.
#[derive(Serialize)]
struct Details<'a> {
    attributes: Option<&'a JsonText>,
    events: Vec<EventView<'a>>,
}

#[derive(Serialize)]
struct EventView<'a> {
    name: &'a str,
    time: String,
    attributes: &'a BTreeMap<String, serde_json::Value>,
}

impl<'a> SpanView<'a> {
    /// A span without its details. A request's usage and cost are the `sums` of its parts.
    pub fn brief(row: &'a Row, sums: &BTreeMap<RecordId, Totals>) -> SpanView<'a> {
        let span = &row.span;
        let totals = match span.kind {
            Kind::Request => sums.get(&span.record_id).copied().unwrap_or_default(),
            _ => Totals::exactly(span),
        };
        SpanView {
            trace_id: None,
            span_id: &span.span_id,
            parent_span_id: span.parent_span_id.as_ref(),
            otel_span_id: span.otel_span_id,
            name: &span.name,
            kind: span.kind,
            start_time: span.start.rfc3339(),
            end_time: span.end.rfc3339(),
            duration_ms: span.end.since(span.start),
            status: span.status,
            status_code: span.status_code,
            error: span.error.as_ref(),
            operation: span.operation.as_deref(),
            provider: span.provider.as_deref(),
            request_model: span.request_model.as_deref(),
            response_model: span.response_model.as_deref(),
            attempt: span.attempt.as_ref(),
            usage: UsageView::from(totals.usage),
            cost_usd: totals.whole_cost().and_then(usd),
            usage_source: totals.source,
            time_to_first_byte_ms: span.time_to_first_byte_ms,
            time_to_first_token_ms: span.time_to_first_token_ms,
            stream: span.stream,
            bytes_in: span.bytes_in,
            bytes_out: span.bytes_out,
            cache_status: span.cache_status.as_deref(),
            metadata: &span.metadata,
            log_id: row.log_id,
            details: None,
        }
    }

    /// A span with everything.
    pub fn whole(row: &'a Row, sums: &BTreeMap<RecordId, Totals>) -> SpanView<'a> {
        let events = row.span.events.iter();
        let details = Details {
            attributes: row.span.attributes.as_ref(),
            events: events.map(|e| EventView { name: &e.name, time: e.time.rfc3339(), attributes: &e.attributes }).collect(),
        };
        SpanView { details: Some(details), ..SpanView::brief(row, sums) }
    }

    /// Says which trace it belongs to, where spans of several stand together.
    pub fn among_traces(self, row: &'a Row) -> SpanView<'a> {
        SpanView { trace_id: Some(&row.span.trace_id), ..self }
    }
}

/// Token counts.
#[derive(Serialize)]
pub struct UsageView {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    total_tokens: Option<u64>,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> UsageView {
        UsageView {
            input_tokens: usage.input,
            output_tokens: usage.output,
            cache_read_tokens: usage.cache_read,
            cache_write_tokens: usage.cache_write,
            reasoning_tokens: usage.reasoning,
            total_tokens: usage.total(),
        }
    }
}

/// Sums over spans that consumed something.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// Tokens as far as they are known.
    pub usage: Usage,
    /// The best of where they come from: estimated when any part is.
    pub source: UsageSource,
    /// Cost as far as it is known; `None` while no part is.
    pub known_cost: Option<u64>,
    /// Whether no part's cost is unknown.
    pub complete: bool,
}

impl Default for Totals {
    fn default() -> Totals {
        Totals { usage: Usage::default(), source: UsageSource::None, known_cost: None, complete: true }
    }
}

impl Totals {
    /// Nothing known.
    pub const UNKNOWN: Totals = Totals {
        usage: Usage {
            input: None,
            output: None,
            cache_read: None,
            cache_write: None,
            cache_write_1h: None,
            reasoning: None,
            audio_input: None,
            audio_output: None,
        },
        source: UsageSource::None,
        known_cost: None,
        complete: false,
    };

    /// What one span says of itself.
    fn exactly(span: &SpanRecord) -> Totals {
        let known_cost = span.cost_pico_usd;
        Totals { usage: span.usage, source: span.usage_source, known_cost, complete: known_cost.is_some() }
    }

    /// The sums of each call among `rows`, by the id of its request.
    pub fn by_call<'a>(rows: impl IntoIterator<Item = &'a Row>) -> BTreeMap<RecordId, Totals> {
        let mut sums = BTreeMap::<RecordId, Totals>::new();
        for row in rows {
            sums.entry(row.call_id).or_default().add(&row.span);
        }
        sums
    }

    /// Adds a span. Requests consume nothing of their own.
    pub fn add(&mut self, span: &SpanRecord) {
        if span.kind == Kind::Request {
            return;
        }
        let (sum, part) = (&mut self.usage, &span.usage);
        for (sum, part) in [
            (&mut sum.input, part.input),
            (&mut sum.output, part.output),
            (&mut sum.cache_read, part.cache_read),
            (&mut sum.cache_write, part.cache_write),
            (&mut sum.reasoning, part.reasoning),
        ] {
            add(sum, part);
        }
        self.source = match (self.source, span.usage_source) {
            (UsageSource::None, source) | (source, UsageSource::None) => source,
            (UsageSource::Reported, UsageSource::Reported) => UsageSource::Reported,
            _ => UsageSource::Estimated,
        };
        self.complete &= span.cost_pico_usd.is_some() || !may_have_consumed(span);
        add(&mut self.known_cost, span.cost_pico_usd);
    }

    /// The whole cost in pico-dollars; `None` when part of it is unknown. Who consumed nothing paid nothing: that is known.
    pub fn whole_cost(&self) -> Option<u64> {
        self.complete.then_some(self.known_cost.unwrap_or(0))
    }

    /// The cost as far as it is known; `None` when nothing is.
    pub fn cost_so_far(&self) -> Option<u64> {
        self.known_cost.or(self.whole_cost())
    }
}

/// Whether the span used something up: tokens were counted, or an upstream began to answer.
fn may_have_consumed(span: &SpanRecord) -> bool {
    span.usage.is_known() || span.kind == Kind::Attempt && span.status_code.is_some_and(|code| code < 300)
}

fn add(sum: &mut Option<u64>, part: Option<u64>) {
    if let Some(part) = part {
        *sum = Some(sum.unwrap_or(0).saturating_add(part));
    }
}

/// Pico-dollars as a JSON number of dollars, digit for digit.
pub fn usd(pico: u64) -> Option<Box<RawValue>> {
    let digits = format!("{}.{:012}", pico / 1_000_000_000_000, pico % 1_000_000_000_000);
    RawValue::from_string(digits.trim_end_matches('0').trim_end_matches('.').to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_and_plain() {
        for (pico, expected) in [
            (0, "0"),
            (1, "0.000000000001"),
            (1_234_500, "0.0000012345"),
            (2_500_000_000_000, "2.5"),
            (30_000_000_000_000, "30"),
            (u64::MAX, "18446744.073709551615"),
        ] {
            assert_eq!(usd(pico).unwrap().get(), expected);
        }
    }
}
