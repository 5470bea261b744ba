//! The wire languages. Each knows itself and the middle language (`llm`), never another; `translate` joins two of them.

pub mod anthropic;
pub mod openai_chat;
pub mod translate;
