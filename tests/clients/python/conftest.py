"""The two libraries as their users hold them, and what the gateway and the upstream saw of it."""

import inspect
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any, Callable

import openai
import portkey_ai
import pytest
from portkey_ai import createHeaders
from portkey_ai._vendor import openai as portkey_errors

WORLD = SimpleNamespace(**json.loads(os.environ["SPANGATE_WORLD"]))
PATIENCE = 20.0
QUESTION = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": 'Grüße aus 東京 🗼, said "she" \\ twice'}]}
TEXT = QUESTION["messages"][0]["content"]
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}
    for name, properties in [("get_weather", {"city": {"type": "string"}}), ("get_time", {})]
]


@dataclass
class Library:
    """`connect` takes Portkey's own options; per call, they go through `asked`."""

    name: str
    errors: ModuleType
    connect: Callable[..., Any]
    #: The same client with other options for the calls that follow.
    given: Callable[..., Any]
    #: Makes the call and returns its answer and the gateway's response headers.
    with_headers: Callable[..., Any]


def connect_openai(gateway_key=WORLD.adminKey, provider_key="sk-upstream", base_url=WORLD.gateway, max_retries=0, kind=openai.OpenAI, **options):
    settings = {"timeout": options.pop("timeout")} if "timeout" in options else {}
    headers = createHeaders(api_key=gateway_key, **options)
    return kind(api_key=provider_key, base_url=base_url, max_retries=max_retries, default_headers=headers, **settings)


def connect_portkey(gateway_key=WORLD.adminKey, provider_key="sk-upstream", base_url=WORLD.gateway, max_retries=1, kind=portkey_ai.Portkey, **options):
    """Its retries cannot be set; timeouts go with the call."""
    options |= {"Authorization": provider_key} if provider_key else {}
    return kind(api_key=gateway_key, base_url=base_url, **options)


def openai_with_headers(create, **body):
    raw = create.__self__.with_raw_response.create(**body)
    return raw.parse(), dict(raw.headers)


def portkey_with_headers(create, **body):
    answer = create(**body)
    return answer, {f"x-portkey-{name}": value for name, value in answer.get_headers().items()}


LIBRARIES = [
    Library("openai", openai, connect_openai, lambda client, **options: client.with_options(default_headers=createHeaders(**options)), openai_with_headers),
    Library("portkey", portkey_errors, connect_portkey, lambda client, **options: client.with_options(**options), portkey_with_headers),
]


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.name)
def library(request):
    return request.param


class Scene:
    """An upstream of its own that plays `scenarios` one after the other, the last one for ever; and a trace of its own."""

    def __init__(self, *scenarios: str):
        self.key = str(uuid.uuid4())
        self.trace_id = f"python-{self.key}"
        self.base = fetch(WORLD.control, {"key": self.key, "scenarios": scenarios})["base"]
        self.provider = "anthropic" if scenarios[0].startswith("anthropic") else "openai"
        #: Sends the client's calls there.
        self.options = {"provider": self.provider, "custom_host": self.base, "trace_id": self.trace_id}

    def requests(self):
        return arrived(self.key)

    def recorded(self, calls=1):
        return recorded(self.trace_id, calls)

    def recorded_as(self, status="ok", code=200, error=None, message="", calls=1, attempts=None, upstream_code=None, **more):
        """`calls` calls with one attempt each, all of this kind; `error` is the type, `message` a part of it."""
        found = self.recorded(calls)
        assert found.trace["status"] == status
        assert (len(found.calls), len(found.attempts)) == (calls, calls if attempts is None else attempts)
        for span in found.calls + found.attempts:
            answered = code
            if span["kind"] == "attempt":
                answered = None if error in ("connect", "timeout") else upstream_code or code
            shows(span, {"status": status, "status_code": answered, **more})
            assert (span["error"] or {}).get("type") == error
            assert message in ((span["error"] or {}).get("message") or "")
        ids = [span["span_id"] for span in found.calls]
        assert all(span["parent_span_id"] in ids for span in found.attempts)
        return found


def arrived(key):
    return fetch(f"{WORLD.control}/{key}")


def recorded(trace_id, calls=1, base=WORLD.gateway):
    """The trace once it holds `calls` calls: its summary, its request spans and attempts in order, and the log of a span."""

    def get(path):
        return fetch(base + path, headers={"x-portkey-api-key": WORLD.adminKey})

    deadline = time.monotonic() + PATIENCE
    while True:
        trace = get(f"/traces/{urllib.parse.quote(trace_id, safe='')}")
        if (trace or {}).get("request_count", 0) >= calls:
            return SimpleNamespace(
                trace=trace,
                calls=[span for span in trace["spans"] if span["kind"] == "request"],
                attempts=[span for span in trace["spans"] if span["kind"] == "attempt"],
                log=lambda span: get(f"/logs/{urllib.parse.quote(span['log_id'], safe='')}"),
            )
        assert time.monotonic() < deadline, f"trace {trace_id} has not {calls} call(s): {trace}"
        time.sleep(0.05)


def fetch(url, body=None, headers={}):
    """The JSON behind a URL; nothing where there is nothing."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=PATIENCE) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise AssertionError(f"{url} answered {error.code}: {error.read()!r}") from error


def shows(actual, expected):
    """`actual` has everything that `expected` has, compared member by member."""
    for name, value in expected.items():
        found = actual.get(name)
        if isinstance(value, dict) and isinstance(found, dict):
            shows(found, value)
        else:
            assert found == value, f"{name} of {actual}"


class Told:
    """What a stream said: its text, its tool calls, its usage and every chunk."""

    def __init__(self):
        self.chunks, self.text, self.tools, self.usage, self.finish = [], "", {}, None, None

    def hear(self, chunk):
        self.chunks.append(chunk)
        self.usage = getattr(chunk, "usage", None) or self.usage
        for choice in chunk.choices or []:
            self.text += choice.delta.content or ""
            self.finish = choice.finish_reason or self.finish
            for call in choice.delta.tool_calls or []:
                known = self.tools.setdefault(call.index, {"id": call.id, "type": call.type, "function": {"name": call.function.name, "arguments": ""}})
                known["function"]["arguments"] += call.function.arguments or ""


def read(stream):
    told = Told()
    for chunk in stream:
        told.hear(chunk)
    return told


async def read_async(stream):
    if inspect.isawaitable(stream):
        stream = await stream
    told = Told()
    async for chunk in stream:
        told.hear(chunk)
    return told


def read_broken(stream, error):
    """Reads a stream that breaks with an `error`: what was said before, and what was raised."""
    said = Told()
    with pytest.raises(error) as raised:
        for chunk in stream:
            said.hear(chunk)
    return said.text, raised.value


def plain(answer):
    """A model object of any of the libraries as plain data."""
    return answer if isinstance(answer, dict) else json.loads(answer.model_dump_json())
