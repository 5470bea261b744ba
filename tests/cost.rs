//! What calls cost, against sums done by hand; and every line of the price list, found again in the packed table.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test fails by panicking

use serde_json::{Map, Value};
use spangate::llm::observed::Observed;
use spangate::llm::usage::Usage;
use spangate::time::UnixMillis;
use spangate::trace::cost::{self, Bill, Cost, Rate, Region, caps, cost, max_output, price};

/// `input`, `output`, then parts of them: `r` cache read, `w` cache write, `w1h`, `a` audio in, `ao` audio out, `o`
/// reasoning.
fn usage(input: u64, output: u64, parts: &[(&str, u64)]) -> Usage {
    let mut usage = Usage { input: Some(input), output: Some(output), ..Usage::default() };
    for (part, count) in parts {
        let slot = match *part {
            "a" => &mut usage.audio_input,
            "ao" => &mut usage.audio_output,
            "o" => &mut usage.reasoning,
            "r" => &mut usage.cache_read,
            "w" => &mut usage.cache_write,
            "w1h" => &mut usage.cache_write_1h,
            other => panic!("{other}"),
        };
        *slot = Some(*count);
    }
    usage
}

fn bill<'a>(key: &'a str, usage: Usage) -> (Bill<'a>, [&'a str; 1]) {
    let (provider, model) = key.split_once('/').unwrap();
    (Bill { provider, usage, ..Bill::default() }, [model])
}

/// The cost of a call that is particular in some way.
fn billed(key: &str, usage: Usage, particular: impl Fn(&mut Bill)) -> Option<Cost> {
    let (mut base, models) = bill(key, usage);
    particular(&mut base);
    cost(&Bill { models: &models, ..base })
}

fn pico(key: &str, usage: Usage) -> Option<u64> {
    billed(key, usage, |_| ()).map(|cost| cost.total_pico_usd)
}

fn tier(key: &str, usage: Usage, service_tier: &str) -> Cost {
    let (base, models) = bill(key, usage);
    cost(&Bill { models: &models, service_tier: Some(service_tier), ..base }).unwrap()
}

/// All amounts below are in 1e-12 US dollars.
#[test]
fn worked_examples_of_the_price_sheet() {
    let sonnet = usage(12 + 1800 + 200, 3, &[("r", 1800), ("w", 200), ("w1h", 150)]);
    assert_eq!(pico("anthropic/claude-sonnet-4-5", sonnet), Some(1_708_500_000));
    assert_eq!(pico("google/gemini-2.5-pro", usage(250_000, 1000, &[("r", 100_000)])), Some(415_000_000_000));
    assert_eq!(pico("google/gemini-2.5-pro", usage(200_000, 1000, &[])), Some(260_000_000_000));
    let batch = tier("openai/gpt-4o", usage(10_000, 1000, &[]), "batch");
    assert_eq!((batch.total_pico_usd, batch.estimated), (17_500_000_000, false));
    assert_eq!(pico("google/gemini-2.5-flash", usage(1000, 150, &[("a", 400), ("o", 50)])), Some(955_000_000));
    let rerank = billed("cohere/rerank-v3.5", Usage::default(), |bill| bill.search_units = Some(1));
    assert_eq!(rerank.unwrap().total_pico_usd, 2_000_000_000);
}

