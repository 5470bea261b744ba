//! The state machine that walks a config's route.
//!
//! It borrows the config instead of compiling it: the flow keeps the config alive for the whole call anyway, a plan for
//! one target then allocates nothing, and a route is already the form that a walk needs. The only memory is the fallbacks
//! that the current target lies in, with what is left of each.

use super::retry::{self, BUDGET, Spent, Verdict};
use super::{Answer, Outcome, OutcomeKind, Step};
use crate::config::{Config, FallThrough, OneOrMore, Route, Weighted};
use crate::ids::TargetId;
use crate::random::Rng;
use crate::time::Millis;
use crate::trace::span::{Reason, WaitReason};

/// One call's way through its config.
#[derive(Clone, Debug)]
pub struct Plan<'c> {
    config: &'c Config,
    /// The fallbacks around the current target, outermost first.
    open: Vec<Open<'c>>,
    state: State,
    spent: Spent,
}

/// A fallback in progress.
#[derive(Clone, Debug)]
struct Open<'c> {
    rest: &'c [Route],
    on_status: &'c FallThrough,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Over; the answer stands.
    Done(Answer),
    /// The next step is a send to that target.
    Due(TargetId, Reason),
    /// The target was sent to, and its outcome is awaited.
    Sent(TargetId),
    /// Nothing happened yet.
    Start,
}

impl<'c> Plan<'c> {
    /// A plan at its start.
    pub fn new(config: &'c Config) -> Plan<'c> {
        let spent = Spent { retries: 0, obeyed: false, budget: BUDGET };
        Plan { config, open: Vec::new(), state: State::Start, spent }
    }

    /// The next step. After [`Step::Send`] it takes the outcome (without one the attempt counts as a fault of the
    /// gateway); at the start and after [`Step::Wait`] there is none. After the answer it stays the answer.
    pub fn next(&mut self, outcome: Option<Outcome>, rng: &mut dyn Rng) -> Step {
        match self.state {
            State::Done(answer) => Step::Answer(answer),
            State::Due(target, reason) => self.send(target, reason),
            State::Sent(target) => self.judge(target, outcome.unwrap_or(OutcomeKind::GatewayException.into()), rng),
            State::Start => self.enter(&self.config.route, Reason::First, rng),
        }
    }

    /// Goes down to a leaf and sends to it. The reason is that of the last choice on the way.
    fn enter(&mut self, mut route: &'c Route, mut reason: Reason, rng: &mut dyn Rng) -> Step {
        let target = loop {
            route = match route {
                // Refused by `config` until conditions are evaluated; the default is what holds when none of them does.
                Route::Conditional { targets, default, .. } => {
                    reason = Reason::Condition;
                    default.and_then(|index| targets.iter().nth(index)).unwrap_or(&targets.first)
                }
                Route::Fallback { targets, on_status } => {
                    self.open.push(Open { rest: &targets.rest, on_status });
                    &targets.first
                }
                Route::Loadbalance { targets } => {
                    reason = Reason::Loadbalance;
                    draw(targets, rng)
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

    fn judge(&mut self, target: TargetId, outcome: Outcome, rng: &mut dyn Rng) -> Step {
        let (duration, reason) = match retry::judge(&self.config.target(target).retry, self.spent, outcome) {
            Verdict::Again(duration, reason) => (duration, reason),
            verdict => return self.leave(target, outcome.kind, verdict == Verdict::Exhausted, rng),
        };
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
    fn leave(&mut self, target: TargetId, kind: OutcomeKind, exhausted: bool, rng: &mut dyn Rng) -> Step {
        while kind != OutcomeKind::GatewayException
            && let Some(fallback) = self.open.last_mut()
        {
            if let Some((next, rest)) = fallback.rest.split_first()
                && fallback.on_status.on(kind.status())
            {
                fallback.rest = rest;
                return self.enter(next, Reason::Fallback, rng);
            }
            self.open.pop();
        }
        let answer = Answer { target, retries: self.spent.retries, exhausted };
        self.state = State::Done(answer);
        Step::Answer(answer)
    }
}

/// A number in [0, Σ weights) walks down the list; a weight of zero is never met.
fn draw<'c>(targets: &'c OneOrMore<Weighted>, rng: &mut dyn Rng) -> &'c Route {
    let sum: f64 = targets.iter().map(|target| target.weight).sum();
    let mut left = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * sum;
    let mut drawn = &*targets.first;
    for target in targets.iter().filter(|target| target.weight > 0.0) {
        drawn = target;
        if left < target.weight {
            break;
        }
        left -= target.weight;
    }
    &drawn.route
}
