//! The top level of a JSON object as text: where each member stands, and changes that touch nothing else.
//!
//! A body that only passes through is never re-serialised (architecture, decision 1): big integers, key order, white space
//! and unknown fields stay as they were written. [`Object::parse`] checks the whole document in one pass and remembers the
//! top-level members; [`Object::splice`] copies the text and replaces, appends or drops members. Where a key stands twice
//! the last one is read, as most parsers do, but an edit reaches every occurrence, so that it wins whatever the reader
//! does. What the members mean is the dialect's business, and nothing here looks deeper than one level.

use super::json::JsonText;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// A whole, valid JSON object.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    text: &'a str,
    members: Vec<Member<'a>>,
}

/// A whole, valid JSON object with its text: a body is read once, however often it is looked at.
#[derive(Clone, Debug)]
pub struct OwnedObject {
    text: String,
    /// Where the key and the value of each member stand.
    places: Vec<[Range<usize>; 2]>,
}

/// A body, and what is known of it.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Anything at all.
    Bytes(Vec<u8>),
    /// A JSON object.
    Object(OwnedObject),
}

/// One `"key": value` at the top level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The key, unescaped.
    pub key: Cow<'a, str>,
    /// The value as it is written, without white space around it.
    pub value: &'a str,
}

/// A change to one top-level member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit<'a> {
    /// The key goes, wherever it stands.
    Remove(&'a str),
    /// The key gets this value, which must be valid JSON text: in place, or at the end when it is new.
    Set(&'a str, &'a str),
}

/// The text is not one JSON object; a sentence with the position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError(String);

impl<'a> Object<'a> {
    /// Reads `bytes`, all of which must be one JSON object in UTF-8.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, JsonError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse_text(text),
            Err(error) => Err(JsonError(format!("not UTF-8 at byte {}", error.valid_up_to()))),
        }
    }

    /// Reads `text`, all of which must be one JSON object.
    pub fn parse_text(text: &'a str) -> Result<Self, JsonError> {
        let Members(members) = Members::read(text)?;
        Ok(Self { text, members: members.into_iter().map(|(key, value)| Member::new(key, value)).collect() })
    }

    /// The members in the order of the text.
    pub fn members(&self) -> &[Member<'a>] {
        &self.members
    }

    /// The value of `key` as it is written; the last one where the key stands twice.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.members.iter().rev().find(|member| member.key == key).map(|member| member.value)
    }

    /// The text with `edits` applied; where two edits name one key the later one holds.
    pub fn splice(&self, edits: &[Edit<'_>]) -> Vec<u8> {
        let edit_of = |key: &str| edits.iter().rev().find(|edit| edit.key() == key);
        let mut out = String::with_capacity(self.text.len() + edits.iter().map(Edit::room).sum::<usize>());
        let mut at = self.text.find('{').map_or(0, |brace| brace + 1);
        out.push_str(self.between(0, at));
        let (body, mut first) = (out.len(), true);
        for member in &self.members {
            let value = member.value.as_ptr() as usize - self.text.as_ptr() as usize;
            // White space, a comma unless this is the first member, white space, the key, the colon, white space.
            let lead = self.between(std::mem::replace(&mut at, value + member.value.len()), value);
            let (before, lead) = match std::mem::take(&mut first) {
                true => ("", lead),
                false => lead.split_once(',').unwrap_or_default(),
            };
            let value = match edit_of(&member.key) {
                Some(Edit::Remove(_)) => continue,
                Some(Edit::Set(_, value)) => value,
                None => member.value,
            };
            if out.len() > body {
                out.extend([before, ","]);
            }
            out.extend([lead, value]);
        }
        for edit in edits {
            if let Edit::Set(key, value) = edit
                && self.get(key).is_none()
                && edit_of(key).is_some_and(|holds| std::ptr::eq(holds, edit))
            {
                out.extend([if out.len() > body { "," } else { "" }, &quote(key), ":", value]);
            }
        }
        out.push_str(self.between(at, self.text.len()));
        out.into_bytes()
    }

    fn between(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }
}

