//! Packs `data/prices.json` into the table that the Worker carries (`src/trace/cost/format.rs` has the layout).
//!
//! A Worker has no file to read at run time and little room: the list is 740 KiB of text, the table a tenth. Any field that
//! is neither packed nor known to be left out stops the build, and so does a number that the table cannot hold exactly: a
//! price that was silently dropped would be money counted wrong.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a malformed price list must stop the build, loudly

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

#[allow(dead_code)] // the run time's half of the vocabulary
#[path = "src/trace/cost/format.rs"]
mod format;

use format::{BLOCK, CLASSES, RATES};

/// Prices of things that no [`RATES`] consumer measures yet: they stay in the list for the day it does.
const UNUSED: &[&str] = &[
    "cache_read_audio",
    "cache_write_12h",
    "input_image_token",
    "output_image_token",
    "per_input_audio_second",
    "per_input_char",
    "per_input_image",
    "per_input_pixel",
    "per_input_second",
    "per_input_video_second",
    "per_output_char",
    "per_output_image",
    "per_output_pixel",
    "per_output_second",
    "per_second",
];
/// Fields of a model that are no price, and `free`, which only says that the zeros are meant.
const FACTS: &[&str] = &["caps", "free", "match", "max_output", "mode"];
/// Providers whose tiers begin at the threshold itself, not above it (prices.md, "Tiers").
const INCLUSIVE_TIERS: &[&str] = &["x-ai"];

fn main() {
    println!("cargo::rerun-if-changed=data/prices.json");
    println!("cargo::rerun-if-changed=src/trace/cost/format.rs");
    let text = std::fs::read_to_string("data/prices.json").expect("data/prices.json is part of the source");
    let mut list: Map<String, Value> = serde_json::from_str(&text).expect("data/prices.json is a JSON object");
    let Some(Value::Object(models)) = list.remove("models") else { panic!("data/prices.json has no object `models`") };
    let models = models.into_iter().map(|(key, model)| (key, object(model))).collect();
    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(Path::new(&out).join("prices.bin"), packed(&models)).expect("OUT_DIR can be written");
}

type Object = Map<String, Value>;
type Models = BTreeMap<String, Object>;

fn packed(models: &Models) -> Vec<u8> {
    let values = values(models);
    let words = words(models);
    let (mut prices, mut pool) = (Vec::new(), Pool::default());
    let (mut flags, mut masks) = (Vec::new(), Distinct::default());
    let (mut outputs, mut limits) = (Vec::new(), Distinct::default());
    for (key, model) in models {
        prices.extend(pool.place(price(key, model, &values)).to_le_bytes());
        flags.push(masks.place(mask(model, &words)));
        outputs.push(limits.place(model.get("max_output").map_or(0, |limit| number(limit).try_into().unwrap())));
    }
    let (keys, blocks) = keys(models);
    let mut by_value: Vec<(&u64, &u64)> = values.iter().map(|(value, place)| (place, value)).collect();
    by_value.sort();
    let values = by_value.into_iter().flat_map(|(_, value)| value.to_le_bytes()).collect();
    let sections = [
        keys,
        blocks,
        prices,
        flags,
        outputs,
        pool.bytes,
        values,
        masks.bytes(),
        limits.bytes(),
        rules(models),
        words.join(",").into(),
    ];
    sections.into_iter().flat_map(|section| [(section.len() as u32).to_le_bytes().to_vec(), section]).flatten().collect()
}

/// The front-coded keys, and where each block of them begins.
fn keys(models: &Models) -> (Vec<u8>, Vec<u8>) {
    let (mut keys, mut blocks, mut before) = (Vec::new(), Vec::new(), "");
    for (place, key) in models.keys().enumerate() {
        if place % BLOCK == 0 {
            blocks.extend((keys.len() as u32).to_le_bytes());
            before = "";
        }
        let shared = before.bytes().zip(key.bytes()).take_while(|(a, b)| a == b).count();
        keys.extend([byte(shared), byte(key.len() - shared)]);
        keys.extend(&key.as_bytes()[shared..]);
        before = key;
    }
    (keys, blocks)
}