#[test]
fn classes_of_tokens_have_their_own_rates() {
    let cases = [
        // 100 × 2.5 + 50 × 10 = 750 µ$
        ("openai/gpt-4o", usage(100, 50, &[]), 750_000_000),
        // (1000 − 400) × 2.5 + 400 × 1.25 = 2000
        ("openai/gpt-4o", usage(1000, 0, &[("r", 400)]), 2_000_000_000),
        // no cache_write rate: 400 at 2.5
        ("openai/gpt-4o", usage(400, 0, &[("w", 400), ("w1h", 100)]), 1_000_000_000),
        // a written zero is a price: 100 × 1.32, 900 written free
        ("deepseek/deepseek-v4-pro", usage(1000, 0, &[("w", 900)]), 132_000_000),
        // 10 × 1.2 text + 90 × 4 reasoning
        ("dashscope/qwen-plus-latest", usage(0, 100, &[("o", 90)]), 372_000_000),
        // no reasoning rate: all at 15
        ("anthropic/claude-sonnet-4-5", usage(0, 100, &[("o", 90)]), 1_500_000_000),
        // reasoning that was not counted in the output is billed all the same: 0 text + 90 × 15
        ("anthropic/claude-sonnet-4-5", usage(0, 10, &[("o", 90)]), 1_350_000_000),
        // cached first: 900 × 0.03, and of 300 audio only 100 is left × 1
        ("google/gemini-2.5-flash", usage(1000, 0, &[("r", 900), ("a", 300)]), 127_000_000),
        // audio without a rate is text: 100 × 3 + 10 × 15 (audio out)
        ("anthropic/claude-sonnet-4-5", usage(100, 10, &[("a", 50), ("ao", 10)]), 450_000_000),
        // a fee a request: 5000 + 100 × 0 + 10 × 2.8
        ("perplexity-ai/pplx-70b-online", usage(100, 10, &[]), 5_028_000_000),
        // listed as free
        ("cohere/command-a-plus-05-2026", usage(1000, 1000, &[]), 0),
        // finer than 1e-12 a token: 1 × 1.142857143e-7 rounds to 114286e-12
        ("zhipu/glm-5.3-flash", usage(1, 0, &[]), 114_286),
        // but only once, at the end: 1000 × 1.142857143e-7 = 114285714.3e-12
        ("zhipu/glm-5.3-flash", usage(1000, 0, &[]), 114_285_714),
    ];
    for (key, usage, expected) in cases {
        assert_eq!(pico(key, usage), Some(expected), "{key} {usage:?}");
    }
}

#[test]
fn a_tier_replaces_the_rates_of_the_whole_call() {
    let cases = [
        ("openai/gpt-5.4", 272_000, 272_000 * 2_500_000 + 10 * 15_000_000),
        ("openai/gpt-5.4", 272_001, 272_001 * 5_000_000 + 10 * 22_500_000),
        // two tiers: the last one reached
        ("dashscope/qwen3-max", 32_000, 32_000 * 1_200_000 + 10 * 6_000_000),
        ("dashscope/qwen3-max", 32_001, 32_001 * 2_400_000 + 10 * 12_000_000),
        ("dashscope/qwen3-max", 200_000, 200_000 * 3_000_000 + 10 * 15_000_000),
        // xAI counts the threshold itself
        ("x-ai/grok-4.20", 199_999, 199_999 * 1_250_000 + 10 * 2_500_000),
        ("x-ai/grok-4.20", 200_000, 200_000 * 2_500_000 + 10 * 5_000_000),
    ];
    for (key, input, expected) in cases {
        assert_eq!(pico(key, usage(input, 10, &[])), Some(expected), "{key} {input}");
    }
    // Cached tokens count towards the threshold: 1 × 5 + 272,000 × 0.5
    assert_eq!(pico("openai/gpt-5.4", usage(272_001, 0, &[("r", 272_000)])), Some(5_000_000 + 272_000 * 500_000));
}

#[test]
fn a_class_of_service_has_its_own_rates() {
    let cases = [
        // flex: 1000 × 1.25, 100 × 7.5
        ("openai/gpt-5.4", usage(1000, 100, &[]), "flex", 2_000_000_000, false),
        // flex, its own tier: 300,000 × 2.5
        ("openai/gpt-5.4", usage(300_000, 0, &[]), "flex", 750_000_000_000, false),
        // priority has no tier here, so it follows the base's: 5 × 5/2.5 and 30 × 22.5/15
        ("openai/gpt-5.4", usage(300_000, 1000, &[]), "priority", 300_000 * 10_000_000 + 1000 * 45_000_000, false),
        ("openai/gpt-4o", usage(1000, 100, &[]), "fast", 4_250_000_000 + 1_700_000_000, false),
        // no flex price: the ordinary one, but marked
        ("openai/gpt-4o", usage(1000, 100, &[]), "flex", 3_500_000_000, true),
        // batch without a rate for cache reads: half of 1.25, and marked
        ("openai/gpt-4o", usage(1000, 0, &[("r", 1000)]), "batch", 625_000_000, true),
        // Anthropic: 100 × 1.5 + 100 × 0.15 (read) + 100 × 1.875 (written)
        ("anthropic/claude-sonnet-4-5", usage(300, 0, &[("r", 100), ("w", 100)]), "batch", 352_500_000, false),
        // written for an hour: half of 6
        ("anthropic/claude-sonnet-4-5", usage(100, 0, &[("w", 100), ("w1h", 100)]), "batch", 300_000_000, true),
        // no batch price at all: half of everything
        ("perplexity-ai/sonar", usage(1000, 1000, &[]), "batch", 1_000_000_000, true),
        ("openai/gpt-4o", usage(1000, 100, &[]), "default", 3_500_000_000, false),
    ];
    for (key, usage, class, expected, estimated) in cases {
        let have = tier(key, usage, class);
        assert_eq!((have.total_pico_usd, have.estimated), (expected, estimated), "{key} {class} {usage:?}");
    }
}