impl OwnedObject {
    /// As [`Object::parse`]; what is no object is given back.
    pub fn parse(bytes: Vec<u8>) -> Result<OwnedObject, (JsonError, Vec<u8>)> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            (JsonError(format!("not UTF-8 at byte {at}")), error.into_bytes())
        })?;
        let read = Members::read(&text).map(|Members(members)| {
            let place = |part: &str| {
                let start = part.as_ptr() as usize - text.as_ptr() as usize;
                start..start + part.len()
            };
            members.iter().map(|(key, value)| [place(key), place(value)]).collect()
        });
        match read {
            Ok(places) => Ok(OwnedObject { text, places }),
            Err(error) => Err((error, text.into_bytes())),
        }
    }

    /// The object, without reading it again.
    pub fn object(&self) -> Object<'_> {
        let part = |place: &Range<usize>| self.text.get(place.clone()).unwrap_or_default();
        let members = self.places.iter().map(|[key, value]| Member::new(part(key), part(value)));
        Object { text: &self.text, members: members.collect() }
    }

    /// The text as it was written.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The text, still known to be JSON.
    pub fn into_json(self) -> JsonText {
        JsonText::trusted(self.text)
    }
}

impl Payload {
    /// Looks whether it is an object.
    pub fn read(bytes: Vec<u8>) -> Payload {
        OwnedObject::parse(bytes).map_or_else(|(_, bytes)| Payload::Bytes(bytes), Payload::Object)
    }

    /// The bytes as they came.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Payload::Bytes(bytes) => bytes,
            Payload::Object(object) => object.as_bytes(),
        }
    }
}

impl Default for Payload {
    fn default() -> Payload {
        Payload::Bytes(Vec::new())
    }
}

impl<'a> Member<'a> {
    /// A key with half a surrogate pair names nothing we look for; it passes as it is written.
    fn new(key: &'a str, value: &'a str) -> Member<'a> {
        Member { key: text(key).unwrap_or(Cow::Borrowed(key)), value }
    }
}

impl<'a> Edit<'a> {
    fn key(&self) -> &'a str {
        match self {
            Edit::Remove(key) | Edit::Set(key, _) => key,
        }
    }

    /// The most bytes that it can add, an escaped key apart.
    fn room(&self) -> usize {
        match self {
            Edit::Remove(_) => 0,
            Edit::Set(key, value) => key.len() + value.len() + r#","":"#.len(),
        }
    }
}

/// Reads `bytes` and applies `edits`, for a body that is looked at only once.
pub fn splice(bytes: &[u8], edits: &[Edit<'_>]) -> Result<Vec<u8>, JsonError> {
    Object::parse(bytes).map(|object| object.splice(edits))
}

/// `text` as a JSON string, quotes included.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The text of a JSON string; `None` when `value` is anything else (or half a surrogate pair).
pub fn text(value: &str) -> Option<Cow<'_, str>> {
    match value.strip_prefix('"')?.strip_suffix('"')? {
        plain if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str(value).ok().map(Cow::Owned),
    }
}

