//! A [`Chat`] written as a Messages request.
//!
//! Three kinds of things do not fit, and each has one rule. A *hint* that the model cannot take (sampling, effort, a user
//! name that the API refuses) is left out and listed by name. A *number* out of range is clamped. What would change the
//! *meaning* of the call (sound, several answers, an answer to be continued where that is refused) is a [`Problem`].
//!
//! Combinations that the API refuses are resolved here, because a client that speaks OpenAI cannot know of them: thinking
//! excludes temperatures other than 1, `top_k` and forced tools; a schema for models without native support becomes a tool
//! that the model must call (the *answer tool*), which in turn excludes thinking.

use super::{Caps, schema};
use crate::error::Problem;
use crate::llm::chat::{
    Chat, Content, Effort, Part, ResponseFormat, Role, Source, SystemText, Tool, ToolChoice, ToolOutput, Turn, note_dropped,
};
use crate::wire::base64;
use crate::wire::document::{Json, Object};
use serde_json::value::RawValue;

/// What the gateway knows besides the call.
#[derive(Clone, Copy, Debug)]
pub struct RequestOptions {
    /// `max_tokens` where the caller names none; the API demands one. A thinking budget comes on top of it.
    pub default_max_tokens: u64,
    /// The model's own limit, when known; more is a 400.
    pub max_output_tokens: Option<u64>,
    /// The model's features.
    pub caps: Caps,
}

/// A request that can be sent.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The body.
    pub body: Vec<u8>,
    /// Names of the fields that could not be carried.
    pub dropped: Vec<String>,
    /// The tool whose input is the answer, where a schema had to become a tool.
    pub answer_tool: Option<String>,
}

/// Writes the request.
pub fn render(mut chat: Chat, options: &RequestOptions) -> Result<Rendered, Problem> {
    if chat.n.is_some_and(|n| n > 1) {
        return Err(problem("n", "this provider gives one answer a call"));
    }
    drop_blanks(&mut chat);
    trim_prefill(&mut chat.turns, &options.caps)?;
    let format = take_format(&mut chat, &options.caps);
    let thinking = think(&mut chat, options, matches!(format, Format::Tool(_)));
    let choice = choose_tool(&mut chat, &options.caps, &format, thinking.is_on());
    let sampling = sample(&mut chat, &options.caps, thinking.is_on());

    let mut output_config = Object::new();
    if let Some(effort) = thinking.effort {
        output_config.set("effort", effort);
    }
    let mut answer_tool = None;
    match format {
        Format::Native(schema) => {
            output_config.set("format", Object::new().with("type", "json_schema").with("schema", schema));
        }
        Format::Tool(tool) => {
            answer_tool = Some(tool.name.clone());
            chat.tools.push(tool);
        }
        Format::Free => {}
    }
    let body = Object::new()
        .with("model", chat.model)
        .with("max_tokens", thinking.max_tokens)
        .with_some("system", non_empty(chat.system.into_iter().map(system_block)))
        .with("messages", messages(chat.turns)?)
        .with_some("tools", non_empty(chat.tools.into_iter().map(tool_definition)))
        .with_some("tool_choice", choice)
        .with_some("temperature", sampling.temperature)
        .with_some("top_p", sampling.top_p)
        .with_some("top_k", sampling.top_k)
        .with_some("stop_sequences", non_empty(stop_sequences(chat.stop, &mut chat.dropped).into_iter().map(Json::Text)))
        .with_some("thinking", thinking.block)
        .with_some("output_config", (!output_config.is_empty()).then_some(output_config))
        .with_some("service_tier", service_tier(chat.service_tier, &mut chat.dropped))
        .with_some("metadata", user_id(chat.user, &mut chat.dropped).map(|id| Object::new().with("user_id", id)))
        .with_some("stream", chat.stream.then_some(true));
    Ok(Rendered { body: Json::from(body).to_bytes(), dropped: chat.dropped, answer_tool })
}

