//! An OpenAI chat request, read into a [`Chat`].
//!
//! Every mistake is a [`Problem`] with the path of the field. Fields are *taken* out of the document; what nobody took is
//! what cannot be carried, and is listed in [`Chat::dropped`] as `messages[].name`. Decides nothing about any upstream:
//! what one of them cannot do is for its dialect to refuse. Extensions that are understood: `cache_control` on a message,
//! part, tool or tool call, `thinking`, `top_k`, `is_error` on tool messages, and thoughts handed back as
//! `thinking_blocks`, `content_blocks` or `reasoning_details` (conventions, modes).

use crate::error::Problem;
use crate::llm::chat::{
    Chat, Content, Effort, Part, ResponseFormat, Role, Source, SystemText, Tool, ToolChoice, ToolOutput, Turn, note_dropped,
};
use crate::wire::document::{Json, Object};

/// Reads the bytes of a request.
pub fn parse(body: &[u8]) -> Result<Chat, Problem> {
    let document = Json::parse(body).map_err(|how| problem(String::new(), how))?;
    let mut call = Fields::open(document, String::new())?;
    let mut chat = Chat {
        model: call.required("model")?,
        max_tokens: output_limit(&mut call)?,
        temperature: call.number("temperature")?,
        top_p: call.number("top_p")?,
        top_k: call.count("top_k")?,
        stop: stop(&mut call)?,
        response_format: response_format(&mut call)?,
        reasoning_effort: effort(&mut call)?,
        thinking: call.object("thinking")?.map(|thinking| thinking.object.into()),
        parallel_tool_calls: call.flag("parallel_tool_calls")?,
        user: call.text("user")?,
        service_tier: call.text("service_tier")?,
        n: call.count("n")?,
        stream: call.flag("stream")?.unwrap_or(false),
        ..Chat::default()
    };
    if let Some(mut options) = call.object("stream_options")? {
        chat.include_usage = options.flag("include_usage")?.unwrap_or(false);
        options.close(&mut chat.dropped);
    }
    for tool in call.list("tools")? {
        let tool = read_tool(tool, &mut chat.dropped)?;
        chat.tools.push(tool);
    }
    chat.tool_choice = tool_choice(&mut call, &mut chat.tools)?;
    for (at, message) in call.required_list("messages")?.into_iter().enumerate() {
        read_message(message, at, &mut chat)?;
    }
    call.close(&mut chat.dropped);
    Ok(chat)
}

fn output_limit(call: &mut Fields) -> Result<Option<u64>, Problem> {
    let (new, old) = (call.count("max_completion_tokens")?, call.count("max_tokens")?);
    Ok(new.or(old))
}

fn stop(call: &mut Fields) -> Result<Vec<String>, Problem> {
    if let Some(Json::Text(_)) = call.object.get("stop") {
        return Ok(call.text("stop")?.into_iter().collect());
    }
    call.values("stop")?
        .into_iter()
        .map(|(path, entry)| if let Json::Text(text) = entry { Ok(text) } else { Err(problem(path, "must be a string")) })
        .collect()
}

fn effort(call: &mut Fields) -> Result<Option<Effort>, Problem> {
    let Some(word) = call.text("reasoning_effort")? else { return Ok(None) };
    let unknown = || call.wrong("reasoning_effort", "must be none, minimal, low, medium, high, xhigh or max");
    Effort::parse(&word).map(Some).ok_or_else(unknown)
}

fn response_format(call: &mut Fields) -> Result<Option<ResponseFormat>, Problem> {
    let Some(mut format) = call.object("response_format")? else { return Ok(None) };
    match format.required("type")?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(ResponseFormat::JsonObject)),
        "json_schema" => {
            let mut described = format.object("json_schema")?.ok_or_else(|| format.wrong("json_schema", "is required"))?;
            let description = described.text("description")?;
            let Some(schema) = described.object("schema")? else { return Ok(Some(ResponseFormat::JsonObject)) };
            Ok(Some(ResponseFormat::JsonSchema { description, schema: schema.object.into() }))
        }
        _ => Err(format.wrong("type", "must be text, json_object or json_schema")),
    }
}

