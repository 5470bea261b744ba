//! What a call says about its place in a trace: ids, parent, name, sampling and metadata, read from its headers.
//!
//! Two families of headers may be present. Portkey's win field by field, W3C's fill the gaps (otel.md §1.10). The one
//! conflict that cannot be settled by choosing is a `traceparent` that belongs to another trace than the explicit id: its
//! parent id then stays in the raw column, where people look for it, but cannot be the OpenTelemetry parent, which must be
//! in the same trace. The trace is restarted and a link remembers the caller (W3C allows exactly that).
//!
//! Nothing here is ever an error: a header that cannot be read is a header that was not sent. `tracestate` is ignored
//! (protocol §1.2), and so are the words that inserted logs use for "no parent": in a header only blank means none.

use crate::headers::Headers;
use crate::ids::{MAX_TEXT_ID, OtelSpanId, OtelTraceId, SpanId, TraceId, Workspace};
use crate::random::Rng;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The place of one call in its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallContext {
    /// The raw trace id: the caller's, or a new one. Echoed in every answer.
    pub trace_id: TraceId,
    /// What it derives to.
    pub otel_trace_id: OtelTraceId,
    /// The raw id of the request span.
    pub span_id: SpanId,
    /// Whether the caller chose `span_id`; then it need not be unique (otel.md §1.5).
    pub span_id_given: bool,
    /// What it derives to.
    pub otel_span_id: OtelSpanId,
    /// The raw parent; `None` is a root.
    pub parent_span_id: Option<SpanId>,
    /// The parent inside `otel_trace_id`; `None` also when the raw parent belongs to another trace.
    pub otel_parent: Option<OtelSpanId>,
    /// The caller's own context, when an explicit trace id restarted the trace.
    pub caller_link: Option<(OtelTraceId, OtelSpanId)>,
    /// What the caller named the span.
    pub span_name: Option<String>,
    /// Whether the caller's trace is sampled; without one, yes. Decides about export, never about our own store.
    pub sampled: bool,
    /// Baggage, overlaid by `x-portkey-metadata`; values of at most [`MAX_METADATA_CHARS`].
    pub metadata: BTreeMap<String, String>,
}

impl CallContext {
    /// Reads the headers in one pass; what is missing is minted.
    pub fn from_headers(headers: &Headers, workspace: &Workspace, rng: &mut dyn Rng) -> CallContext {
        let given = Given::read(headers);
        let remote = given.traceparent.and_then(TraceParent::parse);
        let trace_id = given
            .trace_id
            .and_then(TraceId::parse)
            .or_else(|| remote.map(|remote| remote.trace_id.into()))
            .unwrap_or_else(|| TraceId::random(rng));
        let otel_trace_id = OtelTraceId::derive(workspace.namespace(), &trace_id);
        let (joined, foreign): (Option<TraceParent>, Option<TraceParent>) = match remote {
            Some(remote) if remote.trace_id == otel_trace_id => (Some(remote), None),
            other => (None, other),
        };
        let span_id = given.span_id.and_then(SpanId::parse);
        let span_id_given = span_id.is_some();
        let span_id = span_id.unwrap_or_else(|| SpanId::random(rng));
        let parent = given.parent_span_id.and_then(SpanId::parse);
        CallContext {
            otel_trace_id,
            otel_span_id: OtelSpanId::derive(otel_trace_id, &span_id),
            span_id_given,
            span_id,
            otel_parent: match &parent {
                Some(parent) => Some(OtelSpanId::derive(otel_trace_id, parent)),
                None => joined.map(|remote| remote.parent_id),
            },
            parent_span_id: parent.or_else(|| remote.map(|remote| remote.parent_id.into())),
            caller_link: foreign.map(|remote| (remote.trace_id, remote.parent_id)),
            span_name: given.span_name.map(|name| name.get(..name.floor_char_boundary(MAX_TEXT_ID)).unwrap_or(name).to_owned()),
            sampled: remote.is_none_or(TraceParent::sampled),
            metadata: metadata(given.baggage, given.metadata),
            trace_id,
        }
    }

    /// The body's `user` becomes `_user`, unless the metadata has one (protocol §1.5).
    pub fn with_user(&mut self, user: &str) {
        if !user.trim().is_empty() && !self.metadata.contains_key("_user") {
            self.metadata.insert("_user".to_owned(), clip(user).to_owned());
        }
    }
}

/// The headers that matter, trimmed; blank ones are absent.
#[derive(Default)]
struct Given<'a> {
    trace_id: Option<&'a str>,
    span_id: Option<&'a str>,
    span_name: Option<&'a str>,
    parent_span_id: Option<&'a str>,
    metadata: Option<&'a str>,
    traceparent: Option<&'a str>,
    baggage: Option<&'a str>,
}

