//! Framings and encodings, free of meaning and indifferent to chunking.

pub mod base64;
pub mod document;
pub mod json;
pub mod splice;
pub mod sse;
