//! HTTP headers as the core sees them: lower-case names, one buffer.
//!
//! The shell hands a message's headers over as one text (`name`, line feed, `value`, line feed, …): one crossing of the
//! wasm boundary instead of one a header. Neither a name nor a value can hold a line feed, so the framing is exact.

/// The headers of one message, in order. Names are lower case, as the Fetch standard gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    text: String,
}

impl Headers {
    /// From the flat form described above.
    pub fn from_flat(text: String) -> Headers {
        Headers { text }
    }

    /// Every header in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut lines = self.text.split_terminator('\n');
        std::iter::from_fn(move || Some((lines.next()?, lines.next().unwrap_or(""))))
    }

    /// The value of `name` (lower case); `None` when absent. Repeated headers arrive joined by `, `.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(have, _)| *have == name).map(|(_, value)| value)
    }

    /// As [`Headers::get`], but a blank value is an absent one, and white space around it is dropped.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// Appends one header; `name` must be lower case and neither part may hold a line feed (they are dropped).
    pub fn push(&mut self, name: &str, value: &str) {
        for part in [name, value] {
            self.text.extend(part.chars().filter(|c| !matches!(c, '\n' | '\r')));
            self.text.push('\n');
        }
    }

    /// The flat form.
    pub fn as_flat(&self) -> &str {
        &self.text
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Headers {
        let mut headers = Headers::default();
        for (name, value) in pairs {
            headers.push(name, value);
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_text_reads_back_with_blank_values_kept() {
        let headers = Headers::from_flat("a\n1\nb\n\nc\n x \n".into());
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("a", "1"), ("b", ""), ("c", " x ")]);
        assert_eq!(headers.get("b"), Some(""));
        assert_eq!(headers.text("b"), None);
        assert_eq!(headers.text("c"), Some("x"));
    }

    #[test]
    fn a_value_cannot_smuggle_a_header() {
        let headers: Headers = [("a", "1\nx-evil\n2")].into_iter().collect();
        assert_eq!(headers.iter().count(), 1);
    }
}
