//! Joins two dialects.
use super::anthropic::request::{self, RequestOptions};
use super::openai_chat::parse;
use crate::error::Problem;

pub struct Translated {
    pub body: Vec<u8>,
    pub dropped: Vec<String>,
}

pub fn openai_to_anthropic(body: &[u8], options: &RequestOptions) -> Result<Translated, Problem> {
    let rendered = request::render(parse::parse(body)?, options)?;
    Ok(Translated { body: rendered.body, dropped: rendered.dropped })
}
