//! Holds for every row of the registry, so that a new provider is tested by being listed. The rows are compared with
//! `vectors/providers.json`, facts that were gathered apart from this code.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test fails by panicking

use serde_json::Value;
use spangate::llm::operation::Operation;
use spangate::provider::{ALL, Credential, Dialect, Provider, RETIRED, find, retired};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const OPERATIONS: [(Operation, &str); 2] = [(Operation::Chat, "chat"), (Operation::Embeddings, "embeddings")];

/// Where a row departs from the facts on purpose; `src/provider/table.rs` says why beside each.
const NOT_THIS_DIALECT: &[(&str, &str)] = &[("ai21", "embeddings"), ("cortex", "embeddings")];
const KEY_IS_OPTIONAL: &[&str] = &["ovhcloud"];
const HOST_HAS_THE_PATH: &[&str] = &["predibase"];

#[test]
fn ids_are_unique_well_formed_and_sorted() {
    let well_formed = |id: &str| id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    for provider in ALL {
        assert!(!provider.id.is_empty() && well_formed(provider.id), "{}", provider.id);
        assert!(!provider.name.trim().is_empty(), "{}", provider.id);
        assert!(std::ptr::eq(find(provider.id).unwrap(), provider), "{} is there twice", provider.id);
    }
    assert!(ALL.iter().skip(2).is_sorted_by_key(|provider| provider.id));
    assert_eq!((ALL[0].id, ALL[1].id), ("openai", "anthropic"));
    assert!(find("").is_none() && find("OpenAI").is_none());
}

#[test]
fn base_urls_are_plain_https() {
    for provider in ALL.iter().filter(|provider| !provider.is_mock()) {
        let Some(url) = provider.base_url else { continue };
        let rest = url.strip_prefix("https://").unwrap_or_else(|| panic!("{url}"));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let of = |text: &str, marks: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || marks.contains(&b));
        assert!(of(host, b".-") && host.contains('.') && !host.starts_with('.') && !host.ends_with('.'), "{url}");
        assert!(of(path, b"-_./") && !url.ends_with('/') && !path.contains("//"), "{url}");
    }
}

#[test]
fn endpoints_are_paths_and_each_operation_has_one() {
    for provider in ALL {
        for (operation, path) in provider.endpoints {
            assert!(path.starts_with('/') && !path.ends_with('/'), "{} {path}", provider.id);
            assert!(!path.contains(['{', '}', ' ', '#']), "{} {path}: nothing fills a template", provider.id);
            assert_eq!(provider.endpoint(*operation), Some(*path), "{}", provider.id);
        }
    }
}

