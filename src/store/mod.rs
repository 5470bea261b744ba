//! Statements for the database and what their rows mean; nothing here talks to it.
//!
//! The life of a call in here: [`ingest`] turns records into one transaction; rows are inserted once, never changed, and a
//! redelivered record inserts nothing; [`search`] asks for them; [`row`] reads the answers. The same SQL runs on D1 and, in
//! native tests, on SQLite with D1's limits. Rows cross as JSON text: one parameter carries any number of rows in, one
//! column carries a row out, so that integers stay integers and no statement comes near 100 parameters (CF §1.3, §2.11).

pub mod ingest;
pub mod row;
pub mod search;
