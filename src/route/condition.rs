//! The query language of conditional routes (protocol §2.3): read once into a closed type, then evaluated against the facts
//! of a call.
//!
//! Where the sources disagree: a missing key makes `$ne` and `$nin` true and everything else false; `$and`, `$or` and `$regex`
//! are ANDed with their siblings like any other key. Equality is that of JavaScript: by type, and nothing equals a list or
//! an object. `$gt` and its like read both sides as `parseFloat` does. What an operator cannot use (a pattern that is none,
//! a list that is none) is false, and the linter says so; what is no operator at all is a mistake.
//!
//! A query sees no more of a value than a record may keep: the first [`MAX_TEXT`] bytes of a text, and of a list or an object
//! that it is one. So the values that a record shows are those that decided, and with them the decision can be made again.
//!
//! Patterns run in linear time, whatever they are (`regex-lite`: an automaton, no backtracking; its `\d` and `\w` are ASCII
//! like JavaScript's), and [`MAX_PATTERNS`] bounds how many there are.

use regex_lite::{Regex, RegexBuilder};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// What a condition can ask about a call.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The call's metadata.
    pub metadata: &'a BTreeMap<String, String>,
    /// The caller's body before any override; at least the members that the config's conditions name.
    pub params: &'a Map<String, Value>,
    /// The path that was called: `/v1/chat/completions`.
    pub pathname: &'a str,
}

/// A question with the answer yes or no.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// Each of them.
    All(Vec<Query>),
    /// One of them.
    Any(Vec<Query>),
    /// One operator on one value.
    Test(Key, Operator),
}

/// Whose value is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// `metadata.K`
    Metadata(String),
    /// `params.K`
    Params(String),
    /// `url.pathname`
    Pathname,
}

/// What is asked of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    /// `$gt`, `$gte`, `$lt`, `$lte`
    Compare(Relation, f64),
    /// `$eq`, or a bare value
    Equal(Value),
    /// `$in`
    In(Vec<Value>),
    /// `$regex`
    Matches(Pattern),
    /// Its operand lets it never be true; the text says why.
    Never(&'static str),
    /// `$ne`
    NotEqual(Value),
    /// `$nin`
    NotIn(Vec<Value>),
}

/// An order of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `$gt`
    Greater,
    /// `$gte`
    GreaterOrEqual,
    /// `$lt`
    Less,
    /// `$lte`
    LessOrEqual,
}

/// A pattern; equal when its text is.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// What [`Query::parse`] notes on its way.
#[derive(Debug, Default)]
pub struct Reading {
    /// Mistakes, by their path below the query's: `.$or[1].metadata.plan`.
    pub mistakes: Vec<(String, String)>,
    /// Tests met so far.
    pub tests: usize,
    /// Patterns among them.
    pub patterns: usize,
}

impl Query {
    /// Reads a query. What is wrong in it is noted, and then the query is not to be used.
    pub fn parse(written: &Map<String, Value>, path: &str, reading: &mut Reading) -> Query {
        let parts = written.iter().filter_map(|(key, operand)| {
            let path = format!("{path}.{key}");
            match key.as_str() {
                "$and" => Query::parse_list(operand, &path, reading).map(Query::All),
                "$or" => Query::parse_list(operand, &path, reading).map(Query::Any),
                key if key.starts_with('$') => reading.unknown(path, key),
                key => match Key::parse(key) {
                    Some(key) => Some(Query::parse_tests(&key, operand, &path, reading)),
                    None => reading.mistake(path, "a condition asks for metadata.…, params.… or url.pathname".to_owned()),
                },
            }
        });
        Query::All(parts.collect())
    }

    fn parse_list(operand: &Value, path: &str, reading: &mut Reading) -> Option<Vec<Query>> {
        let Some(items) = operand.as_array() else {
            return reading.mistake(path.to_owned(), "expected a list of queries".to_owned());
        };
        let queries = items.iter().enumerate().filter_map(|(index, item)| {
            let path = format!("{path}[{index}]");
            match item.as_object() {
                Some(written) => Some(Query::parse(written, &path, reading)),
                None => reading.mistake(path, "expected a query, which is an object".to_owned()),
            }
        });
        Some(queries.collect())
    }