/// One model's price as it lies in the pool.
fn price(key: &str, model: &Object, values: &HashMap<u64, u64>) -> Vec<u8> {
    let classes = CLASSES.map(|class| model.get(class).cloned().map(object));
    let present = classes.iter().enumerate().fold(0, |bits, (bit, class)| bits | u8::from(class.is_some()) << bit);
    let mut out = vec![present];
    schedule(key, model, values, &mut out);
    classes.iter().flatten().for_each(|class| schedule(key, class, values, &mut out));
    if let Some(off_peak) = &classes[3] {
        hours(off_peak).into_iter().for_each(|mask| varint(mask, &mut out));
    }
    out
}

fn schedule(key: &str, schedule: &Object, values: &HashMap<u64, u64>, out: &mut Vec<u8>) {
    let tiers: Vec<Object> = schedule.get("tiers").map_or(Vec::new(), |tiers| array(tiers).iter().cloned().map(object).collect());
    let inclusive = INCLUSIVE_TIERS.iter().any(|provider| key.split('/').next() == Some(provider));
    rates(schedule, values, out);
    varint(tiers.len() as u64, out);
    let mut last = 0;
    for tier in tiers {
        let from = number(&tier["above"]) + u64::from(!inclusive);
        assert!(from > last, "{key}: tiers are not in order");
        last = from;
        varint(from, out);
        rates(&tier, values, out);
    }
}

fn rates(from: &Object, values: &HashMap<u64, u64>, out: &mut Vec<u8>) {
    let present: Vec<Option<u64>> = RATES.iter().map(|rate| from.get(*rate).map(atto)).collect();
    varint(present.iter().enumerate().fold(0, |bits, (bit, rate)| bits | u64::from(rate.is_some()) << bit), out);
    present.into_iter().flatten().for_each(|rate| varint(values[&rate], out));
}

/// A mask of the off-peak hours of each weekday, Monday first.
fn hours(off_peak: &Object) -> [u64; 7] {
    let mut masks = [0; 7];
    let windows =
        off_peak.get("windows").map_or_else(|| vec![off_peak.clone()], |all| array(all).iter().cloned().map(object).collect());
    for window in windows {
        let weekdays: Vec<u64> =
            window.get("weekdays").map_or((1..=7).collect(), |days| array(days).iter().map(number).collect());
        let spans = match &window["hours_utc"] {
            Value::Array(spans) => spans.clone(),
            one => vec![one.clone()],
        };
        for span in spans {
            let hour =
                |text: &str| -> u64 { text.strip_suffix(":00").expect("windows begin and end on the hour").parse().unwrap() };
            let (from, to) = span.as_str().unwrap().split_once('-').unwrap();
            let (from, to) = (hour(from), if hour(to) == 0 { 24 } else { hour(to) });
            assert!(from < to && to <= 24, "{span}: a window does not pass midnight");
            weekdays.iter().for_each(|day| masks[*day as usize - 1] |= (from..to).fold(0, |mask, hour| mask | 1 << hour));
        }
    }
    masks
}

/// The rules of `match`, grouped by provider, each with the number of its key.
fn rules(models: &Models) -> Vec<u8> {
    let mut groups: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (place, (key, model)) in models.iter().enumerate() {
        for rule in model.get("match").into_iter().flat_map(array) {
            let rule = rule.as_str().expect("a rule is text");
            assert!(rule.len() > 1 && rule.starts_with(['=', '^', '*', '$']), "{key}: rule {rule:?}");
            let group = groups.entry(key.split('/').next().unwrap()).or_default();
            group.push(byte(rule.len()));
            group.extend(rule.as_bytes());
            group.extend(u16::try_from(place).unwrap().to_le_bytes());
        }
    }
    let mut out = Vec::new();
    for (provider, group) in groups {
        out.push(byte(provider.len()));
        out.extend(provider.as_bytes());
        out.extend(u16::try_from(group.len()).unwrap().to_le_bytes());
        out.extend(group);
    }
    out
}

