use super::condition::Facts;
use super::plan::Plan;
use super::*;
use crate::config::{self, Config, Policy};
use crate::headers::Headers;
use crate::random::{Rng, SeededRng};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A plan for a call of which nothing is known.
fn plan(config: &Config) -> Plan<'_> {
    static PARAMS: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    Plan::new(config, Facts { metadata: const { &BTreeMap::new() }, params: &PARAMS, pathname: "/v1/chat/completions" })
}

fn config(written: &Value) -> Config {
    let text = written.to_string();
    config::headers::resolve(&[("x-portkey-config", text.as_str())].into_iter().collect(), &Policy::default()).unwrap()
}

/// `500`, `429+2000` (asks for a wait of 2000 ms), `timeout`, `connect`, `exception`.
fn outcome(word: &str) -> Outcome {
    let (kind, wait) = word.split_once('+').unwrap_or((word, ""));
    let kind = match kind {
        "connect" => OutcomeKind::Connect,
        "exception" => OutcomeKind::GatewayException,
        "timeout" => OutcomeKind::Timeout,
        status => OutcomeKind::Status(status.parse().unwrap()),
    };
    Outcome { kind, retry_after: wait.parse().ok().map(Millis) }
}

/// Plays outcomes, and tells the steps: `first:0 wait:1000 retry:0 =0(1)` is a send to target 0, a second of back-off, a
/// retry there, and its answer after one retry. A wait that the upstream named is `after:1000`.
fn play(config: &Config, outcomes: &str) -> String {
    let mut plan = plan(config);
    let (mut outcomes, mut outcome_due, mut told) = (outcomes.split_whitespace(), None, Vec::new());
    loop {
        match plan.next(outcome_due.take(), &mut SeededRng(1)).step {
            Step::Send { target, reason, retry } => {
                assert_eq!(retry > 0, reason == Reason::Retry);
                told.push(format!("{}:{}", reason.as_str(), target.0));
                outcome_due = Some(outcome(outcomes.next().expect("the plan sends once more than there are outcomes")));
            }
            Step::Wait { duration, reason } => {
                let word = if reason == WaitReason::RetryAfter { "after" } else { "wait" };
                told.push(format!("{word}:{}", duration.0));
            }
            Step::NoTarget => {
                assert_eq!(plan.next(Some(outcome("500")), &mut SeededRng(1)).step, Step::NoTarget, "the refusal stands");
                told.push("none".to_owned());
                return told.join(" ");
            }
            Step::Answer(answer) => {
                assert_eq!(outcomes.next(), None, "the plan ends early: {told:?}");
                assert_eq!(plan.next(Some(outcome("500")), &mut SeededRng(1)).step, Step::Answer(answer), "the answer stands");
                told.push(format!("={}({})", answer.target.0, answer.retry_count()));
                return told.join(" ");
            }
        }
    }
}

fn plays(table: &[(Value, &str, &str)]) {
    for (written, outcomes, steps) in table {
        assert_eq!(play(&config(written), outcomes), *steps, "{written} with {outcomes}");
    }
}

/// A leaf with a retry.
fn leaf(retry: Value) -> Value {
    json!({"provider": "openai", "retry": retry})
}

fn fallback(targets: Value) -> Value {
    json!({"strategy": {"mode": "fallback"}, "targets": targets})
}

fn fallback_on(statuses: Value, targets: Value) -> Value {
    json!({"strategy": {"mode": "fallback", "on_status_codes": statuses}, "targets": targets})
}

