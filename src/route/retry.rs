//! Whether an attempt is made again, and after how long (protocol §2.5): a table from plain values to an enum.
//!
//! Only a 429 may name its own wait, only when the config allows it, and only within a budget for the whole call
//! (`docs/adr/0003-retry-after-budget.md`). A wait that would burst the budget ends the retries of the target at once:
//! waiting for less would only be refused again.

use super::{Outcome, OutcomeKind};
use crate::config::Retry;
use crate::headers::Headers;
use crate::time::Millis;
use crate::trace::span::WaitReason;

/// What the retry rules say of one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Once more, after this long; zero means at once.
    Again(Millis, WaitReason),
    /// It would be retried, but must not.
    Exhausted,
    /// A success, or nothing that trying again would change.
    Settled,
}

/// What was spent so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Retries at this target.
    pub retries: u32,
    /// Whether a Retry-After was obeyed at this target; its back-offs are zero from then on.
    pub obeyed: bool,
    /// What is left of [`BUDGET`], over all targets.
    pub budget: Millis,
}

/// Judges one outcome at a target with these rules.
pub fn judge(rules: &Retry, spent: Spent, outcome: Outcome) -> Verdict {
    let retriable = match outcome.kind {
        OutcomeKind::Connect => true,
        OutcomeKind::GatewayException | OutcomeKind::Status(200..=204) => false,
        OutcomeKind::Status(_) | OutcomeKind::Timeout => rules.on_status.contains(outcome.kind.status()),
    };
    if rules.attempts == 0 || !retriable {
        return Verdict::Settled;
    }
    if spent.retries >= rules.attempts {
        return Verdict::Exhausted;
    }
    match outcome.retry_after.filter(|_| rules.use_retry_after && outcome.kind == OutcomeKind::Status(429)) {
        Some(wait) if wait >= BUDGET || wait > spent.budget => Verdict::Exhausted,
        Some(wait) => Verdict::Again(wait, WaitReason::RetryAfter),
        None if spent.obeyed => Verdict::Again(Millis(0), WaitReason::Backoff),
        None => Verdict::Again(Millis(1_000 << spent.retries.min(16)), WaitReason::Backoff),
    }
}

/// The wait that a response asks for. The first of its three headers that is present decides, even when it cannot be read
/// (an HTTP date): then there is none. A fraction counts as one more, so that no one comes back too early.
pub fn retry_after(headers: &Headers) -> Option<Millis> {
    let (text, unit) = HEADERS.iter().find_map(|(name, unit)| Some((headers.text(name)?, *unit)))?;
    let (whole, more) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, u64::from(digits(fraction)?.bytes().any(|digit| digit != b'0'))),
        None => (text, 0),
    };
    let count = digits(whole)?.parse().unwrap_or(u64::MAX);
    Some(Millis(count.saturating_add(more).saturating_mul(unit)))
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// Retry-After waits that one call may sleep, all targets together.
pub const BUDGET: Millis = Millis(60_000);

/// In the order in which they are looked for, with their unit in milliseconds.
const HEADERS: [(&str, u64); 3] = [("retry-after-ms", 1), ("x-ms-retry-after-ms", 1), ("retry-after", 1_000)];
