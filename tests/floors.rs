//! The floors of the house (src/lib.rs): a module uses its own floor and below, and some walls more.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Floor of each top-level module, lowest first.
const FLOORS: [&[&str]; 5] = [
    &["ids", "time", "random", "secret", "headers", "memo", "error", "ports"],
    &["llm", "wire", "dialect", "provider"],
    &["auth", "settings", "config", "route", "trace", "store", "mock"],
    &["gateway", "attempt", "pump", "deliver", "consume", "api"],
    &["edge"],
];

/// Walls inside or across floors: who (a path prefix) must not use what, and why.
const WALLS: [(&str, &[&str], &str); 6] = [
    ("dialect/anthropic", &["dialect::openai_chat", "provider", "ports"], "a dialect knows itself and llm"),
    ("dialect/openai_chat", &["dialect::anthropic", "provider", "ports"], "a dialect knows itself and llm"),
    ("dialect/translate.rs", &["provider", "ports"], "translation is bytes and types"),
    ("route", &["dialect", "provider", "llm", "wire"], "routing sees opaque targets and outcomes"),
    ("api", &["gateway", "attempt", "pump", "dialect", "provider"], "reading back does not know how calls are made"),
    ("trace", &["gateway", "attempt", "route", "config"], "a trace is told facts, it asks nobody"),
];

/// The platform: only the shell may name it.
const PLATFORM: [&str; 5] = ["worker", "js_sys", "web_sys", "wasm_bindgen", "wasm_bindgen_futures"];

#[test]
fn no_module_uses_a_floor_above_it() {
    let floor: BTreeMap<&str, usize> =
        FLOORS.iter().enumerate().flat_map(|(floor, modules)| modules.iter().map(move |module| (*module, floor))).collect();
    let mut crossings = Vec::new();
    for (path, uses) in sources() {
        let module = top_module(&path);
        let own = *floor
            .get(module.as_str())
            .unwrap_or_else(|| panic!("{module} stands on no floor; add it to tests/floors.rs and src/lib.rs"));
        for used in &uses {
            let above = used.split("::").next().and_then(|top| floor.get(top)).is_some_and(|floor| *floor > own);
            if above {
                crossings.push(format!("{path} uses crate::{used}"));
            }
        }
    }
    assert!(crossings.is_empty(), "{crossings:#?}");
}

#[test]
fn no_module_reaches_through_a_wall() {
    let mut holes = Vec::new();
    for (path, uses) in sources() {
        for (who, never, why) in WALLS.iter().filter(|(who, ..)| path.starts_with(who) || path == format!("{who}.rs")) {
            for used in
                uses.iter().filter(|used| never.iter().any(|never| *used == never || used.starts_with(&format!("{never}::"))))
            {
                holes.push(format!("{path} uses crate::{used}, but {who}: {why}"));
            }
        }
    }
    assert!(holes.is_empty(), "{holes:#?}");
}

#[test]
fn only_the_shell_names_the_platform() {
    let mut named = Vec::new();
    for path in files(Path::new("src")).into_iter().filter(|path| !path.starts_with("src/edge")) {
        let text = fs::read_to_string(&path).unwrap();
        for word in PLATFORM {
            if text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(&format!("{word}::"))) {
                named.push(format!("{} names {word}", path.display()));
            }
        }
    }
    assert!(named.is_empty(), "{named:#?}");
}

#[test]
fn the_pure_floors_do_not_wait() {
    let pure: BTreeSet<&str> =
        FLOORS[..3].iter().flat_map(|floor| floor.iter().copied()).filter(|module| *module != "ports").collect();
    let mut waiting = Vec::new();
    for (path, _) in sources().into_iter().filter(|(path, _)| pure.contains(top_module(path).as_str())) {
        let text = fs::read_to_string(Path::new("src").join(&path)).unwrap();
        if text.lines().any(|line| !line.trim_start().starts_with("//") && (line.contains("async ") || line.contains(".await"))) {
            waiting.push(path);
        }
    }
    assert!(waiting.is_empty(), "{waiting:#?}");
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let silent: Vec<_> = files(Path::new("src"))
        .into_iter()
        .filter(|path| {
            path.file_name().is_none_or(|name| name != "tests.rs") && !path.components().any(|part| part.as_os_str() == "tests")
        })
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

/// Each source file below src with the crate paths that it uses outside its tests.
fn sources() -> Vec<(String, BTreeSet<String>)> {
    files(Path::new("src"))
        .into_iter()
        .filter(|path| path.as_path() != Path::new("src/lib.rs") && !path.ends_with("tests.rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
            (path.strip_prefix("src").unwrap().display().to_string(), crate_paths(&code))
        })
        .collect()
}

/// What follows `crate::` anywhere in the code; `crate::dialect::{a, b}` counts as both.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
    let mut paths = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let path: String = rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
        match rest[path.len()..].strip_prefix('{') {
            Some(group) => {
                for item in group.split('}').next().unwrap().split(',') {
                    paths.insert(format!("{path}{}", item.trim().trim_start_matches("self")).trim_end_matches(':').to_owned());
                }
            }
            None => {
                paths.insert(path.trim_end_matches(':').to_owned());
            }
        }
    }
    paths
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn top_module(path: &str) -> String {
    path.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}
