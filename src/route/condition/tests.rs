use super::*;
use serde_json::json;

/// What a call with some metadata and a body says to a query.
fn ask(query: &Value) -> (bool, Map<String, Value>) {
    let mut reading = Reading::default();
    let query = Query::parse(query.as_object().unwrap(), "query", &mut reading);
    assert_eq!(reading.mistakes, [], "{query:?}");
    let metadata = [("plan", "paid"), ("n", "12 apples"), ("empty", ""), ("long", &"x".repeat(600))];
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let params = json!({
        "model": "gpt-4o", "temperature": 0.9, "n": 1, "seed": 12345678901234567890u64, "stream": true, "stop": null,
        "messages": [{"role": "user"}], "response_format": {"type": "json"}, "é": "ü",
    });
    let facts = Facts { metadata: &metadata, params: params.as_object().unwrap(), pathname: "/v1/chat/completions" };
    let mut read = Map::new();
    let holds = query.holds(&facts, &mut read);
    // What was read is enough to decide again.
    let part = |prefix: &'static str| {
        read.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())))
    };
    let again = Facts {
        metadata: &part("metadata.").map(|(key, value)| (key, value.as_str().unwrap().to_owned())).collect(),
        params: &part("params.").collect(),
        ..facts
    };
    assert_eq!(query.holds(&again, &mut Map::new()), holds, "{query:?} with {read:?}");
    (holds, read)
}

fn hold(table: &[(Value, bool)]) {
    for (query, expected) in table {
        assert_eq!(ask(query).0, *expected, "{query}");
    }
}

#[test]
fn equality_is_strict() {
    hold(&[
        // Checklist 82, 88.
        (json!({"metadata.plan": {"$eq": "paid"}}), true),
        (json!({"metadata.plan": "paid"}), true),
        (json!({"metadata.plan": "Paid"}), false),
        (json!({"metadata.plan": {"$ne": "paid"}}), false),
        (json!({"metadata.plan": {"$ne": "free"}}), true),
        (json!({"url.pathname": {"$eq": "/v1/chat/completions"}}), true),
        (json!({"url.pathname": "/v1/embeddings"}), false),
        // By type: metadata are texts, numbers are doubles.
        (json!({"params.n": 1}), true),
        (json!({"params.n": 1.0}), true),
        (json!({"params.n": "1"}), false),
        (json!({"params.n": true}), false),
        (json!({"params.seed": 12345678901234567890u64}), true),
        (json!({"params.stream": true}), true),
        (json!({"params.stream": "true"}), false),
        (json!({"params.stop": null}), true),
        (json!({"params.stop": {"$eq": null}}), true),
        (json!({"params.gone": null}), false),
        (json!({"params.é": "ü"}), true),
        // Nothing equals a list or an object.
        (json!({"params.messages": {"$eq": []}}), false),
        (json!({"params.messages": {"$ne": []}}), true),
        (json!({"params.messages": {"$in": [[], {}]}}), false),
        (json!({"params.response_format": {"$eq": {}}}), false),
    ]);
}

#[test]
fn lists_hold_their_members() {
    hold(&[
        (json!({"metadata.plan": {"$in": ["free", "paid"]}}), true),
        (json!({"metadata.plan": {"$in": ["free"]}}), false),
        (json!({"metadata.plan": {"$in": []}}), false),
        (json!({"metadata.plan": {"$in": "paid"}}), false),
        (json!({"metadata.plan": {"$nin": ["free"]}}), true),
        (json!({"metadata.plan": {"$nin": ["paid"]}}), false),
        (json!({"metadata.plan": {"$nin": "free"}}), false),
        (json!({"params.n": {"$in": ["1"]}}), false),
        (json!({"params.n": {"$in": [0, 1]}}), true),
    ]);
}

#[test]
fn both_sides_of_a_comparison_are_read_as_numbers() {
    hold(&[
        // Checklist 85.
        (json!({"params.temperature": {"$gt": 0.7}}), true),
        (json!({"params.top_p": {"$gt": 0.7}}), false),
        (json!({"params.temperature": {"$gt": 0.9}}), false),
        (json!({"params.temperature": {"$gte": 0.9}}), true),
        (json!({"params.temperature": {"$lt": 0.9}}), false),
        (json!({"params.temperature": {"$lte": 0.9}}), true),
        (json!({"params.temperature": {"$lt": "1e0x"}}), true),
        (json!({"params.temperature": {"$gt": 0, "$lt": 0.5}}), false),
        (json!({"params.temperature": {"$gt": 0, "$lt": 1}}), true),
        (json!({"metadata.n": {"$gte": 12, "$lte": 12}}), true),
        (json!({"metadata.plan": {"$gt": 0}}), false),
        (json!({"metadata.plan": {"$lt": 0}}), false),
        (json!({"params.stream": {"$gt": 0}}), false),
        (json!({"params.stop": {"$lte": 0}}), false),
        (json!({"params.messages": {"$gte": 0}}), false),
        (json!({"params.n": {"$gt": "none"}}), false),
        (json!({"params.n": {"$gt": [0]}}), false),
    ]);
}

