//! Chunks put together to the answer that would have come without a stream.
//!
//! Fragments are joined as they are written, escapes and all: nothing is lost or re-encoded, and a surrogate pair that was
//! cut in two by its sender is whole again. Which strings are fragments is a list ([`FRAGMENTS`]), because upstreams repeat
//! roles, ids and names on every chunk. Fields that no list names are kept where that is harmless: of a plain value the
//! first, of lists all elements, and objects member by member. A stream that was cut is assembled as far as it got.

use super::observe::{owned, usage};
use crate::llm::observed::Observed;
use crate::llm::usage::Usage;
use crate::wire::splice::{Object, quote};
use serde_json::value::RawValue;

/// What the chunks so far amount to.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    understood: bool,
    /// Top-level fields as they are first written, those apart that have a place of their own.
    head: Vec<(String, String)>,
    /// In the order of their index.
    choices: Vec<Choice>,
    usage: Option<(Usage, String)>,
}

#[derive(Debug, Default)]
struct Choice {
    index: u64,
    message: Fields,
    logprobs: Fields,
    finish_reason: Option<String>,
    /// The rest, as it is last written.
    others: Vec<(String, String)>,
}

/// An object put together from fragments. Empty values never get in.
#[derive(Debug, Default)]
struct Fields(Vec<(String, Slot)>);

/// Everything that arrived under one key, by its kind. One of them is filled, though Mistral mixes `list` and `text`.
#[derive(Debug, Default)]
struct Slot {
    /// The inside of a JSON string.
    text: String,
    /// The inside of a JSON array.
    list: String,
    object: Fields,
    calls: Vec<Call>,
    /// Any other value, as it is first written.
    plain: String,
}

#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    fields: Fields,
}

impl Assembly {
    /// Takes one chunk; what carries neither choices nor usage is none.
    pub(super) fn add(&mut self, chunk: &Object<'_>) {
        if chunk.get("choices").or(chunk.get("usage")).is_none() {
            return;
        }
        self.understood = true;
        for member in chunk.members() {
            match member.key.as_ref() {
                "choices" => self.add_choices(member.value),
                "usage" => self.add_usage(Some(member.value)),
                "x_groq" => self.add_usage(Object::parse_text(member.value).ok().and_then(|groq| groq.get("usage"))),
                "error" | "obfuscation" | "object" => {}
                key if is_empty(member.value) || self.head(key).is_some() || self.head.len() == MAX_FIELDS => {}
                key => self.head.push((key.to_owned(), member.value.to_owned())),
            }
        }
    }

    fn add_choices(&mut self, list: &str) {
        for (position, written) in elements(list).iter().enumerate() {
            let Ok(choice) = Object::parse_text(written.get()) else { continue };
            let index = choice.get("index").and_then(|index| index.parse().ok()).unwrap_or(position as u64);
            let at = self.choices.binary_search_by_key(&index, |known| known.index).unwrap_or_else(|at| {
                if self.choices.len() < MAX_CHOICES {
                    self.choices.insert(at, Choice { index, ..Choice::default() });
                }
                at
            });
            if let Some(known) = self.choices.get_mut(at).filter(|known| known.index == index) {
                known.add(&choice);
            }
            self.add_usage(choice.get("usage"));
        }
    }

    /// The last one holds: where usage comes on every chunk it is cumulative.
    fn add_usage(&mut self, written: Option<&str>) {
        let Some(written) = written.filter(|written| written.starts_with('{')) else { return };
        let usage = usage(written);
        if usage.is_known() || self.usage.is_none() {
            self.usage = Some((usage, written.to_owned()));
        }
    }

