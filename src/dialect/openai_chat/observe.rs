//! What an answer says about itself, read from a copy after the bytes have passed.
//!
//! Tolerant throughout: a field that is missing or of the wrong type is absent, and no answer is ever refused. Finish
//! reasons are told in the provider's words; naming them alike is for those who show them. Usage is normalised here,
//! because the numbers themselves show how they were counted. A stream's end is judged by its bytes alone: how the
//! connection closed, and whether a provider is known to leave out `[DONE]`, is for the caller to add.

use super::assemble::Assembly;
use super::error::{error_message, in_band_error};
use crate::llm::observed::{Observed, ObservedStream, StreamEnd};
use crate::llm::usage::Usage;
use crate::wire::splice::{self, Object};
use crate::wire::sse::{Decoder, Event, LineTooLong, lossy};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Looks at a non-streaming chat or embeddings answer.
pub fn answer(body: &[u8]) -> Observed {
    let text = lossy(body);
    Object::parse_text(&text).map(|answer| of(&answer)).unwrap_or_default()
}

/// As [`answer`], at an answer that has been read.
pub fn of(answer: &Object<'_>) -> Observed {
    let choices: Vec<Choice<'_>> = answer.get("choices").and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default();
    Observed {
        model: filled(answer, "model"),
        response_id: filled(answer, "id"),
        finish_reasons: choices.iter().filter_map(|choice| owned(choice.finish_reason?.get())).collect(),
        usage: answer.get("usage").map(usage).unwrap_or_default(),
        service_tier: filled(answer, "service_tier"),
    }
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

/// Normalises a `usage` object as it is written; what is not a whole number that a count can be is unknown.
pub(super) fn usage(written: &str) -> Usage {
    let Ok(usage) = Object::parse_text(written) else { return Usage::default() };
    let details = |key| usage.get(key).and_then(|details| Object::parse_text(details).ok());
    let (input, output) = (details("prompt_tokens_details"), details("completion_tokens_details"));
    let count = |object: &Object<'_>, key| object.get(key)?.parse().ok();
    let part = |object: &Option<Object<'_>>, key| count(object.as_ref()?, key);
    let (prompt, completion) = (count(&usage, "prompt_tokens"), count(&usage, "completion_tokens"));
    let reasoning = part(&output, "reasoning_tokens");
    // Some upstreams (x-ai) count reasoning beside the completion; their total gives them away.
    let all = [prompt, completion, reasoning].into_iter().try_fold(0, |sum: u64, count| sum.checked_add(count?));
    let beside = all.is_some() && all == count(&usage, "total_tokens");
    Usage {
        input: prompt,
        output: if beside { completion.zip(reasoning).map(|(text, thought)| text + thought) } else { completion },
        cache_read: part(&input, "cached_tokens").or_else(|| count(&usage, "prompt_cache_hit_tokens")),
        cache_write: part(&input, "cache_write_tokens"),
        cache_write_1h: None,
        reasoning,
        audio_input: part(&input, "audio_tokens"),
        audio_output: part(&output, "audio_tokens"),
    }
}

/// Looks at a stream of chat completion chunks, in whatever pieces it arrives.
#[derive(Debug, Default)]
pub struct StreamObserver {
    decoder: Decoder,
    seen: Seen,
}

/// What the events so far amount to. Once `end` is set, later events change nothing.
#[derive(Debug, Default)]
struct Seen {
    assembly: Assembly,
    end: Option<StreamEnd>,
}

/// Looks at a whole stream at once.
pub fn stream(bytes: &[u8]) -> ObservedStream {
    let mut observer = StreamObserver::default();
    observer.push(bytes);
    observer.finish()
}

impl StreamObserver {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        let Self { decoder, seen } = self;
        if seen.end.is_none() && decoder.push(bytes, |event| seen.event(&event)) == Err(LineTooLong) {
            seen.end.get_or_insert(StreamEnd::Malformed("a line is longer than 1 MiB".to_owned()));
        }
    }

    /// Whether there were choices and every one of them has its finish reason: for providers that leave out `[DONE]`.
    pub fn saw_finish(&self) -> bool {
        self.seen.assembly.all_finished()
    }

    /// Whether anything that a model said has arrived: text, reasoning, a refusal or a tool call.
    pub fn first_token_seen(&self) -> bool {
        self.seen.assembly.has_output()
    }

    /// Judges the stream, whose bytes are at an end.
    pub fn finish(mut self) -> ObservedStream {
        if self.seen.end.is_none() {
            // Some close right behind `[DONE]`, without the blank line; anything else that is cut off is not looked at.
            let mut rest = None;
            let _ = self.decoder.push(b"\n\n", |event| rest = Some(event));
            self.seen.end = rest.filter(is_done).map(|_| StreamEnd::Complete);
        }
        ObservedStream {
            observed: self.seen.assembly.observed(),
            end: self.seen.end.unwrap_or(StreamEnd::Truncated),
            assembled: self.seen.assembly.answer(),
        }
    }
}

