//! Query parameters: each is read or refused by name, and none is ignored, because a filter that does nothing answers a
//! different question than the one that was asked.

use crate::error::GatewayError;
use crate::ids::RecordId;
use crate::time::UnixMillis;

/// The parameters of one request, decoded. A blank value is an absent one.
#[derive(Debug)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

/// Where a page ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The last record shown; the next page comes before it.
    pub before: Option<RecordId>,
    /// The state of the store that the first page showed, for lists whose order can change.
    pub generation: Option<i64>,
}

impl Query {
    /// Splits and decodes; refuses names that are not `known`.
    pub fn parse(text: &str, known: &[&str]) -> Result<Query, GatewayError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let [name, value] = [name, value].map(|part| percent_decoded(&part.replace('+', " ")));
            if PLANNED.contains(&name.as_str()) && !known.contains(&name.as_str()) || name.starts_with("metadata.") {
                return Err(GatewayError::Unsupported(format!("the query parameter '{name}' on this route")));
            }
            if !known.contains(&name.as_str()) {
                return Err(GatewayError::InvalidQuery(format!(
                    "there is no parameter '{name}'; there are: {}",
                    known.join(", ")
                )));
            }
            if pairs.iter().any(|(have, _)| *have == name) {
                return Err(GatewayError::InvalidQuery(format!("'{name}' is given twice")));
            }
            pairs.push((name, value));
        }
        Ok(Query { pairs })
    }

    /// A parameter as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(have, _)| have == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// A moment.
    pub fn time(&self, name: &str) -> Result<Option<UnixMillis>, GatewayError> {
        let read = |text: &str| {
            // An unencoded `+02:00` has arrived as a space.
            let moment = UnixMillis::parse_rfc3339(text).or_else(|| UnixMillis::parse_rfc3339(&text.replace(' ', "+")));
            moment.ok_or_else(|| GatewayError::InvalidQuery(format!("'{name}' must be a time like 2026-11-20T10:15:30Z")))
        };
        self.text(name).map(read).transpose()
    }

    /// The size of a page.
    pub fn limit(&self) -> Result<usize, GatewayError> {
        let Some(text) = self.text("limit") else { return Ok(DEFAULT_LIMIT) };
        let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| GatewayError::InvalidQuery(format!("'limit' must be a whole number from 1 to {MAX_LIMIT}")))
    }

    /// Where to go on.
    pub fn cursor(&self) -> Result<Cursor, GatewayError> {
        let Some(text) = self.text("cursor") else { return Ok(Cursor::default()) };
        let wrong = || GatewayError::InvalidQuery("'cursor' must be the next_cursor of a page of this list".into());
        Cursor::parse(text).ok_or_else(wrong)
    }
}

impl Cursor {
    fn parse(text: &str) -> Option<Cursor> {
        let (record, generation) = match text.split_once('-') {
            Some((record, generation)) => (record, Some(generation.parse().ok().filter(|count| *count >= 0)?)),
            None => (text, None),
        };
        Some(Cursor { before: Some(RecordId::from_hex(record)?), generation })
    }
}

/// The form that clients carry around.
impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.before.map_or(Ok(()), |record| write!(f, "{record}"))?;
        self.generation.map_or(Ok(()), |generation| write!(f, "-{generation}"))
    }
}

/// Decodes `%XX` once; what is no escape stays as it is, and what is not UTF-8 becomes U+FFFD.
pub fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = (*first == b'%').then(|| tail.split_at_checked(2)).flatten();
        let escaped = escape.and_then(|(hex, after)| {
            let hex = std::str::from_utf8(hex).ok().filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
            Some((u8::from_str_radix(hex, 16).ok()?, after))
        });
        let (byte, after) = escaped.unwrap_or((*first, tail));
        out.push(byte);
        rest = after;
    }
    String::from_utf8(out).unwrap_or_else(|bytes| String::from_utf8_lossy(bytes.as_bytes()).into_owned())
}

/// Rows of a page when nobody says.
const DEFAULT_LIMIT: usize = 50;
/// Rows of the largest page.
const MAX_LIMIT: usize = 200;

/// What query-api promises and this build does not do yet.
const PLANNED: [&str; 14] = [
    "cache_status",
    "format",
    "has_feedback",
    "kind",
    "min_cost_usd",
    "min_duration_ms",
    "model",
    "name",
    "provider",
    "q",
    "span_id",
    "status",
    "status_code",
    "trace_id",
];

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["limit", "cursor", "from", "name"];

    #[test]
    fn parameters_are_decoded_and_blank_is_absent() {
        let query = Query::parse("name=a%20b%2Bc+d&limit=&from=2026-11-20T12:00:00+02:00&", KNOWN).unwrap();
        assert_eq!(query.text("name"), Some("a b+c d"));
        assert_eq!(query.limit(), Ok(DEFAULT_LIMIT));
        assert_eq!(query.time("from"), Ok(UnixMillis::parse_rfc3339("2026-11-20T10:00:00Z")));
        assert_eq!(query.cursor(), Ok(Cursor::default()));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let problem = |text: &str| match Query::parse(text, KNOWN) {
            Err(error) => Some(error),
            Ok(query) => query.limit().err().or(query.cursor().err()).or(query.time("from").err()),
        };
        for (text, word) in [
            ("limit=0", "'limit'"),
            ("limit=201", "'limit'"),
            ("limit=1.5", "'limit'"),
            ("cursor=x", "'cursor'"),
            ("cursor=0123456789abcdef0123456789abcdef--1", "'cursor'"),
            ("from=yesterday", "'from'"),
            ("name=1&name=2", "'name'"),
            ("sort=asc", "'sort'"),
        ] {
            let Some(GatewayError::InvalidQuery(how)) = problem(text) else { panic!("{text} was taken") };
            assert!(how.contains(word), "{text}: {how}");
        }
        for text in ["q=hello", "metadata._user=1", "status=ok"] {
            assert!(matches!(problem(text), Some(GatewayError::Unsupported(_))), "{text}");
        }
    }

    #[test]
    fn a_cursor_reads_back_as_it_was_written() {
        let before = RecordId::from_hex("0123456789abcdef0123456789abcdef");
        for generation in [None, Some(0), Some(12_345)] {
            let cursor = Cursor { before, generation };
            assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
    }

    #[test]
    fn decoding_takes_only_escapes() {
        for (text, plain) in
            [("%41%c3%A9", "Aé"), ("100%", "100%"), ("%4", "%4"), ("%zz%+1", "%zz%+1"), ("%2541", "%41"), ("%ff", "\u{fffd}")]
        {
            assert_eq!(percent_decoded(text), plain, "{text}");
        }
    }
}
