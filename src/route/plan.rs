//! The state machine that walks a config's route.
//!
//! It borrows the config instead of compiling it: the flow keeps the config alive for the whole call anyway, a plan for
//! one target then allocates nothing, and a route is already the form that a walk needs. The only memory is the fallbacks
//! that the current target lies in, with what is left of each.
//!
//! A draw is final, and so is a condition: what they chose is tried, its siblings are not. A condition that finds nobody
//! ends the whole call, in the middle of a fallback too, since the next target is no answer to a question badly asked.

use super::condition::Facts;
use super::decision::{Choice, Decision};
use super::retry::{self, BUDGET, Spent, Verdict};
use super::{Answer, Outcome, OutcomeKind, Step};
use crate::config::{Condition, Config, FallThrough, OneOrMore, Route, Target};
use crate::ids::TargetId;
use crate::random::Rng;
use crate::time::Millis;
use crate::trace::span::{Reason, WaitReason};
use serde_json::Map;

/// One call's way through its config.
#[derive(Clone, Debug)]
pub struct Plan<'c> {
    config: &'c Config,
    facts: Facts<'c>,
    /// The fallbacks around the current target, outermost first.
    open: Vec<Open<'c>>,
    state: State,
    spent: Spent,
}

/// A step, and the decisions that led to it since the last one.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn<'c> {
    /// What to do.
    pub step: Step,
    /// In the order in which they were made; a step without a choice has none.
    pub decisions: Vec<Decision<'c>>,
}

/// A fallback in progress.
#[derive(Clone, Debug)]
struct Open<'c> {
    path: &'c str,
    rest: std::iter::Enumerate<std::slice::Iter<'c, Route>>,
    on_status: &'c FallThrough,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Over; the last step stands.
    Done(Step),
    /// The next step is a send to that target.
    Due(TargetId, Reason),
    /// The target was sent to, and its outcome is awaited.
    Sent(TargetId),
    /// Nothing happened yet.
    Start,
}

/// Where the decisions of a turn are written down.
type Log<'a, 'c> = &'a mut Vec<Decision<'c>>;

impl<'c> Plan<'c> {
    /// A plan at its start, for a call with these facts.
    pub fn new(config: &'c Config, facts: Facts<'c>) -> Plan<'c> {
        let spent = Spent { retries: 0, obeyed: false, budget: BUDGET };
        Plan { config, facts, open: Vec::new(), state: State::Start, spent }
    }

    /// The next step. After [`Step::Send`] it takes the outcome (without one the attempt counts as a fault of the
    /// gateway); at the start and after [`Step::Wait`] there is none. After the answer it stays the answer.
    pub fn next(&mut self, outcome: Option<Outcome>, rng: &mut dyn Rng) -> Turn<'c> {
        let mut decisions = Vec::new();
        let step = match self.state {
            State::Done(step) => step,
            State::Due(target, reason) => self.send(target, reason),
            State::Sent(target) => {
                self.judge(target, outcome.unwrap_or(OutcomeKind::GatewayException.into()), rng, &mut decisions)
            }
            State::Start => self.enter(&self.config.route, Reason::First, rng, &mut decisions),
        };
        Turn { step, decisions }
    }

    /// Goes down to a leaf and sends to it. The reason is that of the last choice on the way.
    fn enter(&mut self, mut route: &'c Route, mut reason: Reason, rng: &mut dyn Rng, log: Log<'_, 'c>) -> Step {
        let target = loop {
            route = match route {
                Route::Conditional { path, targets, conditions, default } => {
                    reason = Reason::Condition;
                    let choice = decide(conditions, *default, &self.facts);
                    let target = choice.target().and_then(|index| targets.get(index));
                    log.push(Decision { path, choice });
                    match target {
                        Some(target) => target,
                        None => return self.end(Step::NoTarget),
                    }
                }
                Route::Fallback { path, targets, on_status } => {
                    self.open.push(Open { path, rest: targets.rest.iter().enumerate(), on_status });
                    &targets.first
                }
                Route::Loadbalance { path, targets } => {
                    reason = Reason::Loadbalance;
                    let weights: Vec<f64> = targets.iter().map(|target| target.weight).collect();
                    let drawn = rng.next_u64() >> 11;
                    let target = pick(drawn, &weights);
                    log.push(Decision { path, choice: Choice::Draw { drawn, weights, target } });
                    &targets.get(target).unwrap_or(&targets.first).route
                }
                Route::Single(inner) => inner,
                Route::Target(id) => break *id,
            };
        };
        self.spent = Spent { retries: 0, obeyed: false, ..self.spent };
        self.send(target, reason)
    }

    fn send(&mut self, target: TargetId, reason: Reason) -> Step {
        self.state = State::Sent(target);
        Step::Send { target, reason, retry: self.spent.retries }
    }

    fn judge(&mut self, target: TargetId, outcome: Outcome, rng: &mut dyn Rng, log: Log<'_, 'c>) -> Step {
        let config = self.config;
        let Target { path, retry, .. } = config.target(target);
        let (duration, reason) = match retry::judge(retry, self.spent, outcome) {
            Verdict::Again(duration, reason) => (duration, reason),
            verdict => return self.leave(target, outcome.kind, verdict == Verdict::Exhausted, rng, log),
        };
        log.push(Decision { path, choice: Choice::Retry { status: outcome.kind.status() } });
        self.spent.retries += 1;
        if reason == WaitReason::RetryAfter {
            self.spent.obeyed = true;
            self.spent.budget = Millis(self.spent.budget.0.saturating_sub(duration.0));
        }
        if duration == Millis(0) {
            return self.send(target, Reason::Retry);
        }
        self.state = State::Due(target, Reason::Retry);
        Step::Wait { duration, reason }
    }

    /// The target has had its tries: on to the next one of the innermost fallback that is not satisfied, or to the end.
    fn leave(&mut self, target: TargetId, kind: OutcomeKind, exhausted: bool, rng: &mut dyn Rng, log: Log<'_, 'c>) -> Step {
        let status = kind.status();
        while kind != OutcomeKind::GatewayException
            && let Some(fallback) = self.open.last_mut()
        {
            if fallback.on_status.on(status)
                && let Some((passed, next)) = fallback.rest.next()
            {
                log.push(Decision { path: fallback.path, choice: Choice::Fallback { status, target: passed + 1 } });
                return self.enter(next, Reason::Fallback, rng, log);
            }
            self.open.pop();
        }
        self.end(Step::Answer(Answer { target, retries: self.spent.retries, exhausted }))
    }

    fn end(&mut self, step: Step) -> Step {
        self.state = State::Done(step);
        step
    }
}

/// The first condition that holds, else the default.
pub fn decide(conditions: &OneOrMore<Condition>, default: Option<usize>, facts: &Facts) -> Choice {
    let mut values = Map::new();
    let found = conditions.iter().enumerate().find(|(_, condition)| condition.query.holds(facts, &mut values));
    let (condition, target) = match found {
        Some((index, condition)) => (Some(index), Some(condition.then)),
        None => (None, default),
    };
    Choice::Condition { condition, target, values }
}

/// The index that 53 random bits choose: as a number in [0, Σ weights) they walk down the list. A weight of zero is never
/// met, not even by rounding.
pub fn pick(drawn: u64, weights: &[f64]) -> usize {
    let mut left = drawn as f64 / (1u64 << 53) as f64 * weights.iter().sum::<f64>();
    let mut picked = 0;
    for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        picked = index;
        if left < *weight {
            break;
        }
        left -= weight;
    }
    picked
}
