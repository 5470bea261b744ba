//! Which target next: the decisions of protocol §2.3 and §2.5, without the doing.
//!
//! A [`Plan`](plan::Plan) is asked for a [`Step`], the flow performs it and comes back with the [`Outcome`]. Nothing here
//! waits, reads a clock or knows what a provider is: targets are opaque ids, answers are statuses. The same config, the
//! same outcomes and the same draws give the same steps, so a trace can be replayed.

pub mod condition;
pub mod decision;
pub mod plan;
pub mod retry;

use crate::ids::TargetId;
use crate::time::Millis;
use crate::trace::span::{Reason, WaitReason};

/// What the flow shall do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Finish: the response to that last attempt is the caller's.
    Answer(Answer),
    /// Finish without an answer: a conditional strategy found no target, and the decision that says so names it.
    NoTarget,
    /// Try a target, and come back with what happened.
    Send {
        /// Whom.
        target: TargetId,
        /// Why.
        reason: Reason,
        /// 0-based at this target.
        retry: u32,
    },
    /// Let time pass, then come back with nothing. Never of zero length.
    Wait {
        /// How long.
        duration: Millis,
        /// Who said so.
        reason: WaitReason,
    },
}

/// How the plan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The target of the last attempt.
    pub target: TargetId,
    /// Retries used at it; a target before it in a fallback had its own.
    pub retries: u32,
    /// Whether a retry was due and refused: none left, or the upstream named a wait too long.
    pub exhausted: bool,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What came back.
    pub kind: OutcomeKind,
    /// The wait that the upstream asked for ([`retry::retry_after`]).
    pub retry_after: Option<Millis>,
}

/// What came back from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeKind {
    /// No connection.
    Connect,
    /// The gateway itself failed: it would fail again, so everything stops.
    GatewayException,
    /// A response of that status.
    Status(u16),
    /// No response headers in time.
    Timeout,
}

impl Answer {
    /// `x-portkey-retry-attempt-count`: the retries used, or -1 when they did not help.
    pub fn retry_count(&self) -> i32 {
        if self.exhausted { -1 } else { i32::try_from(self.retries).unwrap_or(i32::MAX) }
    }
}

impl OutcomeKind {
    /// The status that it counts as, for codes in configs and for the caller alike.
    pub fn status(self) -> u16 {
        match self {
            OutcomeKind::Connect => 503,
            OutcomeKind::GatewayException => 500,
            OutcomeKind::Status(status) => status,
            OutcomeKind::Timeout => 408,
        }
    }
}

impl From<OutcomeKind> for Outcome {
    fn from(kind: OutcomeKind) -> Outcome {
        Outcome { kind, retry_after: None }
    }
}

#[cfg(test)]
mod tests;