fn read_tool(mut tool: Fields, dropped: &mut Vec<String>) -> Result<Tool, Problem> {
    if tool.required("type")? != "function" {
        return Err(tool.wrong("type", "only tools of the type function can be translated"));
    }
    let mut function = tool.object("function")?.ok_or_else(|| tool.wrong("function", "is required"))?;
    let read = Tool {
        name: function.required("name")?,
        description: function.text("description")?,
        parameters: function.object("parameters")?.map(|schema| schema.object.into()),
        cache_control: tool.take("cache_control").or_else(|| function.take("cache_control")),
    };
    function.close(dropped);
    tool.close(dropped);
    Ok(read)
}

/// `allowed_tools` has no counterpart elsewhere; leaving out the other tools says the same.
fn tool_choice(call: &mut Fields, tools: &mut Vec<Tool>) -> Result<Option<ToolChoice>, Problem> {
    const FORMS: &str = "must be auto, none, required, or an object that names a function";
    let mode = |word: &str| match word {
        "auto" => Some(ToolChoice::Auto),
        "none" => Some(ToolChoice::None),
        "required" => Some(ToolChoice::Required),
        _ => None,
    };
    if let Some(Json::Text(word)) = call.object.get("tool_choice") {
        let choice = mode(word).ok_or_else(|| call.wrong("tool_choice", FORMS))?;
        call.take("tool_choice");
        return Ok(Some(choice));
    }
    let Some(mut choice) = call.object("tool_choice")? else { return Ok(None) };
    match choice.required("type")?.as_str() {
        "function" => {
            let mut function = choice.object("function")?.ok_or_else(|| choice.wrong("function", "is required"))?;
            Ok(Some(ToolChoice::Named(function.required("name")?)))
        }
        "allowed_tools" => {
            let mut allowed = choice.object("allowed_tools")?.ok_or_else(|| choice.wrong("allowed_tools", "is required"))?;
            let mut names = Vec::new();
            for mut tool in allowed.list("tools")? {
                let mut function = tool.object("function")?.ok_or_else(|| tool.wrong("function", "is required"))?;
                names.push(function.required("name")?);
            }
            tools.retain(|tool| names.contains(&tool.name));
            mode(&allowed.required("mode")?).map(Some).ok_or_else(|| allowed.wrong("mode", "must be auto or required"))
        }
        _ => Err(call.wrong("tool_choice", FORMS)),
    }
}

fn read_message(mut message: Fields, at: usize, chat: &mut Chat) -> Result<(), Problem> {
    let dropped = &mut chat.dropped;
    let (role, mut parts) = match message.required("role")?.as_str() {
        "system" | "developer" => (None, content(&mut message, dropped)?),
        "user" => (Some(Role::User), content(&mut message, dropped)?),
        "assistant" => (Some(Role::Assistant), said_by_the_model(&mut message, dropped)?),
        "tool" => (Some(Role::Tool), vec![tool_result(&mut message, dropped)?]),
        _ => return Err(message.wrong("role", "must be system, developer, user, assistant or tool")),
    };
    // A breakpoint on a message stands after its last part.
    if let (Some(cache_control), Some(last)) = (message.take("cache_control"), parts.last_mut()) {
        last.cache_control.get_or_insert(cache_control);
    }
    match role {
        Some(role) => chat.turns.push(Turn { role, parts, message: at }),
        None => {
            for Part { content, cache_control } in parts {
                let Content::Text(text) = content else { return Err(message.wrong("content", "must be text")) };
                chat.system.push(SystemText { text, cache_control });
            }
        }
    }
    message.close(dropped);
    Ok(())
}

