//! Span attributes by their OpenTelemetry names, written straight to JSON: most calls have a dozen, and nobody reads them
//! before the consumer has stored them.

use crate::wire::json::{JsonText, ObjectWriter, Put};

/// A JSON object under construction.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    json: String,
}

impl Attributes {
    /// Sets `name`, which must be new.
    pub fn set(&mut self, name: &'static str, value: impl Put) -> &mut Attributes {
        if self.json.is_empty() {
            self.json.reserve(TYPICAL_BYTES);
        }
        ObjectWriter::resume(&mut self.json).set(name, &value);
        self
    }

    /// As [`Attributes::set`], when there is a value.
    pub fn set_some(&mut self, name: &'static str, value: Option<impl Put>) -> &mut Attributes {
        if let Some(value) = value {
            self.set(name, value);
        }
        self
    }

    /// The object; `None` when nothing was set.
    pub fn finish(mut self) -> Option<JsonText> {
        (!self.json.is_empty()).then(|| ObjectWriter::resume(&mut self.json).finish())
    }
}

const TYPICAL_BYTES: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn attributes_read_as_one_object() {
        let mut attributes = Attributes::default();
        attributes.set("a", "x\ny").set("n", 7u64).set_some("absent", None::<&str>).set("f", json!(0.5));
        assert_eq!(attributes.finish().unwrap().as_str(), r#"{"a":"x\ny","n":7,"f":0.5}"#);
        assert!(Attributes::default().finish().is_none());
    }
}