/// Every rate that occurs, with its number: the most frequent get the short ones.
fn values(models: &Models) -> HashMap<u64, u64> {
    let mut counts = BTreeMap::new();
    models.iter().for_each(|(key, model)| count(key, model, &mut counts));
    let mut order: Vec<(usize, u64)> = counts.into_iter().map(|(value, count)| (usize::MAX - count, value)).collect();
    order.sort();
    order.into_iter().enumerate().map(|(place, (_, value))| (value, place as u64)).collect()
}

/// Counts the rates of a schedule, of its tiers and its classes; refuses what it does not know.
fn count(key: &str, schedule: &Object, counts: &mut BTreeMap<u64, usize>) {
    for (field, value) in schedule {
        match field.as_str() {
            "tiers" => array(value).iter().for_each(|tier| count(key, &object(tier.clone()), counts)),
            rate if RATES.contains(&rate) => *counts.entry(atto(value)).or_default() += 1,
            class if CLASSES.contains(&class) => count(key, &object(value.clone()), counts),
            known if UNUSED.contains(&known) || FACTS.contains(&known) => {}
            "above" | "windows" | "hours_utc" => {}
            unknown => panic!("{key}: unknown field {unknown:?}"),
        }
    }
}

fn words(models: &Models) -> Vec<&str> {
    let caps = models.values().filter_map(|model| model.get("caps")).flat_map(array);
    let words: BTreeSet<&str> = caps.map(|cap| cap.as_str().expect("a capability is a word")).collect();
    assert!(words.len() <= 32, "more capabilities than bits");
    words.into_iter().collect()
}

fn mask(model: &Object, words: &[&str]) -> u32 {
    let caps = model.get("caps").into_iter().flat_map(array);
    caps.fold(0, |mask, cap| mask | 1 << words.iter().position(|word| cap == word).unwrap())
}

/// The exact value of a JSON number times 1e18. Goes by its text, since a float would not be exact.
fn atto(number: &Value) -> u64 {
    let text = number.as_number().unwrap_or_else(|| panic!("{number} is no number")).to_string();
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: u128 = format!("{whole}{fraction}").parse().unwrap_or_else(|_| panic!("{text}: not a price"));
    let shift = 18 + exponent.parse::<i32>().unwrap() - fraction.len() as i32;
    let scale = 10u128.pow(shift.unsigned_abs());
    let exact = if shift >= 0 { digits.checked_mul(scale) } else { digits.is_multiple_of(scale).then(|| digits / scale) };
    exact.and_then(|value| u64::try_from(value).ok()).unwrap_or_else(|| panic!("{text} is not a whole number of 1e-18"))
}

/// Byte strings, each kept once.
#[derive(Default)]
struct Pool {
    bytes: Vec<u8>,
    places: HashMap<Vec<u8>, u16>,
}

impl Pool {
    fn place(&mut self, item: Vec<u8>) -> u16 {
        if let Some(place) = self.places.get(&item) {
            return *place;
        }
        let place = u16::try_from(self.bytes.len()).expect("the pool of prices fits 16-bit offsets");
        self.bytes.extend(&item);
        self.places.insert(item, place);
        place
    }
}

/// At most 256 distinct numbers.
#[derive(Default)]
struct Distinct(Vec<u32>);

impl Distinct {
    fn place(&mut self, item: u32) -> u8 {
        let place = self.0.iter().position(|have| *have == item).unwrap_or(self.0.len());
        if place == self.0.len() {
            self.0.push(item);
        }
        byte(place)
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|item| item.to_le_bytes()).collect()
    }
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn byte(number: usize) -> u8 {
    u8::try_from(number).expect("fits a byte")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a whole number"))
}

fn array(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is not a list"))
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is not an object"),
    }
}
