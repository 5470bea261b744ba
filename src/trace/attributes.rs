//! Span attributes by their OpenTelemetry names, written straight to JSON: most calls have a dozen, and nobody reads them
//! before the consumer has stored them.

use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON object under construction.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    json: String,
}

impl Attributes {
    /// Sets `name`, which must be new.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) -> &mut Attributes {
        self.json.push(if self.json.is_empty() { '{' } else { ',' });
        self.json.push_str(&Value::from(name).to_string());
        self.json.push(':');
        self.json.push_str(&value.into().to_string());
        self
    }

    /// As [`Attributes::set`], when there is a value.
    pub fn set_some(&mut self, name: &str, value: Option<impl Into<Value>>) -> &mut Attributes {
        if let Some(value) = value {
            self.set(name, value);
        }
        self
    }

    /// The object; `None` when nothing was set.
    pub fn finish(mut self) -> Option<Box<RawValue>> {
        if self.json.is_empty() {
            return None;
        }
        self.json.push('}');
        RawValue::from_string(self.json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_as_one_object() {
        let mut attributes = Attributes::default();
        attributes.set("a\"b", "x\ny").set("n", 7).set_some("absent", None::<&str>).set_some("f", Some(0.5));
        assert_eq!(attributes.finish().unwrap().get(), r#"{"a\"b":"x\ny","n":7,"f":0.5}"#);
        assert!(Attributes::default().finish().is_none());
    }
}