impl Seen {
    fn event(&mut self, event: &Event) {
        // The standard does not even dispatch an event without data.
        if self.end.is_some() || event.data.is_empty() {
            return;
        }
        if is_done(event) {
            self.end = Some(StreamEnd::Complete);
            return;
        }
        let chunk = Object::parse_text(&event.data);
        if let Ok(chunk) = &chunk {
            self.assembly.add(chunk);
        }
        if event.name == "error" || chunk.as_ref().is_ok_and(in_band_error) {
            let message = error_message(event.data.as_bytes()).unwrap_or_else(|| UNNAMED_ERROR.to_owned());
            self.end = Some(StreamEnd::Failed(message));
        } else if let Err(error) = chunk {
            self.end = Some(StreamEnd::Malformed(format!("the data of an event is no chunk: {error}")));
        }
    }
}

fn is_done(event: &Event) -> bool {
    event.data.trim_ascii() == "[DONE]"
}

/// Whether the last bytes of a stream (64 are plenty) hold the line `data: [DONE]`.
pub fn is_terminated(tail: &[u8]) -> bool {
    tail.split(|byte| matches!(byte, b'\n' | b'\r'))
        .filter_map(|line| line.strip_prefix(b"data:"))
        .any(|data| data.trim_ascii() == b"[DONE]")
}

fn filled(object: &Object<'_>, key: &str) -> Option<String> {
    owned(object.get(key)?)
}

/// The text of a JSON string, unless it is empty.
pub(super) fn owned(value: &str) -> Option<String> {
    splice::text(value).filter(|text| !text.is_empty()).map(|text| text.into_owned())
}

const UNNAMED_ERROR: &str = "the provider reported an error and did not say which";