/// Thoughts first, then words, then calls: the order in which they were made.
fn said_by_the_model(message: &mut Fields, dropped: &mut Vec<String>) -> Result<Vec<Part>, Problem> {
    let mut parts = thoughts(message)?;
    parts.extend(content(message, dropped)?);
    parts.extend(message.text("refusal")?.map(|refusal| Part::from(Content::Text(refusal))));
    for mut call in message.list("tool_calls")? {
        if call.text("type")?.is_some_and(|kind| kind != "function") {
            return Err(call.wrong("type", "only calls of the type function can be translated"));
        }
        let mut function = call.object("function")?.ok_or_else(|| call.wrong("function", "is required"))?;
        let content = Content::ToolUse {
            id: call.required("id")?,
            name: function.required("name")?,
            arguments: function.text("arguments")?.unwrap_or_default(),
        };
        parts.push(Part { content, cache_control: call.take("cache_control") });
        function.close(dropped);
        call.close(dropped);
    }
    Ok(parts)
}

/// The first of the three fields in which clients hand thoughts back. Other kinds of blocks in it repeat the content.
fn thoughts(message: &mut Fields) -> Result<Vec<Part>, Problem> {
    let mut parts = Vec::new();
    for field in ["thinking_blocks", "content_blocks", "reasoning_details"] {
        for mut block in message.list(field)? {
            parts.extend(match block.required("type")?.as_str() {
                "thinking" => Some(Content::Thinking {
                    text: block.text("thinking")?.unwrap_or_default(),
                    signature: block.text("signature")?,
                }),
                "reasoning.text" => {
                    Some(Content::Thinking { text: block.text("text")?.unwrap_or_default(), signature: block.text("signature")? })
                }
                "redacted_thinking" | "reasoning.encrypted" => block.text("data")?.map(Content::RedactedThinking),
                _ => None,
            });
        }
        if !parts.is_empty() {
            break;
        }
    }
    Ok(parts.into_iter().map(Part::from).collect())
}

fn tool_result(message: &mut Fields, dropped: &mut Vec<String>) -> Result<Part, Problem> {
    let id = message.required("tool_call_id")?;
    let output = match message.object.get("content") {
        Some(Json::List(_)) => ToolOutput::Parts(content(message, dropped)?),
        _ => ToolOutput::Text(message.text("content")?.unwrap_or_default()),
    };
    Ok(Content::ToolResult { id, output, is_error: message.flag("is_error")? }.into())
}

/// `content`: a string is one part.
fn content(message: &mut Fields, dropped: &mut Vec<String>) -> Result<Vec<Part>, Problem> {
    if let Some(Json::Text(_)) = message.object.get("content") {
        return Ok(message.text("content")?.map(|text| Content::Text(text).into()).into_iter().collect());
    }
    message.list("content")?.into_iter().map(|part| read_part(part, dropped)).collect()
}

fn read_part(mut part: Fields, dropped: &mut Vec<String>) -> Result<Part, Problem> {
    let content = match part.required("type")?.as_str() {
        "text" => Content::Text(part.required("text")?),
        "refusal" => Content::Text(part.required("refusal")?),
        "image_url" => {
            let mut image = part.object("image_url")?.ok_or_else(|| part.wrong("image_url", "is required"))?;
            let source = image_source(image.required("url")?).ok_or_else(|| image.wrong("url", NOT_A_DATA_URL))?;
            image.close(dropped);
            match source {
                Source::Base64 { ref media_type, .. } if !media_type.starts_with("image/") => {
                    Content::Document { source, title: None }
                }
                _ => Content::Image(source),
            }
        }
        "file" => {
            let mut file = part.object("file")?.ok_or_else(|| part.wrong("file", "is required"))?;
            let document = Content::Document { source: file_source(&mut file)?, title: file.text("filename")? };
            file.close(dropped);
            document
        }
        "input_audio" => {
            part.take("input_audio");
            Content::Audio
        }
        _ => return Err(part.wrong("type", "must be text, image_url, file, input_audio or refusal")),
    };
    let read = Part { content, cache_control: part.take("cache_control") };
    part.close(dropped);
    Ok(read)
}

fn image_source(url: String) -> Option<Source> {
    if url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) { data_url(&url) } else { Some(Source::Url(url)) }
}

