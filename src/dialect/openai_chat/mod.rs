//! OpenAI's chat completions and embeddings: the language that clients speak, and most upstreams too.
//!
//! Where both sides speak it, bytes pass untouched (architecture, decision 1) and the gateway only looks: [`peek`] at the
//! request before it is sent, [`observe`] at the answer after it has passed. [`error`] reads and writes what goes wrong in
//! this language. Nothing here knows a provider or a route; where a provider strays from OpenAI in a way that the bytes
//! show, the tolerance is here, and where only its name would tell, it is the provider's row that says so.

pub mod error;
pub mod observe;
pub mod parse;
pub mod peek;
pub mod render;

mod assemble;
