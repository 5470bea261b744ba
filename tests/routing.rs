//! Routing seen from outside: what a trace says of its decisions is enough to make them again, and what the linter says of a
//! config holds whatever its upstreams do. Configs, bodies and upstreams are random, from a seed; time is virtual.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/world.rs"]
mod world;

use serde_json::{Value, json};
use spangate::config::lint::{self, WorstCase};
use spangate::config::parse::Context;
use spangate::config::{self, Config, Policy, Route};
use spangate::gateway::Head;
use spangate::random::{Rng, SeededRng};
use spangate::route::condition::Facts;
use spangate::route::decision::Choice;
use spangate::route::plan;
use spangate::settings::Settings;
use spangate::trace::message::{CallRecord, QueueRecord};
use spangate::trace::span::Kind;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use world::{Got, LAST_MOMENT, T0, TestWorld, Upstream};

#[test]
fn ten_thousand_recorded_decisions_are_made_again() {
    let mut random = Random(SeededRng(17));
    let mut replayed: BTreeMap<String, usize> = BTreeMap::new();
    while replayed.values().sum::<usize>() < 10_000 || replayed.values().any(|count| *count < 500) {
        let written = random.node(3);
        let Ok(config) = resolve(&written) else { panic!("{written}") };
        let world = TestWorld::new((0..400).map(|_| random.upstream(None)));
        world.seed(random.0.next_u64());
        let call = Call::random(&mut random);
        let got = call.make(&world, &written);
        if config.worst_case_attempts() > config::MAX_CALL_ATTEMPTS {
            assert_eq!(got.status, 400, "{written}");
            continue;
        }
        let record = record(&world);
        let decisions: VecDeque<_> = record.spans[0].events.iter().filter(|event| event.name == "portkey.decision").collect();
        let mut replay = Replay { config: &config, decisions: decisions.into_iter().map(|event| &event.attributes).collect() };
        for decision in &replay.decisions {
            *replayed.entry(text(&decision["portkey.decision.mode"]).to_owned()).or_default() += 1;
        }
        let attempts: Vec<&str> =
            record.spans.iter().filter_map(|span| span.attempt.as_ref()).map(|attempt| &*attempt.target).collect();
        assert_eq!(replay.targets(), attempts, "{written}\n{:#?}", record.spans[0].events);
    }
    assert_eq!(replayed.keys().collect::<Vec<_>>(), ["conditional", "fallback", "loadbalance", "retry"]);
}

#[test]
fn no_call_exceeds_what_the_linter_predicts() {
    let mut random = Random(SeededRng(23));
    let (mut bounded, mut at_worst, mut at_longest, mut refused) = (0, 0, 0, 0);
    for round in 0..2_000 {
        let written = random.node(3);
        let report = lint::lint(&written.to_string(), Context { policy: &Policy::default(), provider: None, hosted: false });
        let WorstCase { attempts, wall_time } = report.worst_case.unwrap_or_else(|| panic!("{written}: {report:?}"));
        for hostility in [Hostility::Dawdles, Hostility::Random, Hostility::Stalls, Hostility::Waits] {
            let world = match hostility {
                Hostility::Dawdles => TestWorld::new((0..60).map(|_| Upstream::status(503, "{}").after(LAST_MOMENT.0))),
                Hostility::Random => TestWorld::new((0..60).map(|_| random.upstream(Some(2_000)))),
                Hostility::Stalls => TestWorld::new((0..60).map(|_| Upstream::status(503, "{}").after(1_000_000))),
                Hostility::Waits => TestWorld::new((0..60).map(|_| random.busy())),
            };
            world.seed(round);
            let got = Call::random(&mut random).make(&world, &written);
            let (sent, took) = (world.sent().len(), got.at.since(T0));
            if !report.errors.is_empty() {
                assert_eq!((got.status, sent), (400, 0), "{written}: {report:?}");
                refused += 1;
                continue;
            }
            assert!(sent <= attempts as usize, "{sent} attempts, {attempts} predicted: {written}");
            at_worst += usize::from(sent > 1 && sent == attempts as usize);
            if let Some(wall_time) = wall_time {
                assert!(took <= wall_time, "{took:?}, {wall_time:?} predicted: {written}");
                bounded += 1;
                at_longest += usize::from(sent > 1 && took.0 + sent as u64 >= wall_time.0);
            }
        }
    }
    assert!(refused > 20, "the cap was met: {refused}");
    assert!(bounded > 2_000 && at_worst > 300 && at_longest > 100, "the bounds were met: {bounded} {at_worst} {at_longest}");
}

