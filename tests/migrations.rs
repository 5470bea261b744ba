//! Migrations are append-only: a landed one never changes, because databases out there have run it (style §17).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use sha2::{Digest, Sha256};
use support::{TestDb, migrations};

/// `migrations/LOCK` has one line per landed migration, as `sha256sum` writes it. To land one, append its line.
#[test]
fn landed_migrations_are_what_they_were() {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/LOCK")).unwrap();
    let hash = |sql: &String| -> String { Sha256::digest(sql).iter().map(|byte| format!("{byte:02x}")).collect() };
    let present: String = migrations().iter().map(|(name, sql)| format!("{}  {name}\n", hash(sql))).collect();
    assert_eq!(present, lock, "left: migrations/*.sql as they are; right: migrations/LOCK");
}

#[test]
fn migrations_are_numbered_without_gaps_and_named_by_a_verb() {
    for (number, name) in (1..).zip(migrations().keys()) {
        let expected = format!("{number:04}_");
        assert!(name.starts_with(&expected), "{name} should start with {expected}");
        let words = name.trim_end_matches(".sql").get(5..).unwrap_or_default();
        assert!(words.contains('_') && words.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}: NNNN_verb_noun.sql");
    }
}

#[test]
fn migrations_apply_in_order_and_every_column_says_what_it_means() {
    let db = TestDb::new();
    for table in db.strings("SELECT name FROM sqlite_schema WHERE type = 'table'") {
        let sql = db.strings(&format!("SELECT sql FROM sqlite_schema WHERE name = '{table}'")).concat();
        let (uncommented, tables_with_rowid): (Vec<&str>, bool) = (
            sql.lines()
                .filter(|line| line.starts_with("  ") && !line.contains(" -- ") && !line.contains("PRIMARY KEY"))
                .collect(),
            !sql.contains("WITHOUT ROWID"),
        );
        assert!(uncommented.is_empty(), "{table}: {uncommented:?}");
        assert!(!tables_with_rowid, "{table}: a rowid is a third row written for every insert (CF §1.3)");
    }
}
