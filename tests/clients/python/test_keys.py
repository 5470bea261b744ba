"""Which key goes where (protocol §1.10; checklist 31-37, 138-140): to the upstream the provider's, to nobody the gateway's."""

import json
import re
import uuid

import openai
import portkey_ai
import pytest
from conftest import QUESTION, WORLD, Scene, arrived, read, recorded, shows


@pytest.fixture
def marked():
    """A question that can be found again among all that reached OpenAI's host."""
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"ping {uuid.uuid4()}"}]}


def arrived_for(body):
    mark = body["messages"][0]["content"]
    return [request for request in arrived(WORLD.openaiHost) if mark in json.dumps(request["body"])]


def only_the_providers(request, key):
    """Whatever else went along, nothing of the gateway's did."""
    assert request["headers"]["authorization"] == f"Bearer {key}"
    assert [name for name in request["headers"] if re.match("x-(portkey|stainless)-|traceparent$", name)] == []
    assert WORLD.adminKey not in json.dumps(request)


@pytest.fixture
def mlflow_style():
    return openai.OpenAI(base_url=WORLD.deployed, api_key=WORLD.adminKey, max_retries=0, default_headers={"x-portkey-provider": "openai"})


def test_the_gateway_key_alone_is_enough_as_mlflow_sends_it(mlflow_style, marked):
    raw = mlflow_style.chat.completions.with_raw_response.create(**marked)
    assert raw.parse().choices[0].message.content == marked["messages"][0]["content"]
    only_the_providers(arrived_for(marked)[0], WORLD.deploymentKey)
    found = recorded(raw.headers["x-portkey-trace-id"], base=WORLD.deployed)
    shows(found.trace, {"status": "ok", "attempt_count": 1})
    assert WORLD.deploymentKey not in json.dumps(found.trace)


def test_the_gateway_key_alone_is_enough_for_a_stream(mlflow_style, marked):
    raw = mlflow_style.chat.completions.with_raw_response.create(**marked, stream=True, stream_options={"include_usage": True})
    told = read(raw.parse())
    assert told.text == marked["messages"][0]["content"]
    assert told.usage.total_tokens == 1200
    only_the_providers(arrived_for(marked)[0], WORLD.deploymentKey)
    found = recorded(raw.headers["x-portkey-trace-id"], base=WORLD.deployed)
    shows(found.calls[0], {"status": "ok", "stream": True})


def test_openai_finds_key_and_url_in_the_environment(monkeypatch, marked):
    monkeypatch.setenv("OPENAI_API_KEY", WORLD.adminKey)
    monkeypatch.setenv("OPENAI_BASE_URL", WORLD.deployed)
    openai.OpenAI(default_headers={"x-portkey-provider": "openai"}).chat.completions.create(**marked)
    only_the_providers(arrived_for(marked)[0], WORLD.deploymentKey)


def test_the_callers_provider_key_reaches_the_upstream_and_nothing_of_ours(library):
    at = Scene("openai")
    library.connect(**at.options, metadata={"a": "b"}).chat.completions.create(**QUESTION)
    only_the_providers(at.requests()[0], "sk-upstream")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_placeholder_that_portkey_sends_gives_way_to_the_deployments_key(marked, stream):
    sent = []
    client = portkey_ai.Portkey(api_key=WORLD.adminKey, base_url=WORLD.deployed, provider="openai")
    client.openai_client._client.event_hooks["request"].append(sent.append)
    answer = client.chat.completions.create(**marked, stream=stream)
    if stream:
        read(answer)
    assert sent[0].headers["authorization"] == "Bearer OPENAI_API_KEY"
    only_the_providers(arrived_for(marked)[0], WORLD.deploymentKey)


def test_a_key_in_the_config_wins():
    at = Scene("openai")
    config = {"provider": "openai", "custom_host": at.base, "api_key": "sk-config"}
    portkey_ai.Portkey(api_key=WORLD.adminKey, base_url=WORLD.gateway, Authorization="sk-header", config=config).chat.completions.create(**QUESTION)
    only_the_providers(at.requests()[0], "sk-config")


def test_portkey_finds_key_and_url_in_the_environment(monkeypatch, marked):
    monkeypatch.setenv("PORTKEY_API_KEY", WORLD.adminKey)
    monkeypatch.setenv("PORTKEY_PROXY", WORLD.deployed)
    portkey_ai.Portkey(provider="openai").chat.completions.create(**marked)
    only_the_providers(arrived_for(marked)[0], WORLD.deploymentKey)
