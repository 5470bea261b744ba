//! A chat call and its answer in the gateway's own words, between the client's dialect and the upstream's.
//!
//! Holds what at least one pair of dialects can carry across. What a client said that has no place here is listed by name
//! in [`Chat::dropped`], and so is what an upstream dialect then has to leave out: nothing gets lost without a trace. Fields
//! are named as OpenAI names them, because that is how callers know them.

use super::usage::Usage;
use crate::wire::document::Json;

/// A call.
#[derive(Clone, Debug, Default)]
pub struct Chat {
    /// The model asked for.
    pub model: String,
    /// All system and developer text, in order, wherever it stood.
    pub system: Vec<SystemText>,
    /// The conversation, one turn a message; runs of one role are not joined yet.
    pub turns: Vec<Turn>,
    /// Functions that the model may call.
    pub tools: Vec<Tool>,
    /// Whether it must.
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may call several at once.
    pub parallel_tool_calls: Option<bool>,
    /// The most tokens to generate.
    pub max_tokens: Option<u64>,
    /// Sampling temperature, 0 to 2.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Sampling from the k likeliest.
    pub top_k: Option<u64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The form of the answer; `None` is plain text.
    pub response_format: Option<ResponseFormat>,
    /// How hard to think.
    pub reasoning_effort: Option<Effort>,
    /// Anthropic's `thinking`, as given.
    pub thinking: Option<Json>,
    /// The end user, opaque.
    pub user: Option<String>,
    /// The service class asked for, in OpenAI's words.
    pub service_tier: Option<String>,
    /// How many answers; `None` is one.
    pub n: Option<u64>,
    /// Whether the answer shall be streamed.
    pub stream: bool,
    /// Whether a stream shall end with a usage chunk.
    pub include_usage: bool,
    /// Names of the fields that could not be carried.
    pub dropped: Vec<String>,
}

/// One piece of system text.
#[derive(Clone, Debug)]
pub struct SystemText {
    /// The text.
    pub text: String,
    /// A prompt-cache breakpoint, as given.
    pub cache_control: Option<Json>,
}

/// One message of the conversation.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub parts: Vec<Part>,
    /// Where the message stands in the client's list, for the path of an error.
    pub message: usize,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The model.
    Assistant,
    /// The results of tools.
    Tool,
    /// The user.
    User,
}

/// One part of a message.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it is.
    pub content: Content,
    /// A prompt-cache breakpoint, as given.
    pub cache_control: Option<Json>,
}

impl From<Content> for Part {
    fn from(content: Content) -> Part {
        Part { content, cache_control: None }
    }
}

/// What a part says.
#[derive(Clone, Debug)]
pub enum Content {
    /// Sound.
    Audio,
    /// A file with a name.
    Document {
        /// Its bytes, or where they are.
        source: Source,
        /// Its name.
        title: Option<String>,
    },
    /// A picture.
    Image(Source),
    /// Thoughts that the provider keeps unreadable.
    RedactedThinking(String),
    /// Words.
    Text(String),
    /// Thoughts, with the provider's seal when it gave one.
    Thinking {
        /// The thoughts; may be empty when only the seal is given.
        text: String,
        /// The seal without which they cannot be sent back.
        signature: Option<String>,
    },
    /// What a tool said.
    ToolResult {
        /// The call that it answers.
        id: String,
        /// The result.
        output: ToolOutput,
        /// Whether the tool failed, when the client said so.
        is_error: Option<bool>,
    },
    /// A call to a tool.
    ToolUse {
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
        /// The arguments as text: a JSON object, unless the model got it wrong or was cut.
        arguments: String,
    },
}

/// Where the bytes of a picture or file are.
#[derive(Clone, Debug)]
pub enum Source {
    /// Here, in base64.
    Base64 {
        /// MIME type.
        media_type: String,
        /// The bytes.
        data: String,
    },
    /// At the provider, uploaded before.
    FileId(String),
    /// On the web.
    Url(String),
}

/// A tool's result.
#[derive(Clone, Debug)]
pub enum ToolOutput {
    /// A list of parts (text, pictures).
    Parts(Vec<Part>),
    /// One text.
    Text(String),
}

/// A function that the model may call.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// The JSON schema of its arguments: an object.
    pub parameters: Option<Json>,
    /// A prompt-cache breakpoint, as given.
    pub cache_control: Option<Json>,
}

/// Whether the model must call a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    Auto,
    /// This one.
    Named(String),
    /// It must not.
    None,
    /// At least one.
    Required,
}

/// The form of an answer that is not plain text.
#[derive(Clone, Debug)]
pub enum ResponseFormat {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema {
        /// What it is for.
        description: Option<String>,
        /// The schema.
        schema: Json,
    },
}

/// How hard to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// `none`
    None,
    /// `minimal`
    Minimal,
    /// `low`
    Low,
    /// `medium`
    Medium,
    /// `high`
    High,
    /// `xhigh`
    XHigh,
    /// `max`
    Max,
}

impl Effort {
    /// From OpenAI's word.
    pub fn parse(word: &str) -> Option<Effort> {
        Some(match word {
            "none" => Effort::None,
            "minimal" => Effort::Minimal,
            "low" => Effort::Low,
            "medium" => Effort::Medium,
            "high" => Effort::High,
            "xhigh" => Effort::XHigh,
            "max" => Effort::Max,
            _ => return None,
        })
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The provider's id of it.
    pub id: Option<String>,
    /// The model that the provider says answered.
    pub model: Option<String>,
    /// What the model said: text, thoughts, tool calls.
    pub parts: Vec<Content>,
    /// Why it ended; `None` when it was cut.
    pub finish: Option<Finish>,
    /// The same in the provider's words.
    pub native_finish: Option<String>,
    /// What it consumed.
    pub usage: Usage,
    /// Why the model declined.
    pub refusal: Option<String>,
    /// The service class that was billed, in the provider's words.
    pub service_tier: Option<String>,
}

/// Why an answer ended, in OpenAI's classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A policy stopped it.
    ContentFilter,
    /// A limit was reached.
    Length,
    /// The model was done, or met a stop text.
    Stop,
    /// Tools are to be called.
    ToolCalls,
}

impl Finish {
    /// OpenAI's `finish_reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Finish::ContentFilter => "content_filter",
            Finish::Length => "length",
            Finish::Stop => "stop",
            Finish::ToolCalls => "tool_calls",
        }
    }
}

/// An error that an upstream reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status that the caller shall see.
    pub status: u16,
    /// OpenAI's `error.type`.
    pub kind: &'static str,
    /// The upstream's own name for it.
    pub code: Option<String>,
    /// Its words.
    pub message: String,
}

/// Notes that a field could not be carried: once a name, and not more than [`MAX_DROPPED`] names, as callers make them up.
pub fn note_dropped(dropped: &mut Vec<String>, name: &str) {
    if dropped.len() < MAX_DROPPED && !dropped.iter().any(|have| have == name) {
        dropped.push(name.to_owned());
    }
}

/// More names than this are not collected.
pub const MAX_DROPPED: usize = 32;
