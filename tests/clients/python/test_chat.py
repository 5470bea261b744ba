"""What works: answers, streams, tools, embeddings (protocol §6.1, §6.3)."""

import asyncio
import base64
import json
import struct

import openai
import portkey_ai
import pytest
from conftest import QUESTION, TEXT, TOOLS, Scene, plain, read, read_async, shows

USAGE = {"input_tokens": 1000, "output_tokens": 200}
TOTAL = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}
providers = pytest.mark.parametrize(("provider", "model"), [("openai", "gpt-4o-mini"), ("anthropic", "claude-sonnet-4-5")])


@providers
def test_a_chat_answers(library, provider, model):
    at = Scene(provider)
    question = {**QUESTION, "model": model}
    answer, headers = library.with_headers(library.connect(**at.options).chat.completions.create, **question)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (TEXT, "stop")
    shows(plain(answer.usage), TOTAL)
    shows(headers, {"x-portkey-trace-id": at.trace_id, "x-portkey-provider": provider, "x-portkey-last-used-option-index": "config", "x-portkey-retry-attempt-count": "0"})
    found = at.recorded_as(operation="chat", stream=False, usage=USAGE)
    assert found.trace["providers"] == [provider]
    assert found.trace["cost_usd"] > 0
    attempt = {"index": 0, "retry": 0, "target": "config", "reason": "first"}
    shows(found.attempts[0], {"provider": provider, "request_model": model, "response_model": answer.model, "attempt": attempt})
    log = found.log(found.calls[0])
    shows(log["request"]["body"], question)
    assert log["response"]["body"]["choices"][0]["message"]["content"] == TEXT
    assert len(at.requests()) == 1


@providers
def test_a_stream_arrives_in_pieces_without_a_usage_that_nobody_asked_for(library, provider, model):
    at = Scene(provider)
    told = read(library.connect(**at.options).chat.completions.create(**{**QUESTION, "model": model}, stream=True))
    assert (told.text, told.finish, told.usage) == (TEXT, "stop", None)
    assert len(told.chunks) >= 4
    assert all(chunk.object == "chat.completion.chunk" and len(chunk.choices) == 1 for chunk in told.chunks)
    found = at.recorded_as(operation="chat", stream=True)
    assert found.attempts[0]["time_to_first_token_ms"] >= 0
    assert found.log(found.calls[0])["response"]["body"]["choices"][0]["message"]["content"] == TEXT


@providers
def test_a_stream_ends_in_its_usage_when_it_was_asked_for(library, provider, model):
    at = Scene(provider)
    question = {**QUESTION, "model": model, "stream_options": {"include_usage": True}}
    told = read(library.connect(**at.options).chat.completions.create(**question, stream=True))
    assert told.text == TEXT
    assert told.chunks[-1].choices == []
    shows(plain(told.chunks[-1].usage), TOTAL)
    found = at.recorded_as(stream=True, usage=USAGE)
    assert found.attempts[0]["usage_source"] == "reported"
    assert found.trace["cost_usd"] > 0


@providers
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tools_are_called_and_answered(library, provider, model, stream):
    at = Scene(provider)
    completions = library.connect(**at.options).chat.completions

    def ask(messages):
        answer = completions.create(model=model, messages=messages, tools=TOOLS, stream=stream)
        if stream:
            told = read(answer)
            return list(told.tools.values()), told.text, told.finish
        choice = answer.choices[0]
        return [plain(call) for call in choice.message.tool_calls or []], choice.message.content, choice.finish_reason

    calls, _, finish = ask(QUESTION["messages"])
    assert finish == "tool_calls"
    assert [(call["type"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls] == [
        ("function", "get_weather", {"city": 'Łódź "north"'}),
        ("function", "get_time", {}),
    ]
    ids = [call["id"] for call in calls]
    results = [{"role": "tool", "tool_call_id": id, "content": content} for id, content in zip(ids, ["7 °C", "12:30"])]
    _, text, finish = ask([*QUESTION["messages"], {"role": "assistant", "content": None, "tool_calls": calls}, *results])
    assert (text, finish) == (f"{ids[0]}: 7 °C; {ids[1]}: 12:30", "stop")
    found = at.recorded_as(calls=2, stream=stream)
    message = found.log(found.calls[0])["response"]["body"]["choices"][0]["message"]
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["get_weather", "get_time"]
    assert found.log(found.calls[1])["response"]["body"]["choices"][0]["message"]["content"] == text


def numbers(embedding):
    """portkey asks for base64 and hands it over as it came."""
    return list(struct.unpack("<4f", base64.b64decode(embedding))) if isinstance(embedding, str) else embedding


def test_embeddings_pass_in_the_encoding_that_the_library_chose(library):
    at = Scene("openai")
    answer = library.connect(**at.options).embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert [numbers(row.embedding) for row in answer.data] == [[0.5, -0.25, 1, 0], [0.5, -0.25, 1, 1]]
    [request] = at.requests()
    assert request["path"].endswith("/v1/embeddings")
    assert request["body"]["encoding_format"] == "base64"
    found = at.recorded_as(operation="embeddings", stream=False)
    shows(found.attempts[0], {"request_model": "text-embedding-3-small", "usage": {"input_tokens": 8}})


def test_an_async_client_answers_and_streams(library):
    at = Scene("openai")
    client = library.connect(**at.options, kind={"openai": openai.AsyncOpenAI, "portkey": portkey_ai.AsyncPortkey}[library.name])

    async def both():
        answer = await client.chat.completions.create(**QUESTION)
        told = await read_async(client.chat.completions.create(**QUESTION, stream=True))
        return answer.choices[0].message.content, told.text

    assert asyncio.run(both()) == (TEXT, TEXT)
    assert [call["stream"] for call in at.recorded_as(calls=2).calls] == [False, True]