/// Whole streams are in `tests/openai_chat.rs`.
#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &[u8] =
        br#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-2024","service_tier":"flex",
        "choices":[{"index":0,"message":{"role":"assistant","content":"h\u00e9"},"finish_reason":"stop"},
                   {"index":1,"message":{"role":"assistant","content":""},"finish_reason":"length"}],
        "usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,
                 "prompt_tokens_details":{"cached_tokens":5,"cache_write_tokens":2,"audio_tokens":1},
                 "completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":4}}}"#;

    #[test]
    fn a_chat_answer_tells_its_facts() {
        let usage = Usage {
            input: Some(19),
            output: Some(10),
            cache_read: Some(5),
            cache_write: Some(2),
            cache_write_1h: None,
            reasoning: Some(0),
            audio_input: Some(1),
            audio_output: Some(4),
        };
        let expected = Observed {
            model: Some("gpt-4o-2024".into()),
            response_id: Some("chatcmpl-1".into()),
            finish_reasons: vec!["stop".into(), "length".into()],
            usage,
            service_tier: Some("flex".into()),
        };
        assert_eq!(answer(CHAT), expected);
    }

    #[test]
    fn an_embeddings_answer_has_input_only() {
        let seen =
            answer(br#"{"object":"list","data":[{"embedding":[0.1]}],"model":"e","usage":{"prompt_tokens":8,"total_tokens":8}}"#);
        assert_eq!(
            seen,
            Observed { model: Some("e".into()), usage: Usage { input: Some(8), ..Usage::default() }, ..Observed::default() }
        );
    }

    #[test]
    fn what_is_not_understood_is_absent() {
        let absent = [
            "",
            "<html>",
            "[1]",
            "{\"model\":\"x\"",
            "{}",
            r#"{"id":7,"model":["x"],"choices":5,"usage":"none","service_tier":null}"#,
            r#"{"id":"","choices":[5]}"#,
            r#"{"choices":[{"finish_reason":null},{"finish_reason":3},{}],"usage":{"prompt_tokens":null,"completion_tokens":1.5,"prompt_cache_hit_tokens":-1}}"#,
            r#"{"usage":{"prompt_tokens":"5","prompt_tokens_details":[],"completion_tokens_details":{"reasoning_tokens":99999999999999999999}}}"#,
        ];
        for body in absent {
            assert_eq!(answer(body.as_bytes()), Observed::default(), "{body}");
        }
        assert_eq!(answer(b"{\"x\":\"\xff\",\"model\":\"m\"}").model.as_deref(), Some("m"));
    }

    #[test]
    fn usage_is_normalised() {
        let cases = [
            (r#"{"prompt_tokens":20,"completion_tokens":30,"prompt_cache_hit_tokens":16}"#, (20, 30, Some(16))),
            (
                r#"{"prompt_tokens":20,"completion_tokens":30,"prompt_tokens_details":{"cached_tokens":1},"prompt_cache_hit_tokens":16}"#,
                (20, 30, Some(1)),
            ),
            (
                r#"{"prompt_tokens":20,"completion_tokens":30,"total_tokens":50,"completion_tokens_details":{"reasoning_tokens":12}}"#,
                (20, 30, None),
            ),
            (
                r#"{"prompt_tokens":20,"completion_tokens":30,"total_tokens":62,"completion_tokens_details":{"reasoning_tokens":12}}"#,
                (20, 42, None),
            ),
        ];
        for (written, (input, output, cache_read)) in cases {
            let seen = usage(written);
            assert_eq!((seen.input, seen.output, seen.cache_read), (Some(input), Some(output), cache_read), "{written}");
        }
    }

    #[test]
    fn a_role_is_no_token() {
        let pieces = [
            (": ping\n\n", false),
            ("data: {\"choices\":[]}\n\n", false),
            ("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n", false),
            ("data: {\"choices\":[{\"delta\":{\"reasoning\":\"h\"}}]}\n", false),
            ("\n", true),
        ];
        let mut observer = StreamObserver::default();
        for (piece, seen) in pieces {
            observer.push(piece.as_bytes());
            assert_eq!(observer.first_token_seen(), seen, "{piece}");
        }
    }

    #[test]
    fn odd_types_in_a_chunk_break_nothing() {
        let seen = stream(
            b"data: {\"id\":7,\"model\":[\"x\"],\"choices\":[{\"index\":\"0\",\"delta\":\"x\",\"finish_reason\":3},5,{\"index\":-1,\"delta\":{\"content\":\"a\",\"role\":5,\"l\":[ ],\"tool_calls\":[7,{\"index\":0,\"function\":\"f\"}]}}],\"usage\":{\"prompt_tokens\":1.5}}\n\n\
              data: {\"choices\":{}}\n\ndata: {\"choices\":null,\"usage\":5}\n\ndata: {\"foo\":1}\n\ndata:\n\ndata: [DONE]\n\n",
        );
        assert_eq!((seen.end, seen.observed), (StreamEnd::Complete, Observed::default()));
        let assembled: serde_json::Value = serde_json::from_str(&seen.assembled.unwrap()).unwrap();
        assert_eq!(assembled["choices"][1]["message"]["content"], "a");
    }

    #[test]
    fn each_field_is_assembled_once() {
        let seen = stream(
            b"data: {\"id\":\"i\",\"choices\":[{\"delta\":{\"l\":[1]},\"f\":{\"n\":1}}]}\n\n\
              data: {\"id\":\"j\",\"choices\":[{\"delta\":{\"l\":[ ]},\"f\":{\"n\":2}}]}\n\n",
        );
        let message = r#"{"role":"assistant","content":"","l":[1]}"#;
        let choices = format!(r#"[{{"index":0,"message":{message},"finish_reason":null,"f":{{"n":2}}}}]"#);
        assert_eq!(seen.assembled, Some(format!(r#"{{"id":"i","object":"chat.completion","choices":{choices}}}"#)));
    }

    /// A stream made to cost: the work stays in proportion to its length.
    #[test]
    fn an_endless_supply_of_names_is_not_kept() {
        let fields: String = (0..20_000).map(|n| format!("\"k{n}\":1,")).collect();
        let choices: String = (0..20_000).map(|n| format!("{{\"index\":{}}},", 20_000 - n)).collect();
        let event = format!("data: {{{fields}\"choices\":[{choices}{{\"delta\":{{{fields}\"content\":\"x\"}}}}]}}\n\n");
        assert!(stream(event.as_bytes()).assembled.unwrap().len() < 20_000);
        assert_eq!(stream(&vec![b'x'; 2 << 20]).end, StreamEnd::Malformed("a line is longer than 1 MiB".into()));
    }

    #[test]
    fn the_tail_shows_the_terminator() {
        for tail in [
            "data: [DONE]",
            "data: [DONE]\n\n",
            "data:[DONE]\r\n\r\n",
            "}\r\rdata:  [DONE] \r\r",
            "\n\ndata: [DONE]\n\n: bye\n\n",
        ] {
            assert!(is_terminated(tail.as_bytes()), "{tail:?}");
        }
        for tail in ["", "data: [DON", "data: {}\n\n", "data: \"[DONE]\"", "x data: [DONE]\n\n", "data: [DONE]\"}\n\n"] {
            assert!(!is_terminated(tail.as_bytes()), "{tail:?}");
        }
    }
}
