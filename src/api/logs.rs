//! Logs: every span with what was said. A list row is a span without its details; one log has the exchange behind it.

use super::query::{Cursor, Query};
use super::view::{SpanView, Totals};
use super::{ApiReply, List, ok};
use crate::consume::Store;
use crate::error::GatewayError;
use crate::ids::{RecordId, Workspace};
use crate::ports::{Db, DbError, ObjectError, Objects};
use crate::store::row::{self, LogRow, Placement, Row};
use crate::store::search::{self, LogPage, Range};
use crate::trace::message::{Body, Exchange, HttpMessage};
use crate::trace::span::Kind;
use crate::wire::json::JsonText;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;
use std::collections::BTreeMap;

/// `GET /v1/logs`
pub async fn list(query: &str, workspace: &Workspace, db: &impl Db) -> Result<ApiReply, GatewayError> {
    let query = Query::parse(query, &["limit", "cursor", "from", "to", "trace_id", "span_id", "kind"])?;
    let (limit, cursor) = (query.limit()?, query.cursor()?);
    let range = Range::of_times(query.time("from")?, query.time("to")?).up_to(cursor.before);
    let (trace_id, span_id, kind) = (query.text("trace_id"), query.text("span_id"), kind(&query)?);
    let page = LogPage { range, trace_id, span_id, kind, limit: limit + 1 };
    let mut rows: Vec<Row> = row::read(&db.select(search::logs(workspace, page)).await?)?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let cursor = |last: &Row| Cursor { before: Some(last.span.record_id), generation: None }.to_string();
    let next = rows.last().filter(|_| more).map(cursor);
    let sums = sums_of_requests(&rows, workspace, db).await?;
    let views = rows.iter().map(|row| SpanView::brief(row, &sums).among_traces(row));
    ok(&List::page(views.collect(), next))
}

/// `GET /v1/logs/{log_id}`
pub async fn one<D: Db, O: Objects>(
    id: &str,
    query: &str,
    workspace: &Workspace,
    store: Store<'_, D, O>,
) -> Result<ApiReply, GatewayError> {
    Query::parse(query, &[])?;
    let unknown = || GatewayError::UnknownRecord("log_not_found", id.to_owned());
    let record_id = RecordId::from_hex(id).ok_or_else(unknown)?;
    let logs: Vec<LogRow> = row::read(&store.db.select(search::log(workspace, record_id)).await?)?;
    let LogRow { row, placement } = logs.into_iter().next().ok_or_else(unknown)?;
    let sums = sums_of_requests(std::slice::from_ref(&row), workspace, store.db).await?;
    let exchange = store.exchange(placement).await?;
    let upstream = match row.span.kind {
        Kind::Request => {
            let last = row::read(&store.db.select(search::last_attempt(workspace, &row.span)).await?)?;
            store.exchange(last.into_iter().next().unwrap_or_default()).await?
        }
        _ => Exchanged::default(),
    };
    ok(&LogView {
        span: SpanView::whole(&row, &sums).among_traces(&row),
        request: exchange.request,
        response: exchange.response,
        upstream_request: upstream.request,
        upstream_response: upstream.response,
    })
}

fn kind(query: &Query) -> Result<Option<&'static str>, GatewayError> {
    let Some(word) = query.text("kind") else { return Ok(None) };
    let mut words = Kind::ALL.iter().map(|kind| kind.as_str());
    let wrong = || GatewayError::InvalidQuery(format!("'kind' cannot be '{word}'"));
    words.find(|known| *known == word).map(Some).ok_or_else(wrong)
}

/// What the requests among `rows` consumed; their attempts need not be among them.
async fn sums_of_requests(rows: &[Row], workspace: &Workspace, db: &impl Db) -> Result<BTreeMap<RecordId, Totals>, DbError> {
    let mut requests = rows.iter().map(|row| &row.span).filter(|span| span.kind == Kind::Request).peekable();
    if requests.peek().is_none() {
        return Ok(BTreeMap::new());
    }
    let parts: Vec<Row> = row::read(&db.select(search::parts_of_calls(workspace, requests)).await?)?;
    Ok(Totals::by_call(&parts))
}

#[derive(serde::Serialize)]
struct LogView<'a> {
    #[serde(flatten)]
    span: SpanView<'a>,
    request: Option<Message>,
    response: Option<Message>,
    upstream_request: Option<Message>,
    upstream_response: Option<Message>,
}

/// An exchange with its bodies fetched.
#[derive(Default)]
struct Exchanged {
    request: Option<Message>,
    response: Option<Message>,
}

/// One side of an exchange.
#[derive(serde::Serialize)]
struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    headers: HeaderMap,
    body: JsonText,
}

/// Headers as a JSON object, in their order.
struct HeaderMap(Vec<(String, String)>);

impl Serialize for HeaderMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

impl<D: Db, O: Objects> Store<'_, D, O> {
    /// The exchange of a span, wherever it is. One whose object is gone (retention) is as one that never was.
    async fn exchange(&self, placement: Placement) -> Result<Exchanged, GatewayError> {
        let Placement { document, object_key, object_offset, object_length } = placement;
        let document = match (document, object_key) {
            (Some(document), _) => document.into_bytes(),
            (None, Some(key)) => {
                let slice = self.objects.get(&key, object_offset.unwrap_or(0), object_length.unwrap_or(0)).await?;
                let Some(slice) = slice else { return Ok(Exchanged::default()) };
                slice
            }
            (None, None) => return Ok(Exchanged::default()),
        };
        let exchange: Exchange =
            serde_json::from_slice(&document).map_err(|e| GatewayError::Internal(format!("an exchange cannot be read: {e}")))?;
        let (request, response) = (self.message(exchange.request).await?, self.message(exchange.response).await?);
        Ok(Exchanged { request, response })
    }

    async fn message(&self, message: Option<HttpMessage>) -> Result<Option<Message>, GatewayError> {
        let Some(HttpMessage { method, url, status, headers, body }) = message else { return Ok(None) };
        let body = self.body(body).await?;
        Ok(Some(Message { method, url, status, headers: HeaderMap(headers), body }))
    }

    async fn body(&self, body: Body) -> Result<JsonText, GatewayError> {
        let raw = |value: serde_json::Value| {
            serde_json::value::to_raw_value(&value).map(JsonText::from).map_err(|e| GatewayError::Internal(e.to_string()))
        };
        match body {
            Body::None => raw(serde_json::Value::Null),
            Body::Json(json) => Ok(json),
            Body::Text(text) => raw(text.into()),
            Body::Truncated { bytes, head } => raw(json!({"truncated": true, "bytes": bytes, "head": head})),
            Body::Object { key, bytes, json } => {
                let Some(content) = self.objects.get(&key, 0, bytes).await? else {
                    return raw(json!({"truncated": true, "bytes": bytes, "head": "", "missing": true}));
                };
                match serde_json::from_slice(&content) {
                    Ok(document) if json => Ok(document),
                    _ => raw(String::from_utf8_lossy(&content).into()),
                }
            }
        }
    }
}

impl From<ObjectError> for GatewayError {
    fn from(ObjectError(words): ObjectError) -> GatewayError {
        GatewayError::StoreUnavailable(words)
    }
}