/// The API refuses blank text, turns without content, and thoughts without their seal.
fn drop_blanks(chat: &mut Chat) {
    let is_blank = |part: &Part| match &part.content {
        Content::Text(text) => text.trim().is_empty(),
        Content::Thinking { signature, .. } => signature.as_ref().is_none_or(String::is_empty),
        _ => false,
    };
    chat.system.retain(|system| !system.text.trim().is_empty());
    for turn in &mut chat.turns {
        turn.parts.retain(|part| !is_blank(part));
        for part in &mut turn.parts {
            if let Content::ToolResult { output: ToolOutput::Parts(parts), .. } = &mut part.content {
                parts.retain(|part| !is_blank(part));
            }
        }
    }
    chat.turns.retain(|turn| !turn.parts.is_empty());
}

/// An assistant message in last place is the beginning of the answer; it must not end in white space.
fn trim_prefill(turns: &mut [Turn], caps: &Caps) -> Result<(), Problem> {
    let Some(Turn { role: Role::Assistant, parts, message }) = turns.last_mut() else { return Ok(()) };
    if caps.no_prefill {
        return Err(problem(format!("messages[{message}]"), "this model does not continue an assistant message"));
    }
    if let Some(Part { content: Content::Text(text), .. }) = parts.last_mut() {
        text.truncate(text.trim_end().len());
    }
    Ok(())
}

/// How the answer gets its form.
enum Format {
    Free,
    Native(Json),
    Tool(Tool),
}

fn take_format(chat: &mut Chat, caps: &Caps) -> Format {
    let must_call_another = matches!(chat.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    match chat.response_format.take() {
        None => Format::Free,
        Some(ResponseFormat::JsonSchema { schema, .. }) if caps.native_schema => {
            Format::Native(schema::clean(schema, &mut chat.dropped))
        }
        Some(ResponseFormat::JsonSchema { description, schema }) if !must_call_another => Format::Tool(Tool {
            name: unused_name(&chat.tools),
            description: Some(description.unwrap_or_else(|| ANSWER_TOOL_DESCRIPTION.to_owned())),
            parameters: Some(schema),
            cache_control: None,
        }),
        Some(_) => {
            note_dropped(&mut chat.dropped, "response_format");
            Format::Free
        }
    }
}

fn unused_name(tools: &[Tool]) -> String {
    let mut name = ANSWER_TOOL.to_owned();
    while tools.iter().any(|tool| tool.name == name) {
        name.push('_');
    }
    name
}

/// What thinking makes of a request.
struct Thinking {
    block: Option<Json>,
    effort: Option<&'static str>,
    max_tokens: u64,
}

impl Thinking {
    fn is_on(&self) -> bool {
        let kind = self.block.as_ref().and_then(|block| block.get("type")).and_then(Json::as_str);
        matches!(kind, Some("adaptive" | "enabled"))
    }
}

fn think(chat: &mut Chat, options: &RequestOptions, has_answer_tool: bool) -> Thinking {
    let caps = &options.caps;
    let limit = options.max_output_tokens.unwrap_or(u64::MAX).max(1);
    let asked = chat.max_tokens;
    let max_tokens = |budget: u64| asked.unwrap_or(options.default_max_tokens.saturating_add(budget)).clamp(1, limit);
    let kind = |name: &str| Some(Json::from(Object::new().with("type", name)));
    let plain = |block, effort| Thinking { block, effort, max_tokens: max_tokens(0) };

    let (given, effort) = (chat.thinking.take(), chat.reasoning_effort.take());
    let mut leave_out = |name: &str| note_dropped(&mut chat.dropped, name);
    if has_answer_tool {
        given.is_some().then(|| leave_out("thinking"));
        effort.is_some_and(|effort| effort != Effort::None).then(|| leave_out("reasoning_effort"));
        return plain(None, None);
    }
    match (given, effort) {
        (Some(block), effort) => {
            let effort = effort.filter(|effort| *effort != Effort::None);
            effort.is_some_and(|_| !caps.adaptive).then(|| leave_out("reasoning_effort"));
            let budget = block.get("budget_tokens").and_then(Json::as_u64).unwrap_or(0);
            let effort = effort.filter(|_| caps.adaptive).map(|effort| effort_word(effort, caps));
            Thinking { block: Some(block), effort, max_tokens: max_tokens(budget) }
        }
        (None, None) => plain(None, None),
        (None, Some(Effort::None)) => {
            caps.always_thinks.then(|| leave_out("reasoning_effort"));
            plain(kind("disabled").filter(|_| caps.adaptive && !caps.always_thinks), None)
        }
        (None, Some(effort)) if caps.adaptive => plain(kind("adaptive"), Some(effort_word(effort, caps))),
        (None, Some(effort)) => {
            let max_tokens = max_tokens(budget(effort));
            let budget = budget(effort).min(max_tokens.saturating_sub(1));
            if !caps.reasoning || budget < LEAST_BUDGET || must_not_begin_to_think(&chat.turns) {
                leave_out("reasoning_effort");
                return plain(None, None);
            }
            let block = Object::new().with("type", "enabled").with("budget_tokens", budget);
            Thinking { block: Some(block.into()), effort: None, max_tokens }
        }
    }
}

/// With a budget the API wants the assistant turn that goes on (after tool results, or a prefill) to begin with sealed
/// thoughts. A client that never got to see them cannot send them back, and its tool loop would end in a 400.
fn must_not_begin_to_think(turns: &[Turn]) -> bool {
    let goes_on = matches!(turns.last(), Some(Turn { role: Role::Assistant, .. }))
        || turns.iter().rev().take_while(|turn| turn.role != Role::Assistant).any(|turn| turn.role == Role::Tool);
    let last_said = turns.rsplit(|turn| turn.role != Role::Assistant).find(|run| !run.is_empty());
    let first_part = last_said.and_then(|run| run.first()?.parts.first());
    let thought = matches!(first_part, Some(Part { content: Content::Thinking { .. } | Content::RedactedThinking(_), .. }));
    goes_on && !thought
}

fn effort_word(effort: Effort, caps: &Caps) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::XHigh if caps.effort_xhigh => "xhigh",
        Effort::Max if caps.effort_max => "max",
        Effort::High | Effort::XHigh | Effort::Max => "high",
    }
}