fn file_source(file: &mut Fields) -> Result<Source, Problem> {
    let Some(data) = file.text("file_data")? else {
        let id = file.text("file_id")?.ok_or_else(|| file.wrong("file_data", "either file_data or file_id is required"))?;
        return Ok(Source::FileId(id));
    };
    if data.starts_with("data:") {
        return data_url(&data).ok_or_else(|| file.wrong("file_data", NOT_A_DATA_URL));
    }
    // Bare base64, as some clients send it: a PDF is what nearly all of them mean.
    Ok(Source::Base64 { media_type: "application/pdf".into(), data })
}

/// `data:<type>[;parameter…];base64,<data>`
fn data_url(url: &str) -> Option<Source> {
    let (kind, data) = url.get(5..)?.split_once(',')?;
    let kind = kind.strip_suffix(";base64")?;
    let media_type = kind.split(';').next().filter(|media_type| media_type.contains('/'))?.to_ascii_lowercase();
    Some(Source::Base64 { media_type, data: data.to_owned() })
}

const NOT_A_DATA_URL: &str = "must be a URL, or a data URL in base64 with a media type";

/// An object whose fields are taken one after the other, and where it stands.
struct Fields {
    object: Object,
    path: String,
}

impl Fields {
    fn open(value: Json, path: String) -> Result<Fields, Problem> {
        match value {
            Json::Object(object) => Ok(Fields { object, path }),
            _ => Err(problem(path, "must be an object")),
        }
    }

    /// What was not taken could not be carried.
    fn close(self, dropped: &mut Vec<String>) {
        for (name, value) in self.object.iter() {
            if !matches!(value, Json::Null) {
                let short: String = name.chars().take(MAX_NAME).collect();
                note_dropped(dropped, &without_numbers(&join(&self.path, &short)));
            }
        }
    }

    fn wrong(&self, name: &str, how: &str) -> Problem {
        problem(join(&self.path, name), how)
    }

    /// `null` is as good as absent.
    fn take(&mut self, name: &str) -> Option<Json> {
        self.object.take(name).filter(|value| !matches!(value, Json::Null))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be a string")),
        }
    }

    fn required(&mut self, name: &str) -> Result<String, Problem> {
        self.text(name)?.ok_or_else(|| self.wrong(name, "is required"))
    }

    fn number(&mut self, name: &str) -> Result<Option<f64>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::Number(number)) => Ok(number.as_f64()),
            Some(_) => Err(self.wrong(name, "must be a number")),
        }
    }

    fn count(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value.as_u64().map(Some).ok_or_else(|| self.wrong(name, "must be a whole number, not negative"))
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    fn object(&mut self, name: &str) -> Result<Option<Fields>, Problem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        Fields::open(value, join(&self.path, name)).map(Some)
    }

    /// The entries of a list, each with its path.
    fn values(&mut self, name: &str) -> Result<Vec<(String, Json)>, Problem> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Json::List(items)) => {
                let path = join(&self.path, name);
                Ok(items.into_iter().enumerate().map(|(at, item)| (format!("{path}[{at}]"), item)).collect())
            }
            Some(_) => Err(self.wrong(name, "must be an array")),
        }
    }

    fn list(&mut self, name: &str) -> Result<Vec<Fields>, Problem> {
        self.values(name)?.into_iter().map(|(path, item)| Fields::open(item, path)).collect()
    }

    fn required_list(&mut self, name: &str) -> Result<Vec<Fields>, Problem> {
        let list = self.list(name)?;
        if list.is_empty() { Err(self.wrong(name, "is required, and must not be empty")) } else { Ok(list) }
    }
}

fn problem(path: String, how: impl Into<String>) -> Problem {
    Problem { path, message: how.into() }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// `messages[3].name` as `messages[].name`: a name for a span, of which there are few. Our own paths hold no other digits.
fn without_numbers(path: &str) -> String {
    let mut inside = false;
    path.chars()
        .filter(|&c| {
            inside = (inside || c == '[') && c != ']';
            !inside || c == '['
        })
        .collect()
}

/// Longer field names are cut in the list of dropped ones; nobody's API has one.
const MAX_NAME: usize = 64;

#[cfg(test)]
mod tests;
