//! From queue messages to rows and objects.
//!
//! A delivery is one transaction, so its cost does not grow with its messages. What happens when it fails depends on whom the
//! database blames: itself, and the whole delivery waits; or the data, and then every message, and in a message every call,
//! is tried alone, so that one record that cannot be stored holds up no other. Nothing is ever given up here: a record that
//! cannot be stored stays with the queue until that makes it a dead letter, and dead letters are kept too.

use crate::ids::RecordId;
use crate::ports::{Db, DbError, ObjectError, Objects};
use crate::store::ingest::{self, DeadLetter};
use crate::store::row;
use crate::time::{Millis, UnixMillis};
use crate::trace::message::{CallRecord, GuardRecord, QueueRecord};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// A queue message.
#[derive(Clone, Debug)]
pub struct Message {
    /// The queue's name for it.
    pub id: String,
    /// A JSON array of records.
    pub body: String,
    /// Deliveries so far, this one included.
    pub attempts: u32,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageOutcome {
    /// Something in it cannot be stored, now or later; what can be, is. To be retried until it is a dead letter.
    Malformed {
        /// What and why.
        reason: String,
    },
    /// The store could not take it now.
    Retry {
        /// How long to wait: longer with every attempt, or the retries keep an overloaded database down (CF §1.2).
        delay: Millis,
        /// What the store said, for operators.
        reason: String,
    },
    /// All of it is stored, now or before.
    Stored,
}

/// Where records go: the database, and objects for what is too large for it.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a, D, O> {
    /// The database.
    pub db: &'a D,
    /// Object storage.
    pub objects: &'a O,
}

/// Makes a call out of what the guard of a stream saw (the pump knows how).
pub type FinishGuard<'a> = &'a dyn Fn(GuardRecord) -> CallRecord;

/// Stores a delivery; one outcome a message, in order.
pub async fn store<D: Db, O: Objects>(
    messages: &[Message],
    store: Store<'_, D, O>,
    finish: FinishGuard<'_>,
) -> Vec<MessageOutcome> {
    let parcels: Vec<Parcel> = messages.iter().map(|message| Parcel::open(message, finish)).collect();
    let whole = store.write(parcels.iter().flat_map(|parcel| &parcel.calls)).await;
    let mut outcomes = Vec::with_capacity(parcels.len());
    for parcel in &parcels {
        outcomes.push(match &whole {
            Ok(()) => parcel.outcome(Ok(())),
            Err(refusal) if refusal.may_be_one_record(parcel.attempts) => parcel.outcome(store.write_apart(parcel).await),
            Err(refusal) => parcel.outcome(Err(refusal.clone())),
        });
    }
    outcomes
}

/// Stores the records of one message without the queue, for a producer whose message the queue refused.
pub async fn store_directly<D: Db, O: Objects>(body: String, to: Store<'_, D, O>, finish: FinishGuard<'_>) -> MessageOutcome {
    let message = Message { id: String::new(), body, attempts: 1 };
    store(&[message], to, finish).await.pop().unwrap_or(MessageOutcome::Stored)
}

/// How many records a message stands for: those in it, and those that they report lost.
pub fn count_records(body: &str) -> u64 {
    let records = QueueRecord::parse_message(body).unwrap_or_default();
    records.iter().map(|record| 1 + record.as_ref().map_or(0, |record| record.call().lost_before)).sum()
}

/// Keeps what the queue gave up, record by record, less what was stored after all.
pub async fn keep_dead_letters(messages: &[Message], now: UnixMillis, db: &impl Db) -> Vec<MessageOutcome> {
    let letters = messages.iter().flat_map(|message| dead_letters(message, now));
    let kept = db.write(ingest::dead_letters(letters)).await.map_err(Refusal::from);
    let outcome = |message: &Message| match &kept {
        Ok(_) => MessageOutcome::Stored,
        Err(refusal) => MessageOutcome::Retry { delay: retry_delay(message.attempts), reason: refusal.reason.clone() },
    };
    messages.iter().map(outcome).collect()
}

impl<D: Db, O: Objects> Store<'_, D, O> {
    /// Stores calls in one transaction. Objects go first: a row never points to what is not there.
    async fn write(&self, calls: impl IntoIterator<Item = &CallRecord>) -> Result<(), Refusal> {
        let mut entries = ingest::entries(calls);
        if let Some(question) = ingest::stored_already(&entries) {
            let stored: BTreeSet<RecordId> = row::read(&self.db.select(question).await?)?.into_iter().collect();
            if let Some(bundle) = ingest::bundle(&mut entries, &stored) {
                self.objects.put(&bundle.key, bundle.bytes).await?;
            }
        }
        if !entries.is_empty() {
            self.db.write(ingest::statements(&entries)).await?;
        }
        Ok(())
    }

    /// Stores the calls of one message together or, when one of them is to blame, each alone.
    async fn write_apart(&self, parcel: &Parcel) -> Result<(), Refusal> {
        match self.write(&parcel.calls).await {
            Err(refusal) if refusal.may_be_one_record(parcel.attempts) && parcel.calls.len() > 1 => {
                let mut outcome = Ok(());
                for call in &parcel.calls {
                    outcome = outcome.and(self.write([call]).await);
                }
                outcome
            }
            together => together,
        }
    }
}