    fn parse_tests(key: &Key, operand: &Value, path: &str, reading: &mut Reading) -> Query {
        let tests: Vec<Query> = match operand {
            Value::Object(operators) => operators
                .iter()
                .filter_map(|(name, operand)| match Operator::parse(name, operand) {
                    Some(operator) => Some(Query::Test(key.clone(), operator)),
                    None => reading.unknown(format!("{path}.{name}"), name),
                })
                .collect(),
            Value::Array(_) => {
                let message = "expected a value or an object of operators, found a list";
                reading.mistake(path.to_owned(), message.to_owned()).into_iter().collect()
            }
            literal => vec![Query::Test(key.clone(), Operator::Equal(literal.clone()))],
        };
        reading.tests += tests.len();
        reading.patterns += tests.iter().filter(|test| matches!(test, Query::Test(_, Operator::Matches(_)))).count();
        Query::All(tests)
    }

    /// Whether the answer is yes; the values that were looked at are added to `read`, missing ones apart.
    pub fn holds(&self, facts: &Facts, read: &mut Map<String, Value>) -> bool {
        match self {
            Query::All(all) => all.iter().all(|query| query.holds(facts, read)),
            Query::Any(any) => any.iter().any(|query| query.holds(facts, read)),
            Query::Test(key, operator) => {
                let value = facts.get(key);
                let holds = operator.holds(value.as_ref());
                if let Some(value) = value {
                    read.insert(key.to_string(), value);
                }
                holds
            }
        }
    }

    /// Whether nothing is asked, so that the answer is always yes.
    pub fn is_always(&self) -> bool {
        match self {
            Query::All(all) => all.iter().all(Query::is_always),
            Query::Any(any) => any.iter().any(Query::is_always),
            Query::Test(..) => false,
        }
    }

    /// Each test in it.
    pub fn tests(&self) -> Box<dyn Iterator<Item = (&Key, &Operator)> + '_> {
        match self {
            Query::All(inner) | Query::Any(inner) => Box::new(inner.iter().flat_map(Query::tests)),
            Query::Test(key, operator) => Box::new(std::iter::once((key, operator))),
        }
    }
}

impl Reading {
    fn mistake<T>(&mut self, path: String, message: String) -> Option<T> {
        self.mistakes.push((path, message));
        None
    }

    fn unknown<T>(&mut self, path: String, name: &str) -> Option<T> {
        self.mistake(path, format!("unknown operator '{name}'; there are {OPERATORS}"))
    }
}

impl Facts<'_> {
    fn get(&self, key: &Key) -> Option<Value> {
        match key {
            Key::Metadata(name) => self.metadata.get(name).map(|text| visible_text(text)),
            Key::Params(name) => self.params.get(name).map(visible),
            Key::Pathname => Some(visible_text(self.pathname)),
        }
    }
}

/// What a query, and a record, sees of a value.
fn visible(value: &Value) -> Value {
    match value {
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Object(_) => Value::Object(Map::new()),
        Value::String(text) => visible_text(text),
        scalar => scalar.clone(),
    }
}

/// A text that was cut ends with `…`, so that it equals no shorter one.
fn visible_text(text: &str) -> Value {
    match text.len() {
        0..=MAX_TEXT => text.into(),
        _ => format!("{}…", text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default()).into(),
    }
}

impl Key {
    /// Two segments count; whatever follows a second dot is ignored.
    fn parse(text: &str) -> Option<Key> {
        let mut segments = text.split('.');
        match (segments.next()?, segments.next()?) {
            (_, "") => None,
            ("metadata", name) => Some(Key::Metadata(name.to_owned())),
            ("params", name) => Some(Key::Params(name.to_owned())),
            ("url", "pathname") => Some(Key::Pathname),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Metadata(name) => write!(f, "metadata.{name}"),
            Key::Params(name) => write!(f, "params.{name}"),
            Key::Pathname => f.write_str("url.pathname"),
        }
    }
}

