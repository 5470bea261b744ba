use super::*;
use crate::config::Policy;

fn report(config: &Value) -> Report {
    lint(&config.to_string(), Context { policy: &Policy::default(), provider: None, hosted: false })
}

fn listed(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

fn leaf() -> Value {
    json!({"provider": "openai"})
}

fn leaf_with(key: &str, value: Value) -> Value {
    json!({"provider": "openai", key: value})
}

fn strategy(strategy: Value, targets: Value) -> Value {
    json!({"strategy": strategy, "targets": targets})
}

fn conditional(conditions: Value, default: Value) -> Value {
    let named = |name: &str| json!({"name": name, "provider": "openai"});
    strategy(json!({"mode": "conditional", "conditions": conditions, "default": default}), json!([named("a"), named("b")]))
}

#[test]
fn what_has_no_effect_is_named() {
    let when = |value: &str, then: &str| json!({"query": {"metadata.plan": value}, "then": then});
    let always = |then: &str| json!({"query": {"$and": [{}]}, "then": then});
    let retry = |retry: Value| json!({"provider": "openai", "retry": retry});
    let table: &[(Value, &[&str])] = &[
        (leaf(), &[]),
        (
            strategy(json!({"mode": "single"}), json!([leaf(), leaf(), leaf()])),
            &["targets[1]: never called: only the first", "targets[2]: never called: only the first"],
        ),
        (json!({"targets": [leaf(), leaf()]}), &["targets[1]: never called: only the first"]),
        (
            strategy(json!({"mode": "loadbalance"}), json!([leaf(), leaf_with("weight", json!(0))])),
            &["targets[1]: never called: its weight is 0"],
        ),
        // A weight means something in a draw only.
        (strategy(json!({"mode": "fallback"}), json!([leaf(), leaf_with("weight", json!(0))])), &[]),
        (
            strategy(json!({"mode": "fallback", "on_status_codes": []}), json!([leaf(), leaf()])),
            &["targets[1]: never called: the empty on_status_codes"],
        ),
        (strategy(json!({"mode": "fallback", "on_status_codes": []}), json!([leaf()])), &[]),
        (strategy(json!({"mode": "fallback", "on_status_codes": [500]}), json!([leaf(), leaf()])), &[]),
        // What is below a target that is never called is not looked at; what is below the others is.
        (
            json!({"targets": [json!({"targets": [leaf(), leaf()]}), json!({"targets": [leaf(), leaf()]})]}),
            &["targets[0].targets[1]: never called", "targets[1]: never called"],
        ),
        (conditional(json!([when("x", "a"), when("y", "b")]), Value::Null), &[]),
        (conditional(json!([when("x", "a")]), json!("b")), &[]),
        (conditional(json!([when("x", "a")]), json!("a")), &["targets[1]: never called: no condition"]),
        (
            conditional(json!([when("x", "a"), when("x", "b")]), Value::Null),
            &["strategy.conditions[1]: never decides: it repeats conditions[0]", "targets[1]: never called: no condition"],
        ),
        (
            conditional(json!([when("x", "a"), always("b"), when("y", "a"), always("a")]), json!("a")),
            &[
                "strategy.conditions[2]: never decides: conditions[1] holds always",
                "strategy.conditions[3]: never decides: conditions[1] holds always",
                "strategy.default: never decides",
            ],
        ),
        (
            conditional(json!([{"query": {"params.model": {"$regex": "(?=x)"}}, "then": "a"}]), json!("b")),
            &["strategy.conditions[0].query: a test of params.model is never true: its operand is no pattern"],
        ),
        (
            conditional(
                json!([{"query": {"$or": [{"params.n": {"$gt": "x"}}, {"params.n": {"$in": 1}}]}, "then": "a"}]),
                json!("b"),
            ),
            &[
                "strategy.conditions[0].query: a test of params.n is never true: its operand is no number",
                "strategy.conditions[0].query: a test of params.n is never true: its operand is no list",
            ],
        ),
        (retry(json!({"attempts": 1})), &[]),
        (retry(json!({"attempts": 1, "on_status_codes": []})), &[]), // lost connections are tried again
        (retry(json!({"attempts": 0})), &["retry: has no effect: it allows no attempts"]),
        (
            json!({"retry": {"attempts": 2}, "strategy": {"mode": "fallback"}, "targets": [retry(json!({"attempts": 0})), leaf()]}),
            &[],
        ),
        (
            json!({"retry": {"attempts": 2}, "strategy": {"mode": "fallback"}, "targets": [retry(json!({"attempts": 0}))]}),
            &["retry: has no effect: every target below"],
        ),
        (retry(json!({"attempts": 2, "on_status_codes": [200, 429]})), &["retry.on_status_codes: 200 to 204"]),
        (
            retry(json!({"attempts": 2, "on_status_codes": [500], "use_retry_after_header": true})),
            &["retry.use_retry_after_header: has no effect"],
        ),
        (retry(json!({"attempts": 2, "use_retry_after_header": true})), &[]),
    ];
    for (config, expected) in table {
        let report = report(config);
        assert_eq!(report.errors, [], "{config}");
        let found = listed(&report.warnings);
        assert_eq!(found.len(), expected.len(), "{config}: {found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            assert!(found.starts_with(expected), "{config}: {found}");
        }
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let config = json!({"strategy": {"mode": "fallback"}, "request_timeout": "x", "targets": [
        {"provider": "nope"}, {"virtual_key": "team"}, {"provider": "openai", "cache": "simple"}, {"provider": "@team"},
    ]});
    let told = report(&config);
    assert_eq!(
        listed(&told.errors),
        [
            "request_timeout: expected a whole number, zero or more, found a string",
            "targets[0].provider: 'nope' is not a known provider",
            "targets[1].virtual_key: not supported yet: saved providers",
            "targets[2].cache: not supported yet: caching",
            "targets[3].provider: not supported yet: '@team' (saved providers)",
        ]
    );
    assert_eq!((told.warnings, told.worst_case), (vec![], None));
    for text in ["", "{bad", "[]", "7"] {
        let report = lint(text, Context { policy: &Policy::default(), provider: None, hosted: false });
        assert!(report.errors[0].message.starts_with("not a JSON object"), "{text}");
    }
    assert!(listed(&report(&json!({"options": []})).errors)[0].contains("version 1"));
}

#[test]
fn a_config_that_fans_out_too_far_is_refused() {
    let target = json!({"provider": "openai", "retry": {"attempts": 5}});
    let told = report(&strategy(json!({"mode": "fallback"}), json!(vec![target; 9])));
    assert_eq!(listed(&told.errors), ["this config can cause 54 attempts; at most 50 are allowed"]);
    assert_eq!(told.worst_case, Some(WorstCase { attempts: 54, wall_time: None }));
}

#[test]
fn the_worst_case_adds_up() {
    let timed = |retry: Value| json!({"provider": "openai", "request_timeout": 1000, "weight": 1, "retry": retry});
    let plain = timed(json!({"attempts": 0}));
    let three = timed(json!({"attempts": 3}));
    let obeys = timed(json!({"attempts": 3, "use_retry_after_header": true}));
    let deaf = timed(json!({"attempts": 3, "use_retry_after_header": true, "on_status_codes": [500]}));
    for (config, attempts, millis) in [
        (leaf(), 1, None),
        (plain.clone(), 1, Some(1_000)),
        (three.clone(), 4, Some(4_000 + 7_000)),
        // The last back-off gives way to the budget.
        (obeys.clone(), 4, Some(4_000 + 3_000 + 60_000)),
        (deaf, 4, Some(4_000 + 7_000)),
        // The budget is the call's.
        (strategy(json!({"mode": "fallback"}), json!([obeys, obeys, plain])), 9, Some(22_000 + 1_000 + 56_000)),
        (strategy(json!({"mode": "fallback"}), json!([plain, leaf()])), 2, None),
        (strategy(json!({"mode": "loadbalance"}), json!([plain, three])), 4, Some(11_000)),
        (strategy(json!({"mode": "loadbalance"}), json!([plain, leaf_with("weight", json!(0))])), 1, Some(1_000)),
        (strategy(json!({"mode": "single"}), json!([plain, leaf()])), 1, Some(1_000)),
    ] {
        let worst = report(&config).worst_case;
        assert_eq!(worst, Some(WorstCase { attempts, wall_time: millis.map(Millis) }), "{config}");
    }
}

#[test]
fn the_report_reads_as_documented() {
    let config = strategy(json!({"mode": "single"}), json!([leaf_with("request_timeout", json!(5)), leaf()]));
    let told: Value = serde_json::from_str(&report(&config).to_json()).unwrap();
    assert_eq!(
        told,
        json!({
            "valid": true,
            "errors": [],
            "warnings": [{"path": "targets[1]", "message": "never called: only the first target of a single strategy is called"}],
            "worst_case": {"attempts": 1, "wall_time_ms": 5},
        })
    );
    let told: Value = serde_json::from_str(&report(&json!({})).to_json()).unwrap();
    assert_eq!((&told["valid"], &told["worst_case"]), (&json!(false), &Value::Null));
}
