//! JSON text that is known to be valid, and the writer that makes it so.
//!
//! A record is text inside text: bodies, attributes, metadata. Handing a `String` to serde's raw values reads all of it
//! again, and a derived serialiser pays for its generality with every field; on the hot path both together were a third of
//! a call. Here valid text is a type: it comes from a parser that has read it ([`JsonText::parse`],
//! [`OwnedObject`](super::splice::OwnedObject)) or from [`ObjectWriter`], and is copied from then on. What is rare may still
//! go through serde.

use crate::ids::{OtelSpanId, OtelTraceId, RecordId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// One valid JSON value as text, without white space around it.
#[derive(Clone, Debug)]
pub struct JsonText(Origin);

#[derive(Clone, Debug)]
enum Origin {
    /// By serde, from a larger document; goes back into one for nothing.
    Read(Box<RawValue>),
    /// By us.
    Written(String),
}

impl JsonText {
    /// Reads all of `text`; gives it back when it is not JSON.
    pub fn parse(text: String) -> Result<JsonText, String> {
        match serde_json::from_str::<&RawValue>(&text) {
            Ok(_) => Ok(JsonText::trusted(text)),
            Err(_) => Err(text),
        }
    }

    /// Wraps what a parser or a writer of this floor vouches for.
    pub(super) fn trusted(text: String) -> JsonText {
        let trimmed = text.trim_ascii();
        JsonText(Origin::Written(if trimmed.len() == text.len() { text } else { trimmed.to_owned() }))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Origin::Read(raw) => raw.get(),
            Origin::Written(text) => text,
        }
    }
}

impl From<Box<RawValue>> for JsonText {
    fn from(raw: Box<RawValue>) -> JsonText {
        JsonText(Origin::Read(raw))
    }
}