fn budget(effort: Effort) -> u64 {
    match effort {
        Effort::None | Effort::Minimal | Effort::Low => 1024,
        Effort::Medium => 2048,
        Effort::High => 4096,
        Effort::XHigh => 8192,
        Effort::Max => 16384,
    }
}

/// `tool_choice`; without tools the API takes none.
fn choose_tool(chat: &mut Chat, caps: &Caps, format: &Format, thinks: bool) -> Option<Json> {
    let mut choice = chat.tool_choice.take();
    if matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_)))
        && (caps.no_forced_tool || thinks || chat.tools.is_empty())
    {
        note_dropped(&mut chat.dropped, "tool_choice");
        choice = Some(ToolChoice::Auto);
    }
    let mut one_at_a_time = chat.parallel_tool_calls == Some(false);
    if let Format::Tool(answer) = format {
        choice = Some(if caps.no_forced_tool {
            ToolChoice::Auto
        } else if chat.tools.is_empty() || choice == Some(ToolChoice::None) {
            one_at_a_time = true;
            ToolChoice::Named(answer.name.clone())
        } else {
            ToolChoice::Required
        });
    } else if chat.tools.is_empty() {
        return None;
    }
    if one_at_a_time {
        choice.get_or_insert(ToolChoice::Auto);
    }
    let written = match choice? {
        ToolChoice::None => return Some(Object::new().with("type", "none").into()),
        ToolChoice::Auto => Object::new().with("type", "auto"),
        ToolChoice::Required => Object::new().with("type", "any"),
        ToolChoice::Named(name) => Object::new().with("type", "tool").with("name", name),
    };
    Some(written.with_some("disable_parallel_tool_use", one_at_a_time.then_some(true)).into())
}

struct Sampling {
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u64>,
}

