//! What goes wrong, in this language: reading it from an upstream, and writing it for a client.
//!
//! Reading takes every shape that upstreams of this dialect were seen to use, and gives one line of text or nothing.
//! Writing decides only the shape; which type and code an error has is decided in `crate::error`.

use crate::wire::splice::{self, Object};
use serde_json::Value;

/// The body of an error answer.
pub fn error_body(message: &str, kind: &str, param: Option<&str>, code: Option<&str>) -> Vec<u8> {
    let or_null = |word: Option<&str>| word.map_or_else(|| "null".to_owned(), splice::quote);
    let (message, kind, param, code) = (splice::quote(message), splice::quote(kind), or_null(param), or_null(code));
    format!(r#"{{"error":{{"message":{message},"type":{kind},"param":{param},"code":{code}}}}}"#).into_bytes()
}

/// The event that tells a client that the stream it was reading failed; no `[DONE]` follows it.
///
/// `tail` is the end of what was sent before (four bytes are enough): unless that is a blank line, the event begins with
/// one, so that a half-sent line or event cannot swallow it.
pub fn error_event(message: &str, code: Option<&str>, tail: &[u8]) -> Vec<u8> {
    let clean = tail.is_empty() || tail.ends_with(b"\n\n") || tail.ends_with(b"\r\n\r\n");
    let before: &[u8] = if clean { b"" } else { b"\n\n" };
    [before, b"data: ", &error_body(message, "server_error", None, code), b"\n\n"].concat()
}

/// Whether a stream's chunk carries an error.
pub(super) fn in_band_error(chunk: &Object<'_>) -> bool {
    chunk.get("error").is_some_and(|error| error != "null")
}

/// The message in an upstream's error body, whichever shape it has; at most [`MAX_MESSAGE`] characters.
pub fn error_message(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let found = match serde_json::from_str::<Value>(&text) {
        Ok(document) => message_in(&document)?,
        Err(_) if text.trim_start().starts_with('<') => title(&text)?,
        Err(_) => text.into_owned(),
    };
    let found = found.trim();
    let end = found.char_indices().nth(MAX_MESSAGE).map_or(found.len(), |(end, _)| end);
    found.get(..end).filter(|message| !message.is_empty()).map(str::to_owned)
}

/// The longest message that is taken from an upstream, in characters.
pub const MAX_MESSAGE: usize = 500;

/// Bounded in depth by the parser that made `document`.
fn message_in(document: &Value) -> Option<String> {
    match document {
        Value::String(text) => Some(text.clone()),
        Value::Array(all) => {
            let messages: Vec<String> = all.iter().filter_map(message_in).collect();
            (!messages.is_empty()).then(|| messages.join("; "))
        }
        Value::Object(fields) => {
            let message = ["error", "message", "detail", "errors", "msg"].iter().find_map(|key| message_in(fields.get(*key)?))?;
            Some(match fields.get("loc") {
                Some(Value::Array(path)) => format!("{}: {message}", path.iter().map(word).collect::<Vec<_>>().join(".")),
                _ => message,
            })
        }
        _ => None,
    }
}

fn word(part: &Value) -> String {
    part.as_str().map_or_else(|| part.to_string(), str::to_owned)
}

/// An HTML page says best in its title what it is about.
fn title(page: &str) -> Option<String> {
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower.get(start..)?.find('>')? + 1;
    let end = start + lower.get(start..)?.find("</title")?;
    page.get(start..end).map(|title| title.split_whitespace().collect::<Vec<_>>().join(" "))
}