impl From<JsonText> for String {
    fn from(json: JsonText) -> String {
        match json.0 {
            Origin::Read(raw) => Box::<str>::from(raw).into(),
            Origin::Written(text) => text,
        }
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Origin::Read(raw) => raw.serialize(serializer),
            Origin::Written(text) => {
                serde_json::from_str::<&RawValue>(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JsonText, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(JsonText::from)
    }
}

/// What can be written as one JSON value.
pub trait Put {
    /// Appends it to `out`.
    fn put(&self, out: &mut String);
}

/// Writes one object, member by member, at the end of a text.
#[derive(Debug)]
pub struct ObjectWriter<'o> {
    out: &'o mut String,
    empty: bool,
}

impl<'o> ObjectWriter<'o> {
    /// Opens an object.
    pub fn open(out: &'o mut String) -> ObjectWriter<'o> {
        out.push('{');
        ObjectWriter { out, empty: true }
    }

    /// Goes on with an object that is all of `out` and was not closed; empty text is an object not opened yet.
    pub fn resume(out: &'o mut String) -> ObjectWriter<'o> {
        match out.is_empty() {
            true => ObjectWriter::open(out),
            false => ObjectWriter { empty: out.len() == 1, out },
        }
    }

    /// Closes an object that is all of its text, and takes it.
    pub fn finish(mut self) -> JsonText {
        self.close();
        JsonText::trusted(std::mem::take(self.out))
    }

    /// One member of a name of ours, which needs no escapes. Names are not checked for being new.
    pub fn set(&mut self, name: &'static str, value: &(impl Put + ?Sized)) -> &mut ObjectWriter<'o> {
        value.put(self.member(name));
        self
    }

    /// As [`ObjectWriter::set`], when there is a value.
    pub fn set_some(&mut self, name: &'static str, value: Option<&(impl Put + ?Sized)>) -> &mut ObjectWriter<'o> {
        if let Some(value) = value {
            self.set(name, value);
        }
        self
    }

    /// As [`ObjectWriter::set`], for counts: zero is left out.
    pub fn set_count(&mut self, name: &'static str, count: u64) -> &mut ObjectWriter<'o> {
        self.set_some(name, Some(&count).filter(|count| **count > 0))
    }

    /// One member of any name.
    pub fn set_named(&mut self, name: &str, value: &impl Put) {
        self.comma();
        name.put(self.out);
        self.out.push(':');
        value.put(self.out);
    }

    /// A member whose value the caller appends: exactly one.
    pub fn member(&mut self, name: &'static str) -> &mut String {
        self.comma();
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
        self.out
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.empty) {
            self.out.push(',');
        }
    }

    /// Closes the object.
    pub fn close(&mut self) {
        self.out.push('}');
    }
}

/// Appends a list.
pub fn put_list<T>(items: &[T], out: &mut String, mut each: impl FnMut(&T, &mut String)) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        each(item, out);
    }
    out.push(']');
}

impl Put for str {
    fn put(&self, out: &mut String) {
        out.push('"');
        let mut rest = self;
        while let Some(at) = rest.bytes().position(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
            let (plain, odd) = rest.split_at(at);
            out.push_str(plain);
            let mut odd = odd.chars();
            match odd.next().unwrap_or_default() {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                control => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            }
            rest = odd.as_str();
        }
        out.push_str(rest);
        out.push('"');
    }
}

impl Put for String {
    fn put(&self, out: &mut String) {
        self.as_str().put(out);
    }
}

impl<T: Put + ?Sized> Put for &T {
    fn put(&self, out: &mut String) {
        (**self).put(out);
    }
}

impl<T: Put> Put for Vec<T> {
    fn put(&self, out: &mut String) {
        self.as_slice().put(out);
    }
}

impl<T: Put> Put for [T] {
    fn put(&self, out: &mut String) {
        put_list(self, out, |item, out| item.put(out));
    }
}

impl Put for JsonText {
    fn put(&self, out: &mut String) {
        out.push_str(self.as_str());
    }
}

impl Put for bool {
    fn put(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl Put for u64 {
    fn put(&self, out: &mut String) {
        let (mut digits, mut left) = ([0; 20], *self);
        let mut used = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            used += 1;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        out.push_str(digits.get(digits.len() - used..).and_then(|digits| str::from_utf8(digits).ok()).unwrap_or("0"));
    }
}

impl Put for u32 {
    fn put(&self, out: &mut String) {
        u64::from(*self).put(out);
    }
}

impl Put for u16 {
    fn put(&self, out: &mut String) {
        u64::from(*self).put(out);
    }
}

macro_rules! put_hex {
    ($($id:ty),+) => {
        $(impl Put for $id {
            fn put(&self, out: &mut String) {
                out.push('"');
                self.push_hex(out);
                out.push('"');
            }
        })+
    };
}

put_hex!(OtelSpanId, OtelTraceId, RecordId);

impl Put for serde_json::Value {
    fn put(&self, out: &mut String) {
        match (self, self.as_u64()) {
            (_, Some(count)) => count.put(out),
            (serde_json::Value::String(text), _) => text.put(out),
            (serde_json::Value::Bool(yes), _) => yes.put(out),
            _ => out.push_str(&self.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_is_written_is_what_serde_would_write() {
        let every_byte: String = (0..=0x7f).map(char::from).chain("é✓\u{2028}😀".chars()).collect();
        for value in [
            json!(0),
            json!(7),
            json!(10),
            json!(u64::MAX),
            json!(-3),
            json!(0.5),
            json!(1e300),
            json!(true),
            json!(null),
            json!(["a\"", 1, {"b": []}]),
            json!(""),
            json!(every_byte),
        ] {
            let mut out = String::new();
            value.put(&mut out);
            assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), value, "{out}");
        }
    }

    #[test]
    fn an_object_is_written_member_by_member() {
        let mut out = String::new();
        let mut object = ObjectWriter::open(&mut out);
        object.set_named("a\"", &"x");
        object.set_some("absent", None::<&str>).set_count("zero", 0).set_count("n", 12).set("list", &["p", "q"][..]);
        object.close();
        assert_eq!(out, r#"{"a\"":"x","n":12,"list":["p","q"]}"#);
    }

    #[test]
    fn only_json_is_json_text() {
        assert_eq!(JsonText::parse(" {\"a\" :1}\n".into()).unwrap().as_str(), "{\"a\" :1}");
        for text in ["", "{", "{}{}", "<html>", "{\"a\":01}"] {
            assert_eq!(JsonText::parse(text.into()).unwrap_err(), text);
        }
    }

    #[test]
    fn json_text_passes_through_serde_as_it_is() {
        for text in ["{\"n\": 12345678901234567890, \"n\":1.0}", "null", "\"x\""] {
            let written = JsonText::parse(text.into()).unwrap();
            assert_eq!(serde_json::to_string(&written).unwrap(), text);
            let read: JsonText = serde_json::from_str(text).unwrap();
            assert_eq!((read.as_str(), serde_json::to_string(&read).unwrap().as_str()), (text, text));
        }
    }
}
