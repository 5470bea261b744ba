//! A config as its user wrote it: JSON whose keys are made uniform, and typed access to each value on its own.
//!
//! Nothing here knows what a config means. A value of the wrong type is noted with its path and counts as absent, so that
//! reading goes on and every mistake is found in one pass (style §5). Unknown keys are nobody's business, `null` is absent.
//!
//! There is no struct with one serde field a key: serde stops at the first mistake, and the readers that [`parse`] calls
//! already list each key once, beside what it means.
//!
//! [`parse`]: super::parse

use super::StatusSet;
use crate::error::Problem;
use serde_json::{Map, Value};
use std::cell::RefCell;

/// Reads the text of a config: a JSON object, or that in base64, as some clients send it. Its keys come out in snake_case.
pub fn read(text: &str) -> Result<Map<String, Value>, String> {
    let decoded = if text.starts_with('{') { None } else { from_base64(text) };
    match serde_json::from_str(decoded.as_deref().unwrap_or(text)) {
        Ok(Value::Object(mut fields)) => {
            make_uniform(&mut fields);
            Ok(fields)
        }
        Ok(other) => Err(format!("found {}", kind(&other))),
        Err(error) => Err(error.to_string()),
    }
}

/// `onStatusCodes` → `on_status_codes`, at every depth but where the keys are the user's own (protocol §1.10 D1). Where both
/// forms are there, the canonical one stays.
fn make_uniform(fields: &mut Map<String, Value>) {
    let camel: Vec<String> = fields.keys().filter(|key| key.contains(|c: char| c.is_ascii_uppercase())).cloned().collect();
    for key in camel {
        if let Some(value) = fields.remove(&key) {
            fields.entry(uncamel(&key, '_')).or_insert(value);
        }
    }
    for (_, value) in fields.iter_mut().filter(|(key, _)| !FOREIGN.contains(&key.as_str())) {
        match value {
            Value::Object(inner) => make_uniform(inner),
            Value::Array(items) => items.iter_mut().filter_map(Value::as_object_mut).for_each(make_uniform),
            _ => {}
        }
    }
}

/// `xMyKey` → `x_my_key`, or with another mark.
pub(super) fn uncamel(key: &str, mark: char) -> String {
    let mut out = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push(mark);
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The mistakes found so far.
pub type Mistakes = RefCell<Vec<Problem>>;

/// One object of a config, and where it stands.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    fields: &'a Map<String, Value>,
    mistakes: &'a Mistakes,
    path: String,
}

impl<'a> Object<'a> {
    /// The whole config.
    pub fn root(fields: &'a Map<String, Value>, mistakes: &'a Mistakes) -> Object<'a> {
        Object { fields, mistakes, path: String::new() }
    }

    /// Where it stands: `targets[1].retry`; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path of one of its keys.
    pub fn at(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// Notes a mistake at one of its keys.
    pub fn mistake(&self, key: &str, message: impl Into<String>) {
        let mut mistakes = self.mistakes.borrow_mut();
        if mistakes.len() < MAX_MISTAKES {
            mistakes.push(Problem { path: self.at(key), message: message.into() });
        }
    }

    /// Every key with its value, `null` left out.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.fields.iter().map(|(key, value)| (key.as_str(), value)).filter(|(_, value)| !value.is_null())
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there with anything but `null`.
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Text; blank text is absent, as SDKs send it for "not set".
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.typed(key, "a string", Value::as_str).map(str::trim).filter(|text| !text.is_empty())
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A number, zero or more.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.typed(key, "a number, zero or more", |value| value.as_f64().filter(|number| *number >= 0.0))
    }

    /// A whole number, zero or more; `3.0` is one, since some languages write it so.
    pub fn whole(&self, key: &str) -> Option<u64> {
        self.typed(key, "a whole number, zero or more", whole)
    }

    /// An object whose keys are the user's own.
    pub fn map(&self, key: &str) -> Option<&'a Map<String, Value>> {
        self.typed(key, "an object", Value::as_object)
    }

    /// An object of the schema.
    pub fn object(&self, key: &str) -> Option<Object<'a>> {
        self.map(key).map(|fields| Object { fields, mistakes: self.mistakes, path: self.at(key) })
    }

    /// A list of anything.
    pub fn list(&self, key: &str) -> Option<&'a [Value]> {
        self.typed(key, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// The objects in a list that must have one; `else_say` is the mistake when it has none.
    pub fn objects(&self, key: &str, else_say: &str) -> Option<Vec<Object<'a>>> {
        if self.value(key).is_none_or(|value| value.as_array().is_some_and(Vec::is_empty)) {
            self.mistake(key, else_say);
            return None;
        }
        let fields = self.items(key, "an object", Value::as_object)?.into_iter().enumerate();
        let path = self.at(key);
        Some(fields.map(|(i, fields)| Object { fields, mistakes: self.mistakes, path: format!("{path}[{i}]") }).collect())
    }

    /// One of a few words.
    pub fn word(&self, key: &str, words: &[&str]) -> Option<&'a str> {
        let word = self.value(key).and_then(Value::as_str).filter(|word| words.contains(word));
        if word.is_none() {
            self.mistake(key, format!("must be one of {}", words.join(", ")));
        }
        word
    }

    /// A list of strings.
    pub fn texts(&self, key: &str) -> Option<Vec<String>> {
        self.items(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// A list of HTTP statuses.
    pub fn statuses(&self, key: &str) -> Option<StatusSet> {
        let status = |value: &'a Value| whole(value).and_then(|n| u16::try_from(n).ok()).filter(|n| (100..600).contains(n));
        Some(StatusSet(self.items(key, "an HTTP status", status)?.into()))
    }

    /// A list; the first item of the wrong type is noted, and ends it.
    fn items<T>(&self, key: &str, wanted: &str, read: fn(&'a Value) -> Option<T>) -> Option<Vec<T>> {
        let list = self.list(key)?;
        let items: Vec<T> = list.iter().map_while(read).collect();
        if let Some(odd) = list.get(items.len()) {
            self.mistake(&format!("{key}[{}]", items.len()), format!("expected {wanted}, found {}", kind(odd)));
        }
        Some(items)
    }

    fn typed<T>(&self, key: &str, wanted: &str, read: fn(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.value(key)?;
        let found = read(value);
        if found.is_none() {
            self.mistake(key, format!("expected {wanted}, found {}", kind(value)));
        }
        found
    }
}

fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..9e15).contains(n)).map(|n| n as u64))
}

/// What a value is, for a message. Numbers are shown; a string may be a key, so it is not.
fn kind(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null => "null".into(),
        Value::Number(number) => number.to_string(),
        Value::Object(_) => "an object".into(),
        Value::String(_) => "a string".into(),
    }
}

/// Both alphabets, padding or not; `None` unless it is text that can be a JSON object.
fn from_base64(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    String::from_utf8(bytes).ok().filter(|json| json.trim_start().starts_with('{'))
}

/// More would only bury the first ones, and a config of tens of kilobytes can hold tens of thousands.
pub(super) const MAX_MISTAKES: usize = 100;

/// Keys below which nothing is renamed: their content belongs to a provider, a check or the user.
const FOREIGN: [&str; 12] = [
    "cb_config",
    "checks",
    "conditions",
    "default_input_guardrails",
    "default_output_guardrails",
    "default_params",
    "input_guardrails",
    "metadata",
    "output_guardrails",
    "override_params",
    "params",
    "vertex_service_account_json",
];