impl Operator {
    /// `None` when there is no operator of that name.
    fn parse(name: &str, operand: &Value) -> Option<Operator> {
        let compare = |relation| float(operand).map_or(Operator::Never(NO_NUMBER), |bound| Operator::Compare(relation, bound));
        let list = |operator: fn(Vec<Value>) -> Operator| operand.as_array().cloned().map_or(Operator::Never(NO_LIST), operator);
        Some(match name {
            "$eq" => Operator::Equal(operand.clone()),
            "$gt" => compare(Relation::Greater),
            "$gte" => compare(Relation::GreaterOrEqual),
            "$in" => list(Operator::In),
            "$lt" => compare(Relation::Less),
            "$lte" => compare(Relation::LessOrEqual),
            "$ne" => Operator::NotEqual(operand.clone()),
            "$nin" => list(Operator::NotIn),
            "$regex" => operand.as_str().and_then(Pattern::new).map_or(Operator::Never(NO_PATTERN), Operator::Matches),
            _ => return None,
        })
    }

    fn holds(&self, value: Option<&Value>) -> bool {
        let is = |wanted: &Value| value.is_some_and(|value| equal(value, wanted));
        match self {
            Operator::Compare(relation, bound) => value.and_then(float).is_some_and(|value| relation.holds(value, *bound)),
            Operator::Equal(wanted) => is(wanted),
            Operator::In(wanted) => wanted.iter().any(is),
            Operator::Matches(Pattern(pattern)) => match value {
                Some(Value::String(text)) => pattern.is_match(text),
                Some(scalar @ (Value::Bool(_) | Value::Number(_))) => pattern.is_match(&scalar.to_string()),
                _ => false,
            },
            Operator::Never(_) => false,
            Operator::NotEqual(wanted) => !is(wanted),
            Operator::NotIn(wanted) => !wanted.iter().any(is),
        }
    }
}

impl Relation {
    fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Relation::Greater => value > bound,
            Relation::GreaterOrEqual => value >= bound,
            Relation::Less => value < bound,
            Relation::LessOrEqual => value <= bound,
        }
    }
}

impl Pattern {
    fn new(text: &str) -> Option<Pattern> {
        RegexBuilder::new(text).size_limit(MAX_PATTERN_BYTES).build().ok().map(Pattern)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// JavaScript's `===` on what JSON can say; two lists are never one.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(_) | Value::Object(_), _) => false,
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

/// JavaScript's `parseFloat`: the longest beginning that is a decimal number. `None` is its NaN.
fn float(value: &Value) -> Option<f64> {
    let text = match value {
        Value::Number(number) => return number.as_f64(),
        Value::String(text) => text.trim_start(),
        _ => return None,
    };
    let digits = |at: usize| text.bytes().skip(at).take_while(u8::is_ascii_digit).count();
    let is = |at: usize, wanted: &[u8]| text.as_bytes().get(at).is_some_and(|byte| wanted.contains(byte));
    let sign = usize::from(is(0, b"+-"));
    if text.get(sign..).is_some_and(|rest| rest.starts_with("Infinity")) {
        return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    let whole = digits(sign);
    let mut end = sign + whole;
    if is(end, b".") && (whole > 0 || digits(end + 1) > 0) {
        end += 1 + digits(end + 1);
    }
    if end > sign && is(end, b"eE") {
        let exponent = end + 1 + usize::from(is(end + 1, b"+-"));
        end = if digits(exponent) > 0 { exponent + digits(exponent) } else { end };
    }
    text.get(..end)?.parse().ok()
}

/// Bytes of a text that a condition looks at.
pub const MAX_TEXT: usize = 512;

/// Tests in one config: what they read is kept with the call.
pub const MAX_TESTS: usize = 128;

/// Patterns in one config: an isolate remembers compiled configs, and its memory is shared.
pub const MAX_PATTERNS: usize = 32;

/// Memory of one compiled pattern; some hundred characters, or repetitions that come to as many.
const MAX_PATTERN_BYTES: usize = 16 << 10;

const NO_LIST: &str = "its operand is no list";
const NO_NUMBER: &str = "its operand is no number";
const NO_PATTERN: &str =
    "its operand is no pattern that can be used: one in linear time, without look-around and back-references, and not too large";
const OPERATORS: &str = "$and, $eq, $gt, $gte, $in, $lt, $lte, $ne, $nin, $or and $regex";

#[cfg(test)]
mod tests;
