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
/// one, so that a half-sent line or event cannot swallow it. It is named `error`, because one SDK (portkey-ai for Node) only
/// looks at the name; the others look at the data.
pub fn error_event(message: &str, code: Option<&str>, tail: &[u8]) -> Vec<u8> {
    let clean = tail.is_empty() || tail.ends_with(b"\n\n") || tail.ends_with(b"\r\n\r\n");
    let before: &[u8] = if clean { b"" } else { b"\n\n" };
    [before, b"event: error\ndata: ", &error_body(message, "server_error", None, code), b"\n\n"].concat()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sse::Decoder;

    #[test]
    fn every_shape_of_an_error_body_is_read() {
        let cases = [
            (r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#, Some("m")),
            (r#"{"error":"text"}"#, Some("text")),
            (r#"{"message":" m\n"}"#, Some("m")),
            (r#"{"detail":"text"}"#, Some("text")),
            (
                r#"{"detail":[{"loc":["body","messages",0],"msg":"field required","type":"missing"},{"msg":"x"}]}"#,
                Some("body.messages.0: field required; x"),
            ),
            (r#"{"errors":[{"code":7,"message":"one"},{"message":"two"}],"success":false}"#, Some("one; two")),
            (r#"{"code":429,"message":"slow"}"#, Some("slow")),
            (r#"[{"error":{"code":403,"message":"no","status":"PERMISSION_DENIED"}}]"#, Some("no")),
            (r#"{"error":{"code":5},"message":"outer"}"#, Some("outer")),
            (r#"{"error":{"code":5}}"#, None),
            ("upstream connect error", Some("upstream connect error")),
            ("<!DOCTYPE html>\n<html><head><TITLE>502 Bad\n Gateway</TITLE></head>", Some("502 Bad Gateway")),
            ("<html><body>x</body></html>", None),
            ("  \n", None),
            ("", None),
            ("{}", None),
            ("17", None),
        ];
        for (body, expected) in cases {
            assert_eq!(error_message(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = error_message("é".repeat(600).as_bytes()).unwrap();
        assert_eq!((cut.chars().count(), cut.len()), (500, 1000));
        assert_eq!(error_message(b"\xffbad").as_deref(), Some("\u{fffd}bad"));
    }

    #[test]
    fn a_body_has_the_four_fields() {
        assert_eq!(
            String::from_utf8(error_body("a \"b\"", "server_error", None, Some("c"))).unwrap(),
            r#"{"error":{"message":"a \"b\"","type":"server_error","param":null,"code":"c"}}"#
        );
    }

    /// Wherever a stream breaks, the error is an event of its own.
    #[test]
    fn a_half_sent_event_cannot_swallow_the_error() {
        let stream = b"data: {\"a\":\"\xc3\xa9\"}\n\n: comment\r\n\r\nevent: x\rdata: 1\r\rdata: 2\r\n\r\n";
        for cut in 0..=stream.len() {
            let sent = &stream[..cut];
            let event = error_event("gone", Some("stream_truncated"), &sent[cut.saturating_sub(4)..]);
            let (mut decoder, mut last) = (Decoder::default(), None);
            decoder.push(&[sent, &event].concat(), |event| last = Some(event)).unwrap();
            let expected = String::from_utf8(error_body("gone", "server_error", None, Some("stream_truncated"))).unwrap();
            assert_eq!((last.unwrap().data, decoder.rest()), (expected, false), "cut at {cut}");
        }
        assert!(error_event("gone", None, b"x\n\n").starts_with(b"event: error\ndata: "));
    }
}
