//! What the flows need from the world. The shell implements these on the platform, `tests/support` on nothing at all.
//!
//! A few methods each, nothing clever: whatever decides lies above or below, never here.

use crate::headers::Headers;
use crate::time::{Millis, UnixMillis};
use std::future::Future;

/// Reads the clock. Inside a Worker it stands still between I/O events.
pub trait Clock {
    /// Now.
    fn now(&self) -> UnixMillis;
}

/// Lets time pass.
pub trait Timer {
    /// Resolves after `duration`.
    fn sleep(&self, duration: Millis) -> impl Future<Output = ()>;
}

/// One parameter of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    /// An integer below 2^53 in size.
    Integer(i64),
    /// NULL.
    Null,
    /// Text.
    Text(String),
}

/// One SQL statement with its numbered parameters (`?1`, `?2`, …). At most 100 of them, 2 MB each (CF §1.3).
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The text.
    pub sql: &'static str,
    /// The parameters.
    pub params: Vec<Param>,
}

/// A failure of the database, in its own words (for operators, never for callers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbError(pub String);

/// The database.
pub trait Db {
    /// Runs a query that selects exactly one column holding JSON text, and returns that text for each row.
    fn select(&self, statement: Statement) -> impl Future<Output = Result<Vec<String>, DbError>>;

    /// Runs all statements in one transaction, and returns the rows that each one changed.
    fn write(&self, statements: Vec<Statement>) -> impl Future<Output = Result<Vec<u64>, DbError>>;
}

/// A failure of object storage, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectError(pub String);

/// Object storage.
pub trait Objects {
    /// Writes one object.
    fn put(&self, key: &str, bytes: Vec<u8>) -> impl Future<Output = Result<(), ObjectError>>;

    /// Reads `length` bytes from `offset`; `None` when there is no such object.
    fn get(&self, key: &str, offset: u64, length: u64) -> impl Future<Output = Result<Option<Vec<u8>>, ObjectError>>;
}

/// A request to an upstream. It lives for one attempt.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// Absolute URL.
    pub url: &'a str,
    /// HTTP method.
    pub method: &'a str,
    /// Everything that is sent; nothing is added but what the transport needs.
    pub headers: &'a Headers,
    /// The body; `None` for methods without one.
    pub body: Option<&'a [u8]>,
    /// How long until the response headers must have arrived.
    pub timeout: Option<Millis>,
}

/// Why no response headers arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The caller of the gateway went away, and the upstream request was aborted.
    ClientGone,
    /// Refused, reset, unreachable; the text is the platform's.
    Connect(String),
    /// The timeout passed; the upstream request was aborted.
    Timeout,
}