fn sample(chat: &mut Chat, caps: &Caps, thinks: bool) -> Sampling {
    let mut keep_if = |keep: bool, name| {
        if !keep {
            note_dropped(&mut chat.dropped, name);
        }
        keep
    };
    let temperature = chat.temperature.map(|temperature| temperature.clamp(0.0, 1.0));
    let top_p = chat.top_p.map(|top_p| top_p.clamp(0.0, 1.0));
    let temperature = temperature.filter(|t| keep_if(!(caps.no_sampling || thinks) || *t == 1.0, "temperature"));
    // Some models refuse the two together; a `top_p` of 1, which many clients send, says nothing.
    let top_p = top_p.filter(|p| temperature.is_none() || *p < 1.0);
    Sampling {
        temperature,
        top_p: top_p.filter(|p| keep_if(!(caps.no_sampling || thinks && *p < LEAST_TOP_P_OF_THOUGHTS), "top_p")),
        top_k: chat.top_k.filter(|_| keep_if(!(caps.no_sampling || thinks), "top_k")),
    }
}

fn stop_sequences(stop: Vec<String>, dropped: &mut Vec<String>) -> Vec<String> {
    let (blank, kept): (Vec<String>, Vec<String>) = stop.into_iter().partition(|entry| entry.trim().is_empty());
    if !blank.is_empty() {
        note_dropped(dropped, "stop");
    }
    kept
}

fn service_tier(tier: Option<String>, dropped: &mut Vec<String>) -> Option<&'static str> {
    match tier?.as_str() {
        "auto" => Some("auto"),
        "default" => Some("standard_only"),
        _ => {
            note_dropped(dropped, "service_tier");
            None
        }
    }
}

/// The API wants an opaque id: not an e-mail address, not a telephone number, and not a long one.
fn user_id(user: Option<String>, dropped: &mut Vec<String>) -> Option<String> {
    let refused = |user: &str| user.contains('@') || user.starts_with('+') || user.chars().count() > LONGEST_USER_ID;
    if user.as_deref().is_some_and(refused) {
        note_dropped(dropped, "user");
        return None;
    }
    user
}

fn system_block(system: SystemText) -> Json {
    typed("text").with("text", system.text).with_some("cache_control", system.cache_control).into()
}

fn tool_definition(tool: Tool) -> Json {
    let mut schema = match tool.parameters {
        Some(Json::Object(schema)) => schema,
        _ => Object::new().with("type", "object").with("properties", Object::new()),
    };
    if schema.get("type").is_none() {
        schema.set("type", "object");
    }
    Object::new()
        .with("name", tool.name)
        .with_some("description", tool.description)
        .with("input_schema", schema)
        .with_some("cache_control", tool.cache_control)
        .into()
}

/// A run of messages of one role; in a user turn the results of tools come first.
struct Run {
    role: &'static str,
    results: Vec<Json>,
    others: Vec<Json>,
}

fn messages(turns: Vec<Turn>) -> Result<Vec<Json>, Problem> {
    let mut runs: Vec<Run> = Vec::new();
    for Turn { role, parts, message } in turns {
        let role = if role == Role::Assistant { "assistant" } else { "user" };
        if runs.last().is_none_or(|run| run.role != role) {
            runs.push(Run { role, results: Vec::new(), others: Vec::new() });
        }
        let Some(run) = runs.last_mut() else { continue };
        let mut calls = 0;
        for part in parts {
            calls += usize::from(matches!(part.content, Content::ToolUse { .. }));
            let is_result = matches!(part.content, Content::ToolResult { .. });
            let block = block(part).map_err(|fault| fault.at(message, calls))?;
            if is_result { run.results.push(block) } else { run.others.push(block) }
        }
    }
    if runs.is_empty() {
        return Err(problem("messages", "this provider needs a message that is not a system message, with content"));
    }
    let written = |mut run: Run| {
        run.results.append(&mut run.others);
        Object::new().with("role", run.role).with("content", run.results).into()
    };
    Ok(runs.into_iter().map(written).collect())
}