#[test]
fn retries_follow_the_protocol() {
    let plain = json!({"provider": "openai"});
    let three = leaf(json!({"attempts": 3}));
    plays(&[
        // Checklist 55, 56, 57, 58, 59.
        (three.clone(), "500 500 200", "first:0 wait:1000 retry:0 wait:2000 retry:0 =0(2)"),
        (
            leaf(json!({"attempts": 5})),
            "503 503 503 503 503 503",
            "first:0 wait:1000 retry:0 wait:2000 retry:0 wait:4000 retry:0 wait:8000 retry:0 wait:16000 retry:0 =0(-1)",
        ),
        (plain.clone(), "500", "first:0 =0(0)"),
        (leaf(json!({"attempts": 2, "on_status_codes": [429]})), "500", "first:0 =0(0)"),
        (three.clone(), "400", "first:0 =0(0)"),
        // The default statuses, hosted 529 among them; a success is never retried; the rest is final at once.
        (three.clone(), "529 200", "first:0 wait:1000 retry:0 =0(1)"),
        (three.clone(), "429 502 504 204", "first:0 wait:1000 retry:0 wait:2000 retry:0 wait:4000 retry:0 =0(3)"),
        (three.clone(), "501", "first:0 =0(0)"),
        (three.clone(), "205", "first:0 =0(0)"),
        (three.clone(), "302", "first:0 =0(0)"),
        (three.clone(), "500 400", "first:0 wait:1000 retry:0 =0(1)"),
        (leaf(json!({"attempts": 1, "on_status_codes": [200, 206]})), "200", "first:0 =0(0)"),
        (leaf(json!({"attempts": 1, "on_status_codes": [200, 206]})), "206 200", "first:0 wait:1000 retry:0 =0(1)"),
        (leaf(json!({"attempts": 3, "on_status_codes": []})), "500", "first:0 =0(0)"),
        (leaf(json!({"attempts": 0})), "500", "first:0 =0(0)"),
        (
            leaf(json!({"attempts": 50})),
            "500 500 500 500 500 500",
            "first:0 wait:1000 retry:0 wait:2000 retry:0 wait:4000 retry:0 wait:8000 retry:0 wait:16000 retry:0 =0(-1)",
        ),
        // No connection is retried whatever the statuses, while attempts remain.
        (leaf(json!({"attempts": 1, "on_status_codes": []})), "connect 200", "first:0 wait:1000 retry:0 =0(1)"),
        (leaf(json!({"attempts": 1})), "connect connect", "first:0 wait:1000 retry:0 =0(-1)"),
        (plain.clone(), "connect", "first:0 =0(0)"),
        // A timeout is a 408. Checklist 65, 66.
        (plain, "timeout", "first:0 =0(0)"),
        (three.clone(), "timeout", "first:0 =0(0)"),
        (
            leaf(json!({"attempts": 3, "on_status_codes": [408]})),
            "timeout timeout timeout timeout",
            "first:0 wait:1000 retry:0 wait:2000 retry:0 wait:4000 retry:0 =0(-1)",
        ),
        // A fault of our own is not retried.
        (three.clone(), "exception", "first:0 =0(0)"),
        (three, "500 exception", "first:0 wait:1000 retry:0 =0(1)"),
    ]);
}

