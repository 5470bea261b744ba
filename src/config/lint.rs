//! What is to be said of a config before a call depends on it: all that is wrong, what has no effect, and the worst that it
//! can do to a call.
//!
//! A warning is about something that can be proved from the config alone: a target that no call reaches, a rule that never
//! applies. What is merely unusual is no warning. The worst case is a bound for the time until the headers of the last
//! answer: every attempt lasts as long as it may, and then is tried again. Only a body that comes slowly takes longer.

use super::parse::{self, Context, Findings, Kind, Node};
use super::resolve::{self, Overrides};
use super::{Condition, Config, FallThrough, OneOrMore, Retry, Route, Target, written};
use crate::error::Problem;
use crate::route::condition::Operator;
use crate::route::retry::BUDGET;
use crate::time::Millis;
use serde_json::{Value, json};

/// The verdict on a config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Why it would be refused; a config without any is valid.
    pub errors: Vec<Problem>,
    /// What has no effect.
    pub warnings: Vec<Problem>,
    /// `None` when it cannot be told, because of the errors.
    pub worst_case: Option<WorstCase>,
}

/// The worst that can happen to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorstCase {
    /// Upstream calls.
    pub attempts: u32,
    /// Until the headers of the last answer; `None` when a target has no timeout.
    pub wall_time: Option<Millis>,
}

/// Judges the text of a config, which would be sent in `x-portkey-config`.
pub fn lint(text: &str, context: Context) -> Report {
    let fields = match written::read(text.trim()) {
        Ok(fields) => fields,
        Err(why) => return Report { errors: vec![problem("", format!("not a JSON object: {why}"))], ..Report::default() },
    };
    let (node, Findings { mistakes, not_yet }) = parse::read(&fields, context);
    let node = node.filter(|_| mistakes.is_empty());
    let mut errors = mistakes;
    errors.extend(not_yet.into_iter().map(|Problem { path, message }| {
        let what = message.strip_prefix('(').and_then(|what| what.strip_suffix(')')).unwrap_or(&message);
        problem(&path, format!("not supported yet: {what}"))
    }));
    let Some(node) = node else { return Report { errors, ..Report::default() } };
    let mut warnings = Vec::new();
    look_at(&node, false, &mut warnings);
    let config = resolve::resolve(node, &Overrides::default());
    errors.extend(config.excess());
    let worst_case = Some(WorstCase { attempts: config.worst_case_attempts(), wall_time: config.worst_wall_time() });
    Report { errors, warnings, worst_case }
}

impl Report {
    /// The answer of `POST /v1/configs/validate`.
    pub fn to_json(&self) -> String {
        let list = |problems: &[Problem]| -> Value {
            problems.iter().map(|Problem { path, message }| json!({"path": path, "message": message})).collect()
        };
        let worst = self
            .worst_case
            .map(|WorstCase { attempts, wall_time }| json!({"attempts": attempts, "wall_time_ms": wall_time.map(|time| time.0)}));
        let (errors, warnings) = (list(&self.errors), list(&self.warnings));
        json!({"valid": self.errors.is_empty(), "errors": errors, "warnings": warnings, "worst_case": worst}).to_string()
    }
}

fn problem(path: &str, message: impl Into<String>) -> Problem {
    Problem { path: path.to_owned(), message: message.into() }
}

fn at(node: &Node, key: &str) -> String {
    if node.path.is_empty() { key.to_owned() } else { format!("{}.{key}", node.path) }
}

/// Notes what has no effect in a node that can be reached, and below it. `retried`: it inherits a retry.
fn look_at(node: &Node, retried: bool, warnings: &mut Vec<Problem>) {
    if let Some(retry) = &node.settings.retry {
        look_at_retry(node, retry, retried, warnings);
    }
    let retried = node.settings.retry.as_ref().map_or(retried, |retry| retry.attempts > 0);
    let unreached: Vec<(usize, &str)> = match &node.kind {
        Kind::Conditional { targets, conditions, default } => {
            let reached = look_at_conditions(node, conditions, *default, warnings);
            let unreached = (0..targets.iter().count()).filter(|index| !reached.contains(index));
            unreached.map(|index| (index, "no condition that can decide leads here, nor does the default")).collect()
        }
        Kind::Fallback { targets, on_status: FallThrough::Listed(statuses) } if statuses.0.is_empty() => {
            after_the_first(targets, "the empty on_status_codes never let a fallback move on")
        }
        Kind::Loadbalance(targets) => {
            let unweighted = targets.iter().enumerate().filter(|(_, target)| target.weight == 0.0);
            unweighted.map(|(index, _)| (index, "its weight is 0")).collect()
        }
        Kind::Single(targets) => after_the_first(targets, "only the first target of a single strategy is called"),
        Kind::Fallback { .. } | Kind::Leaf(_) => Vec::new(),
    };
    for (index, target) in node.kind.targets().enumerate() {
        match unreached.iter().find(|(unreached, _)| *unreached == index) {
            Some((_, why)) => warnings.push(problem(&target.path, format!("never called: {why}"))),
            None => look_at(target, retried, warnings),
        }
    }
}

fn after_the_first<'w>(targets: &OneOrMore<Node>, why: &'w str) -> Vec<(usize, &'w str)> {
    (1..=targets.rest.len()).map(|index| (index, why)).collect()
}

