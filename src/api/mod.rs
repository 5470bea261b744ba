//! The read API (query-api §1, §2, §4): which question a path asks, and the answer from the store.
//!
//! Authentication is the caller's; a [`Route`] names the scope that it needs. Nothing here knows how calls are made.

mod logs;
mod query;
mod traces;
mod view;

use crate::consume::Store;
use crate::error::GatewayError;
use crate::ids::Workspace;
use crate::ports::{Db, DbError, Objects};
use crate::store::{row, search};
use query::Query;
use serde::Serialize;
use serde_json::json;

/// A question that this API answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /v1/accounting`
    Accounting,
    /// `GET /v1/logs/{log_id}`
    Log(String),
    /// `GET /v1/logs`
    Logs,
    /// `GET /v1/traces/{trace_id}`; the id is percent-decoded once and otherwise as it was sent.
    Trace(String),
    /// `GET /v1/traces`
    Traces,
}

/// An answer; always JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiReply {
    /// HTTP status.
    pub status: u16,
    /// The document.
    pub body: String,
}

/// The question behind a path without its query; `None` when it is none of ours.
pub fn route(path: &str) -> Option<Route> {
    let segment = |id: &str| (!id.is_empty() && !id.contains('/')).then(|| query::percent_decoded(id));
    match path.strip_prefix("/v1/")? {
        "accounting" => Some(Route::Accounting),
        "logs" => Some(Route::Logs),
        "traces" => Some(Route::Traces),
        deeper => match deeper.split_once('/')? {
            ("logs", id) => segment(id).map(Route::Log),
            ("traces", id) => segment(id).map(Route::Trace),
            _ => None,
        },
    }
}

impl Route {
    /// The scope that a key needs to ask (query-api §5).
    pub fn scope(&self) -> &'static str {
        match self {
            Route::Accounting => "admin",
            Route::Log(_) | Route::Logs => "logs.read",
            Route::Trace(_) | Route::Traces => "traces.read",
        }
    }
}

/// Answers a `GET`. `query` is what stands after the question mark, still encoded.
pub async fn respond<D: Db, O: Objects>(
    route: &Route,
    query: &str,
    workspace: &Workspace,
    store: Store<'_, D, O>,
) -> Result<ApiReply, GatewayError> {
    match route {
        Route::Accounting => accounting(query, workspace, store.db).await,
        Route::Log(id) => logs::one(id, query, workspace, store).await,
        Route::Logs => logs::list(query, workspace, store.db).await,
        Route::Trace(id) => traces::one(id, query, workspace, store.db).await,
        Route::Traces => traces::list(query, workspace, store.db).await,
    }
}

/// The conservation identity, as far as the store knows it: how many were accepted, and how many are still in the queue,
/// it does not know.
async fn accounting(query: &str, workspace: &Workspace, db: &impl Db) -> Result<ApiReply, GatewayError> {
    let query = Query::parse(query, &["from", "to"])?;
    let (from, to) = (query.time("from")?, query.time("to")?);
    let all_time = from.is_none() && to.is_none();
    let statement = if all_time { search::tally(workspace) } else { search::tally_of(workspace, from, to) };
    let tallies: Vec<row::Tally> = row::read(&db.select(statement).await?)?;
    let tally = tallies.first().ok_or_else(|| GatewayError::Internal("the tally query gave no row".into()))?;
    ok(&json!({
        "accepted": null,
        "stored": tally.stored,
        "pending": null,
        "dead_lettered": tally.dead_lettered,
        "dropped": {"queue_refused": tally.lost},
    }))
}

/// A page of a list (query-api, head).
#[derive(Serialize)]
struct List<T> {
    object: &'static str,
    data: Vec<T>,
    has_more: bool,
    next_cursor: Option<String>,
}

impl<T> List<T> {
    fn page(data: Vec<T>, next_cursor: Option<String>) -> List<T> {
        List { object: "list", data, has_more: next_cursor.is_some(), next_cursor }
    }
}

fn ok(document: &impl Serialize) -> Result<ApiReply, GatewayError> {
    let body =
        serde_json::to_string(document).map_err(|e| GatewayError::Internal(format!("an answer cannot be written: {e}")))?;
    Ok(ApiReply { status: 200, body })
}

impl From<DbError> for GatewayError {
    fn from(DbError(words): DbError) -> GatewayError {
        GatewayError::StoreUnavailable(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_questions_and_ids_are_decoded_once() {
        for (path, expected) in [
            ("/v1/traces", Some(Route::Traces)),
            ("/v1/traces/a%2Fb%20c%2525+d", Some(Route::Trace("a/b c%25+d".into()))),
            ("/v1/traces/", None),
            ("/v1/traces/a/b", None),
            ("/v1/logs", Some(Route::Logs)),
            ("/v1/logs/00ff", Some(Route::Log("00ff".into()))),
            ("/v1/accounting", Some(Route::Accounting)),
            ("/v1/accounting/x", None),
            ("/v1/chat/completions", None),
            ("/health", None),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }
}
