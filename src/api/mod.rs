//! stub
use crate::error::GatewayError;
use crate::ids::Workspace;
use crate::ports::{Db, Objects};
/// stub
pub fn is_route(path: &str) -> bool {
    path.starts_with("/v1/traces") || path.starts_with("/v1/logs")
}
/// stub
pub async fn respond(_p: &str, _q: &str, _w: &Workspace, db: &impl Db, _o: &impl Objects) -> Result<String, GatewayError> {
    let rows = db.select(crate::ports::Statement { sql: "SELECT json_object('trace', trace_id, 'kind', kind, 'name', name, 'status', status, 'code', status_code, 'error', error_message) FROM span ORDER BY record_id DESC LIMIT 20", params: vec![] }).await.map_err(|e| GatewayError::StoreUnavailable(e.0))?;
    Ok(format!("[{}]", rows.join(",\n")))
}