#[test]
fn retry_after_beats_backoff_within_its_budget() {
    let obeying = leaf(json!({"attempts": 3, "use_retry_after_header": true}));
    let deaf = leaf(json!({"attempts": 3}));
    plays(&[
        // Checklist 60, 61, 62, 64.
        (obeying.clone(), "429+2000 200", "first:0 after:2000 retry:0 =0(1)"),
        (obeying.clone(), "429+60000", "first:0 =0(-1)"),
        (obeying.clone(), "429+20000 429+50000", "first:0 after:20000 retry:0 =0(-1)"),
        (obeying.clone(), "503+2000 200", "first:0 wait:1000 retry:0 =0(1)"),
        // To the last millisecond of the budget, and not one more.
        (obeying.clone(), "429+59999 200", "first:0 after:59999 retry:0 =0(1)"),
        (obeying.clone(), "429+20000 429+40000 200", "first:0 after:20000 retry:0 after:40000 retry:0 =0(2)"),
        (obeying.clone(), "429+20000 429+40001", "first:0 after:20000 retry:0 =0(-1)"),
        // Once obeyed, what follows is not slowed down further.
        (obeying.clone(), "429+2000 500 500 200", "first:0 after:2000 retry:0 retry:0 retry:0 =0(3)"),
        (obeying.clone(), "500 429+2000 500 200", "first:0 wait:1000 retry:0 after:2000 retry:0 retry:0 =0(3)"),
        // A wait of nothing is obeyed, too.
        (obeying.clone(), "429+0 200", "first:0 retry:0 =0(1)"),
        (obeying.clone(), "429 200", "first:0 wait:1000 retry:0 =0(1)"),
        // Neither makes a status retriable.
        (deaf, "429+2000 200", "first:0 wait:1000 retry:0 =0(1)"),
        (leaf(json!({"attempts": 3, "use_retry_after_header": true, "on_status_codes": [500]})), "429+2000", "first:0 =0(0)"),
        (leaf(json!({"attempts": 0, "use_retry_after_header": true})), "429+2000", "first:0 =0(0)"),
        (leaf(json!({"attempts": 1, "use_retry_after_header": true})), "429+2000 429+2000", "first:0 after:2000 retry:0 =0(-1)"),
        // docs/adr/0003: the budget is the call's, the swift retries are the target's.
        (
            fallback(json!([obeying, obeying])),
            "429+40000 429+30000 429+10000 500 200",
            "first:0 after:40000 retry:0 fallback:1 after:10000 retry:1 retry:1 =1(2)",
        ),
        (fallback(json!([obeying, obeying])), "429+40000 400 429+30000", "first:0 after:40000 retry:0 fallback:1 =1(-1)"),
        (
            fallback(json!([leaf(json!({"attempts": 1, "use_retry_after_header": true})), obeying])),
            "429+5000 500 500 200",
            "first:0 after:5000 retry:0 fallback:1 wait:1000 retry:1 =1(1)",
        ),
    ]);
}

#[test]
fn fallback_follows_the_protocol() {
    let plain = json!({"provider": "openai"});
    let two = json!([plain, plain]);
    let three = json!([plain, plain, plain]);
    plays(&[
        // Checklist 69 to 74.
        (fallback(two.clone()), "500 200", "first:0 fallback:1 =1(0)"),
        (fallback_on(json!([429]), two.clone()), "500", "first:0 =0(0)"),
        (fallback(two.clone()), "500 418", "first:0 fallback:1 =1(0)"),
        (fallback_on(json!([]), two.clone()), "500", "first:0 =0(0)"),
        (fallback(two.clone()), "exception", "first:0 =0(0)"),
        (
            json!({"retry": {"attempts": 1}, "strategy": {"mode": "fallback"}, "targets": two}),
            "500 500 500 200",
            "first:0 wait:1000 retry:0 fallback:1 wait:1000 retry:1 =1(1)",
        ),
        // Everything but 2xx moves on, 246 is one of them, and so do a timeout and a lost connection.
        (fallback(two.clone()), "200", "first:0 =0(0)"),
        (fallback(two.clone()), "246", "first:0 =0(0)"),
        (fallback(two.clone()), "446 200", "first:0 fallback:1 =1(0)"),
        (fallback(two.clone()), "400 200", "first:0 fallback:1 =1(0)"),
        (fallback(two.clone()), "301 200", "first:0 fallback:1 =1(0)"),
        (fallback(two.clone()), "timeout 200", "first:0 fallback:1 =1(0)"),
        (fallback(two.clone()), "connect 200", "first:0 fallback:1 =1(0)"),
        // A list is taken at its word, successes included.
        (fallback_on(json!([429, 408]), three.clone()), "429 timeout 200", "first:0 fallback:1 fallback:2 =2(0)"),
        (fallback_on(json!([200]), two.clone()), "200 500", "first:0 fallback:1 =1(0)"),
        (fallback_on(json!([503]), two.clone()), "connect 200", "first:0 fallback:1 =1(0)"),
        (fallback(three.clone()), "500 exception", "first:0 fallback:1 =1(0)"),
        // Nested: the inner result is judged by the outer rule, whichever way the inner one ended.
        (fallback(json!([fallback(two.clone()), plain])), "500 500 200", "first:0 fallback:1 fallback:2 =2(0)"),
        (fallback(json!([fallback_on(json!([429]), two.clone()), plain])), "500 200", "first:0 fallback:2 =2(0)"),
        (fallback_on(json!([429]), json!([fallback(two.clone()), plain])), "500 500", "first:0 fallback:1 =1(0)"),
        (fallback_on(json!([200]), json!([fallback(two.clone()), plain])), "500 200 500", "first:0 fallback:1 fallback:2 =2(0)"),
        (fallback(json!([fallback(two.clone()), plain])), "500 exception", "first:0 fallback:1 =1(0)"),
        (fallback(json!([plain, fallback(two)])), "500 500 200", "first:0 fallback:1 fallback:2 =2(0)"),
        // One way in, and no way out of it.
        (json!({"strategy": {"mode": "single"}, "targets": three}), "500", "first:0 =0(0)"),
        (json!({"targets": [fallback(three.clone())]}), "500 500 500", "first:0 fallback:1 fallback:2 =2(0)"),
        // The counter is that of the last target.
        (fallback(json!([leaf(json!({"attempts": 1})), plain])), "500 500 500", "first:0 wait:1000 retry:0 fallback:1 =1(0)"),
        (fallback(json!([plain, leaf(json!({"attempts": 1}))])), "500 500 500", "first:0 fallback:1 wait:1000 retry:1 =1(-1)"),
    ]);
}