/// How upstreams try to take longer than predicted.
#[derive(Clone, Copy, Debug)]
enum Hostility {
    /// They fail, but at the last moment.
    Dawdles,
    /// In every way.
    Random,
    /// They never answer.
    Stalls,
    /// They ask for long waits.
    Waits,
}

/// Walks a config by recorded decisions alone.
struct Replay<'a> {
    config: &'a Config,
    decisions: VecDeque<&'a BTreeMap<String, Value>>,
}

impl<'a> Replay<'a> {
    /// The targets that were tried, in order.
    fn targets(&mut self) -> Vec<&'a str> {
        let mut targets = Vec::new();
        let mut next = self.enter(&self.config.route);
        while let Some(target) = next {
            targets.push(target);
            next = self.decisions.pop_front().and_then(|decision| self.moved_on(decision, target));
        }
        assert!(self.decisions.is_empty(), "decisions without an attempt: {:?}", self.decisions);
        targets
    }

    /// Down to a leaf: draws and conditions are made again, and must come out as they did.
    fn enter(&mut self, route: &'a Route) -> Option<&'a str> {
        let (index, targets): (Option<usize>, Vec<&Route>) = match route {
            Route::Target(id) => return Some(&self.config.target(*id).path),
            Route::Single(inner) => return self.enter(inner),
            Route::Fallback { targets, .. } => return self.enter(&targets.first),
            Route::Loadbalance { path, targets } => {
                let decision = self.decision(path, "loadbalance");
                let weights: Vec<f64> =
                    decision["portkey.decision.weights"].as_array().unwrap().iter().map(|w| w.as_f64().unwrap()).collect();
                assert_eq!(weights, targets.iter().map(|target| target.weight).collect::<Vec<_>>());
                let index = plan::pick(decision["portkey.decision.draw"].as_u64().unwrap(), &weights);
                self.expect_target(decision, path, Some(index));
                (Some(index), targets.iter().map(|target| &target.route).collect())
            }
            Route::Conditional { path, targets, conditions, default } => {
                let decision = self.decision(path, "conditional");
                let values = decision["portkey.decision.values"].as_object().unwrap();
                let part = |prefix: &'static str| {
                    values.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())))
                };
                let metadata = part("metadata.").map(|(key, value)| (key, text(&value).to_owned())).collect();
                let facts = Facts {
                    metadata: &metadata,
                    params: &part("params.").collect(),
                    pathname: values.get("url.pathname").map_or("", text),
                };
                let Choice::Condition { condition, target, .. } = plan::decide(conditions, *default, &facts) else { panic!() };
                let expected = match (condition, target) {
                    (Some(index), _) => json!(index),
                    (None, Some(_)) => json!("default"),
                    (None, None) => json!("none"),
                };
                assert_eq!(decision["portkey.decision.condition"], expected);
                self.expect_target(decision, path, target);
                (target, targets.iter().collect())
            }
        };
        self.enter(targets[index?])
    }

    /// After an attempt: the same target again, or the next one of a fallback.
    fn moved_on(&mut self, decision: &'a BTreeMap<String, Value>, target: &'a str) -> Option<&'a str> {
        let status = decision["portkey.decision.status"].as_u64().unwrap() as u16;
        let path = text(&decision["portkey.decision.path"]);
        if decision["portkey.decision.mode"] == "retry" {
            let rules = &self.config.targets.iter().find(|other| other.path == target).unwrap().retry;
            assert!(rules.on_status.contains(status) || status == 503, "{decision:?}");
            assert_eq!((path, text(&decision["portkey.decision.target"])), (target, target));
            return Some(target);
        }
        assert_eq!(decision["portkey.decision.mode"], "fallback");
        let Route::Fallback { targets, on_status, .. } = at(&self.config.route, path) else { panic!("{path}") };
        assert!(on_status.on(status), "{decision:?}");
        let current = (0..).find(|index| inside(target, &format!("{path}.targets[{index}]"))).unwrap();
        self.expect_target(decision, path, Some(current + 1));
        self.enter(targets.get(current + 1).unwrap())
    }

    fn decision(&mut self, path: &str, mode: &str) -> &'a BTreeMap<String, Value> {
        let decision = self.decisions.pop_front().unwrap_or_else(|| panic!("nothing was decided at {path}"));
        assert_eq!((text(&decision["portkey.decision.path"]), text(&decision["portkey.decision.mode"])), (path, mode));
        decision
    }

    fn expect_target(&self, decision: &BTreeMap<String, Value>, path: &str, index: Option<usize>) {
        let expected = index.map(|index| json!(format!("{path}.targets[{index}]")));
        assert_eq!(decision.get("portkey.decision.target"), expected.as_ref(), "{decision:?}");
    }
}