/// Why a part cannot be written; the place is added by the caller, who knows it.
enum Fault {
    Arguments(String),
    Content(&'static str),
}

impl Fault {
    /// `calls` counts the tool calls of the message, the faulty one included.
    fn at(self, message: usize, calls: usize) -> Problem {
        match self {
            Fault::Arguments(how) => {
                problem(format!("messages[{message}].tool_calls[{}].function.arguments", calls.saturating_sub(1)), how)
            }
            Fault::Content(how) => problem(format!("messages[{message}].content"), how),
        }
    }
}

fn block(part: Part) -> Result<Json, Fault> {
    let block = match part.content {
        Content::Audio => return Err(Fault::Content("this provider does not take audio (input_audio)")),
        Content::Document { source, title } => {
            typed("document").with("source", document_source(source)?).with_some("title", title)
        }
        Content::Image(source) => typed("image").with("source", bytes_source(source)),
        Content::RedactedThinking(data) => typed("redacted_thinking").with("data", data),
        Content::Text(text) => typed("text").with("text", text),
        Content::Thinking { text, signature } => {
            typed("thinking").with("thinking", text).with("signature", signature.unwrap_or_default())
        }
        Content::ToolResult { id, output, is_error } => {
            let content = match output {
                ToolOutput::Text(text) => text.into(),
                ToolOutput::Parts(parts) => Json::List(parts.into_iter().map(block_of_result).collect::<Result<_, _>>()?),
            };
            typed("tool_result").with("tool_use_id", id).with("content", content).with_some("is_error", is_error)
        }
        Content::ToolUse { id, name, arguments } => {
            typed("tool_use").with("id", id).with("name", name).with("input", tool_input(arguments)?)
        }
    };
    Ok(block.with_some("cache_control", part.cache_control).into())
}

/// Results do not nest; a part list holds text, pictures and files.
fn block_of_result(part: Part) -> Result<Json, Fault> {
    match part.content {
        Content::ToolResult { .. } | Content::ToolUse { .. } => Err(Fault::Content("tool calls do not nest")),
        _ => block(part),
    }
}

/// The text crosses as it is, so that digits and order survive.
fn tool_input(arguments: String) -> Result<Json, Fault> {
    if arguments.trim().is_empty() {
        return Ok(Object::new().into());
    }
    let text = RawValue::from_string(arguments).map_err(|error| Fault::Arguments(format!("is not JSON: {error}")))?;
    if text.get().starts_with('{') { Ok(text.into()) } else { Err(Fault::Arguments("must be a JSON object".into())) }
}

fn document_source(source: Source) -> Result<Object, Fault> {
    match source {
        Source::Base64 { media_type, data } if media_type.starts_with("text/") => {
            let text = base64::decode(&data).and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or(Fault::Content("a text file must be UTF-8 in base64"))?;
            Ok(typed("text").with("media_type", "text/plain").with("data", text))
        }
        other => Ok(bytes_source(other)),
    }
}

fn bytes_source(source: Source) -> Object {
    match source {
        Source::Base64 { media_type, data } => {
            let media_type = if media_type == "image/jpg" { "image/jpeg".to_owned() } else { media_type };
            typed("base64").with("media_type", media_type).with("data", data)
        }
        Source::FileId(id) => typed("file").with("file_id", id),
        Source::Url(url) => typed("url").with("url", url),
    }
}

fn typed(kind: &str) -> Object {
    Object::new().with("type", kind)
}

fn non_empty(items: impl Iterator<Item = Json>) -> Option<Vec<Json>> {
    let items: Vec<Json> = items.collect();
    (!items.is_empty()).then_some(items)
}

fn problem(path: impl Into<String>, how: impl Into<String>) -> Problem {
    Problem { path: path.into(), message: how.into() }
}

/// The name of the answer tool, unless the caller has a tool of that name.
const ANSWER_TOOL: &str = "structured_answer";

const ANSWER_TOOL_DESCRIPTION: &str = "Gives the final answer. Call it once, with the complete answer as its input.";

/// The API's own minimum.
const LEAST_BUDGET: u64 = 1024;

/// With thinking on, the API refuses less.
const LEAST_TOP_P_OF_THOUGHTS: f64 = 0.95;

/// In characters.
const LONGEST_USER_ID: usize = 256;

#[cfg(test)]
mod tests;