/// Notes conditions that never decide; the indices of the targets that are reached.
fn look_at_conditions(
    node: &Node,
    conditions: &OneOrMore<Condition>,
    default: Option<usize>,
    warnings: &mut Vec<Problem>,
) -> Vec<usize> {
    let (mut reached, mut catch_all) = (Vec::new(), None);
    for (index, condition) in conditions.iter().enumerate() {
        let path = at(node, &format!("strategy.conditions[{index}]"));
        let twin = conditions.iter().take(index).position(|earlier| earlier.query == condition.query);
        match (catch_all, twin) {
            (Some(earlier), _) => warnings.push(problem(&path, format!("never decides: conditions[{earlier}] holds always"))),
            (None, Some(earlier)) => warnings.push(problem(&path, format!("never decides: it repeats conditions[{earlier}]"))),
            (None, None) => {
                reached.push(condition.then);
                for (key, operator) in condition.query.tests() {
                    if let Operator::Never(why) = operator {
                        warnings.push(problem(&format!("{path}.query"), format!("a test of {key} is never true: {why}")));
                    }
                }
                catch_all = condition.query.is_always().then_some(index);
            }
        }
    }
    match catch_all {
        Some(_) if default.is_some() => {
            warnings.push(problem(&at(node, "strategy.default"), "never decides: a condition holds always"));
        }
        Some(_) => {}
        None => reached.extend(default),
    }
    reached
}

fn look_at_retry(node: &Node, retry: &Retry, inherits: bool, warnings: &mut Vec<Problem>) {
    let mut warn = |key: &str, message: &str| warnings.push(problem(&at(node, key), message));
    if !applies(node) {
        return warn("retry", "has no effect: every target below has its own");
    }
    if retry.attempts == 0 {
        if !inherits {
            warn("retry", "has no effect: it allows no attempts, and there is none to undo");
        }
        return;
    }
    if retry.on_status.0.iter().any(|status| (200..=204).contains(status)) {
        warn("retry.on_status_codes", "200 to 204 have no effect: they are never tried again");
    }
    if retry.use_retry_after && !retry.on_status.contains(429) {
        warn("retry.use_retry_after_header", "has no effect: 429 is not among on_status_codes");
    }
}

/// Whether a retry of this node is that of a leaf.
fn applies(node: &Node) -> bool {
    let mut targets = node.kind.targets().peekable();
    targets.peek().is_none() || targets.any(|target| target.settings.retry.is_none() && applies(target))
}

impl Kind {
    fn targets(&self) -> impl Iterator<Item = &Node> {
        let targets = match self {
            Kind::Conditional { targets, .. } | Kind::Fallback { targets, .. } => Some(targets),
            Kind::Loadbalance(targets) | Kind::Single(targets) => Some(targets),
            Kind::Leaf(_) => None,
        };
        targets.into_iter().flat_map(OneOrMore::iter)
    }
}

/// How long a way can take.
#[derive(Clone, Copy, Debug)]
struct Longest {
    /// With back-offs alone.
    millis: u64,
    /// What Retry-After can add to that: the budget of the call, less the back-off in whose place it comes. It is spent once,
    /// however many targets obey.
    more: u64,
}

const NONE: Longest = Longest { millis: 0, more: 0 };

impl Longest {
    fn or(self, other: Longest) -> Longest {
        Longest { millis: self.millis.max(other.millis), more: self.more.max(other.more) }
    }

    fn then(self, other: Longest) -> Longest {
        Longest { millis: self.millis + other.millis, more: self.more.max(other.more) }
    }
}

impl Config {
    /// The longest that a call can take, until the headers of the last answer; `None` when a target has no timeout.
    pub fn worst_wall_time(&self) -> Option<Millis> {
        longest(&self.route, self).map(|Longest { millis, more }| Millis(millis + more))
    }
}

fn longest(route: &Route, config: &Config) -> Option<Longest> {
    match route {
        Route::Conditional { targets, conditions, default, .. } => {
            let chosen = conditions.iter().map(|condition| condition.then).chain(*default);
            chosen.filter_map(|index| targets.get(index)).try_fold(NONE, |a, target| Some(a.or(longest(target, config)?)))
        }
        Route::Fallback { targets, .. } => targets.iter().try_fold(NONE, |a, target| Some(a.then(longest(target, config)?))),
        Route::Loadbalance { targets, .. } => {
            let mut drawn = targets.iter().filter(|target| target.weight > 0.0);
            drawn.try_fold(NONE, |a, target| Some(a.or(longest(&target.route, config)?)))
        }
        Route::Single(target) => longest(target, config),
        Route::Target(id) => longest_at(config.target(*id)),
    }
}

fn longest_at(target: &Target) -> Option<Longest> {
    let Retry { attempts, on_status, use_retry_after } = &target.retry;
    let timeout = target.request_timeout?.0;
    let back_offs = (1_000 << attempts) - 1_000;
    let obeys = *use_retry_after && *attempts > 0 && on_status.contains(429);
    let more = if obeys { BUDGET.0 - (1_000 << (attempts - 1)) } else { 0 };
    Some(Longest { millis: u64::from(attempts + 1) * timeout + back_offs, more })
}

#[cfg(test)]
mod tests;