#[test]
fn nights_and_weekends_can_be_cheaper() {
    let cases = [
        ("2026-11-20T00:30:00Z", 660), // Friday
        ("2026-11-20T01:00:00Z", 1320),
        ("2026-11-20T03:59:59.999Z", 1320),
        ("2026-11-20T04:00:00Z", 660),
        ("2026-11-20T06:00:00Z", 1320),
        ("2026-11-20T23:59:59Z", 660),
        ("2026-11-21T02:00:00Z", 660), // Saturday
        ("2026-11-22T08:00:00Z", 660),
        ("2026-11-23T08:00:00Z", 1320),
    ];
    for (at, expected) in cases {
        let at = UnixMillis::parse_rfc3339(at).unwrap();
        let have = billed("deepseek/deepseek-v4-pro", usage(1000, 0, &[]), |bill| bill.at = Some(at)).unwrap();
        assert_eq!((have.total_pico_usd, have.estimated), (expected * 1_000_000, false), "{at:?}");
    }
}

#[test]
fn fees_come_on_top_and_are_in_the_total_only() {
    let have = billed("anthropic/claude-sonnet-4-5", usage(100, 10, &[]), |bill| {
        (bill.web_searches, bill.service_tier) = (3, Some("batch"));
    });
    let expected = Cost {
        total_pico_usd: 150_000_000 + 75_000_000 + 30_000_000_000,
        input_pico_usd: 150_000_000,
        output_pico_usd: 75_000_000,
        estimated: false,
    };
    assert_eq!(have, Some(expected));
}

#[test]
fn a_region_multiplies_the_tokens_but_not_the_fees() {
    let eu = |bill: &mut Bill| (bill.region, bill.web_searches) = (Some(Region::Eu), 1);
    assert_eq!(billed("openai/gpt-5.4", usage(1000, 0, &[]), eu).unwrap().total_pico_usd, 2_750_000_000 + 10_000_000_000);
    let regional = |bill: &mut Bill| bill.region = Some(Region::Regional);
    assert_eq!(billed("vertex-ai/claude-sonnet-4-5", usage(1000, 0, &[]), regional).unwrap().total_pico_usd, 3_300_000_000);
    assert_eq!(billed("openai/gpt-4o", usage(1000, 0, &[]), regional).unwrap().total_pico_usd, 2_500_000_000);
}

#[test]
fn what_is_unknown_is_not_zero() {
    let some = usage(10, 10, &[]);
    for key in ["openai/no-such-model", "no-such-provider/gpt-4o", "mock/gpt-4o", "openai/", "/gpt-4o", "openai/dall-e-3"] {
        assert_eq!(pico(key, some), None, "{key}");
    }
    assert_eq!(pico("openai/gpt-4o", Usage::default()), None, "no usage");
    assert_eq!(pico("cohere/command-a-plus-05-2026", Usage::default()), None, "no usage of a free model");
    assert_eq!(pico("openai/gpt-4o", Usage { input: Some(10), ..Usage::default() }), None, "no output count");
    assert_eq!(pico("openai/gpt-4o", Usage { output: Some(10), ..Usage::default() }), None, "no input count");
    assert_eq!(pico("openai/text-embedding-3-small", Usage { input: Some(1000), ..Usage::default() }), Some(20_000_000));
    assert_eq!(billed("openai/gpt-5.6", some, |bill| bill.web_searches = 1), None, "a search without a price");
    assert_eq!(billed("openai/gpt-4o", Usage::default(), |bill| bill.search_units = Some(1)), None);
}