/// What a valid JSON value is, in words for an error message.
pub fn kind(value: &str) -> &'static str {
    match value.bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(_) => "no JSON",
        None => "nothing",
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keys and values as they are written.
struct Members<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Members<'a> {
    fn read(text: &'a str) -> Result<Members<'a>, JsonError> {
        let start = text.bytes().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(text.len());
        if text.as_bytes().get(start) != Some(&b'{') {
            let found = kind(text.get(start..).unwrap_or_default());
            return Err(JsonError(format!("expected a JSON object, found {found} at byte {start}")));
        }
        serde_json::from_str(text).map_err(|error| JsonError(format!("not valid JSON: {error}")))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(TYPICAL_MEMBERS);
                while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
                    members.push((key.get(), value.get()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

const TYPICAL_MEMBERS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Rng, SeededRng};
    use Edit::{Remove, Set};

    fn spliced(text: &str, edits: &[Edit<'_>]) -> String {
        String::from_utf8(splice(text.as_bytes(), edits).unwrap()).unwrap()
    }

    #[test]
    fn an_edit_touches_nothing_else() {
        let cases: &[(&str, &[Edit<'_>], &str)] = &[
            (r#"{"a":1,"model":"x","b":2}"#, &[Set("model", r#""y""#)], r#"{"a":1,"model":"y","b":2}"#),
            (r#"{"n":12345678901234567890123,"f":1.0}"#, &[Set("f", "2")], r#"{"n":12345678901234567890123,"f":2}"#),
            (" {\n\t\"a\" : 1 ,\r\n \"b\" :\n2 } \n", &[Set("b", "3")], " {\n\t\"a\" : 1 ,\r\n \"b\" :\n3 } \n"),
            ("{\n  \"a\": 1\n}\n", &[Set("b", "[2]")], "{\n  \"a\": 1,\"b\":[2]\n}\n"),
            ("{ }", &[Set("a", "1"), Set("b", "2")], r#"{"a":1,"b":2 }"#),
            ("{}", &[Remove("a")], "{}"),
            (r#"{"a":{"model":1},"model":2}"#, &[Set("model", "3")], r#"{"a":{"model":1},"model":3}"#),
            (r#"{"\u006dodel":1,"é✓":"ü,}"}"#, &[Set("model", "2"), Set("é✓", "3")], r#"{"\u006dodel":2,"é✓":3}"#),
            (r#"{"m":1,"x":0,"m":2}"#, &[Set("m", "3")], r#"{"m":3,"x":0,"m":3}"#),
            (r#"{"m":1,"x":0,"\u006d":2}"#, &[Remove("m")], r#"{"x":0}"#),
            (r#"{ "a":1 , "b":2 }"#, &[Remove("a")], r#"{ "b":2 }"#),
            (r#"{ "a":1 , "b":2 }"#, &[Remove("b")], r#"{ "a":1 }"#),
            (r#"{"a,{":1, "b":2, "c":3}"#, &[Remove("b")], r#"{"a,{":1, "c":3}"#),
            (r#"{"a":1}"#, &[Remove("a"), Set("b", "2")], r#"{"b":2}"#),
            (r#"{"a":1}"#, &[Remove("a")], "{}"),
            (r#"{"a":1}"#, &[Set("a", "2"), Remove("a")], "{}"),
            ("{}", &[Set("a", "1"), Set("a", "2")], r#"{"a":2}"#),
            ("{}", &[Set("a", "1"), Remove("a")], "{}"),
            ("{}", &[Set("a\"\n", "1")], r#"{"a\"\n":1}"#),
        ];
        for (text, edits, expected) in cases {
            assert_eq!(spliced(text, edits), *expected, "{text} with {edits:?}");
        }
    }

    #[test]
    fn the_last_of_two_members_is_read() {
        let object = Object::parse(br#"{"a":1,"b":[ {} ],"\u0061": "z"}"#).unwrap();
        assert_eq!((object.get("a"), object.get("b"), object.get("c")), (Some(r#""z""#), Some("[ {} ]"), None));
        let keys: Vec<&str> = object.members().iter().map(|member| member.key.as_ref()).collect();
        assert_eq!(keys, ["a", "b", "a"]);
    }

    #[test]
    fn an_object_with_its_text_is_the_same_object() {
        for text in [r#" {"a":1,"\u0062" : [ {} ],"\ud800":null,"a":"é"} "#, "{}", "{ }"] {
            let owned = OwnedObject::parse(text.into()).unwrap();
            assert_eq!(owned.object().members(), Object::parse_text(text).unwrap().members());
            assert_eq!(owned.object().splice(&[Set("a", "2")]), splice(text.as_bytes(), &[Set("a", "2")]).unwrap());
            assert_eq!(owned.as_bytes(), text.as_bytes());
            assert_eq!(owned.into_json().as_str(), text.trim());
        }
        for bytes in [&b"[]"[..], b"{\"a\":\xff}", b"{", b""] {
            let (error, back) = OwnedObject::parse(bytes.to_vec()).unwrap_err();
            assert_eq!((error, &back[..]), (Object::parse(bytes).unwrap_err(), bytes));
            assert!(matches!(Payload::read(back), Payload::Bytes(same) if same == bytes));
        }
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_position() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "expected a JSON object, found nothing at byte 0"),
            (b" \n", "expected a JSON object, found nothing at byte 2"),
            (b" [{}]", "expected a JSON object, found an array at byte 1"),
            (b"\"{}\"", "expected a JSON object, found a string at byte 0"),
            (b"<html>", "expected a JSON object, found no JSON at byte 0"),
            (b"{\"a\":1,}", "not valid JSON: trailing comma at line 1 column 8"),
            (b"{\"a\":\n1", "not valid JSON: EOF while parsing an object at line 2 column 1"),
            (b"{} x", "not valid JSON: trailing characters at line 1 column 4"),
            (b"{\"a\":01}", "not valid JSON: invalid number at line 1 column 7"),
            (
                b"{\"a\":\"\n\"}",
                "not valid JSON: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 6",
            ),
            (b"{\"a\":\"\xff\"}", "not UTF-8 at byte 6"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Object::parse(bytes).unwrap_err().to_string(), *expected);
        }
    }

    #[test]
    fn depth_does_not_overflow() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(spliced(&deep, &[]), deep);
    }

    #[test]
    fn only_whole_strings_are_text() {
        assert_eq!(text(r#""a\u0062\n""#).as_deref(), Some("ab\n"));
        for value in [r#""\ud800""#, "1", "null", "[\"a\"]", ""] {
            assert_eq!(text(value), None, "{value}");
        }
    }

    /// Random documents and edits, held against `serde_json` and against the pieces that they were made of.
    #[test]
    fn any_document_keeps_all_that_no_edit_names() {
        let mut rng = SeededRng(7);
        for _ in 0..3000 {
            let members: Vec<(&str, &str)> =
                (0..rng.next_u64() % 6).map(|_| (any(&mut rng, KEYS), any(&mut rng, VALUES))).collect();
            let mut text = format!("{}{{", any(&mut rng, SPACES));
            for (index, (key, value)) in members.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                for piece in [comma, any(&mut rng, SPACES), key, any(&mut rng, SPACES), ":", any(&mut rng, SPACES), value] {
                    text.push_str(piece);
                }
                text.push_str(any(&mut rng, SPACES));
            }
            text.extend([if members.is_empty() { any(&mut rng, SPACES) } else { "" }, "}", any(&mut rng, SPACES)]);
            assert_eq!(spliced(&text, &[]), text);

            let (key, value) = (any(&mut rng, &["a", "b", "model"]), any(&mut rng, VALUES));
            let names = |written: &str| super::text(written).unwrap() == key;
            let others: Vec<(&str, &str)> = members.iter().copied().filter(|(written, _)| !names(written)).collect();
            let quoted = quote(key);
            for (edit, extra) in [(Remove(key), None), (Set(key, value), Some((quoted.as_str(), value)))] {
                let after = spliced(&text, &[edit]);
                let object = Object::parse(after.as_bytes()).unwrap();
                let kept: Vec<&Member<'_>> = object.members().iter().filter(|member| member.key != key).collect();
                let expected: Vec<(Cow<'_, str>, &str)> = others.iter().map(|(k, v)| (super::text(k).unwrap(), *v)).collect();
                assert_eq!(kept.iter().map(|m| (m.key.clone(), m.value)).collect::<Vec<_>>(), expected, "{text} → {after}");
                let set = object
                    .members()
                    .iter()
                    .filter(|member| member.key == key)
                    .all(|member| Some(member.value) == extra.map(|e| e.1));
                assert!(set && object.get(key) == extra.map(|e| e.1), "{text} → {after}");
            }
        }
    }

    fn any<'a>(rng: &mut SeededRng, from: &[&'a str]) -> &'a str {
        from[(rng.next_u64() % from.len() as u64) as usize]
    }

    const KEYS: &[&str] =
        &[r#""a""#, r#""b""#, r#""\u0062""#, r#""model""#, r#""m\u006fdel""#, r#""c{,:}\"""#, r#""""#, r#""✓""#];
    const VALUES: &[&str] = &[
        "1",
        "-0.10e+5",
        "98765432109876543210",
        "null",
        "true",
        r#""x, \"y\" {✓}""#,
        "[]",
        r#"[1, {"a":[2 ,3]}]"#,
        r#"{"model": "z","a":{}}"#,
    ];
    const SPACES: &[&str] = &["", "", " ", "\n", "\r\n\t "];
}