/// The strategy of that path.
fn at<'c>(route: &'c Route, path: &str) -> &'c Route {
    let own = match route {
        Route::Conditional { path, .. } | Route::Fallback { path, .. } | Route::Loadbalance { path, .. } => Some(path.as_str()),
        Route::Single(_) | Route::Target(_) => None,
    };
    if own == Some(path) {
        return route;
    }
    let inner: Vec<&Route> = match route {
        Route::Conditional { targets, .. } | Route::Fallback { targets, .. } => targets.iter().collect(),
        Route::Loadbalance { targets, .. } => targets.iter().map(|target| &target.route).collect(),
        Route::Single(inner) => return at(inner, path),
        Route::Target(_) => panic!("no strategy at {path}"),
    };
    let own = own.unwrap();
    let next = inner.iter().enumerate().find(|(index, _)| inside(path, &format!("{own}.targets[{index}]")));
    at(next.unwrap().1, path)
}

fn inside(path: &str, node: &str) -> bool {
    path.strip_prefix(node).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A call that conditions can tell from others.
struct Call {
    metadata: Value,
    body: Value,
}

impl Call {
    fn random(random: &mut Random) -> Call {
        let metadata = json!({"plan": random.one(&["paid", "free", "trial"]), "region": random.one(&["eu", "us"])});
        let mut body = json!({"model": random.one(&["gpt-4o", "gpt-4o-mini", "o3"]), "messages": []});
        if random.below(3) > 0 {
            body["temperature"] = json!(random.below(20) as f64 / 10.0);
        }
        Call { metadata, body }
    }

    fn make(&self, world: &TestWorld, config: &Value) -> Got {
        let headers = [
            ("x-portkey-api-key", "gw-key-1".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("x-portkey-config", config.to_string()),
            ("x-portkey-metadata", self.metadata.to_string()),
        ];
        let head = Head {
            method: "POST".into(),
            path: "/v1/chat/completions".into(),
            query: String::new(),
            headers: headers.iter().map(|(name, value)| (*name, value.as_str())).collect(),
        };
        let settings = Settings::parse([("GATEWAY_ADMIN_KEY", "gw-key-1")].into_iter());
        world.call(&Rc::new(settings), head, self.body.to_string().as_bytes())
    }
}

fn resolve(config: &Value) -> Result<Config, spangate::error::GatewayError> {
    let text = config.to_string();
    config::headers::resolve(&[("x-portkey-config", text.as_str())].into_iter().collect(), &Policy::default())
}

fn record(world: &TestWorld) -> CallRecord {
    match QueueRecord::parse(&world.committed()[0]).unwrap() {
        QueueRecord::Call(call) => {
            assert_eq!(call.spans[0].kind, Kind::Request);
            *call
        }
        QueueRecord::Guard(guard) => panic!("a guard's record: {guard:?}"),
    }
}

/// Configs and upstreams from a seed.
struct Random(SeededRng);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n
    }

    fn one<'v>(&mut self, values: &[&'v str]) -> &'v str {
        values[self.below(values.len() as u64) as usize]
    }

    /// A valid node, with leaves that have keys.
    fn node(&mut self, depth: u32) -> Value {
        let mut node = if depth == 0 || self.below(4) == 0 { self.leaf() } else { self.strategy(depth) };
        if self.below(3) == 0 {
            node["retry"] = json!({"attempts": self.below(8), "use_retry_after_header": self.below(2) == 0});
            if self.below(3) == 0 {
                node["retry"]["on_status_codes"] = json!(STATUSES[..self.below(8) as usize]);
            }
        }
        node
    }

    fn leaf(&mut self) -> Value {
        let mut leaf = json!({"provider": self.one(&["openai", "groq", "mistral-ai"]), "api_key": "sk-of-this-test"});
        if self.below(12) > 0 {
            leaf["request_timeout"] = json!(1 + self.below(2_000));
        }
        leaf
    }

    fn strategy(&mut self, depth: u32) -> Value {
        let count = 1 + self.below(4) as usize;
        let mut targets: Vec<Value> = (0..count).map(|_| self.node(depth - 1)).collect();
        let strategy = match self.below(7) {
            0 => json!({"mode": "single"}),
            1 | 2 => {
                for target in &mut targets[1..] {
                    target["weight"] = json!([0.0, 0.1, 1.0, 3.0, 1e-9][self.below(5) as usize]);
                }
                json!({"mode": "loadbalance"})
            }
            3 | 4 => {
                for (index, target) in targets.iter_mut().enumerate() {
                    target["name"] = json!(format!("t{index}"));
                }
                let conditions: Vec<Value> = (0..1 + self.below(3))
                    .map(|_| json!({"query": self.query(2), "then": format!("t{}", self.below(count as u64))}))
                    .collect();
                let default = (self.below(4) > 0).then(|| format!("t{}", self.below(count as u64)));
                json!({"mode": "conditional", "conditions": conditions, "default": default})
            }
            5 => json!({"mode": "fallback", "on_status_codes": STATUSES[..self.below(8) as usize]}),
            _ => json!({"mode": "fallback"}),
        };
        json!({"strategy": strategy, "targets": targets})
    }

    fn query(&mut self, depth: u32) -> Value {
        match self.below(if depth == 0 { 6 } else { 9 }) {
            0 => json!({"metadata.plan": self.one(&["paid", "free"])}),
            1 => json!({"metadata.region": {"$ne": self.one(&["eu", "mars"])}}),
            2 => json!({"params.temperature": {"$gt": self.below(10) as f64 / 10.0, "$lte": "1.5"}}),
            3 => json!({"params.model": {"$regex": self.one(&["^gpt-", "mini$", "o\\d", "("])}}),
            4 => json!({"metadata.plan": {"$in": ["paid", "trial"]}, "url.pathname": {"$regex": "chat"}}),
            5 => json!({"params.messages": {"$nin": [1, "x"]}, "metadata.gone": {"$ne": 1}}),
            6 => json!({"$or": [self.query(depth - 1), self.query(depth - 1)]}),
            7 => json!({"$and": [self.query(depth - 1), self.query(depth - 1)]}),
            _ => json!({"$or": [self.query(depth - 1)], "metadata.region": "eu"}),
        }
    }

    /// An answer that may well fail; with `latest` it may take that long, and more.
    fn upstream(&mut self, latest: Option<u64>) -> Upstream {
        let delay = latest.map_or(0, |latest| self.below(latest + latest / 4));
        match self.below(10) {
            0 => Upstream::Unreachable("refused"),
            1 | 2 => self.busy().after(delay),
            3 => Upstream::status(200, r#"{"id":"x","choices":[]"#).after(delay), // malformed: cut
            4 => Upstream::status(200, r#"{"id":"x","choices":[]}"#).after(delay),
            n => Upstream::status(STATUSES[n as usize - 2], "{}").after(delay),
        }
    }

    /// Names a wait: any, one that is just allowed, or one that fills the budget together with another.
    fn busy(&mut self) -> Upstream {
        let wait = [self.below(70_000), 59_999, 30_000, 1][self.below(4) as usize];
        Upstream::status(429, "{}").with("retry-after-ms", &wait.to_string())
    }
}

const STATUSES: [u16; 8] = [429, 500, 503, 408, 502, 400, 200, 529];