#[test]
fn absurd_counts_are_unknown_and_no_panic() {
    assert_eq!(pico("openai/gpt-4o", usage(u64::MAX, u64::MAX, &[("r", u64::MAX), ("w", u64::MAX), ("a", u64::MAX)])), None);
    let searches = |bill: &mut Bill| (bill.web_searches, bill.region) = (u64::MAX, Some(Region::Eu));
    assert_eq!(billed("openai/gpt-5.4", usage(1, 1, &[("w1h", 9), ("o", u64::MAX)]), searches), None);
}

#[test]
fn names_are_looked_up_as_they_are_then_without_date_region_or_revision() {
    let cases = [
        ("anthropic/claude-sonnet-4-5-20301231", "anthropic/claude-sonnet-4-5"),
        ("openai/gpt-4o-2031-01-31", "openai/gpt-4o"),
        ("openai/gpt-5.4-latest", "openai/gpt-5.4"),
        ("vertex-ai/claude-sonnet-4-5@20301231", "vertex-ai/claude-sonnet-4-5"),
        ("openai/gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13"),
        ("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("bedrock/us.amazon.titan-text-lite-v1", "bedrock/amazon.titan-text-lite-v1"),
        ("azure-openai/eu/gpt-4o", "azure-openai/eu/gpt-4o"),
        ("azure-openai/gpt-4o-2031-01-31", "azure-openai/gpt-4o"),
        ("azure-openai/gpt-3.5-turbo-0613", "openai/gpt-3.5-turbo-0613"),
        ("azure-openai/eu/gpt-3.5-turbo-0613", "openai/gpt-3.5-turbo-0613"),
        ("vertex-ai/gemini-1.5-pro", "google/gemini-1.5-pro"),
        ("anthropic/claude-3-5-haiku-20301231", "anthropic/claude-3-5-haiku-latest"), // ^claude-3-5-haiku
        ("openai/gpt-realtime-2.1", "openai/gpt-realtime-2"),                         // =gpt-realtime-2.1
        ("openai/gpt-4o-mini-audio-preview-2031-01-31", "openai/gpt-4o-mini-audio-preview"), // ^gpt-4o-mini-audio
    ];
    let list = list();
    for (asked, listed) in cases {
        let find = |key: &str| key.split_once('/').and_then(|(provider, model)| price(provider, model));
        assert!(list.contains_key(listed), "{listed}");
        assert_eq!(find(asked), find(listed), "{asked}");
    }
    assert_ne!(price("openai", "gpt-4o-2024-05-13"), price("openai", "gpt-4o"), "a date can have its own price");
}

#[test]
fn the_model_that_answered_is_billed_before_the_one_asked_for() {
    let cost_of = |models: &[&str]| cost(&Bill { provider: "openai", models, usage: usage(1000, 0, &[]), ..Bill::default() });
    assert_eq!(cost_of(&["gpt-4o", "gpt-5.6"]).unwrap().total_pico_usd, 2_500_000_000);
    assert_eq!(cost_of(&["no-such-model", "gpt-4o"]).unwrap().total_pico_usd, 2_500_000_000);
    assert_eq!(cost_of(&["gpt-4o-2031-01-31", "gpt-5.6"]).unwrap().total_pico_usd, 2_500_000_000);
    // A listed name, even the second, beats a rule that fits the first (^gpt-4.5-preview).
    assert_eq!(cost_of(&["gpt-4.5-preview-x", "gpt-4o"]).unwrap().total_pico_usd, 2_500_000_000);
    assert_eq!(cost_of(&[]), None);
}

#[test]
fn an_answer_is_billed_by_what_was_observed_of_it() {
    let mut observed = Observed { model: Some("gpt-4o-2024-11-20".into()), usage: usage(1000, 0, &[]), ..Observed::default() };
    assert_eq!(cost::of("openai", &observed, Some("gpt-5.6")), Some(2_500_000_000));
    observed.service_tier = Some("priority".into());
    assert_eq!(cost::of("openai", &observed, None), Some(4_250_000_000));
    observed = Observed { usage: observed.usage, ..Observed::default() };
    assert_eq!(cost::of("openai", &observed, Some("gpt-4o")), Some(2_500_000_000));
    assert_eq!(cost::of("openai", &observed, None), None);
}

#[test]
fn capabilities_and_limits_are_read_by_the_same_names() {
    let words: Vec<&str> = caps("anthropic", "claude-sonnet-4-5-20301231").collect();
    assert_eq!(words, ["cache", "native_schema", "reasoning", "schema", "tools", "vision"]);
    assert_eq!(max_output("anthropic", "claude-sonnet-4-5"), Some(64_000));
    assert_eq!(max_output("openai", "text-embedding-3-small"), None);
    assert_eq!(caps("openai", "no-such-model").count(), 0);
    assert_eq!(max_output("openai", "no-such-model"), None);
}

#[test]
fn every_line_of_the_list_is_found_again() {
    let list = list();
    assert!(list.len() > 4000);
    for (key, line) in &list {
        let (provider, model) = key.split_once('/').unwrap();
        let found = price(provider, model).unwrap_or_else(|| panic!("{key} is lost"));
        for (rate, field) in RATES {
            let listed = line.get(field).map(|value| (value.as_f64().unwrap() * 1e18).round());
            let packed = found.base().get(rate).map(|rate| rate as f64);
            let same = match (listed, packed) {
                (Some(listed), Some(packed)) => (listed - packed).abs() <= listed * 1e-12,
                (listed, packed) => listed == packed,
            };
            assert!(same, "{key} {field}: listed {listed:?}, packed {packed:?}");
        }
        let mut words: Vec<&str> =
            line.get("caps").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        words.sort();
        assert_eq!(caps(provider, model).collect::<Vec<_>>(), words, "{key}");
        assert_eq!(max_output(provider, model).map(u64::from), line.get("max_output").and_then(Value::as_u64), "{key}");
    }
}

/// A rule must find its entry, or one of the same provider with a rule at least as long.
#[test]
fn every_rule_of_the_list_finds_a_price() {
    for (key, line) in &list() {
        let provider = key.split('/').next().unwrap();
        for rule in line.get("match").and_then(Value::as_array).into_iter().flatten() {
            let name = rule.as_str().unwrap().get(1..).unwrap();
            assert!(price(provider, name).is_some(), "{key} {rule}");
        }
    }
}

#[test]
fn the_list_has_one_model_a_line_in_order() {
    let text = include_str!("../data/prices.json");
    let keys: Vec<&str> = text.lines().skip(2).filter_map(|line| line.strip_prefix('"')?.split('"').next()).collect();
    assert_eq!(keys.len(), list().len());
    assert!(keys.is_sorted(), "run scripts/update-prices.py");
}

const RATES: [(Rate, &str); 14] = [
    (Rate::Input, "input"),
    (Rate::Output, "output"),
    (Rate::CacheRead, "cache_read"),
    (Rate::CacheWrite, "cache_write"),
    (Rate::CacheWrite1h, "cache_write_1h"),
    (Rate::Reasoning, "reasoning"),
    (Rate::InputAudio, "input_audio"),
    (Rate::OutputAudio, "output_audio"),
    (Rate::PerQuery, "per_query"),
    (Rate::PerRequest, "per_request"),
    (Rate::PerWebSearch, "per_web_search"),
    (Rate::EuUplift, "eu_uplift"),
    (Rate::UsUplift, "us_uplift"),
    (Rate::RegionalUplift, "regional_uplift"),
];

fn list() -> Map<String, Value> {
    let mut list: Map<String, Value> = serde_json::from_str(include_str!("../data/prices.json")).unwrap();
    match list.remove("models") {
        Some(Value::Object(models)) => models,
        other => panic!("{other:?}"),
    }
}
