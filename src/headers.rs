//! HTTP headers as the core sees them: lower-case names, one buffer.
//!
//! The shell hands a message's headers over as one text (`name`, line feed, `value`, line feed, …): one crossing of the
//! wasm boundary instead of one a header. Neither a name nor a value can hold a line feed, so the framing is exact.

/// The headers of one message, in order. Names are lower case, as the Fetch standard gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// An even number of lines, each with its line feed.
    text: String,
    /// Where each line ends: a look-up then compares names, and does not search the text for line feeds again (a call makes
    /// fifteen look-ups; searching was a tenth of its instructions).
    ends: Vec<u32>,
}

impl Headers {
    /// From the flat form described above.
    pub fn from_flat(mut text: String) -> Headers {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let mut ends: Vec<u32> = Vec::with_capacity(TYPICAL_LINES);
        ends.extend(text.bytes().zip(0..).filter(|(byte, _)| *byte == b'\n').map(|(_, at): (u8, u32)| at));
        if ends.len() % 2 == 1 {
            ends.push(text.len() as u32);
            text.push('\n');
        }
        Headers { text, ends }
    }

    /// Every header in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        let mut line = move |end: &u32| {
            let line = self.text.get(start..*end as usize).unwrap_or_default();
            start = *end as usize + 1;
            line
        };
        self.ends.as_chunks::<2>().0.iter().map(move |[name, value]| (line(name), line(value)))
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
        // Eight headers or so follow the first: one allocation, not five.
        let room = if self.ends.is_empty() { TYPICAL_TEXT } else { 0 };
        self.text.reserve((name.len() + value.len() + 2).max(room));
        self.ends.reserve(if self.ends.is_empty() { TYPICAL_LINES } else { 2 });
        for part in [name, value] {
            match part.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
                false => self.text.push_str(part),
                true => self.text.extend(part.chars().filter(|c| !matches!(c, '\n' | '\r'))),
            }
            self.ends.push(self.text.len() as u32);
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

const TYPICAL_LINES: usize = 40;
const TYPICAL_TEXT: usize = 512;

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
    fn an_unfinished_text_is_finished() {
        for (text, expected) in [("", ""), ("a", "a\n\n"), ("a\n", "a\n\n"), ("a\n1", "a\n1\n"), ("a\n1\nb\n", "a\n1\nb\n\n")] {
            let mut headers = Headers::from_flat(text.into());
            assert_eq!(headers.as_flat(), expected);
            headers.push("é", "ü");
            assert_eq!(headers.get("é"), Some("ü"), "{text:?}");
        }
    }

    #[test]
    fn a_value_cannot_smuggle_a_header() {
        let headers: Headers = [("a", "1\nx-evil\n2")].into_iter().collect();
        assert_eq!(headers.iter().count(), 1);
    }
}
