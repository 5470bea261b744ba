//! A JSON document that keeps the order of its keys, and from which fields are taken.
//!
//! `serde_json::Value` sorts keys. Order matters where a document is handed on to a model: the properties of a schema are
//! generated in the order they are written in, and a prompt cache compares text. Translation also wants to know what it
//! did *not* understand; therefore fields are taken out, and what is left was not understood. [`Json::Raw`] carries text
//! that must cross digit by digit (tool arguments). Numbers elsewhere are `u64`, `i64` or `f64`, as in `serde_json`.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Number;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Any JSON value.
#[derive(Clone, Debug)]
pub enum Json {
    /// `true` or `false`.
    Bool(bool),
    /// An array.
    List(Vec<Json>),
    /// `null`.
    Null,
    /// A number.
    Number(Number),
    /// An object.
    Object(Object),
    /// JSON text, written out as it is. Parsing never yields it.
    Raw(Box<RawValue>),
    /// A string.
    Text(String),
}

/// The fields of an object in order. Of fields with the same name the last one counts, as in JavaScript.
#[derive(Clone, Debug, Default)]
pub struct Object(Vec<(Cow<'static, str>, Json)>);

impl Json {
    /// Reads one document; the error says what is wrong and where.
    pub fn parse(bytes: &[u8]) -> Result<Json, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// The document as compact text.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("writing into memory, with keys that are text")
    }

    /// The field `name`, if this is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.as_object()?.get(name)
    }

    /// The object.
    pub fn as_object(&self) -> Option<&Object> {
        if let Json::Object(object) = self { Some(object) } else { None }
    }

    /// The string.
    pub fn as_str(&self) -> Option<&str> {
        if let Json::Text(text) = self { Some(text) } else { None }
    }

    /// The number, if it is a whole one that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        if let Json::Number(number) = self { number.as_u64() } else { None }
    }
}

impl Object {
    /// An object without fields.
    pub fn new() -> Object {
        Object::default()
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Json>) -> Object {
        self.set(name, value);
        self
    }

    /// Adds a field, if there is a value for it.
    #[must_use]
    pub fn with_some(self, name: &'static str, value: Option<impl Into<Json>>) -> Object {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds a field.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Json>) {
        self.0.push((name.into(), value.into()));
    }

    /// The field `name`.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().rfind(|(have, _)| have == name).map(|(_, value)| value)
    }

    /// Removes the field `name`.
    pub fn take(&mut self, name: &str) -> Option<Json> {
        let at = self.0.iter().rposition(|(have, _)| have == name)?;
        Some(self.0.remove(at).1)
    }

    /// The fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Object {
    type Item = (Cow<'static, str>, Json);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// `text` without the white space between its tokens; nothing else changes.
pub fn compact(text: &RawValue) -> String {
    let (mut inside_string, mut escaped) = (false, false);
    text.get().chars().filter(|&c| inside_string_or_token(c, &mut inside_string, &mut escaped)).collect()
}

fn inside_string_or_token(c: char, inside_string: &mut bool, escaped: &mut bool) -> bool {
    match c {
        _ if std::mem::take(escaped) => {}
        '\\' => *escaped = true,
        '"' => *inside_string = !*inside_string,
        _ => {}
    }
    *inside_string || !c.is_ascii_whitespace()
}

macro_rules! json_from {
    ($($from:ty => $into:expr),+ $(,)?) => {
        $(impl From<$from> for Json {
            fn from(value: $from) -> Json {
                ($into)(value)
            }
        })+
    };
}

json_from! {
    &str => |text: &str| Json::Text(text.to_owned()),
    String => Json::Text,
    bool => Json::Bool,
    u32 => |number: u32| Json::Number(number.into()),
    u64 => |number: u64| Json::Number(number.into()),
    f64 => |number| Number::from_f64(number).map_or(Json::Null, Json::Number),
    Vec<Json> => Json::List,
    Object => Json::Object,
    Box<RawValue> => Json::Raw,
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::List(items) => items.serialize(serializer),
            Json::Null => serializer.serialize_unit(),
            Json::Number(number) => number.serialize(serializer),
            Json::Object(object) => object.serialize(serializer),
            Json::Raw(text) => text.serialize(serializer),
            Json::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut object = Object::new();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            object.set(name, value);
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives() {
        let text = r#"{"z":1,"a":[null,true,-2,1.5,"é\n"],"m":{}}"#;
        assert_eq!(Json::parse(text.as_bytes()).unwrap().to_bytes(), text.as_bytes());
    }

    #[test]
    fn the_last_of_equal_names_counts() {
        let Json::Object(mut object) = Json::parse(br#"{"a":1,"a":2}"#).unwrap() else { panic!("an object") };
        assert_eq!(object.get("a").and_then(Json::as_u64), Some(2));
        assert_eq!(object.take("a").and_then(|value| value.as_u64()), Some(2));
        assert_eq!(object.take("a").and_then(|value| value.as_u64()), Some(1));
        assert!(object.is_empty());
    }

    #[test]
    fn depth_is_bounded() {
        assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(Json::parse(b"{} x").is_err());
    }

    #[test]
    fn compacting_spares_strings_and_digits() {
        let raw: Box<RawValue> = serde_json::from_str("{ \"a b\" : \" \\\" \" ,\n\t\"n\": 12345678901234567890123.40 }").unwrap();
        assert_eq!(compact(&raw), "{\"a b\":\" \\\" \",\"n\":12345678901234567890123.40}");
    }
}