#[test]
fn an_outcome_that_never_came_is_a_fault_of_ours() {
    let config = config(&fallback(json!([{"provider": "openai"}, {"provider": "openai"}])));
    let mut plan = plan(&config);
    assert!(matches!(plan.next(None, &mut SeededRng(1)).step, Step::Send { .. }));
    assert_eq!(
        plan.next(None, &mut SeededRng(1)).step,
        Step::Answer(Answer { target: TargetId(0), retries: 0, exhausted: false })
    );
}

#[test]
fn the_upstream_names_its_wait_in_three_ways() {
    type Row<'a> = (&'a [(&'a str, &'a str)], Option<u64>);
    let table: &[Row] = &[
        (&[], None),
        (&[("retry-after", "2")], Some(2_000)),
        (&[("retry-after", " 2 ")], Some(2_000)),
        (&[("retry-after", "0")], Some(0)),
        (&[("retry-after", "1.5")], Some(2_000)),
        (&[("retry-after", "7.0")], Some(7_000)),
        (&[("retry-after-ms", "100")], Some(100)),
        (&[("retry-after-ms", "99.2")], Some(100)),
        (&[("x-ms-retry-after-ms", "250")], Some(250)),
        // Checklist 63: the first that is present, in this order, whatever the order of the headers.
        (&[("retry-after", "9"), ("retry-after-ms", "100")], Some(100)),
        (&[("retry-after", "9"), ("x-ms-retry-after-ms", "250")], Some(250)),
        (&[("x-ms-retry-after-ms", "250"), ("retry-after-ms", "100")], Some(100)),
        (&[("retry-after", "9"), ("retry-after-ms", "soon")], None),
        (&[("retry-after", "9"), ("retry-after-ms", "")], Some(9_000)),
        // No number.
        (&[("retry-after", "Fri, 20 Nov 2026 10:15:30 GMT")], None),
        (&[("retry-after", "-5")], None),
        (&[("retry-after", "+5")], None),
        (&[("retry-after", "1e3")], None),
        (&[("retry-after", "1.")], None),
        (&[("retry-after", ".5")], None),
        (&[("retry-after", "NaN")], None),
        (&[("retry-after", "inf")], None),
        (&[("retry-after", "99999999999999999999999")], Some(u64::MAX)),
    ];
    for (headers, wait) in table {
        let headers: Headers = headers.iter().copied().collect();
        assert_eq!(retry::retry_after(&headers), wait.map(Millis), "{headers:?}");
    }
}

