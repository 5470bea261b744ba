use super::*;
use crate::error::GatewayError;
use serde_json::json;

const BEARER: (&str, &str) = ("authorization", "Bearer sk-caller");
const OPENAI: (&str, &str) = ("x-portkey-provider", "openai");

fn policy() -> Policy<'static> {
    Policy { mock_enabled: true, trusted_hosts: &[], own_host: "gateway.example.com" }
}

fn resolve(given: &[(&str, &str)]) -> Result<Config, GatewayError> {
    headers::resolve(&given.iter().copied().collect(), &policy())
}

/// The config of a call with that config header and more.
fn with(config: Value, more: &[(&str, &str)]) -> Result<Config, GatewayError> {
    let config = config.to_string();
    resolve(&[more, &[("x-portkey-config", config.as_str())]].concat())
}

fn only(config: Result<Config, GatewayError>) -> Target {
    let config = config.unwrap();
    assert_eq!(config.targets.len(), 1);
    config.targets.into_iter().next().unwrap()
}

/// `path: first words of the message` of every mistake.
fn mistakes(config: Value) -> Vec<String> {
    match with(config.clone(), &[]) {
        Err(GatewayError::InvalidConfig(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("{config} gave {other:?}"),
    }
}

#[test]
fn a_provider_header_is_a_whole_config() {
    let config = resolve(&[OPENAI, BEARER]).unwrap();
    assert_eq!(config.route, Route::Target(TargetId(0)));
    let target = only(Ok(config));
    assert_eq!((&*target.path, target.provider.id), ("config", "openai"));
    assert_eq!(target.credential, CredentialSource::Caller);
    assert_eq!((target.retry, target.request_timeout, target.strict), (Retry::NONE, None, true));
    assert_eq!(target.options, Options::default());
}

#[test]
fn requests_that_cannot_be_routed_are_refused_in_the_order_of_the_protocol() {
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let given: &[Row] = &[
        (&[], "missing_provider", ""),
        (&[BEARER, ("x-portkey-provider", " ")], "missing_provider", ""),
        (&[("x-portkey-mode", "single")], "missing_provider", ""),
        (&[("x-portkey-provider", "nope")], "invalid_provider", "nope"),
        (&[("x-portkey-provider", "nope"), ("x-portkey-custom-host", "file://x")], "invalid_provider", "nope"),
        (&[("x-portkey-provider", "nope"), ("x-portkey-config", r#"{"provider":"openai"}"#)], "invalid_provider", "nope"),
        (&[("x-portkey-mode", "proxy nope")], "invalid_provider", "nope"),
        (&[OPENAI, ("x-portkey-custom-host", "http://169.254.169.254")], "invalid_custom_host", "private"),
        (&[OPENAI, ("x-portkey-custom-host", "file://x")], "invalid_custom_host", "https"),
        (&[OPENAI, ("x-portkey-custom-host", "http://2130706433")], "invalid_custom_host", "decimal"),
        (&[OPENAI, ("x-portkey-custom-host", "https://gateway.example.com")], "invalid_custom_host", "itself"),
        (&[OPENAI, ("x-portkey-custom-host", "x"), ("x-portkey-config", "{bad")], "invalid_custom_host", ""),
        (&[("x-portkey-config", "{bad")], "invalid_config_json", "line 1"),
        (&[("x-portkey-config", "[]")], "invalid_config_json", "a list"),
        (&[("x-portkey-config", "my-config")], "invalid_config_json", ""),
        (&[("x-portkey-config", "{}")], "invalid_config", "neither a provider nor targets"),
        (&[("x-portkey-config", r#"{"options":[{}]}"#)], "invalid_config", "version 1"),
        (
            &[("x-portkey-config", r#"{"retry":{}}"#), ("x-portkey-forward-headers", "x-portkey-forward-headers")],
            "invalid_config",
            "",
        ),
        (&[OPENAI, ("x-portkey-forward-headers", "a, X-Portkey-Forward-Headers")], "invalid_header", "may not be forwarded"),
        (&[OPENAI, ("x-portkey-forward-headers", "['Metadata-Flavor']")], "invalid_header", "metadata-flavor"),
        (&[("x-portkey-config", "pc-abc123")], "not_supported", "pc-abc123"),
        (&[("x-portkey-provider", "@team")], "not_supported", "@team"),
        (&[OPENAI, ("x-portkey-virtual-key", "team")], "not_supported", "x-portkey-virtual-key"),
        (&[OPENAI, ("x-portkey-default-input-guardrails", "[]")], "not_supported", "x-portkey-default-input-guardrails"),
    ];
    for (given, code, word) in given {
        match resolve(given) {
            Err(error) => {
                let public = error.public();
                assert_eq!(public.code, *code, "{given:?}: {}", public.message);
                assert!(public.message.contains(word), "{given:?}: {}", public.message);
            }
            Ok(config) => panic!("{given:?} passed: {config:?}"),
        }
    }
}

#[test]
fn each_mistake_is_told_with_its_path() {
    let leaf = json!({"provider": "openai"});
    for (config, expected) in [
        (json!({"provider": "nope"}), "provider: 'nope' is not"),
        (json!({"provider": 7}), "provider: expected a string, found 7"),
        (json!({"targets": []}), "targets: a strategy needs at least one"),
        (json!({"targets": {}}), "targets: expected a list, found an object"),
        (json!({"targets": ["openai"]}), "targets[0]: expected an object, found a string"),
        (json!({"strategy": {"mode": "single"}}), "targets: a strategy needs at least one"),
        (json!({"strategy": {"mode": "random"}, "targets": [leaf]}), "strategy.mode: must be one of single, loadbalance"),
        (json!({"strategy": {}, "targets": [leaf]}), "strategy.mode: must be one of"),
        (json!({"strategy": {"mode": 1}, "targets": [leaf]}), "strategy.mode: must be one of"),
        (json!({"strategy": "fallback", "targets": [leaf]}), "strategy: expected an object"),
        (json!({"targets": [leaf, {"retry": {"attempts": 1}}]}), "targets[1].provider: there is neither"),
        (json!({"targets": [{"targets": [{"provider": "nope"}]}]}), "targets[0].targets[0].provider: 'nope'"),
        (
            json!({"targets": [leaf, {"provider": "openai", "retry": {"attempts": -1}}]}),
            "targets[1].retry.attempts: expected a whole",
        ),
        (
            json!({"provider": "openai", "retry": {"attempts": 1.5}}),
            "retry.attempts: expected a whole number, zero or more, found 1.5",
        ),
        (json!({"provider": "openai", "retry": {"attempts": "3"}}), "retry.attempts: expected a whole"),
        (json!({"provider": "openai", "retry": {"on_status_codes": [429]}}), "retry.attempts: needed"),
        (json!({"provider": "openai", "retry": 3}), "retry: expected an object, found 3"),
        (
            json!({"provider": "openai", "retry": {"attempts": 1, "on_status_codes": 429}}),
            "retry.on_status_codes: expected a list",
        ),
        (
            json!({"provider": "openai", "retry": {"attempts": 1, "on_status_codes": [429, "x"]}}),
            "retry.on_status_codes[1]: expected an HTTP",
        ),
        (
            json!({"provider": "openai", "retry": {"attempts": 1, "on_status_codes": [42]}}),
            "retry.on_status_codes[0]: expected an HTTP",
        ),
        (
            json!({"provider": "openai", "retry": {"attempts": 1, "use_retry_after_header": 1}}),
            "retry.use_retry_after_header: expected true",
        ),
        (
            json!({"strategy": {"mode": "fallback", "on_status_codes": [true]}, "targets": [leaf]}),
            "strategy.on_status_codes[0]: expected",
        ),
        (json!({"provider": "openai", "cache": {"mode": "fuzzy"}}), "cache.mode: must be one of simple, semantic"),
        (json!({"provider": "openai", "cache": {"max_age": 60}}), "cache.mode: must be one of"),
        (json!({"provider": "openai", "cache": {"mode": "simple", "max_age": "1h"}}), "cache.max_age: expected a number"),
        (json!({"provider": "openai", "cache": "fuzzy"}), "cache: must be one of"),
        (json!({"provider": "openai", "cache": true}), "cache: must be one of"),
        (json!({"provider": "openai", "custom_host": "http://10.0.0.1"}), "custom_host: invalid custom host: it is a private"),
        (json!({"provider": "openai", "request_timeout": -5}), "request_timeout: expected a whole"),
        (json!({"provider": "openai", "override_params": []}), "override_params: expected an object"),
        (json!({"provider": "openai", "drop_params": ["a", 1]}), "drop_params[1]: expected a string, found 1"),
        (json!({"provider": "openai", "forward_headers": "x"}), "forward_headers: expected a list"),
        (json!({"provider": "openai", "forward_headers": ["a", "x-portkey-forward-headers"]}), "forward_headers[1]: 'x-portkey"),
        (
            json!({"provider": "openai", "strict_open_ai_compliance": "false"}),
            "strict_open_ai_compliance: expected true or false",
        ),
        (
            json!({"strategy": {"mode": "loadbalance"}, "targets": [{"provider": "openai", "weight": -1}]}),
            "targets[0].weight: expected a number",
        ),
        (
            json!({"strategy": {"mode": "loadbalance"}, "targets": [{"provider": "openai", "weight": 0}]}),
            "targets: no target selectable: every weight is 0",
        ),
        (
            json!({"strategy": {"mode": "loadbalance"}, "targets": [
                {"provider": "openai", "weight": 1e308}, {"provider": "openai", "weight": 1e308},
            ]}),
            "targets: the weights add up to more",
        ),
        (json!({"strategy": {"mode": "conditional"}, "targets": [leaf]}), "strategy.conditions: a conditional strategy needs"),
        (json!({"strategy": {"mode": "conditional", "conditions": []}, "targets": [leaf]}), "strategy.conditions: a conditional"),
    ] {
        let found = mistakes(config.clone());
        assert_eq!(found.len(), 1, "{config}: {found:?}");
        assert!(found[0].starts_with(expected), "{config}: {}", found[0]);
    }
}

#[test]
fn a_mistake_in_a_query_is_told_with_its_path() {
    let found = |query: Value| {
        mistakes(json!({
            "strategy": {"mode": "conditional", "conditions": [{"query": query, "then": "a"}]},
            "targets": [{"name": "a", "provider": "openai"}],
        }))
    };
    for (query, expected) in [
        // Checklist 86.
        (json!({"metadata.a": {"$foo": 1}}), "metadata.a.$foo: unknown operator '$foo'; there are $and, $eq"),
        (json!({"metadata.a": {"eq": 1}}), "metadata.a.eq: unknown operator 'eq'"),
        (json!({"metadata.a": {"$and": []}}), "metadata.a.$and: unknown operator '$and'"),
        (json!({"$eq": 1}), "$eq: unknown operator '$eq'"),
        (json!({"metadata.a": ["x"]}), "metadata.a: expected a value or an object of operators, found a list"),
        (json!({"$or": {"metadata.a": 1}}), "$or: expected a list of queries"),
        (json!({"$or": [{}, {"$and": [7]}]}), "$or[1].$and[0]: expected a query"),
        (json!({"model": "x"}), "model: a condition asks for"),
        (json!({"metadata": "x"}), "metadata: a condition asks for"),
        (json!({"params.": "x"}), "params.: a condition asks for"),
        (json!({"url.host": "x"}), "url.host: a condition asks for"),
    ] {
        let found = found(query.clone());
        assert_eq!(found.len(), 1, "{query}: {found:?}");
        assert!(found[0].starts_with(&format!("strategy.conditions[0].query.{expected}")), "{query}: {}", found[0]);
    }
    let tests = |count| json!({"$or": vec![json!({"params.a": 1}); count]});
    let patterns = |count| json!({"$or": vec![json!({"params.a": {"$regex": "x"}}); count]});
    assert!(found(patterns(33))[0].contains("more than 32 patterns"));
    assert!(found(tests(129))[0].contains("more than 128 tests"));
    assert_eq!(found(json!({"$or": [tests(100), tests(29), {"params.a": {"$x": 1}}]})).len(), 2);
}

#[test]
fn all_mistakes_come_at_once() {
    let config = json!({
        "strategy": {"mode": "conditional", "conditions": [{"then": "a"}, {"query": {}, "then": "gone"}], "default": "c"},
        "request_timeout": "soon",
        "targets": [
            {"name": "a", "provider": "nope", "retry": {"attempts": -1}, "api_key": []},
            {"name": "b", "custom_host": "ftp://x", "weight": "heavy"},
            {"strategy": {"mode": "random"}, "targets": [{"api_key": 1, "provider": "openai"}]},
        ],
    });
    let found = mistakes(config);
    let paths: Vec<&str> = found.iter().filter_map(|mistake| mistake.split(": ").next()).collect();
    assert_eq!(
        paths,
        [
            "request_timeout",
            "targets[0].retry.attempts",
            "targets[0].api_key",
            "targets[0].provider",
            "targets[1].custom_host",
            "targets[1].weight",
            "targets[1].provider",
            "targets[2].targets[0].api_key",
            "targets[2].strategy.mode",
            "strategy.conditions[0].query",
            "strategy.conditions[1].then",
            "strategy.default",
        ]
    );
}

#[test]
fn what_is_not_built_is_refused_by_its_path() {
    let leaf = json!({"provider": "openai"});
    for (config, named) in [
        (
            json!({"strategy": {"mode": "loadbalance", "sticky": {"enabled": true}}, "targets": [leaf]}),
            "strategy.sticky (sticky draws)",
        ),
        (
            json!({"strategy": {"mode": "fallback", "cb_config": {"failure_threshold": 1}}, "targets": [leaf]}),
            "strategy.cb_config",
        ),
        (json!({"provider": "openai", "cache": {"mode": "simple"}}), "cache (caching)"),
        (json!({"provider": "openai", "cache": "semantic"}), "cache (caching)"),
        (json!({"targets": [leaf, {"provider": "openai", "cache": {"mode": "simple"}}]}), "targets[1].cache"),
        (json!({"provider": "openai", "input_guardrails": ["id"]}), "input_guardrails"),
        (json!({"provider": "openai", "beforeRequestHooks": [{}]}), "before_request_hooks"),
        (json!({"provider": "openai", "cb_config": {"failure_threshold": 1}}), "cb_config"),
        (json!({"virtual_key": "team"}), "virtual_key"),
        (json!({"provider": "@team"}), "provider '@team'"),
        (json!({"targets": [{"override_params": {"model": "@team/gpt-4o"}}]}), "targets[0].override_params.model '@team/gpt-4o'"),
        (json!({"passthrough": true}), "passthrough"),
        (json!({"prompt_id": "pp-1"}), "prompt_id"),
    ] {
        match with(config.clone(), &[]) {
            Err(GatewayError::Unsupported(what)) => assert!(what.contains(named), "{config}: {what}"),
            other => panic!("{config} gave {other:?}"),
        }
    }
    let two = json!({"targets": [{"virtual_key": "team"}, {"provider": "openai", "cache": "simple"}]});
    let Err(GatewayError::Unsupported(what)) = with(two, &[]) else { panic!("not refused") };
    assert_eq!(what, "config: targets[0].virtual_key (saved providers), targets[1].cache (caching)");
}

#[test]
fn a_provider_header_is_for_the_root_alone() {
    let Err(GatewayError::InvalidConfig(problems)) = with(json!({"targets": [{"retry": {"attempts": 1}}]}), &[OPENAI]) else {
        panic!("not refused")
    };
    assert_eq!(problems[0].path, "targets[0].provider");
}

#[test]
fn a_mistake_is_told_before_what_is_not_built() {
    assert_eq!(mistakes(json!({"virtual_key": "team", "request_timeout": "x"})).len(), 1);
}

#[test]
fn what_is_switched_off_or_unknown_is_no_obstacle() {
    for key in ["cache", "cb_config", "input_guardrails", "virtual_key", "retry", "targets", "custom_host", "api_key", "fancy"] {
        let target = only(with(json!({"provider": "openai", key: null}), &[]));
        assert_eq!(target.retry, Retry::NONE, "{key}");
    }
    let off = json!({
        "provider": "openai", "passthrough": false, "input_guardrails": [], "output_guardrails": [], "cb_config": {},
        "virtual_key": "", "sticky": {"enabled": false}, "on_status_codes": [1, 2], "metadata": {"a": "b"}, "version_id": 3,
        "fancy": {"new": 1},
    });
    assert_eq!(only(with(off, &[])).provider.id, "openai");
}

#[test]
fn an_at_sign_in_a_model_is_a_saved_provider_only_where_no_other_is_named() {
    let target = only(with(json!({"provider": "openai", "override_params": {"model": "@cf/meta/llama"}}), &[]));
    assert_eq!(target.override_params["model"], "@cf/meta/llama");
}

#[test]
fn the_config_decides_before_the_headers_unless_it_says_nothing() {
    let anthropic = ("x-portkey-provider", "anthropic");
    let legacy = ("x-portkey-mode", "proxy anthropic");
    for (config, more, provider, credential) in [
        // B1: the config's provider, and never the bearer that was meant for another (checklist 36).
        (json!({"provider": "openai"}), vec![anthropic, BEARER], "openai", CredentialSource::Stored),
        (json!({"targets": [{"provider": "openai"}]}), vec![anthropic, BEARER], "openai", CredentialSource::Stored),
        (json!({"provider": "openai"}), vec![legacy], "openai", CredentialSource::Stored),
        (json!({"provider": "openai"}), vec![("x-portkey-mode", "proxy nope")], "openai", CredentialSource::Stored),
        // B2 (checklist 37).
        (json!({"retry": {"attempts": 2}}), vec![anthropic, BEARER], "anthropic", CredentialSource::Caller),
        (json!({}), vec![anthropic], "anthropic", CredentialSource::Caller),
        (json!({"passthrough": false}), vec![anthropic], "anthropic", CredentialSource::Caller),
        (json!({"retry": {"attempts": 2}}), vec![legacy], "anthropic", CredentialSource::Caller),
        (json!({}), vec![legacy, OPENAI], "openai", CredentialSource::Caller),
        // A5: a key in the config wins.
        (json!({"api_key": "sk-config"}), vec![OPENAI, BEARER], "openai", key("sk-config")),
        (json!({"provider": "openai", "api_key": "sk-config"}), vec![BEARER], "openai", key("sk-config")),
        (json!({"provider": "openai", "api_key": " "}), vec![BEARER], "openai", CredentialSource::Stored),
        // Whoever lists `authorization` among the forwarded means the caller's key.
        (json!({"provider": "openai", "forward_headers": ["Authorization"]}), vec![BEARER], "openai", CredentialSource::Caller),
    ] {
        let target = only(with(config.clone(), &more));
        assert_eq!((target.provider.id, target.credential), (provider, credential), "{config} {more:?}");
    }
}

fn key(text: &str) -> CredentialSource {
    CredentialSource::ApiKey(Secret::new(text).unwrap())
}

#[test]
fn the_legacy_mode_names_a_provider() {
    for (mode, provider) in [
        ("proxy openai", "openai"),
        ("proxy", "openai"),
        (" Proxy   anthropic ", "anthropic"),
        ("proxy anthropic x", "anthropic"),
    ] {
        assert_eq!(only(resolve(&[("x-portkey-mode", mode)])).provider.id, provider, "{mode}");
    }
    // Checklist 22.
    assert_eq!(only(resolve(&[("x-portkey-mode", "proxy anthropic"), OPENAI])).provider.id, "openai");
}

#[test]
fn the_legacy_retry_count_beats_the_config() {
    for (count, attempts) in [("2", 2), ("9", 5), ("0", 0), ("many", 0), ("-1", 0), ("3.0", 3)] {
        let given = [OPENAI, ("x-portkey-retry-count", count)];
        for config in [json!({}), json!({"retry": {"attempts": 4, "on_status_codes": [418]}})] {
            let retry = only(with(config, &given)).retry;
            assert_eq!(retry, Retry { attempts, ..Retry::NONE }, "{count}");
        }
    }
}

#[test]
fn headers_beat_every_level_of_the_config() {
    let config = json!({
        "request_timeout": 2000, "custom_host": "https://a.example.com", "forward_headers": ["a"],
        "targets": [{
            "provider": "openai", "request_timeout": 5000, "custom_host": "https://b.example.com", "forward_headers": ["b"],
        }],
    });
    let given = [
        ("x-portkey-request-timeout", "500"),
        ("x-portkey-custom-host", "https://c.example.com/v1/"),
        ("x-portkey-forward-headers", "['X-One', \"x-two\"]"),
    ];
    let target = only(with(config.clone(), &given));
    assert_eq!(target.request_timeout, Some(Millis(500)));
    assert_eq!(target.url("/chat/completions"), "https://c.example.com/v1/chat/completions");
    assert_eq!(target.forward_headers, ["X-One", "x-two"]);
    for nothing in ["0", "soon", "-1", ""] {
        let target = only(with(config.clone(), &[("x-portkey-request-timeout", nothing)]));
        assert_eq!(target.request_timeout, Some(Millis(5000)), "{nothing}");
    }
}

#[test]
fn strict_is_off_when_either_side_says_so() {
    for (header, config, strict) in [
        (None, None, true),
        (None, Some(false), false),
        (Some("true"), Some(false), false),
        (Some("false"), Some(true), false),
        (Some("False"), None, false),
        (Some("true"), None, true),
        (Some("maybe"), Some(true), true),
    ] {
        let header: Vec<_> = header.map(|value| ("x-portkey-strict-open-ai-compliance", value)).into_iter().collect();
        let target = only(with(json!({"provider": "openai", "strict_open_ai_compliance": config}), &header));
        assert_eq!(target.strict, strict, "{header:?} {config:?}");
    }
}

#[test]
fn the_nearest_timeout_holds() {
    // The documented example (checklist 68).
    let config = json!({
        "request_timeout": 2000, "strategy": {"mode": "fallback"},
        "targets": [
            {"request_timeout": 5000, "targets": [{"provider": "openai"}]},
            {"request_timeout": 5000, "targets": [{"provider": "openai", "request_timeout": 10000}]},
            {"provider": "openai"},
            {"provider": "openai", "request_timeout": 0},
        ],
    });
    let config = with(config, &[]).unwrap();
    let timeouts: Vec<_> = config.targets.iter().filter_map(|target| target.request_timeout).collect();
    assert_eq!(timeouts, [Millis(5000), Millis(10000), Millis(2000), Millis(2000)]);
    let paths: Vec<_> = config.targets.iter().map(|target| &*target.path).collect();
    assert_eq!(paths, ["config.targets[0].targets[0]", "config.targets[1].targets[0]", "config.targets[2]", "config.targets[3]"]);
    let far = only(with(json!({"provider": "openai", "request_timeout": 4_294_967_296_u64}), &[]));
    assert_eq!(far.request_timeout, Some(Millis(0x7fff_ffff)));
}

#[test]
fn inheritance_follows_the_rule_of_each_key() {
    let child = |own: Value| {
        let mut leaf = json!({"provider": "openai"});
        leaf.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        let root = json!({
            "retry": {"attempts": 3, "on_status_codes": [418], "use_retry_after_headers": true},
            "custom_host": "https://a.example.com/v1", "forward_headers": ["x-a"], "strict_open_ai_compliance": false,
            "override_params": {"model": "root", "deep": {"a": 1}, "top_p": 1}, "default_params": {"user": "root", "seed": 1},
            "drop_params": ["a", "b"], "name": "root", "weight": 2, "api_key": "sk-root", "openai_organization": "org-root",
            "targets": [leaf],
        });
        only(with(root, &[]))
    };
    let plain = child(json!({}));
    let statuses = |list: &[u16]| StatusSet(list.to_vec().into());
    assert_eq!(plain.retry, Retry { attempts: 3, on_status: statuses(&[418]), use_retry_after: true });
    assert_eq!(plain.url("/x"), "https://a.example.com/v1/x");
    assert_eq!((plain.forward_headers.as_slice(), plain.strict), (["x-a".to_owned()].as_slice(), false));
    assert_eq!(plain.drop_params, ["a", "b"]);
    // Never inherited.
    assert_eq!((plain.name, plain.credential, plain.options), (None, CredentialSource::Stored, Options::default()));

    // Whole objects: checklist 75.
    assert_eq!(child(json!({"retry": {"attempts": 1}})).retry, Retry { attempts: 1, ..Retry::NONE });
    assert_eq!(child(json!({"retry": {"attempts": 9, "on_status_codes": []}})).retry.attempts, 5);
    assert_eq!(child(json!({"retry": {"attempts": 2.0, "on_status_codes": []}})).retry.on_status, statuses(&[]));
    // Merged, one level: checklist 89.
    let merged = child(json!({"override_params": {"model": "leaf", "deep": {"b": 2}}, "default_params": {"user": "leaf"}}));
    assert_eq!(Value::from(merged.override_params), json!({"model": "leaf", "deep": {"b": 2}, "top_p": 1}));
    assert_eq!(Value::from(merged.default_params), json!({"user": "leaf", "seed": 1}));
    // Added up.
    assert_eq!(child(json!({"drop_params": ["c", "a"]})).drop_params, ["a", "b", "c"]);
    // Replaced, by nothing too.
    assert_eq!(child(json!({"forward_headers": []})).forward_headers, [""; 0]);
    assert!(child(json!({"strict_open_ai_compliance": true})).strict);
    // Blank inherits.
    assert_eq!(child(json!({"custom_host": ""})).url("/x"), "https://a.example.com/v1/x");
    assert_eq!(child(json!({"custom_host": "https://b.example.com"})).url("/x"), "https://b.example.com/x");
}

#[test]
fn camel_case_keys_are_the_same_config() {
    let snake = json!({
        "strategy": {"mode": "fallback", "on_status_codes": [429]}, "request_timeout": 9,
        "targets": [{
            "provider": "openai", "api_key": "k", "custom_host": "https://a.example.com", "strict_open_ai_compliance": false,
            "retry": {"attempts": 2, "on_status_codes": [418], "use_retry_after_header": true}, "openai_organization": "o",
            "override_params": {"maxTokens": 5, "nested": {"aB": 1}}, "default_params": {"topP": 1},
            "drop_params": ["toolChoice"],
            "forward_headers": ["xMyHeader"],
        }],
    });
    let camel = json!({
        "strategy": {"mode": "fallback", "onStatusCodes": [429]}, "requestTimeout": 9,
        "targets": [{
            "provider": "openai", "apiKey": "k", "customHost": "https://a.example.com", "strictOpenAiCompliance": false,
            "retry": {"attempts": 2, "onStatusCodes": [418], "useRetryAfterHeader": true}, "openaiOrganization": "o",
            "overrideParams": {"maxTokens": 5, "nested": {"aB": 1}}, "defaultParams": {"topP": 1},
            "dropParams": ["toolChoice"],
            "forwardHeaders": ["xMyHeader"],
        }],
    });
    let (snake, camel) = (with(snake, &[]).unwrap(), with(camel, &[]).unwrap());
    assert_eq!(format!("{snake:?}"), format!("{camel:?}"));
    assert_eq!(snake.targets[0].override_params["nested"], json!({"aB": 1}));
    assert_eq!(snake.targets[0].default_params["topP"], 1);
    // The canonical form wins, and a mistake is told under it.
    assert_eq!(
        only(with(json!({"provider": "openai", "request_timeout": 1, "requestTimeout": 2}), &[])).request_timeout,
        Some(Millis(1))
    );
    assert!(mistakes(json!({"provider": "openai", "requestTimeout": "x"}))[0].starts_with("request_timeout: "));
}

#[test]
fn a_config_may_come_as_base64() {
    for text in [
        "eyJwcm92aWRlciI6Im9wZW5haSJ9",
        "eyJwcm92aWRlciI6Im9wZW5haSIsICJhcGlfa2V5IjogIj4-PyJ9",
        "IHsicHJvdmlkZXIiOiJvcGVuYWkifQ==",
    ] {
        assert_eq!(only(resolve(&[("x-portkey-config", text)])).provider.id, "openai", "{text}");
    }
    assert_eq!(resolve(&[("x-portkey-config", "eyJ")]).unwrap_err().public().code, "invalid_config_json");
}

#[test]
fn options_come_from_where_the_provider_came_from() {
    let given = [
        ("anthropic-beta", "bare"),
        ("anthropic-version", "2024-01-01"),
        ("x-portkey-anthropic-beta", "prefixed"),
        ("x-portkey-openai-organization", "org"),
        ("x-portkey-trace-id", "t"),
        ("x-portkey-provider", "anthropic"),
    ];
    let options = only(resolve(&given)).options;
    assert_eq!(options.get("anthropic_beta"), Some("prefixed"));
    assert_eq!(options.get("anthropic_version"), Some("2024-01-01"));
    assert_eq!(options.get("openai_organization"), Some("org"));
    assert_eq!(options.get("trace_id"), None);
    // B2: the config's own wins; B1: the headers are meant for another.
    assert_eq!(only(with(json!({"anthropic_beta": "config"}), &given)).options.get("anthropic_beta"), Some("config"));
    let own = only(with(json!({"provider": "anthropic", "anthropic_version": "v", "azure_extra_params": true}), &given)).options;
    assert_eq!(own.0.len(), 2);
    assert_eq!((own.get("anthropic_version"), own.get("azure_extra_params")), (Some("v"), Some("true")));
}

#[test]
fn debug_shows_no_secret() {
    let target = only(with(json!({"provider": "openai", "api_key": "s3cret", "aws_secret_access_key": "s3cret"}), &[]));
    let shown = format!("{target:?}");
    assert!(shown.contains("aws_secret_access_key") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn forwarded_headers_are_found_by_either_name_and_never_ours() {
    let request: Headers = [
        ("x-my-header", "1"),
        ("x-plain", "2"),
        ("authorization", "Bearer sk"),
        ("x-api-key", "sk"),
        ("host", "h"),
        ("x-portkey-api-key", "gateway"),
    ]
    .into_iter()
    .collect();
    let mut target = only(resolve(&[OPENAI]));
    target.forward_headers =
        ["xMyHeader", "X-Plain", "Authorization", "x-api-key", "Host", "x-portkey-api-key", "absent"].map(str::to_owned).to_vec();
    assert_eq!(target.forwarded(&request).collect::<Vec<_>>(), [("x-my-header", "1"), ("x-plain", "2")]);
}

#[test]
fn the_mock_is_known_only_where_it_is_enabled() {
    let mock: Headers = [("x-portkey-provider", "mock")].into_iter().collect();
    assert!(headers::resolve(&mock, &policy()).is_ok());
    let error = headers::resolve(&mock, &Policy::default()).unwrap_err();
    assert_eq!(error, GatewayError::InvalidProvider("mock".into()));
    let in_config: Headers = [("x-portkey-config", r#"{"provider":"mock"}"#)].into_iter().collect();
    assert_eq!(headers::resolve(&in_config, &Policy::default()).unwrap_err().public().code, "invalid_config");
}

#[test]
fn a_provider_without_a_host_needs_a_custom_one() {
    for provider in crate::provider::ALL.iter().filter(|provider| provider.base_url.is_none()) {
        let host = ("x-portkey-custom-host", "https://a.example.com");
        let named = ("x-portkey-provider", provider.id);
        assert_eq!(resolve(&[named]).unwrap_err().public().code, "invalid_custom_host");
        assert_eq!(only(resolve(&[named, host])).url("/x"), "https://a.example.com/x");
        assert!(mistakes(json!({"targets": [{"provider": provider.id}]}))[0].starts_with("targets[0].custom_host: needed"));
        assert!(with(json!({"custom_host": host.1, "targets": [{"provider": provider.id}]}), &[]).is_ok());
        assert!(with(json!({"provider": provider.id}), &[host]).is_ok());
    }
}

#[test]
fn depth_and_width_have_limits() {
    let nested = |levels: usize| (1..levels).fold(json!({"provider": "openai"}), |inner, _| json!({"targets": [inner]}));
    let wide = |count: usize| json!({"strategy": {"mode": "fallback"}, "targets": vec![json!({"provider": "openai"}); count]});
    assert_eq!(with(nested(MAX_DEPTH), &[]).unwrap().targets.len(), 1);
    assert!(mistakes(nested(MAX_DEPTH + 1))[0].contains("nested more than 16"));
    assert_eq!(with(wide(MAX_TARGETS), &[]).unwrap().targets.len(), MAX_TARGETS);
    assert_eq!(mistakes(wide(MAX_TARGETS + 1)), ["targets: the config has more than 64 targets"]);
    // Nothing grows without end: not the recursion, not the list of mistakes.
    assert_eq!(mistakes(json!({"targets": vec![json!({"targets": []}); 10_000]})).len(), 100);
    let bottomless = format!("{}1{}", r#"{"targets":["#.repeat(10_000), "]}".repeat(10_000));
    assert_eq!(resolve(&[("x-portkey-config", &bottomless)]).unwrap_err().public().code, "invalid_config_json");
}

#[test]
fn the_worst_case_is_the_sum_over_fallbacks() {
    let tries = |attempts: u32| json!({"provider": "openai", "retry": {"attempts": attempts}});
    let fallback = |targets: Vec<Value>| json!({"strategy": {"mode": "fallback"}, "targets": targets});
    for (config, worst) in [
        (json!({"provider": "openai"}), 1),
        (tries(9), 6),
        (json!({"targets": [tries(2), tries(5)]}), 3),
        (fallback(vec![tries(0), tries(2), tries(5)]), 10),
        (fallback(vec![fallback(vec![tries(1), tries(1)]), tries(3)]), 8),
    ] {
        assert_eq!(with(config.clone(), &[]).unwrap().worst_case_attempts(), worst, "{config}");
    }
    // Draws and conditions choose one, and some never.
    let weighted = |attempts, weight: f64| json!({"provider": "openai", "weight": weight, "retry": {"attempts": attempts}});
    let draw = json!({"strategy": {"mode": "loadbalance"}, "targets": [weighted(1, 1.0), weighted(4, 0.1), weighted(5, 0.0)]});
    let named = |name: &str, attempts| json!({"name": name, "provider": "openai", "retry": {"attempts": attempts}});
    let condition = json!({"query": {"metadata.a": 1}, "then": "b"});
    let choice = |default: Value| {
        json!({
            "strategy": {"mode": "conditional", "conditions": [condition], "default": default},
            "targets": [named("a", 4), named("b", 2), named("c", 5)],
        })
    };
    for (config, worst) in [(draw, 5), (choice(Value::Null), 3), (choice(json!("a")), 5)] {
        assert_eq!(with(config.clone(), &[]).unwrap().worst_case_attempts(), worst, "{config}");
    }
}

#[test]
fn no_config_panics_or_is_lost() {
    use crate::random::{Rng, SeededRng};
    let mut rng = SeededRng(11);
    let keys = [
        "strategy",
        "mode",
        "targets",
        "provider",
        "retry",
        "attempts",
        "on_status_codes",
        "cache",
        "custom_host",
        "weight",
        "override_params",
        "model",
        "conditions",
        "query",
        "then",
        "metadata.a",
        "params.b.c",
        "url.pathname",
        "$or",
        "$and",
        "$nin",
        "$regex",
        "default",
        "name",
        "forward_headers",
        "onStatusCodes",
        "é",
    ];
    fn value(rng: &mut SeededRng, keys: &[&str], depth: u32) -> Value {
        let pick = |rng: &mut SeededRng, n: usize| (rng.next_u64() % n as u64) as usize;
        match pick(rng, if depth == 0 { 6 } else { 12 }) {
            0 => Value::Null,
            1 => json!(pick(rng, 2) == 0),
            2 => json!(rng.next_u64() as i64),
            3 => json!([2.0, -1.5, 1e300, 429.0][pick(rng, 4)]),
            4 | 5 => json!(["openai", "fallback", "single", "loadbalance", "conditional", "@x/y", "a", ""][pick(rng, 8)]),
            6..=8 => (0..pick(rng, 4)).map(|_| value(rng, keys, depth - 1)).collect(),
            _ => (0..pick(rng, 6)).map(|_| (keys[pick(rng, keys.len())].to_owned(), value(rng, keys, depth - 1))).collect(),
        }
    }
    for _ in 0..20_000 {
        let config = value(&mut rng, &keys, 6);
        match with(config.clone(), &[OPENAI]) {
            Ok(config) => assert!(config.worst_case_attempts() > 0),
            Err(error) => assert_ne!(error.public().status, 500, "{config}"),
        }
    }
}

/// What is remembered is what would be resolved: each of these requests differs from the others in one thing.
#[test]
fn a_recalled_config_is_the_resolved_one() {
    let base = [("x-portkey-provider", "openai"), ("x-portkey-custom-host", "https://up.example/v1")];
    let more = [
        ("x-portkey-retry-count", "2"),
        ("x-portkey-request-timeout", "50"),
        ("x-portkey-forward-headers", "x-a"),
        ("x-portkey-strict-open-ai-compliance", "false"),
        ("x-portkey-openai-organization", "org"),
        ("openai-beta", "b"),
        ("x-portkey-mode", "proxy"),
        ("x-portkey-trace-id", "says nothing here"),
        ("x-portkey-config", r#"{"api_key":"k"}"#),
        ("x-portkey-virtual-key", "refused"),
    ];
    let own_host = Policy { own_host: "up.example", ..policy() };
    for _ in 0..2 {
        for policy in [policy(), own_host] {
            for extra in std::iter::once(None).chain(more.into_iter().map(Some)) {
                let headers = base.into_iter().chain(extra).collect();
                let (recalled, resolved) = (headers::recall(&headers, &policy), headers::resolve(&headers, &policy));
                assert_eq!(format!("{:?}", recalled.as_deref()), format!("{:?}", resolved.as_ref()), "{extra:?}");
            }
        }
    }
}
