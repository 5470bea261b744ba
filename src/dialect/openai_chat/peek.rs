//! What the gateway must know of a request that it forwards: one scan, and nothing is changed.
//!
//! Fields that the gateway acts on (`model`, `stream`, `stream_options`) must have their type, or the request is refused
//! with the field's name. Fields that it only records (`user`, the parameters of a span) may be anything: judging them is
//! the upstream's business, and what is not understood is not recorded. `null` counts as absent throughout.

use crate::wire::splice::{self, Edit, JsonError, Object};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// A chat or embeddings request, looked at.
#[derive(Clone, Debug)]
pub struct Peek<'a> {
    /// The model that was asked for.
    pub model: Option<Cow<'a, str>>,
    /// Whether the answer shall be a stream.
    pub stream: bool,
    /// Whether a stream shall end with usage (`stream_options.include_usage`).
    pub include_usage: bool,
    /// The end user, as the caller names them.
    pub user: Option<Cow<'a, str>>,
    object: Object<'a>,
}

/// Why a body is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeekError {
    /// It is not one JSON object.
    NotAnObject(JsonError),
    /// A field has the wrong type: the field, what it must be, what it is.
    WrongType(&'static str, &'static str, &'static str),
}

/// Looks at the body of a chat or embeddings request.
pub fn peek(body: &[u8]) -> Result<Peek<'_>, PeekError> {
    of(Object::parse(body).map_err(PeekError::NotAnObject)?)
}