/// An opened message.
struct Parcel {
    attempts: u32,
    calls: Vec<CallRecord>,
    /// What could not be read.
    problem: Option<String>,
}

impl Parcel {
    fn open(message: &Message, finish: FinishGuard<'_>) -> Parcel {
        let mut parcel = Parcel { attempts: message.attempts, calls: Vec::new(), problem: None };
        let records = QueueRecord::parse_message(&message.body).unwrap_or_else(|problem| vec![Err(problem)]);
        for record in records {
            match record {
                Ok(QueueRecord::Call(call)) => parcel.calls.push(*call),
                Ok(QueueRecord::Guard(guard)) => parcel.calls.push(finish(*guard)),
                Err(problem) => parcel.problem = Some(problem),
            }
        }
        parcel
    }

    fn outcome(&self, written: Result<(), Refusal>) -> MessageOutcome {
        match (written, &self.problem) {
            (Err(refusal), _) if !refusal.blames_record => {
                MessageOutcome::Retry { delay: retry_delay(self.attempts), reason: refusal.reason }
            }
            (Err(refusal), _) => MessageOutcome::Malformed { reason: refusal.reason },
            (Ok(()), Some(problem)) => MessageOutcome::Malformed { reason: problem.clone() },
            (Ok(()), None) => MessageOutcome::Stored,
        }
    }
}

/// Why something was not stored.
#[derive(Clone, Debug)]
struct Refusal {
    reason: String,
    /// Whether what was to be stored is at fault, and not the store.
    blames_record: bool,
}

impl Refusal {
    /// Whether trying records apart may help. An error in words we do not know is taken for the database's own at first,
    /// lest an outage be answered with fifty times the load.
    fn may_be_one_record(&self, attempts: u32) -> bool {
        self.blames_record || attempts > ATTEMPTS_TOGETHER
    }
}

impl From<DbError> for Refusal {
    fn from(DbError(reason): DbError) -> Refusal {
        let blames_record = BLAME.iter().any(|words| reason.contains(words));
        Refusal { reason, blames_record }
    }
}

impl From<ObjectError> for Refusal {
    fn from(ObjectError(reason): ObjectError) -> Refusal {
        Refusal { reason, blames_record: false }
    }
}

/// 10 s, 20 s, 40 s, … up to a quarter of an hour.
fn retry_delay(attempts: u32) -> Millis {
    let doublings = attempts.saturating_sub(1).min(16);
    Millis((FIRST_RETRY.0 << doublings).min(LONGEST_RETRY.0))
}

/// The records of a message, each with the reason why it is one of these; a message that is no array is one record.
fn dead_letters(message: &Message, now: UnixMillis) -> Vec<DeadLetter<'_>> {
    #[derive(Default, Deserialize)]
    struct Owner {
        workspace: Option<String>,
        call_id: Option<String>,
    }
    let records: Vec<&str> = match serde_json::from_str::<Vec<&RawValue>>(&message.body) {
        Ok(records) => records.into_iter().map(RawValue::get).collect(),
        Err(_) => vec![&message.body],
    };
    let letter = |(position, body): (usize, _)| {
        let (owner, reason) = match QueueRecord::parse(body) {
            Ok(record) => {
                let call = record.call();
                let owner = Owner { workspace: Some(call.workspace.to_string()), call_id: Some(call.call_id.to_string()) };
                (owner, "not stored after all retries".to_owned())
            }
            Err(reason) => (serde_json::from_str(body).unwrap_or_default(), reason),
        };
        let Owner { workspace, call_id } = owner;
        DeadLetter { message_id: &message.id, position, received_at: now, workspace, call_id, reason, body }
    };
    records.into_iter().enumerate().map(letter).collect()
}

/// Words of D1 and SQLite that blame what they were given.
const BLAME: [&str; 6] =
    ["malformed JSON", "constraint failed", "SQLITE_CONSTRAINT", "datatype mismatch", "too big", "D1_TYPE_ERROR"];

/// After so many deliveries even an unknown error is taken for the fault of one record.
const ATTEMPTS_TOGETHER: u32 = 3;

const FIRST_RETRY: Millis = Millis(10_000);
const LONGEST_RETRY: Millis = Millis(900_000);
