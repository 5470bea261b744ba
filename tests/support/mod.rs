//! The world of `ports`, small enough to break on purpose: SQLite with D1's limits, objects in a map, and an executor.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "each test binary uses its own part; a test may")]

pub mod calls;

use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{Connection, ToSql, params_from_iter};
use spangate::ports::{Db, DbError, ObjectError, Objects, Param, Statement};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Runs a future that never really waits.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

/// A database as D1 would be.
pub struct TestDb {
    pub connection: Connection,
    fault: RefCell<Option<Fault>>,
    /// Transactions begun.
    pub writes: Cell<usize>,
}

/// What goes wrong with the next writes.
#[derive(Clone, Debug)]
pub struct Fault {
    /// How often.
    pub times: u32,
    /// In which words.
    pub words: &'static str,
    /// Whether the transaction is done all the same, and only its answer lost.
    pub committed: bool,
}

impl TestDb {
    /// With all migrations applied.
    pub fn new() -> TestDb {
        let connection = Connection::open_in_memory().unwrap();
        for (limit, value) in D1_LIMITS {
            connection.set_limit(limit, value).unwrap();
        }
        for (name, sql) in migrations() {
            connection.execute_batch(&sql).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        TestDb { connection, fault: RefCell::default(), writes: Cell::new(0) }
    }

    pub fn break_writes(&self, fault: Fault) {
        *self.fault.borrow_mut() = Some(fault);
    }

    /// Every row of every table, readable.
    pub fn dump(&self) -> String {
        let tables = self.strings("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name");
        let mut out = String::new();
        for table in tables {
            let mut statement = self.connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let cells: Vec<Value> = (0..columns).map(|at| row.get(at).unwrap()).collect();
                out += &format!("{table}: {cells:?}\n");
            }
        }
        out
    }

    pub fn count(&self, from: &str) -> i64 {
        self.connection.query_row(&format!("SELECT count(*) FROM {from}"), [], |row| row.get(0)).unwrap()
    }

    pub fn strings(&self, sql: &str) -> Vec<String> {
        let mut statement = self.connection.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// How SQLite means to answer.
    pub fn plan(&self, statement: &Statement) -> Vec<String> {
        let mut prepared = self.connection.prepare(&format!("EXPLAIN QUERY PLAN {}", statement.sql)).unwrap();
        let rows = prepared.query_map(params_from_iter(statement.params.iter().map(Bound)), |row| row.get(3)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn planned_fault(&self) -> Option<Fault> {
        let mut slot = self.fault.borrow_mut();
        let fault = slot.as_mut().filter(|fault| fault.times > 0)?;
        fault.times -= 1;
        Some(fault.clone())
    }
}

impl Db for TestDb {
    async fn select(&self, statement: Statement) -> Result<Vec<String>, DbError> {
        let mut prepared = self.connection.prepare(statement.sql).map_err(words)?;
        assert_eq!(prepared.column_count(), 1, "a query selects exactly one column");
        let rows = prepared.query_map(params_from_iter(statement.params.iter().map(Bound)), |row| row.get(0)).map_err(words)?;
        rows.collect::<Result<_, _>>().map_err(words)
    }

    async fn write(&self, statements: Vec<Statement>) -> Result<Vec<u64>, DbError> {
        self.writes.set(self.writes.get() + 1);
        let fault = self.planned_fault();
        if let Some(fault) = fault.as_ref().filter(|fault| !fault.committed) {
            return Err(DbError(fault.words.to_owned()));
        }
        let transaction = self.connection.unchecked_transaction().map_err(words)?;
        let mut changes = Vec::new();
        for statement in &statements {
            let bound = params_from_iter(statement.params.iter().map(Bound));
            changes.push(transaction.execute(statement.sql, bound).map_err(words)? as u64);
        }
        transaction.commit().map_err(words)?;
        fault.map_or(Ok(changes), |fault| Err(DbError(fault.words.to_owned())))
    }
}

fn words(error: rusqlite::Error) -> DbError {
    DbError(error.to_string())
}

/// D1 gets its numbers from JavaScript, so every one is a double (CF §1.3).
struct Bound<'a>(&'a Param);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            Param::Integer(number) => ToSqlOutput::Owned(Value::Real(*number as f64)),
            Param::Null => ToSqlOutput::Owned(Value::Null),
            Param::Text(text) => ToSqlOutput::from(text.as_str()),
        })
    }
}

/// CF §1.3; the last two are workerd's.
const D1_LIMITS: [(Limit, i32); 7] = [
    (Limit::SQLITE_LIMIT_LENGTH, 2_000_000),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 100_000),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 100),
    (Limit::SQLITE_LIMIT_COLUMN, 100),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 32),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 50),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 5),
];

/// The migrations by name, in the order in which they apply.
pub fn migrations() -> BTreeMap<String, String> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let sql = paths.filter(|path| path.extension().is_some_and(|extension| extension == "sql"));
    sql.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// Object storage in a map.
#[derive(Default)]
pub struct TestObjects {
    pub stored: RefCell<BTreeMap<String, Vec<u8>>>,
    /// How many of the next puts fail.
    pub failing_puts: Cell<u32>,
    /// How many of the next gets fail.
    pub failing_gets: Cell<u32>,
}

impl TestObjects {
    fn fails(counter: &Cell<u32>) -> Result<(), ObjectError> {
        match counter.get() {
            0 => Ok(()),
            left => {
                counter.set(left - 1);
                Err(ObjectError("out of order".into()))
            }
        }
    }
}

impl Objects for TestObjects {
    async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), ObjectError> {
        TestObjects::fails(&self.failing_puts)?;
        self.stored.borrow_mut().insert(key.to_owned(), bytes);
        Ok(())
    }

    async fn get(&self, key: &str, offset: u64, length: u64) -> Result<Option<Vec<u8>>, ObjectError> {
        TestObjects::fails(&self.failing_gets)?;
        let stored = self.stored.borrow();
        let slice = |bytes: &Vec<u8>| bytes.iter().skip(offset as usize).take(length as usize).copied().collect();
        Ok(stored.get(key).map(slice))
    }
}