/// As [`peek`], at a body that has been read.
pub fn of(object: Object<'_>) -> Result<Peek<'_>, PeekError> {
    let model = field(&object, "model", "a string", splice::text)?;
    let stream = field(&object, "stream", "a boolean", boolean)?.unwrap_or(false);
    let options = field(&object, "stream_options", "an object", |value| Object::parse_text(value).ok())?;
    let include_usage = match options {
        Some(options) => field(&options, "include_usage", "a boolean", boolean)?.unwrap_or(false),
        None => false,
    };
    let user = object.get("user").and_then(splice::text);
    Ok(Peek { model, stream, include_usage, user, object })
}

impl Peek<'_> {
    /// The body with `edits` applied and all else byte for byte.
    pub fn splice(&self, edits: &[Edit<'_>]) -> Vec<u8> {
        self.object.splice(edits)
    }

    /// The request parameters as span attributes (otel.md §2.4), in the order of that table. `gen_ai.request.model` and
    /// `.stream` are not among them: what was sent may differ from what was asked, and only the caller knows both.
    pub fn attributes(&self) -> Vec<(&'static str, Value)> {
        ATTRIBUTES.iter().filter_map(|(name, read)| Some((*name, read(&self.object)?))).collect()
    }
}

type Read = fn(&Object<'_>) -> Option<Value>;

const ATTRIBUTES: &[(&str, Read)] = &[
    ("gen_ai.request.max_tokens", |body| integer(body, "max_completion_tokens").or_else(|| integer(body, "max_tokens"))),
    ("gen_ai.request.temperature", |body| double(body, "temperature")),
    ("gen_ai.request.top_p", |body| double(body, "top_p")),
    ("gen_ai.request.frequency_penalty", |body| double(body, "frequency_penalty")),
    ("gen_ai.request.presence_penalty", |body| double(body, "presence_penalty")),
    ("gen_ai.request.top_k", |body| double(body, "top_k")),
    ("gen_ai.request.stop_sequences", |body| strings(body, "stop")),
    ("gen_ai.request.seed", |body| integer(body, "seed")),
    ("gen_ai.request.choice.count", |body| integer(body, "n").filter(|n| *n != 1)),
    ("gen_ai.output.type", output_type),
    ("gen_ai.request.encoding_formats", |body| strings(body, "encoding_format")),
    ("gen_ai.embeddings.dimension.count", |body| integer(body, "dimensions")),
];

fn integer(body: &Object<'_>, key: &str) -> Option<Value> {
    body.get(key)?.parse::<i64>().ok().map(Value::from)
}

/// An integral number becomes a double too: `1` is recorded as `1.0`.
fn double(body: &Object<'_>, key: &str) -> Option<Value> {
    serde_json::from_str::<f64>(body.get(key)?).ok().map(Value::from)
}

/// A lone string becomes a list of one.
fn strings(body: &Object<'_>, key: &str) -> Option<Value> {
    match serde_json::from_str(body.get(key)?).ok()? {
        one @ Value::String(_) => Some(Value::Array(vec![one])),
        list @ Value::Array(_) if list.as_array()?.iter().all(Value::is_string) => Some(list),
        _ => None,
    }
}

fn output_type(body: &Object<'_>) -> Option<Value> {
    if strings(body, "modalities").is_some_and(|list| list.as_array().is_some_and(|list| list.iter().any(|m| m == "audio"))) {
        return Some("speech".into());
    }
    let format = Object::parse_text(body.get("response_format")?).ok()?;
    match splice::text(format.get("type")?)?.as_ref() {
        "text" => Some("text".into()),
        "json_object" | "json_schema" => Some("json".into()),
        _ => None,
    }
}

fn field<'a, T>(
    object: &Object<'a>,
    key: &'static str,
    expected: &'static str,
    read: impl FnOnce(&'a str) -> Option<T>,
) -> Result<Option<T>, PeekError> {
    match object.get(key) {
        None | Some("null") => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| match splice::kind(value) {
            found if found == expected => PeekError::WrongType(key, expected, "one with a broken escape"),
            found => PeekError::WrongType(key, expected, found),
        }),
    }
}

fn boolean(value: &str) -> Option<bool> {
    value.parse().ok()
}

impl fmt::Display for PeekError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeekError::NotAnObject(error) => error.fmt(f),
            PeekError::WrongType(field, expected, found) => write!(f, "'{field}' must be {expected}, not {found}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_looked_at() {
        let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"model"}],"stream":true,
            "stream_options":{"include_usage":true},"user":"u\u00e9"}"#;
        let peeked = peek(body.as_bytes()).unwrap();
        assert_eq!(peeked.model, Some(Cow::Borrowed("gpt-4o")));
        assert_eq!(peeked.user.as_deref(), Some("ué"));
        assert!(peeked.stream && peeked.include_usage);
        assert!(peeked.attributes().is_empty());
    }

    #[test]
    fn null_is_absent() {
        for body in
            ["{}", r#"{"model":null,"stream":null,"stream_options":null,"user":null,"temperature":null,"stop":null,"n":null}"#]
        {
            let peeked = peek(body.as_bytes()).unwrap();
            assert_eq!((&peeked.model, peeked.stream, peeked.include_usage, &peeked.user), (&None, false, false, &None));
            assert_eq!(peeked.attributes(), []);
        }
        assert!(!peek(br#"{"stream_options":{"include_usage":null}}"#).unwrap().include_usage);
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named() {
        let cases = [
            (r#"{"model":7}"#, "'model' must be a string, not a number"),
            (r#"{"model":{"a":1}}"#, "'model' must be a string, not an object"),
            (r#"{"model":"\ud800"}"#, "'model' must be a string, not one with a broken escape"),
            (r#"{"stream":"true"}"#, "'stream' must be a boolean, not a string"),
            (r#"{"stream":1}"#, "'stream' must be a boolean, not a number"),
            (r#"{"stream_options":[]}"#, "'stream_options' must be an object, not an array"),
            (r#"{"stream_options":{"include_usage":"yes"}}"#, "'include_usage' must be a boolean, not a string"),
            ("[]", "expected a JSON object, found an array at byte 0"),
        ];
        for (body, expected) in cases {
            assert_eq!(peek(body.as_bytes()).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_is_only_recorded_may_be_anything() {
        let body = r#"{"user":5,"max_tokens":"many","temperature":[],"top_p":1e999,"stop":[1],"seed":1.5,"response_format":"json","modalities":7}"#;
        let peeked = peek(body.as_bytes()).unwrap();
        assert_eq!((peeked.user.as_deref(), peeked.attributes()), (None, vec![]));
    }

    #[test]
    fn parameters_become_attributes() {
        let cases = [
            (r#"{"max_tokens":5}"#, "gen_ai.request.max_tokens", json!(5)),
            (r#"{"max_tokens":5,"max_completion_tokens":6}"#, "gen_ai.request.max_tokens", json!(6)),
            (r#"{"temperature":1}"#, "gen_ai.request.temperature", json!(1.0)),
            (r#"{"top_p":0.25}"#, "gen_ai.request.top_p", json!(0.25)),
            (r#"{"frequency_penalty":-2}"#, "gen_ai.request.frequency_penalty", json!(-2.0)),
            (r#"{"presence_penalty":0}"#, "gen_ai.request.presence_penalty", json!(0.0)),
            (r#"{"top_k":40}"#, "gen_ai.request.top_k", json!(40.0)),
            (r#"{"stop":"a"}"#, "gen_ai.request.stop_sequences", json!(["a"])),
            (r#"{"stop":["a","b"]}"#, "gen_ai.request.stop_sequences", json!(["a", "b"])),
            (r#"{"seed":-3}"#, "gen_ai.request.seed", json!(-3)),
            (r#"{"n":2}"#, "gen_ai.request.choice.count", json!(2)),
            (r#"{"response_format":{"type":"text"}}"#, "gen_ai.output.type", json!("text")),
            (r#"{"response_format":{"type":"json_schema","json_schema":{}}}"#, "gen_ai.output.type", json!("json")),
            (r#"{"modalities":["text","audio"]}"#, "gen_ai.output.type", json!("speech")),
            (r#"{"encoding_format":"base64"}"#, "gen_ai.request.encoding_formats", json!(["base64"])),
            (r#"{"dimensions":256}"#, "gen_ai.embeddings.dimension.count", json!(256)),
        ];
        for (body, name, value) in cases {
            assert_eq!(peek(body.as_bytes()).unwrap().attributes(), [(name, value)], "{body}");
        }
        assert_eq!(peek(br#"{"n":1}"#).unwrap().attributes(), []);
    }

    #[test]
    fn edits_are_seen_when_the_body_is_peeked_again() {
        let body = br#"{"model":"a", "stream":false,"seed":12345678901234567890,"max_tokens":9}"#;
        let edits = [Edit::Set("model", r#""b""#), Edit::Set("stream", "true"), Edit::Remove("max_tokens"), Edit::Set("n", "2")];
        let sent = peek(body).unwrap().splice(&edits);
        assert_eq!(sent, br#"{"model":"b", "stream":true,"seed":12345678901234567890,"n":2}"#);
        let again = peek(&sent).unwrap();
        assert_eq!((again.model.as_deref(), again.stream), (Some("b"), true));
        assert_eq!(again.attributes(), [("gen_ai.request.choice.count", json!(2))]);
    }
}