impl<'a> Given<'a> {
    fn read(headers: &'a Headers) -> Given<'a> {
        let mut given = Given::default();
        for (name, value) in headers.iter() {
            let slot = match name {
                "x-portkey-trace-id" => &mut given.trace_id,
                "x-portkey-span-id" => &mut given.span_id,
                "x-portkey-span-name" => &mut given.span_name,
                "x-portkey-parent-span-id" => &mut given.parent_span_id,
                "x-portkey-metadata" => &mut given.metadata,
                "traceparent" => &mut given.traceparent,
                "baggage" => &mut given.baggage,
                _ => continue,
            };
            *slot = Some(value.trim()).filter(|value| !value.is_empty());
        }
        given
    }
}

/// A `traceparent` header (otel.md §1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The caller's trace.
    pub trace_id: OtelTraceId,
    /// The caller's span.
    pub parent_id: OtelSpanId,
    /// Bit 0: sampled; bit 1: the trace id is random. The others are cleared.
    pub flags: u8,
}

impl TraceParent {
    /// Reads one header, whose version may be newer than ours; `None` when any part of it is not as W3C says.
    pub fn parse(header: &str) -> Option<TraceParent> {
        let header = header.trim_matches([' ', '\t']);
        let (fields, rest) = header.split_at_checked(FIELDS_LEN)?;
        let mut parts = fields.split('-');
        let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version_allows = match version {
            "00" => rest.is_empty(),
            "ff" => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let lower_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let well_formed = version_allows
            && version.len() == 2
            && flags.len() == 2
            && [version, trace_id, parent_id, flags].into_iter().all(lower_hex)
            && !rest.contains(','); // a fetch runtime joins repeated headers
        let flags = u8::from_str_radix(flags, 16).ok()? & 0b11;
        let (trace_id, parent_id) = (OtelTraceId::from_hex(trace_id)?, OtelSpanId::from_hex(parent_id)?);
        well_formed.then_some(TraceParent { trace_id, parent_id, flags })
    }

    /// Whether the caller records its trace.
    pub fn sampled(self) -> bool {
        self.flags & 1 != 0
    }
}

/// Baggage below, metadata on top (protocol §1.5).
fn metadata(baggage: Option<&str>, json: Option<&str>) -> BTreeMap<String, String> {
    let mut merged = BTreeMap::new();
    for (key, value) in baggage.into_iter().flat_map(baggage_members) {
        merged.insert(key.to_owned(), clip(&value).to_owned());
    }
    // Anything but a JSON object is no metadata: the vendor's own curl example is not valid JSON.
    let entries = json.and_then(|text| serde_json::from_str::<BTreeMap<String, &RawValue>>(text).ok()).unwrap_or_default();
    for (key, raw) in entries {
        if let Some(value) = metadata_value(raw.get()) {
            merged.insert(key, clip(&value).to_owned());
        }
    }
    merged
}

/// A string is itself, `null` is absent, anything else is its JSON exactly as it was sent.
fn metadata_value(raw: &str) -> Option<Cow<'_, str>> {
    match raw {
        "null" => None,
        text if text.starts_with('"') => Some(Cow::Owned(serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()))),
        other => Some(Cow::Borrowed(other)),
    }
}

/// The well-formed members of a `baggage` header, without their properties (otel.md §1.9).
fn baggage_members(header: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let mut read = 0;
    let fits = move |member: &&str| {
        read += member.len() + 1;
        read <= MAX_BAGGAGE_BYTES + 1 // no comma after the last one
    };
    header.split(',').take_while(fits).take(MAX_BAGGAGE_MEMBERS).filter_map(|member| {
        let (key, value) = member.split(';').next()?.split_once('=')?;
        let key = key.trim();
        let is_token = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || TOKEN_MARKS.contains(&byte));
        is_token.then(|| (key, percent_decoded(value.trim())))
    })
}

/// `%41` → `A`. What is no escape stays; what is no UTF-8 becomes U+FFFD.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [byte, tail @ ..] = rest {
        rest = tail;
        out.push(match (byte, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = after;
                let digit = |byte: &u8| (*byte as char).to_digit(16).unwrap_or(0) as u8;
                digit(high) << 4 | digit(low)
            }
            _ => *byte,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// The first [`MAX_METADATA_CHARS`] characters.
fn clip(value: &str) -> &str {
    let end = value.char_indices().nth(MAX_METADATA_CHARS).map_or(value.len(), |(at, _)| at);
    value.get(..end).unwrap_or(value)
}

/// Characters of a metadata value that are kept (protocol §1.5).
pub const MAX_METADATA_CHARS: usize = 128;
/// `00-<32>-<16>-<2>`.
const FIELDS_LEN: usize = 55;
const MAX_BAGGAGE_BYTES: usize = 8192;
const MAX_BAGGAGE_MEMBERS: usize = 180;
/// What a header token may hold besides letters and digits.
const TOKEN_MARKS: &[u8] = b"!#$%&'*+-.^_`|~";
