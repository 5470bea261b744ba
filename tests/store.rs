//! Ingest: what a delivery leaves behind, however often it comes, in whatever order, and whatever breaks on the way.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::value::RawValue;
use spangate::consume::{self, Message, MessageOutcome, Store};
use spangate::ids::RecordId;
use spangate::ports::Param;
use spangate::store::ingest::{self, PARAM_BYTES};
use spangate::time::{Millis, UnixMillis};
use spangate::trace::message::{Body, CallRecord, GuardEnd, QueueRecord};
use support::calls::{Maker, T0, deliver, exchange, message, stored, workspace};
use support::{Fault, TestDb, TestObjects, block_on};

const OVERLOADED: &str = "D1_ERROR: D1 DB is overloaded. Requests queued for too long.";

#[test]
fn a_second_delivery_changes_nothing() {
    let (db, objects) = (TestDb::new(), TestObjects::default());
    let mut maker = Maker::new(1);
    let mut calls = [maker.call("tr-1", T0, &[429, 200]), maker.call("tr-2", T0 + 5, &[200]), maker.call("tr-1", T0 + 9, &[])];
    calls[0].exchanges = vec![exchange(calls[0].call_id, large_text())];
    calls[1].exchanges = vec![exchange(calls[1].call_id, Body::Text("short".into()))];
    calls[2].lost_before = 7;
    let messages = [message("a", &calls[..2]), message("b", &calls[2..])];
    assert_eq!(deliver(&messages, &db, &objects), [MessageOutcome::Stored, MessageOutcome::Stored]);
    let (rows, kept) = (db.dump(), objects.stored.borrow().clone());
    assert_eq!((db.count("span"), db.count("exchange"), kept.len()), (6, 2, 1));

    deliver(&messages, &db, &objects);
    deliver(&[message("c", &[calls[2].clone(), calls[0].clone(), calls[0].clone()])], &db, &objects);
    assert_eq!(db.dump(), rows);
    assert_eq!(*objects.stored.borrow(), kept);
}

#[test]
fn the_order_of_deliveries_leaves_the_same_spans() {
    let spans = |order: &[usize]| {
        let (db, mut maker) = (TestDb::new(), Maker::new(2));
        let calls: Vec<CallRecord> = (0..5).map(|n| maker.call("tr", T0 + n, &[500, 200])).collect();
        order.iter().for_each(|at| stored(&calls[*at..=*at], &db));
        db.strings(
            "SELECT record_id || call_id || position || start_ms || ifnull(cost_pico_usd, '') FROM span ORDER BY record_id",
        )
    };
    assert_eq!(spans(&[0, 1, 2, 3, 4]), spans(&[4, 2, 0, 3, 1, 2]));
}

#[test]
fn every_field_of_a_span_is_kept() {
    let db = TestDb::new();
    let mut call = Maker::new(3).call("tr \"quoted\"\u{0} é", T0, &[200]);
    call.spans[1].name = "line\nand \u{0} nul \u{1F600}".into();
    call.spans[1].stream = true;
    stored(std::slice::from_ref(&call), &db);
    let rows = block_on(spangate::ports::Db::select(
        &db,
        spangate::store::search::whole_spans_of_trace(&workspace(), call.spans[0].trace_id.as_str(), None, 9),
    ));
    let rows: Vec<spangate::store::row::Row> = spangate::store::row::read(&rows.unwrap()).unwrap();
    for (row, span) in rows.iter().zip(&call.spans) {
        assert_eq!(serde_json::to_string(&row.span).unwrap(), serde_json::to_string(span).unwrap());
    }
    assert_eq!(rows.len(), 2);
}

#[test]
fn a_count_beyond_reason_stays_readable() {
    let db = TestDb::new();
    let mut call = Maker::new(4).call("tr", T0, &[200]);
    call.spans[1].usage.input = Some(u64::MAX);
    call.spans[1].cost_pico_usd = Some(u64::MAX);
    stored(&[call], &db);
    assert_eq!(
        db.strings("SELECT typeof(input_tokens) || typeof(cost_pico_usd) FROM span WHERE kind = 'attempt'"),
        ["integerinteger"]
    );
}

