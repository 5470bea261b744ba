//! What Anthropic says when it says no: `{"type":"error","error":{"type","message"},"request_id"}`.
//!
//! The status stays, but for the two that no client knows (529, 498). `error.type` decides OpenAI's class where it is a
//! known one; the status does otherwise. A body of another form, from something in between, is given as text.

use crate::error::openai_type;
use crate::llm::chat::Failure;
use crate::wire::document::Json;

/// Reads the body of an answer with an error status.
pub fn parse(status: u16, body: &[u8]) -> Failure {
    let status = match status {
        529 => 503,
        498 => 401,
        other => other,
    };
    let document = Json::parse(body).ok();
    let reported = document.as_ref().and_then(|document| from_event(document, status));
    reported.unwrap_or_else(|| Failure { status, kind: openai_type(status), code: None, message: as_message(status, body) })
}

/// Reads the `error` object of a body or of a stream event; `None` when it has no message. In a stream there is no status,
/// and `status` is what an unknown type stands for.
pub fn from_event(document: &Json, status: u16) -> Option<Failure> {
    let error = document.get("error")?;
    let code = error.get("type").and_then(Json::as_str);
    let message = error.get("message").and_then(Json::as_str).or(error.as_str())?;
    let kind = openai_type(code.and_then(usual_status).unwrap_or(status));
    Some(Failure { status, kind, code: code.map(str::to_owned), message: shortened(message).to_owned() })
}

/// The status that a type of error comes with (dialect sheet, errors).
pub fn usual_status(code: &str) -> Option<u16> {
    Some(match code {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "conflict_error" => 409,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "api_error" => 500,
        "overloaded_error" => 503,
        "timeout_error" => 504,
        _ => return None,
    })
}

fn as_message(status: u16, body: &[u8]) -> String {
    let head = body.get(..MAX_MESSAGE).unwrap_or(body);
    match String::from_utf8_lossy(head).trim() {
        "" => format!("The provider answered with status {status} and an empty body."),
        text => shortened(text).to_owned(),
    }
}

fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_MESSAGE)).unwrap_or(text)
}

/// In bytes (conventions, error rules).
const MAX_MESSAGE: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_class() {
        for (code, status, kind) in [
            ("invalid_request_error", 400, "invalid_request_error"),
            ("authentication_error", 401, "authentication_error"),
            ("billing_error", 402, "insufficient_quota"),
            ("permission_error", 403, "permission_error"),
            ("not_found_error", 404, "not_found_error"),
            ("conflict_error", 409, "conflict_error"),
            ("request_too_large", 413, "invalid_request_error"),
            ("rate_limit_error", 429, "rate_limit_error"),
            ("api_error", 500, "server_error"),
            ("timeout_error", 504, "server_error"),
            ("overloaded_error", 529, "server_error"),
            ("new_error", 422, "invalid_request_error"),
        ] {
            let body = format!(r#"{{"type":"error","error":{{"type":"{code}","message":"m"}}}}"#);
            let failure = parse(status, body.as_bytes());
            assert_eq!((failure.kind, failure.code.as_deref(), failure.message.as_str()), (kind, Some(code), "m"), "{code}");
            assert_eq!(failure.status, if status == 529 { 503 } else { status });
        }
    }

    #[test]
    fn a_foreign_body_becomes_text() {
        let html = parse(502, b" <html>Bad gateway</html>\n");
        assert_eq!((html.status, html.kind, html.message.as_str()), (502, "server_error", "<html>Bad gateway</html>"));
        assert_eq!(parse(498, b"").message, "The provider answered with status 401 and an empty body.");
        assert_eq!(parse(400, br#"{"error":"no"}"#).message, "no");
        assert_eq!(parse(400, br#"{"error":{"type":7}}"#).message, r#"{"error":{"type":7}}"#);
        assert!(parse(500, "é".repeat(5000).as_bytes()).message.len() <= MAX_MESSAGE + 3);
    }
}
