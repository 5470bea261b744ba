//! What a plan decided, with everything that it decided from: enough to decide again, elsewhere and later.
//!
//! A draw says the number that was drawn and the weights, a condition what it read, a fallback and a retry which status they
//! matched. A trace keeps that as an event ([`Decision::attributes`]); the same config makes the same choice of it.

use serde_json::{Map, Value, json};

/// One choice at one node of the config.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<'c> {
    /// The strategy that chose, or the target that is tried again: `config.targets[1]`.
    pub path: &'c str,
    /// How it chose.
    pub choice: Choice,
}

/// How a node chose; `target` is the index of the chosen one.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// The first condition that holds.
    Condition {
        /// Which one; `None` is the default.
        condition: Option<usize>,
        /// `None` when there is no default either.
        target: Option<usize>,
        /// The values that were read on the way, by key; a key that is not here had none.
        values: Map<String, Value>,
    },
    /// Chance.
    Draw {
        /// 53 random bits.
        drawn: u64,
        /// Of each target.
        weights: Vec<f64>,
        /// Whom they chose.
        target: usize,
    },
    /// The next one.
    Fallback {
        /// What the one before it came to.
        status: u16,
        /// Whose turn it is.
        target: usize,
    },
    /// The same one.
    Retry {
        /// What it came to.
        status: u16,
    },
}

impl Choice {
    /// The index of the chosen target; `None` when there is none, or it is the same one again.
    pub fn target(&self) -> Option<usize> {
        match self {
            Choice::Condition { target, .. } => *target,
            Choice::Draw { target, .. } | Choice::Fallback { target, .. } => Some(*target),
            Choice::Retry { .. } => None,
        }
    }
}

impl Decision<'_> {
    /// The attributes of its event on the request span.
    pub fn attributes(self) -> Vec<(&'static str, Value)> {
        let chosen = |target: usize| json!(format!("{}.targets[{target}]", self.path));
        let mut attributes = vec![("portkey.decision.path", json!(self.path))];
        match self.choice {
            Choice::Condition { condition, target, values } => {
                let condition = match (condition, target) {
                    (Some(index), _) => json!(index),
                    (None, Some(_)) => json!("default"),
                    (None, None) => json!("none"),
                };
                attributes.extend([
                    ("portkey.decision.mode", json!("conditional")),
                    ("portkey.decision.condition", condition),
                    ("portkey.decision.values", Value::Object(values)),
                ]);
                attributes.extend(target.map(|target| ("portkey.decision.target", chosen(target))));
            }
            Choice::Draw { drawn, weights, target } => attributes.extend([
                ("portkey.decision.mode", json!("loadbalance")),
                ("portkey.decision.draw", json!(drawn)),
                ("portkey.decision.weights", json!(weights)),
                ("portkey.decision.target", chosen(target)),
            ]),
            Choice::Fallback { status, target } => attributes.extend([
                ("portkey.decision.mode", json!("fallback")),
                ("portkey.decision.status", json!(status)),
                ("portkey.decision.target", chosen(target)),
            ]),
            Choice::Retry { status } => attributes.extend([
                ("portkey.decision.mode", json!("retry")),
                ("portkey.decision.status", json!(status)),
                ("portkey.decision.target", json!(self.path)),
            ]),
        }
        attributes
    }
}