fn balanced(weights: &[f64]) -> Config {
    let target = |weight: &f64| json!({"provider": "openai", "weight": weight});
    let targets: Vec<Value> = weights.iter().map(target).collect();
    config(&json!({"strategy": {"mode": "loadbalance"}, "targets": targets}))
}

#[test]
fn draws_follow_the_weights() {
    // Checklist 78, 79, 80.
    let unsaid = config(&json!({"strategy": {"mode": "loadbalance"}, "targets": vec![json!({"provider": "openai"}); 4]}));
    for (config, shares) in [
        (balanced(&[0.95, 0.05]), vec![0.95, 0.05]),
        (balanced(&[1.0, 1.0, 2.0]), vec![0.25, 0.25, 0.5]),
        (balanced(&[0.0, 3.0, 0.0]), vec![0.0, 1.0, 0.0]),
        (unsaid, vec![0.25; 4]),
    ] {
        let (mut rng, mut drawn) = (SeededRng(3), vec![0; shares.len()]);
        for _ in 0..10_000 {
            let mut plan = plan(&config);
            let Step::Send { target, reason: Reason::Loadbalance, .. } = plan.next(None, &mut rng).step else {
                panic!("no draw")
            };
            drawn[usize::from(target.0)] += 1;
            // Checklist 81: the draw is final.
            let step = plan.next(Some(outcome("500")), &mut rng).step;
            assert!(matches!(step, Step::Answer(answer) if answer.target == target));
        }
        for (count, share) in drawn.iter().zip(&shares) {
            assert!(
                (f64::from(*count) / 10_000.0 - share).abs() < 0.015 && (*share > 0.0 || *count == 0),
                "{shares:?}: {drawn:?}"
            );
        }
    }
}

#[test]
fn rounding_never_draws_a_weight_of_zero() {
    const HIGHEST: u64 = (1 << 53) - 1;
    for scale in 1..500 {
        let weights = [0.1, 0.2, 0.7, 0.0].map(|weight| weight * f64::from(scale));
        assert_eq!(plan::pick(HIGHEST, &weights), 2, "{scale}");
        assert_eq!(plan::pick(0, &[&[0.0], &weights[..]].concat()), 1, "{scale}");
    }
}

#[test]
fn what_was_chosen_is_tried_as_it_says_and_nothing_else() {
    let named = |name: &str| json!({"name": name, "provider": "openai"});
    let conditional = |query: Value, default: Value| {
        let strategy = json!({"mode": "conditional", "conditions": [{"query": query, "then": "a"}], "default": default});
        json!({"strategy": strategy, "targets": [named("a"), named("b")]})
    };
    let chat = json!({"url.pathname": "/v1/chat/completions"});
    let other = json!({"url.pathname": "/v1/embeddings"});
    let drawn = json!({"strategy": {"mode": "loadbalance"}, "targets": [named("a")]});
    plays(&[
        (conditional(chat.clone(), json!("b")), "500", "condition:0 =0(0)"),
        // Checklist 83.
        (conditional(other.clone(), json!("b")), "500", "condition:1 =1(0)"),
        (conditional(other.clone(), Value::Null), "", "none"),
        // In the middle of a fallback a question without an answer ends the call all the same.
        (fallback(json!([named("a"), conditional(other, Value::Null), named("c")])), "500", "first:0 none"),
        // The reason is that of the last choice; a fallback around it goes on.
        (fallback(json!([conditional(chat.clone(), Value::Null), named("c")])), "500 200", "condition:0 fallback:2 =2(0)"),
        (fallback(json!([drawn, named("c")])), "500 200", "loadbalance:0 fallback:1 =1(0)"),
        (fallback(json!([named("c"), drawn])), "500 200", "first:0 loadbalance:1 =1(0)"),
        (
            json!({"strategy": {"mode": "loadbalance"}, "targets": [fallback(json!([named("a"), named("b")]))]}),
            "500 200",
            "loadbalance:0 fallback:1 =1(0)",
        ),
    ]);
}

