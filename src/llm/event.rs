//! A streamed answer in the gateway's own words.
//!
//! An upstream dialect reads its stream into these events; the client's dialect writes them. [`Fold`] puts them together
//! to the [`Answer`] that a call without streaming would have given, as far as the stream got and memory allows.

use super::chat::{Answer, Content, Failure, Finish};
use super::usage::Usage;

/// One step of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first one; exactly once before any other but `Error`.
    Start {
        /// The provider's id of the answer.
        id: Option<String>,
        /// The model that answers.
        model: Option<String>,
    },
    /// More text; never empty.
    Text(String),
    /// More thoughts; never empty.
    Thinking(String),
    /// The seal of the thoughts before it.
    Signature(String),
    /// Thoughts that the provider keeps unreadable.
    RedactedThinking(String),
    /// A tool call begins.
    ToolStart {
        /// Counts the tool calls of the answer from 0.
        index: u32,
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
    },
    /// More argument text of a tool call; never empty.
    ToolArguments {
        /// Which call.
        index: u32,
        /// A piece of the JSON text of an object.
        fragment: String,
    },
    /// Why the model declined.
    Refusal(String),
    /// What was consumed so far; replaces what was said before.
    Usage {
        /// The counts.
        usage: Usage,
        /// The service class that is billed, in the provider's words.
        service_tier: Option<String>,
    },
    /// The answer has ended; the terminator is still to come.
    Finish {
        /// Why.
        reason: Finish,
        /// The same in the provider's words; `None` when it gave no reason.
        native: Option<String>,
    },
    /// The provider reported an error; the last event.
    Error(Failure),
    /// The provider's terminator was seen; the last event.
    End,
}

impl Event {
    /// Whether this is something that the model generated.
    pub fn is_token(&self) -> bool {
        use Event::*;
        matches!(self, Text(_) | Thinking(_) | Signature(_) | RedactedThinking(_) | ToolStart { .. } | ToolArguments { .. })
    }
}

/// Puts events together.
///
/// Bounded: once the content weighs more than [`MAX_WEIGHT`] bytes, or has more than [`MAX_PARTS`] parts, no more of it is
/// kept. Facts (model, reasons, usage) always are.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    answer: Answer,
    /// The place of each tool call in `answer.parts`.
    calls: Vec<usize>,
    weight: usize,
    started: bool,
}

impl Fold {
    /// Takes the next event.
    pub fn push(&mut self, event: &Event) {
        match event {
            Event::Start { id, model } => {
                self.started = true;
                self.answer.id.clone_from(id);
                self.answer.model.clone_from(model);
            }
            Event::Usage { usage, service_tier } => {
                self.answer.usage = *usage;
                self.answer.service_tier.clone_from(service_tier);
            }
            Event::Finish { reason, native } => {
                self.answer.finish = Some(*reason);
                self.answer.native_finish.clone_from(native);
            }
            Event::Error(_) | Event::End => {}
            _ => self.push_content(event),
        }
    }

    /// The answer so far; `None` while it has not begun.
    pub fn answer(&self) -> Option<&Answer> {
        self.started.then_some(&self.answer)
    }

    fn push_content(&mut self, event: &Event) {
        if !self.affords(event) {
            return;
        }
        let parts = &mut self.answer.parts;
        match event {
            Event::Text(more) => match parts.last_mut() {
                Some(Content::Text(text)) => text.push_str(more),
                _ => parts.push(Content::Text(more.clone())),
            },
            // Thoughts go on until they are sealed.
            Event::Thinking(more) => match parts.last_mut() {
                Some(Content::Thinking { text, signature: None }) => text.push_str(more),
                _ => parts.push(Content::Thinking { text: more.clone(), signature: None }),
            },
            Event::Signature(seal) => match parts.last_mut() {
                Some(Content::Thinking { signature: signature @ None, .. }) => *signature = Some(seal.clone()),
                _ => parts.push(Content::Thinking { text: String::new(), signature: Some(seal.clone()) }),
            },
            Event::RedactedThinking(data) => parts.push(Content::RedactedThinking(data.clone())),
            Event::ToolStart { id, name, .. } => {
                self.calls.push(parts.len());
                parts.push(Content::ToolUse { id: id.clone(), name: name.clone(), arguments: String::new() });
            }
            Event::ToolArguments { index, fragment } => {
                let place = self.calls.get(*index as usize);
                if let Some(Content::ToolUse { arguments, .. }) = place.and_then(|place| parts.get_mut(*place)) {
                    arguments.push_str(fragment);
                }
            }
            Event::Refusal(text) => self.answer.refusal = Some(text.clone()),
            _ => {}
        }
    }

    /// Once this said no it says no for ever, so that what is kept has no gaps.
    fn affords(&mut self, event: &Event) -> bool {
        let bytes = match event {
            Event::Text(text) | Event::Thinking(text) | Event::Signature(text) | Event::Refusal(text) => text.len(),
            Event::RedactedThinking(data) => data.len(),
            Event::ToolStart { id, name, .. } => id.len() + name.len(),
            Event::ToolArguments { fragment, .. } => fragment.len(),
            _ => 0,
        };
        let full = self.answer.parts.len() >= MAX_PARTS;
        self.weight = self.weight.saturating_add(if full { MAX_WEIGHT + 1 } else { bytes });
        self.weight <= MAX_WEIGHT
    }
}

/// The most content that is kept, in bytes: several times the longest answer that models give.
pub const MAX_WEIGHT: usize = 4 << 20;

/// The most parts that are kept.
pub const MAX_PARTS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_end_at_their_seal() {
        let mut fold = Fold::default();
        for event in [
            Event::Thinking("a".into()),
            Event::Thinking("b".into()),
            Event::Signature("s".into()),
            Event::Thinking("c".into()),
            Event::Text("x".into()),
            Event::Signature("t".into()),
        ] {
            fold.push(&event);
        }
        let seen: Vec<String> = fold.answer.parts.iter().map(|part| format!("{part:?}")).collect();
        assert_eq!(
            seen,
            [
                r#"Thinking { text: "ab", signature: Some("s") }"#,
                r#"Thinking { text: "c", signature: None }"#,
                r#"Text("x")"#,
                r#"Thinking { text: "", signature: Some("t") }"#,
            ]
        );
    }

    #[test]
    fn content_is_bounded_and_has_no_gaps() {
        let mut fold = Fold::default();
        fold.push(&Event::Text("x".repeat(MAX_WEIGHT)));
        fold.push(&Event::Text("yy".into()));
        fold.push(&Event::Text(String::new()));
        fold.push(&Event::Finish { reason: Finish::Stop, native: None });
        assert_eq!(fold.answer.finish, Some(Finish::Stop));
        assert!(matches!(fold.answer.parts.as_slice(), [Content::Text(text)] if text.len() == MAX_WEIGHT));

        let mut fold = Fold::default();
        for _ in 0..=MAX_PARTS {
            fold.push(&Event::RedactedThinking("x".into()));
        }
        assert_eq!(fold.answer.parts.len(), MAX_PARTS);
    }
}