#[test]
fn one_poison_message_leaves_the_others_alone() {
    let (db, objects) = (TestDb::new(), TestObjects::default());
    let mut maker = Maker::new(5);
    let mut deep = maker.call("deep", T0, &[200]);
    // Deeper than SQLite's JSON goes: an error that names no record, for the whole transaction.
    let nest = "[".repeat(2_000) + &"]".repeat(2_000);
    deep.spans[1].attributes = Some(RawValue::from_string(format!("{{\"a\":{nest}}}")).unwrap().into());
    let unknown_version = r#"[{"v":9,"call_id":"x"}]"#;
    let unnamed = CallRecord { call_id: RecordId([7; 16]), ..maker.call("unnamed", T0, &[200]) };
    let messages = [
        message("good", &[maker.call("tr-1", T0, &[200])]),
        Message { body: "not json".into(), ..message("", &[]) },
        Message { body: unknown_version.into(), ..message("", &[]) },
        message("mixed", &[maker.call("tr-2", T0, &[200]), unnamed]),
        message("deep", &[maker.call("tr-3", T0, &[200]), deep, maker.call("tr-4", T0, &[200])]),
        message("empty", &[]),
    ];
    let outcomes = deliver(&messages, &db, &objects);
    let words: Vec<&str> = outcomes
        .iter()
        .map(|outcome| match outcome {
            MessageOutcome::Stored => "stored",
            MessageOutcome::Malformed { reason } => reason.split_once(':').map_or(reason.as_str(), |(first, _)| first),
            MessageOutcome::Retry { .. } => "retry",
        })
        .collect();
    let seven = "call 07070707070707070707070707070707 has no span of that id";
    assert_eq!(
        words,
        ["stored", "not a JSON array of records", "record version 9 is not known here", seven, "malformed JSON", "stored"]
    );
    assert_eq!(db.strings("SELECT DISTINCT trace_id FROM span ORDER BY 1"), ["tr-1", "tr-2", "tr-3", "tr-4"]);
    assert_eq!(db.strings("SELECT stored || '' FROM tally"), ["4"]);
}

#[test]
fn a_database_that_recovers_gets_everything_once() {
    let (db, objects) = (TestDb::new(), TestObjects::default());
    let mut maker = Maker::new(6);
    let mut big = maker.call("tr-2", T0, &[200]);
    big.exchanges = vec![exchange(big.call_id, large_text())];
    let mut messages = [message("a", &[maker.call("tr-1", T0, &[200])]), message("b", &[big])];
    db.break_writes(Fault { times: 2, words: OVERLOADED, committed: false });
    for delay in [10_000, 20_000] {
        for outcome in deliver(&messages, &db, &objects) {
            assert_eq!(outcome, MessageOutcome::Retry { delay: Millis(delay), reason: OVERLOADED.into() });
        }
        messages.iter_mut().for_each(|message| message.attempts += 1);
    }
    assert_eq!((db.count("span"), db.writes.get()), (0, 2), "an overloaded database is not asked once per message");

    assert_eq!(deliver(&messages, &db, &objects), [MessageOutcome::Stored, MessageOutcome::Stored]);
    assert_eq!((db.count("span"), objects.stored.borrow().len()), (4, 1), "a repeated put lands on the same key");
}

#[test]
fn an_answer_lost_after_the_commit_leaves_no_orphan_and_no_double_count() {
    let (db, objects) = (TestDb::new(), TestObjects::default());
    let mut maker = Maker::new(7);
    let mut calls = [maker.call("tr-1", T0, &[200]), maker.call("tr-2", T0, &[200])];
    calls.iter_mut().for_each(|call| call.exchanges = vec![exchange(call.call_id, large_text())]);
    calls[0].lost_before = 3;
    db.break_writes(Fault { times: 1, words: "D1_ERROR: Network connection lost.", committed: true });
    assert!(matches!(deliver(&[message("a", &calls[..1])], &db, &objects)[..], [MessageOutcome::Retry { .. }]));
    assert_eq!(deliver(&[message("ab", &calls)], &db, &objects), [MessageOutcome::Stored]);
    let lines = |object: &Vec<u8>| object.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(objects.stored.borrow().values().map(lines).collect::<Vec<_>>(), [1, 1], "the second call is written alone");
    let referred = db.strings("SELECT DISTINCT object_key FROM exchange ORDER BY 1");
    assert_eq!(referred, objects.stored.borrow().keys().cloned().collect::<Vec<_>>());
    assert_eq!(db.strings("SELECT stored || ' ' || (SELECT sum(lost) FROM loss) FROM tally"), ["2 3"]);
}

#[test]
fn an_error_in_unknown_words_is_taken_apart_only_after_a_while() {
    let (db, mut maker) = (TestDb::new(), Maker::new(8));
    let mut messages: Vec<Message> = (0..4).map(|n| message("m", &[maker.call("tr", T0 + n, &[200])])).collect();
    let strange = Fault { times: 1, words: "D1_ERROR: something new", committed: false };
    db.break_writes(strange.clone());
    assert!(deliver(&messages, &db, &TestObjects::default()).iter().all(|o| matches!(o, MessageOutcome::Retry { .. })));
    assert_eq!(db.writes.get(), 1);

    messages.iter_mut().for_each(|message| message.attempts = 4);
    db.break_writes(strange);
    assert!(deliver(&messages, &db, &TestObjects::default()).iter().all(|o| *o == MessageOutcome::Stored));
}

#[test]
fn objects_that_cannot_be_written_hold_the_rows_back() {
    let (db, objects) = (TestDb::new(), TestObjects::default());
    let mut call = Maker::new(9).call("tr", T0, &[200]);
    call.exchanges = vec![exchange(call.call_id, large_text())];
    objects.failing_puts.set(1);
    let messages = [message("m", &[call])];
    assert!(matches!(deliver(&messages, &db, &objects)[..], [MessageOutcome::Retry { .. }]));
    assert_eq!(db.count("span"), 0);
    assert_eq!(deliver(&messages, &db, &objects), [MessageOutcome::Stored]);
}