/// Random configs and outcomes: the same inputs give the same steps, within the worst case and the budget.
#[test]
fn a_plan_replays_and_stays_within_its_bounds() {
    let mut rng = SeededRng(5);
    let (mut fell_through, mut at_worst) = (0, 0);
    for round in 0..4_000 {
        let config = config(&random_node(&mut rng, 3));
        let outcomes: Vec<Outcome> = (0..512).map(|_| random_outcome(&mut rng, round % 4 == 0)).collect();
        let steps = run(&config, &outcomes, round);
        assert_eq!(run(&config, &outcomes, round), steps, "{config:?}");

        let sends = steps.iter().filter(|step| matches!(step, Step::Send { .. })).count();
        assert!((1..=config.worst_case_attempts() as usize).contains(&sends), "{sends} sends in {config:?}");
        assert!(!steps.contains(&Step::Wait { duration: Millis(0), reason: WaitReason::Backoff }));
        let after = |step: &Step| match step {
            Step::Wait { duration, reason: WaitReason::RetryAfter } => duration.0,
            _ => 0,
        };
        assert!(steps.iter().map(after).sum::<u64>() <= retry::BUDGET.0);
        let last = steps
            .iter()
            .rev()
            .find_map(|step| if let Step::Send { target, retry, .. } = step { Some((*target, *retry)) } else { None });
        let Some(Step::Answer(answer)) = steps.last() else { panic!("no answer") };
        assert_eq!(last, Some((answer.target, answer.retries)), "the answer is the last attempt's");
        fell_through += usize::from(answer.target.0 > 0);
        at_worst += usize::from(sends > 1 && sends == config.worst_case_attempts() as usize);
    }
    assert!(fell_through > 500 && at_worst > 100, "the generator reaches the edges: {fell_through}, {at_worst}");
}

fn run(config: &Config, outcomes: &[Outcome], seed: u64) -> Vec<Step> {
    let (mut plan, mut rng, mut outcomes) = (plan(config), SeededRng(seed), outcomes.iter().copied());
    let (mut steps, mut outcome) = (Vec::new(), None);
    loop {
        let step = plan.next(outcome.take(), &mut rng).step;
        steps.push(step);
        match step {
            Step::Answer(_) | Step::NoTarget => return steps,
            Step::Send { .. } => outcome = outcomes.next(),
            Step::Wait { .. } => {}
        }
    }
}

fn random_node(rng: &mut SeededRng, depth: u32) -> Value {
    let pick = |rng: &mut SeededRng, n: u64| rng.next_u64() % n;
    let mut node = match pick(rng, 4) {
        0 | 1 if depth > 0 => {
            let count = 1 + pick(rng, 3);
            let targets: Vec<Value> = (0..count).map(|_| random_node(rng, depth - 1)).collect();
            match pick(rng, 4) {
                0 => json!({"targets": targets}),
                1 => fallback_on(json!(STATUSES[..pick(rng, 6) as usize]), json!(targets)),
                _ => fallback(json!(targets)),
            }
        }
        _ => json!({"provider": "openai"}),
    };
    if pick(rng, 2) == 0 {
        node["retry"] = json!({"attempts": pick(rng, 7), "use_retry_after_header": pick(rng, 2) == 0});
    }
    node
}

fn random_outcome(rng: &mut SeededRng, hopeless: bool) -> Outcome {
    let pick = |rng: &mut SeededRng, n: u64| rng.next_u64() % n;
    let kind = match pick(rng, 20) {
        _ if hopeless => OutcomeKind::Status(500),
        0 => OutcomeKind::Connect,
        1 => OutcomeKind::GatewayException,
        2 => OutcomeKind::Timeout,
        3..=8 => OutcomeKind::Status(429),
        n => OutcomeKind::Status(STATUSES[n as usize % STATUSES.len()]),
    };
    Outcome { kind, retry_after: (pick(rng, 2) == 0).then(|| Millis(pick(rng, 70_000))) }
}

const STATUSES: [u16; 8] = [429, 500, 503, 408, 400, 200, 404, 529];