#[test]
fn texts_begin_with_numbers_as_in_javascript() {
    for (text, expected) in [
        ("12", Some(12.0)),
        (" \t-1.5px", Some(-1.5)),
        ("+.5e1.2", Some(5.0)),
        ("1.", Some(1.0)),
        ("1e", Some(1.0)),
        ("1e+", Some(1.0)),
        ("1e-2", Some(0.01)),
        ("0x10", Some(0.0)),
        ("1_000", Some(1.0)),
        ("-Infinity!", Some(f64::NEG_INFINITY)),
        ("1e999", Some(f64::INFINITY)),
        ("", None),
        (".", None),
        ("-", None),
        (".e1", None),
        ("e1", None),
        ("inf", None),
        ("nan", None),
        ("é1", None),
    ] {
        assert_eq!(float(&json!(text)), expected, "{text:?}");
    }
}

#[test]
fn patterns_are_searched_for() {
    hold(&[
        (json!({"params.model": {"$regex": "^gpt-4"}}), true),
        (json!({"params.model": {"$regex": "4o"}}), true),
        (json!({"params.model": {"$regex": "GPT"}}), false),
        (json!({"params.model": {"$regex": ""}}), true),
        (json!({"params.model": {"$regex": "gpt-\\d[a-z]$"}}), true),
        (json!({"params.temperature": {"$regex": "^0\\.9$"}}), true),
        // Siblings count; a missing value matches nothing, nor does a pattern that is none.
        (json!({"params.model": {"$regex": "^gpt", "$ne": "gpt-4o"}}), false),
        (json!({"params.gone": {"$regex": "undefined"}}), false),
        (json!({"params.stop": {"$regex": "null"}}), false),
        (json!({"params.messages": {"$regex": ""}}), false),
        (json!({"params.model": {"$regex": "("}}), false),
        (json!({"params.model": {"$regex": "(?=g)"}}), false),
        (json!({"params.model": {"$regex": "(g)\\1"}}), false),
        (json!({"params.model": {"$regex": 4}}), false),
        (json!({"params.model": {"$regex": "(\\w{500}){500}|gpt"}}), false),
    ]);
}

#[test]
fn a_hostile_pattern_takes_no_longer_than_its_size() {
    // No clock here: where time is exponential, this does not end.
    for pattern in ["(x+x+)+y", "(a|x|xx)+$y", "(.*)*(.*)*(.*)*!"] {
        assert!(!ask(&json!({"metadata.long": {"$regex": pattern}})).0);
    }
}

#[test]
fn queries_nest_and_siblings_count() {
    let (yes, no) = (json!({"metadata.plan": "paid"}), json!({"metadata.plan": "free"}));
    hold(&[
        (json!({}), true),
        (json!({"metadata.plan": {}}), true),
        (json!({"metadata.plan": "paid", "params.n": 2}), false),
        (json!({"$and": []}), true),
        (json!({"$or": []}), false),
        (json!({"$and": [yes, yes]}), true),
        (json!({"$and": [yes, no]}), false),
        (json!({"$or": [no, yes]}), true),
        (json!({"$or": [no, no]}), false),
        // Checklist 84.
        (json!({"$and": [{"$or": [no, yes]}, {"$or": [yes]}]}), true),
        (json!({"$and": [{"$or": [no, yes]}, {"$or": [no]}]}), false),
        (json!({"$or": [{"$and": [yes, no]}, {"$and": [yes, yes]}]}), true),
        (json!({"$or": [yes], "params.n": 2}), false),
        (json!({"$and": [yes], "$or": [no]}), false),
    ]);
}

#[test]
fn a_missing_key_is_different_from_everything() {
    hold(&[
        (json!({"metadata.gone": {"$ne": "x"}}), true),
        (json!({"metadata.gone": {"$nin": ["x"]}}), true),
        (json!({"metadata.gone": {"$eq": "x"}}), false),
        (json!({"metadata.gone": {"$in": ["x"]}}), false),
        (json!({"metadata.gone": {"$lt": 1}}), false),
        (json!({"metadata.empty": ""}), true),
    ]);
}

#[test]
fn two_segments_name_a_value() {
    hold(&[
        (json!({"metadata.plan.whatever": "paid"}), true),
        (json!({"url.pathname.x": "/v1/chat/completions"}), true),
        (json!({"params.response_format.type": "json"}), false),
    ]);
}

#[test]
fn what_was_read_is_told_and_short() {
    let (_, read) = ask(&json!({"$or": [
        {"params.messages": 1}, {"params.response_format": 1}, {"metadata.gone": 1}, {"metadata.plan.x": "paid"}, {"params.n": 1},
    ]}));
    assert_eq!(json!(read), json!({"params.messages": [], "params.response_format": {}, "metadata.plan": "paid"}));
    let (holds, read) = ask(&json!({"metadata.long": {"$regex": "^x{200}", "$ne": "x".repeat(512)}}));
    assert!(holds);
    assert_eq!(read["metadata.long"], format!("{}…", "x".repeat(512)));
}