#[test]
fn only_calls_with_large_exchanges_share_an_object_of_their_day() {
    let (db, objects) = (TestDb::new(), TestObjects::default());
    let mut maker = Maker::new(10);
    let mut calls: Vec<CallRecord> = (0..4).map(|n| maker.call("tr", T0 + n, &[200])).collect();
    for (call, body) in calls.iter_mut().zip([large_text(), Body::Text("small".into()), large_text(), Body::None]) {
        call.exchanges = vec![exchange(call.call_id, body), exchange(call.spans[1].record_id, Body::None)];
    }
    assert_eq!(deliver(&[message("m", &calls)], &db, &objects), [MessageOutcome::Stored]);
    let stored = objects.stored.borrow();
    let (key, bytes) = stored.iter().next().unwrap();
    assert!(stored.len() == 1 && key.starts_with("bodies/2026/11/20/"), "{key}");
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 4, "one document a line");
    assert_eq!((db.count("exchange WHERE document IS NULL"), db.count("exchange WHERE object_key IS NULL")), (4, 4));
}

#[test]
fn statements_are_split_below_the_limit_of_a_parameter() {
    let mut maker = Maker::new(11);
    let calls: Vec<CallRecord> = (0..1_000).map(|n| maker.call("tr", T0 + n, &[500, 200])).collect();
    let statements = ingest::statements(&ingest::entries(&calls));
    let sizes = statements.iter().flat_map(|statement| &statement.params).map(|param| match param {
        Param::Text(text) => text.len(),
        _ => 0,
    });
    assert!(sizes.clone().all(|size| size <= PARAM_BYTES) && sizes.count() > 3);
    let db = TestDb::new();
    stored(&calls, &db);
    assert_eq!(db.count("span"), 3_000);
}

#[test]
fn a_guard_record_is_finished_and_stored_as_the_call_it_is() {
    let (db, objects) = (TestDb::new(), TestObjects::default());
    let call = Maker::new(12).call("tr", T0, &[200]);
    let guard = serde_json::json!({"record": call, "attempt_record_id": call.spans[1].record_id, "raw": "data: {}\n\n",
        "end": "client_gone", "started": T0, "first": null, "ended": T0 + 5});
    let body = format!("[{}]", serde_json::json!({"v": 1, "guard": guard}));
    let QueueRecord::Guard(read) = QueueRecord::parse_message(&body).unwrap().remove(0).unwrap() else { panic!("not a guard") };
    assert_eq!((read.end, read.ended), (GuardEnd::ClientGone, UnixMillis(T0 + 5)));
    let finish = |guard: spangate::trace::message::GuardRecord| {
        let mut call = guard.record;
        call.spans[1].end = guard.ended;
        call
    };
    let to = Store { db: &db, objects: &objects };
    assert_eq!(block_on(consume::store_directly(body, to, &finish)), MessageOutcome::Stored);
    stored(&[call], &db);
    assert_eq!(db.strings("SELECT end_ms || '' FROM span WHERE kind = 'attempt'"), [(T0 + 5).to_string()]);
}

#[test]
fn dead_letters_are_kept_once_and_without_what_was_stored() {
    let (db, mut maker) = (TestDb::new(), Maker::new(13));
    let calls = [maker.call("tr-1", T0, &[200]), maker.call("tr-2", T0, &[200])];
    stored(&calls[..1], &db);
    let unreadable = Message { id: "broken".into(), body: "{ \u{0}".into(), attempts: 1 };
    let messages =
        [message("mixed", &calls), unreadable, Message { body: r#"[{"v":2,"workspace":"w"}, 3]"#.into(), ..message("new", &[]) }];
    for now in [T0, T0 + 1] {
        assert_eq!(block_on(consume::keep_dead_letters(&messages, UnixMillis(now), &db)), [const { MessageOutcome::Stored }; 3]);
    }
    let kept = db.strings(
        "SELECT message_id || position || ' ' || ifnull(workspace, '-') || ' ' || reason FROM dead_letter
         WHERE received_at = 1795169730123 ORDER BY 1",
    );
    assert_eq!(kept.len(), 4, "{kept:?}");
    assert!(kept[0].starts_with("broken0 - not a record: "), "{kept:?}");
    assert_eq!(kept[1], "mixed1 default not stored after all retries");
    assert_eq!(kept[2], "new0 w record version 2 is not known here");
    assert!(kept[3].starts_with("new1 - not a record: "), "{kept:?}");
    assert_eq!(db.count("dead_letter"), 4);

    db.break_writes(Fault { times: 1, words: OVERLOADED, committed: false });
    let outcomes = block_on(consume::keep_dead_letters(&messages[..1], UnixMillis(T0), &db));
    assert!(matches!(outcomes[..], [MessageOutcome::Retry { .. }]));
}

fn large_text() -> Body {
    Body::Text("é".repeat(ingest::INLINE_BYTES / 2))
}
