//! OpenAI chat completions.

pub mod parse;
pub mod render;