    /// Whether there are choices and each has its finish reason.
    pub(super) fn all_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finish_reason.is_some())
    }

    /// Whether a model has said anything.
    pub(super) fn has_output(&self) -> bool {
        self.choices.iter().any(|choice| choice.message.0.iter().any(|(_, slot)| slot.is_output()))
    }

    /// The facts.
    pub(super) fn observed(&self) -> Observed {
        let text = |key| self.head(key).and_then(owned);
        Observed {
            model: text("model"),
            response_id: text("id"),
            finish_reasons: self.choices.iter().filter_map(|choice| choice.finish_reason.clone()).collect(),
            usage: self.usage.as_ref().map(|(usage, _)| *usage).unwrap_or_default(),
            service_tier: text("service_tier"),
        }
    }

    /// The answer as one document; `None` when no chunk was understood.
    pub(super) fn answer(&self) -> Option<String> {
        let head = |key: &'static str| self.head(key).map(|value| member(key, value));
        let mut answer: Vec<String> = head("id").into_iter().collect();
        answer.push(member("object", r#""chat.completion""#));
        answer.extend(["created", "model"].into_iter().filter_map(head));
        answer.push(member("choices", &array(self.choices.iter().map(Choice::written))));
        answer.extend(self.usage.iter().map(|(_, usage)| member("usage", usage)));
        let rest = self.head.iter().filter(|(key, _)| !matches!(key.as_str(), "id" | "created" | "model"));
        answer.extend(rest.map(|(key, value)| member(key, value)));
        self.understood.then(|| object(&answer))
    }

    fn head(&self, key: &str) -> Option<&str> {
        self.head.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

impl Choice {
    fn add(&mut self, choice: &Object<'_>) {
        for member in choice.members() {
            match member.key.as_ref() {
                "delta" | "message" => self.message.add(member.value, MAX_DEPTH),
                "logprobs" => self.logprobs.add(member.value, MAX_DEPTH),
                "finish_reason" => self.finish_reason = owned(member.value).or(self.finish_reason.take()),
                "index" | "usage" => {}
                _ if is_empty(member.value) => {}
                key => {
                    self.others.retain(|(known, _)| known != key);
                    if self.others.len() < MAX_FIELDS {
                        self.others.push((key.to_owned(), member.value.to_owned()));
                    }
                }
            }
        }
    }

    fn written(&self) -> String {
        let mut choice = vec![member("index", &self.index.to_string()), member("message", &self.message.written_as_message())];
        if !self.logprobs.0.is_empty() {
            choice.push(member("logprobs", &self.logprobs.written()));
        }
        choice.push(member("finish_reason", &self.finish_reason.as_deref().map_or("null".to_owned(), quote)));
        choice.extend(self.others.iter().map(|(key, value)| member(key, value)));
        object(&choice)
    }
}

impl Fields {
    /// Takes a fragment; `depth` is how many levels below it are still joined.
    fn add(&mut self, fragment: &str, depth: u8) {
        let Ok(fragment) = Object::parse_text(fragment) else { return };
        for member in fragment.members().iter().filter(|member| member.key != "index" && !is_empty(member.value)) {
            let at = self.0.iter().position(|(key, _)| *key == member.key).unwrap_or(self.0.len());
            if at == self.0.len() && at < MAX_FIELDS {
                self.0.push((member.key.to_string(), Slot::default()));
            }
            if let Some((key, slot)) = self.0.get_mut(at) {
                slot.add(key, member.value, depth);
            }
        }
    }

    fn get(&self, key: &str) -> Option<&Slot> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, slot)| slot)
    }

    fn written(&self) -> String {
        object(&self.0.iter().map(|(key, slot)| member(key, &slot.written())).collect::<Vec<_>>())
    }

    /// With the role and content that a message always has (conventions, response rules).
    fn written_as_message(&self) -> String {
        let speaks_otherwise = ["tool_calls", "function_call", "refusal"].iter().any(|key| self.get(key).is_some());
        let without_content = if speaks_otherwise { "null" } else { r#""""# };
        let or = |key, default: &str| member(key, &self.get(key).map_or(default.to_owned(), Slot::written));
        let mut message = vec![or("role", r#""assistant""#), or("content", without_content)];
        let rest = self.0.iter().filter(|(key, _)| !matches!(key.as_str(), "role" | "content"));
        message.extend(rest.map(|(key, slot)| member(key, &slot.written())));
        object(&message)
    }
}

impl Slot {
    /// Takes a value that is not empty.
    fn add(&mut self, key: &str, value: &str, depth: u8) {
        match value.as_bytes() {
            [b'"', ..] if FRAGMENTS.contains(&key) => self.text.push_str(inside(value)),
            [b'[', ..] if key == "tool_calls" && depth > 0 => self.add_calls(value, depth - 1),
            [b'[', ..] => {
                let elements = inside(value).trim();
                let comma = if self.list.is_empty() || elements.is_empty() { "" } else { "," };
                self.list.extend([comma, elements]);
            }
            [b'{', ..] if depth > 0 => self.object.add(value, depth - 1),
            _ if self.plain.is_empty() => self.plain.push_str(value),
            _ => {}
        }
    }

    /// Whether it is more than a role or the like.
    fn is_output(&self) -> bool {
        !(self.text.is_empty() && self.list.is_empty() && self.object.0.is_empty() && self.calls.is_empty())
    }

    /// A call goes by its index. Upstreams that give none start a call with a new id, or with a name where there are no ids.
    fn add_calls(&mut self, list: &str, depth: u8) {
        for written in elements(list) {
            let Ok(entry) = Object::parse_text(written.get()) else { continue };
            let index = entry.get("index").and_then(|index| index.parse().ok());
            let id = entry.get("id").filter(|id| !is_empty(id));
            let at = match (index, id) {
                (Some(_), _) => self.calls.iter().position(|call| call.index == index),
                (None, Some(id)) => self.calls.iter().position(|call| call.fields.get("id").is_some_and(|slot| slot.plain == id)),
                (None, None) if names_a_function(&entry) => None,
                (None, None) => self.calls.len().checked_sub(1),
            };
            let at = at.unwrap_or(self.calls.len());
            if at == self.calls.len() && at < MAX_CALLS {
                self.calls.push(Call { index, fields: Fields::default() });
            }
            if let Some(call) = self.calls.get_mut(at) {
                call.fields.add(written.get(), depth);
            }
        }
    }

    fn written(&self) -> String {
        if !self.calls.is_empty() {
            array(self.calls.iter().map(|call| call.fields.written()))
        } else if !self.list.is_empty() {
            let text = (!self.text.is_empty()).then(|| format!(r#"{{"type":"text","text":"{}"}}"#, self.text));
            array([self.list.clone()].into_iter().chain(text))
        } else if !self.text.is_empty() {
            format!("\"{}\"", self.text)
        } else if !self.object.0.is_empty() {
            self.object.written()
        } else if !self.plain.is_empty() {
            self.plain.clone()
        } else {
            "null".to_owned()
        }
    }
}

fn names_a_function(call: &Object<'_>) -> bool {
    let function = call.get("function").and_then(|function| Object::parse_text(function).ok());
    function.and_then(|function| function.get("name")).is_some_and(|name| !is_empty(name))
}

/// Whether a value says nothing yet: some upstreams begin with such a chunk.
fn is_empty(value: &str) -> bool {
    matches!(value, "null" | "0" | r#""""# | "[]" | "{}")
}

/// A string or array without its delimiters.
fn inside(value: &str) -> &str {
    value.get(1..value.len().saturating_sub(1)).unwrap_or_default()
}

fn elements(list: &str) -> Vec<&RawValue> {
    serde_json::from_str(list).unwrap_or_default()
}

fn member(key: &str, value: &str) -> String {
    format!("{}:{value}", quote(key))
}

fn object(members: &[String]) -> String {
    format!("{{{}}}", members.join(","))
}

fn array(elements: impl Iterator<Item = String>) -> String {
    format!("[{}]", elements.collect::<Vec<_>>().join(","))
}

/// Strings that arrive in pieces, wherever they stand in a message.
const FRAGMENTS: &[&str] = &[
    "arguments",
    "content",
    "data",
    "input",
    "reasoning",
    "reasoning_content",
    "refusal",
    "thinking",
    "tool_plan",
    "transcript",
];

/// OpenAI's own limit on `n`, and on functions in a request: more is no answer but an attack.
const MAX_CHOICES: usize = 128;
const MAX_CALLS: usize = 128;

/// Fields of one object; far above any that was seen, and it keeps the search among them short.
const MAX_FIELDS: usize = 64;

/// Enough for `tool_calls[].extra_content.google.thought_signature`; what lies deeper is kept as it is first written.
const MAX_DEPTH: u8 = 4;
