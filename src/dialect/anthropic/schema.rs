//! A JSON schema made fit for structured output: words that the API refuses go, objects are closed (dialect sheet).
//!
//! What goes are limits on values; the answer may then be looser than the caller's schema, never of another shape. Only
//! places where a schema can stand are visited: a *property* called `not` stays, and so do the values of `enum`.

use crate::llm::chat::note_dropped;
use crate::wire::document::{Json, Object};

/// The schema without what the API refuses; the words that went are listed as `response_format.<word>`.
pub fn clean(schema: Json, dropped: &mut Vec<String>) -> Json {
    let Json::Object(fields) = schema else { return schema };
    let is_object = fields.get("properties").is_some() || allows(fields.get("type"), "object");
    let has_any_of = fields.get("anyOf").is_some();
    let mut cleaned = Object::new();
    for (word, value) in fields {
        match word.as_ref() {
            "additionalProperties" if is_object => {}
            "oneOf" if !has_any_of => cleaned.set("anyOf", clean_all(value, dropped)),
            "minItems" if value.as_u64().is_some_and(|least| least <= 1) => cleaned.set(word, value),
            refused if REFUSED.contains(&refused) => note_dropped(dropped, &format!("response_format.{refused}")),
            "items" | "additionalProperties" => cleaned.set(word, clean(value, dropped)),
            "allOf" | "anyOf" | "prefixItems" => cleaned.set(word, clean_all(value, dropped)),
            "$defs" | "definitions" | "properties" => cleaned.set(word, clean_named(value, dropped)),
            _ => cleaned.set(word, value),
        }
    }
    if is_object {
        cleaned.set("additionalProperties", false);
    }
    cleaned.into()
}

fn allows(kind: Option<&Json>, name: &str) -> bool {
    match kind {
        Some(Json::List(kinds)) => kinds.iter().any(|kind| kind.as_str() == Some(name)),
        kind => kind.and_then(Json::as_str) == Some(name),
    }
}

fn clean_all(list: Json, dropped: &mut Vec<String>) -> Json {
    match list {
        Json::List(schemas) => Json::List(schemas.into_iter().map(|schema| clean(schema, dropped)).collect()),
        other => other,
    }
}

fn clean_named(map: Json, dropped: &mut Vec<String>) -> Json {
    let Json::Object(named) = map else { return map };
    let mut cleaned = Object::new();
    for (name, schema) in named {
        cleaned.set(name, clean(schema, dropped));
    }
    cleaned.into()
}

/// Numeric bounds, lengths and what else the API has no support for; `oneOf` only where it cannot become `anyOf`.
const REFUSED: &[&str] = &[
    "else",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "if",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "patternProperties",
    "then",
    "uniqueItems",
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cleaned(schema: Value) -> (Value, Vec<String>) {
        let mut dropped = Vec::new();
        let text = clean(Json::parse(schema.to_string().as_bytes()).unwrap(), &mut dropped).to_bytes();
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(text.len(), value.to_string().len(), "a word stands there twice");
        (value, dropped)
    }

    #[test]
    fn limits_go_and_objects_are_closed() {
        let (schema, dropped) = cleaned(json!({
            "type": "object", "additionalProperties": true, "patternProperties": {"^x": {}},
            "properties": {
                "n": {"type": "integer", "minimum": 1, "maximum": 9},
                "s": {"type": ["string", "null"], "minLength": 1, "format": "date"},
                "l": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "object", "properties": {}}},
                "m": {"type": "array", "minItems": 2, "uniqueItems": true},
                "o": {"oneOf": [{"type": "number", "multipleOf": 2}, {"$ref": "#/$defs/d"}]},
            },
            "$defs": {"d": {"type": ["object", "null"], "not": {}}},
        }));
        assert_eq!(
            schema,
            json!({
                "type": "object", "additionalProperties": false,
                "properties": {
                    "n": {"type": "integer"},
                    "s": {"type": ["string", "null"], "format": "date"},
                    "l": {"type": "array", "minItems": 1,
                          "items": {"type": "object", "properties": {}, "additionalProperties": false}},
                    "m": {"type": "array"},
                    "o": {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/d"}]},
                },
                "$defs": {"d": {"type": ["object", "null"], "additionalProperties": false}},
            })
        );
        for word in ["maximum", "minLength", "maxItems", "uniqueItems", "multipleOf", "not", "patternProperties"] {
            assert!(dropped.contains(&format!("response_format.{word}")), "{word}");
        }
    }

    #[test]
    fn names_and_values_are_no_schema_words() {
        let schema = json!({
            "type": "object", "additionalProperties": false,
            "properties": {"not": {"enum": [{"minimum": 1}]}, "minimum": {"const": {"if": 1}}},
        });
        assert_eq!(cleaned(schema.clone()), (schema, vec![]));
    }

    #[test]
    fn one_of_beside_any_of_cannot_be_kept() {
        let (schema, dropped) = cleaned(json!({"anyOf": [{}], "oneOf": [{}]}));
        assert_eq!(schema, json!({"anyOf": [{}]}));
        assert_eq!(dropped, ["response_format.oneOf"]);
    }
}