#[test]
fn key_variables_are_unique_and_well_formed() {
    let names: BTreeSet<&str> = ALL.iter().map(|provider| provider.key_var).collect();
    assert_eq!(names.len(), ALL.len());
    for name in names {
        let stem = name.strip_suffix("_API_KEY").unwrap_or_else(|| panic!("{name}"));
        assert!(stem.starts_with(|first: char| first.is_ascii_uppercase()), "{name}");
        assert!(stem.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'), "{name}");
    }
}

#[test]
fn headers_are_lower_case_and_carry_no_credential() {
    for provider in ALL {
        let credential = match provider.credential {
            Credential::Header(name) => name,
            Credential::Bearer | Credential::Optional => "authorization",
        };
        for name in provider.headers.iter().map(|(name, _)| *name).chain([credential]) {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{} {name}", provider.id);
        }
        assert!(provider.headers.iter().all(|(name, value)| *name != credential && !value.is_empty()), "{}", provider.id);
    }
}

/// otel.md §2.3.
#[test]
fn otel_names_are_the_well_known_ones_or_the_id() {
    let well_known: BTreeMap<&str, &str> = [
        ("azure-ai", "azure.ai.inference"),
        ("mistral-ai", "mistral_ai"),
        ("moonshot", "moonshot_ai"),
        ("perplexity-ai", "perplexity"),
        ("x-ai", "x_ai"),
    ]
    .into();
    for provider in ALL {
        let expected = well_known.get(provider.id).map_or_else(|| provider.id.replace('-', "_"), |name| (*name).to_owned());
        assert_eq!(provider.otel_name, expected);
    }
}

#[test]
fn every_row_is_as_the_facts_say() {
    let facts = facts();
    for provider in ALL.iter().filter(|provider| !provider.is_mock()) {
        let fact = facts.get(provider.id).unwrap_or_else(|| panic!("{} is in no fact sheet", provider.id));
        assert_eq!(word(provider.dialect), fact["dialect"], "{}", provider.id);
        assert_eq!(provider.base_url, base_url(fact), "{}", provider.id);
        let (scheme, header) = match provider.credential {
            Credential::Bearer => ("bearer", Some("authorization")),
            Credential::Header(name) => ("header", Some(name)),
            Credential::Optional if KEY_IS_OPTIONAL.contains(&provider.id) => ("bearer", Some("authorization")),
            Credential::Optional => ("none", None),
        };
        assert_eq!(scheme, fact["auth"]["scheme"], "{}", provider.id);
        let listed_header = fact["auth"].get("header").and_then(Value::as_str).map(str::to_ascii_lowercase);
        assert_eq!(header, listed_header.as_deref(), "{}", provider.id);
        for (operation, name) in OPERATIONS {
            let listed = fact["endpoints"].get(name).and_then(Value::as_str);
            let listed = listed.filter(|_| !NOT_THIS_DIALECT.contains(&(provider.id, name)));
            let have = provider.endpoint(operation);
            if HOST_HAS_THE_PATH.contains(&provider.id) {
                assert!(have.is_none_or(|path| listed.unwrap().ends_with(path)), "{} {name}", provider.id);
            } else {
                let unfilled = listed.map(|path| path.split("?api-version=").next().unwrap());
                assert_eq!(have.map(|path| path.split("?api-version=").next().unwrap()), unfilled, "{} {name}", provider.id);
            }
        }
    }
}

#[test]
fn no_provider_of_a_known_dialect_is_missing() {
    for (id, fact) in facts() {
        match fact["status"].as_str().unwrap() {
            "retired" => assert!(retired(&id).is_some() && find(&id).is_none(), "{id}"),
            _ => assert!(find(&id).is_some() && retired(&id).is_none(), "{id}"),
        }
    }
    assert!(RETIRED.iter().all(|(_, why)| why.len() > 20 && !why.ends_with('.')));
}

#[test]
fn the_reference_in_docs_is_up_to_date() {
    let have = std::fs::read_to_string(DOCS).unwrap_or_default();
    assert!(have == reference(), "{DOCS} is stale: run `cargo test --test providers -- --ignored write_the_reference`");
}

#[test]
#[ignore = "writes docs/providers.md"]
fn write_the_reference() {
    std::fs::create_dir_all("docs").unwrap();
    std::fs::write(DOCS, reference()).unwrap();
}

const DOCS: &str = "docs/providers.md";

/// The registry as a person reads it.
fn reference() -> String {
    let mut out = String::from(
        "# Providers\n\n\
         <!-- Written from src/provider/table.rs by `cargo test --test providers -- --ignored write_the_reference`. -->\n\n\
         The id goes into `x-portkey-provider`, or `provider` in a config. Where the host is *yours*, name it with\n\
         `x-portkey-custom-host`, or `custom_host`. The secret holds the deployment's own key, for calls that bring none;\n\
         it is sent to no other host than this one.\n\n\
         | Id | Provider | Speaks | Host | Key goes into | Secret | Chat | Embeddings |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for provider in ALL {
        let host = provider.base_url.map_or("*yours*".to_owned(), |url| format!("`{url}`"));
        let key = match provider.credential {
            Credential::Bearer => "`Authorization`".to_owned(),
            Credential::Header(name) => format!("`{name}`"),
            Credential::Optional => "`Authorization`, optional".to_owned(),
        };
        let [chat, embeddings] = OPERATIONS.map(|(operation, _)| if provider.endpoint(operation).is_some() { "yes" } else { "" });
        let secret = provider.base_url.map_or(String::new(), |_| format!("`{}`", provider.key_var));
        let Provider { id, name, dialect, .. } = provider;
        let dialect = word(*dialect);
        writeln!(out, "| `{id}` | {name} | {dialect} | {host} | {key} | {secret} | {chat} | {embeddings} |").unwrap();
    }
    out.push_str("\nNo longer there:\n\n");
    for (id, why) in RETIRED {
        writeln!(out, "- `{id}`: {why}.").unwrap();
    }
    out
}

fn word(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "anthropic",
        Dialect::OpenAi => "openai",
    }
}

/// A host of the customer's own is one that is a template, that must be given, or whose paths are templates.
fn base_url(fact: &Value) -> Option<&str> {
    let url = fact["base_url"].as_str().unwrap();
    let path_is_template = HOST_HAS_THE_PATH.contains(&fact["id"].as_str().unwrap());
    (!url.contains('{') && fact["needs_custom_host"] == false && !path_is_template).then_some(url)
}

fn facts() -> BTreeMap<String, Value> {
    let facts: Vec<Value> = serde_json::from_str(include_str!("vectors/providers.json")).unwrap();
    facts.into_iter().map(|fact| (fact["id"].as_str().unwrap().to_owned(), fact)).collect()
}
