"""Who retries: the gateway when it is told to, the library when it was not, never both (protocol §1.11; checklist 141, 142)."""

import pytest
from conftest import QUESTION, TEXT, Scene, shows

#: What openai does by itself; portkey's own habit cannot be changed.
HABIT = 2


def target(at, **more):
    return {"provider": at.provider, "custom_host": at.base, "api_key": "sk-upstream", **more}


def completions(library, **options):
    return library.connect(max_retries=HABIT, **options).chat.completions


def test_nobody_retries_after_the_gateway_gave_up(library):
    at = Scene("openai-500")
    with pytest.raises(library.errors.InternalServerError):
        completions(library, trace_id=at.trace_id, config=target(at, retry={"attempts": 1})).create(**QUESTION)
    assert len(at.requests()) == 2
    found = at.recorded()
    shows(found.trace, {"request_count": 1, "attempt_count": 2, "status": "error"})
    shows(found.calls[0], {"status": "error", "status_code": 500})
    tries = [(span["attempt"]["index"], span["attempt"]["retry"], span["attempt"]["reason"], span["status_code"]) for span in found.attempts]
    assert tries == [(0, 0, "first", 500), (1, 1, "retry", 500)]
    assert found.attempts[1]["attempt"]["wait_ms"] >= 900


def test_without_a_retry_config_openai_retries_and_portkey_does_not(library):
    at = Scene("openai-500")
    with pytest.raises(library.errors.InternalServerError):
        completions(library, **at.options).create(**QUESTION)
    tries = {"openai": 1 + HABIT, "portkey": 1}[library.name]
    assert len(at.requests()) == tries
    shows(at.recorded(tries).trace, {"request_count": tries, "attempt_count": tries})


def test_a_retry_that_helps_is_seen_in_headers_and_trace_alone(library):
    at = Scene("openai-503", "openai")
    create = completions(library, trace_id=at.trace_id, config=target(at, retry={"attempts": 2})).create
    answer, headers = library.with_headers(create, **QUESTION)
    assert answer.object == "chat.completion"
    shows(headers, {"x-portkey-retry-attempt-count": "1"})
    found = at.recorded()
    shows(found.trace, {"status": "ok", "rescued": True, "attempt_count": 2, "error_count": 1})
    assert [span["status"] for span in found.attempts] == ["error", "ok"]


def test_a_fallback_answers_in_place_of_the_first_target(library):
    bad, good = Scene("openai-429"), Scene("anthropic")
    targets = [target(bad), target(good, override_params={"model": "claude-sonnet-4-5"})]
    create = completions(library, trace_id=good.trace_id, config={"strategy": {"mode": "fallback"}, "targets": targets}).create
    answer, headers = library.with_headers(create, **QUESTION)
    assert answer.choices[0].message.content == TEXT
    shows(headers, {"x-portkey-last-used-option-index": "config.targets[1]", "x-portkey-provider": "anthropic"})
    found = good.recorded()
    shows(found.trace, {"status": "ok", "rescued": True, "request_count": 1})
    assert [(span["provider"], span["attempt"]["target"], span["attempt"]["reason"], span["status_code"]) for span in found.attempts] == [
        ("openai", "config.targets[0]", "first", 429),
        ("anthropic", "config.targets[1]", "fallback", 200),
    ]
