//! What a record may keep: headers by allow-list, credentials never (architecture, decision 7).
//!
//! Redaction happens before a record exists. A header that may carry a credential is kept by name with its value masked,
//! so that one can see that it was sent; a body is searched for the credentials that this very call used, because upstreams
//! echo them in error messages.

use super::message::Body;
use crate::headers::Headers;
use crate::secret::Secret;
use crate::wire::json::JsonText;
use crate::wire::splice::Payload;
use serde_json::Value;
use std::borrow::Cow;

/// The credentials that a call used, to be searched for in whatever it keeps.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Vec<Secret>);

impl Credentials {
    /// Adds one; too short a one is left out, it would mask half of the text.
    pub fn add(&mut self, secret: Option<&Secret>) {
        let Some(secret) = secret.filter(|secret| secret.expose().len() >= MIN_SECRET) else { return };
        self.0.push(secret.clone());
        if secret.expose().contains('/') {
            self.0.extend(Secret::new(secret.expose().replace('/', r"\/"))); // as some JSON writers put it
        }
    }

    /// Masks every credential in `text`, in place.
    pub fn scrub_in(&self, text: &mut String) {
        *text = self.scrub(std::mem::take(text));
    }

    fn is_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| text.contains(secret.expose()))
    }

    /// `text` with every credential masked.
    pub fn scrub(&self, text: String) -> String {
        self.0
            .iter()
            .fold(text, |text, secret| if text.contains(secret.expose()) { text.replace(secret.expose(), MASK) } else { text })
    }

    /// A body as it may be kept, without reading it again; unless a credential was in it, which may have been half of a
    /// string's end.
    pub fn payload(&self, payload: Payload) -> Body {
        let object = match payload {
            Payload::Bytes(bytes) => return self.body(bytes, true),
            Payload::Object(object) => object,
        };
        let json = object.into_json();
        if !self.is_in(json.as_str()) {
            return Body::Json(json);
        }
        JsonText::parse(self.scrub(json.into())).map_or_else(Body::Text, Body::Json)
    }

    /// A body as it may be kept. Not UTF-8 is kept as its length alone.
    pub fn body(&self, bytes: Vec<u8>, json: bool) -> Body {
        if bytes.is_empty() {
            return Body::None;
        }
        let length = bytes.len() as u64;
        let Ok(text) = String::from_utf8(bytes) else {
            return Body::Truncated { bytes: length, head: String::new() };
        };
        let text = self.scrub(text);
        if !json {
            return Body::Text(text);
        }
        match JsonText::parse(text) {
            Ok(raw) => Body::Json(raw),
            Err(_) => Body::Truncated { bytes: length, head: String::new() },
        }
    }

    /// The beginning of a body that is not kept whole.
    pub fn beginning(&self, start: &[u8], bytes: u64) -> Body {
        let head = start.get(..BEGINNING).unwrap_or(start);
        Body::Truncated { bytes, head: self.scrub(String::from_utf8_lossy(head).into_owned()) }
    }
}

/// The request headers that are kept.
pub fn request_headers(headers: &Headers, credentials: &Credentials) -> Vec<(String, String)> {
    headers.iter().filter_map(|(name, value)| Some((name.to_owned(), kept(name, value, credentials)?))).collect()
}

/// The response headers that are kept; all that the gateway looked at may be.
pub fn response_headers(headers: &Headers, credentials: &Credentials) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_owned(), credentials.scrub(value.to_owned()))).collect()
}

fn kept(name: &str, value: &str, credentials: &Credentials) -> Option<String> {
    match name {
        "authorization" | "x-portkey-api-key" | "x-api-key" | "api-key" | "cookie" => Some(MASK.to_owned()),
        "x-portkey-config" => Some(credentials.scrub(masked_config(value))),
        "x-portkey-custom-host" => Some(credentials.scrub(without_userinfo(value).into_owned())),
        "accept" | "content-length" | "content-type" | "origin" | "traceparent" | "user-agent" => {
            Some(credentials.scrub(value.to_owned()))
        }
        _ if name.strip_prefix("x-portkey-").is_some_and(|rest| !is_secret_name(rest)) => {
            Some(credentials.scrub(value.to_owned()))
        }
        _ if name.starts_with("x-portkey-") => Some(MASK.to_owned()),
        _ => None,
    }
}

/// An inline config with the values of its secret keys masked; anything that is no JSON object is masked whole.
fn masked_config(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(mut config @ Value::Object(_)) => {
            mask_values(&mut config);
            config.to_string()
        }
        _ if text.trim_start().starts_with("pc-") => text.to_owned(),
        _ => MASK.to_owned(),
    }
}

fn mask_values(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(mask_values),
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                match value {
                    Value::Bool(_) | Value::Null | Value::Number(_) => {}
                    secret if is_secret_name(key) => *secret = MASK.into(),
                    Value::String(text) => *text = without_userinfo(text).into_owned(),
                    other => mask_values(other),
                }
            }
        }
        _ => {}
    }
}

/// A URL without `user:password@`; any other text as it is.
fn without_userinfo(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return Cow::Borrowed(text) };
    let authority = rest.find(['/', '?', '#']).map_or(rest, |end| rest.get(..end).unwrap_or(rest));
    match authority.rfind('@') {
        Some(at) => Cow::Owned(format!("{scheme}://{MASK}{}", rest.get(at..).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// Whether a header or config key of that name carries a credential.
fn is_secret_name(name: &str) -> bool {
    let mut plain = String::with_capacity(name.len());
    plain.extend(name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()));
    ["apikey", "secret", "token", "password", "accesskey", "serviceaccount", "authorization"]
        .iter()
        .any(|word| plain.contains(word))
}

/// What stands where a credential was.
pub const MASK: &str = "[masked]";
const MIN_SECRET: usize = 6;
/// Bytes kept of a body that is not kept whole.
const BEGINNING: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        let mut credentials = Credentials::default();
        credentials.add(Secret::new("sk-canary-1").as_ref());
        credentials.add(Secret::new("abc").as_ref());
        credentials
    }

    #[test]
    fn no_header_carries_a_credential_into_a_record() {
        let headers = [
            ("authorization", "Bearer sk-canary-1"),
            ("x-portkey-api-key", "gw-canary"),
            ("x-portkey-aws-secret-access-key", "aws-canary"),
            (
                "x-portkey-config",
                r#"{"api_key":["cfg-canary"],"custom_host":"https://a:cfg-canary@b.example","targets":[{"apiKey":"cfg-canary","retry":{"attempts":2}}]}"#,
            ),
            ("x-unknown", "unknown-canary"),
            ("x-portkey-custom-host", "https://me:host-canary@up.example/v1"),
            ("user-agent", "curl sk-canary-1"),
            ("x-portkey-trace-id", "t1"),
        ];
        let kept = request_headers(&headers.into_iter().collect(), &credentials());
        let text = format!("{kept:?}");
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("attempts") && text.contains("t1") && text.contains("curl [masked]"), "{text}");
        assert!(!text.contains("x-unknown"));
    }

    #[test]
    fn a_body_that_echoes_a_key_is_kept_without_it() {
        let body = credentials().body(br#"{"error":"key sk-canary-1 is wrong, abc"}"#.to_vec(), true);
        assert!(matches!(body, Body::Json(raw) if raw.as_str() == r#"{"error":"key [masked] is wrong, abc"}"#));
    }

    #[test]
    fn what_is_no_text_is_kept_as_its_length() {
        assert!(matches!(credentials().body(vec![0xff, 0xfe], false), Body::Truncated { bytes: 2, .. }));
        assert!(matches!(credentials().body(Vec::new(), true), Body::None));
    }
}
