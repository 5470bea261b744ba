"""What fails, and how a user of the library learns of it (protocol §2.6, §2.11, §6.3; checklist 35, 53)."""

import pytest
from conftest import QUESTION, WORLD, Scene, read_broken, shows

CLASSES = {
    400: ("BadRequestError", "maximum context length"),
    401: ("AuthenticationError", "Incorrect API key provided"),
    403: ("PermissionDeniedError", "territory not supported"),
    404: ("NotFoundError", "does not exist"),
    409: ("ConflictError", "updated by another request"),
    422: ("UnprocessableEntityError", "could not be processed"),
    429: ("RateLimitError", "Rate limit reached"),
    500: ("InternalServerError", "had an error while processing"),
    503: ("InternalServerError", "currently overloaded"),
}


def raised(library, kind, *parts, body=QUESTION, per_call={}, **options):
    """What the call raises: an error of this kind that says all these parts."""
    with pytest.raises(getattr(library.errors, kind)) as caught:
        library.connect(**options).chat.completions.create(**body, **per_call)
    for part in parts:
        assert part in str(caught.value)
    return caught.value


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", CLASSES)
def test_an_error_of_the_upstream_has_its_class(library, status, stream):
    kind, message = CLASSES[status]
    at = Scene(f"openai-{status}")
    error = raised(library, kind, message, body={**QUESTION, "stream": stream}, **at.options)
    assert error.status_code == status
    assert len(at.requests()) == 1
    at.recorded_as(status="error", code=status, error="http_status", message=message)


# 529 is Anthropic's own; in OpenAI's language it is 503.
@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [(429, 429, "RateLimitError", "Too many requests for your plan"), (529, 503, "InternalServerError", "Overloaded")],
)
def test_an_error_of_anthropic_has_its_class(library, status, code, kind, message):
    at = Scene(f"anthropic-{status}")
    assert raised(library, kind, message, **at.options).status_code == code
    at.recorded_as(status="error", code=code, upstream_code=status, error="http_status", message=message)


def test_a_wrong_gateway_key_is_an_authentication_error_that_says_which_key(library):
    at = Scene("openai")
    raised(library, "AuthenticationError", "gateway key", **at.options, gateway_key="wrong")
    assert at.requests() == []


def test_an_invalid_config_is_a_bad_request_that_says_where(library):
    at = Scene("openai")
    config = {"strategy": {"mode": "random"}, "targets": [{"provider": "openai", "custom_host": at.base, "weight": "heavy"}]}
    raised(library, "BadRequestError", "strategy.mode", **at.options, config=config)
    assert at.requests() == []
    at.recorded_as(status="error", code=400, error="config", attempts=0)


def test_an_unknown_provider_is_a_bad_request_that_names_it(library):
    at = Scene("openai")
    raised(library, "BadRequestError", "openia", **{**at.options, "provider": "openia"})
    at.recorded_as(status="error", code=400, error="config", attempts=0)


def test_an_upstream_that_is_too_slow_is_a_408_that_says_how_long(library):
    at = Scene("silent")
    error = raised(library, "APIStatusError", "300 ms", **at.options, request_timeout=300)
    assert error.status_code == 408
    at.recorded_as(status="error", code=408, error="timeout")


def test_an_upstream_that_is_not_there_is_an_internal_server_error(library):
    at = Scene("openai")
    raised(library, "InternalServerError", "could not be reached", **{**at.options, "custom_host": WORLD.refusing})
    at.recorded_as(status="error", code=503, error="connect")


def test_a_caller_who_does_not_wait_is_told_so_and_every_try_is_recorded_once(library):
    at = Scene("openai-slow")
    raised(library, "APITimeoutError", per_call={"timeout": 0.3}, **at.options)
    tries = {"openai": 1, "portkey": 2}[library.name]
    # Workerd on its own does not tell that a caller left who was not being written to; the platform does.
    found = at.recorded(tries)
    assert len(found.calls) == len(found.attempts) == len(at.requests()) == tries
    assert {span["status"] for span in found.calls} <= {"cancelled", "ok"}


def test_a_caller_who_stops_reading_lets_the_upstream_go_and_is_recorded_as_gone(library):
    at = Scene("openai-long")
    stream = library.connect(**at.options).chat.completions.create(**QUESTION, stream=True)
    for _ in zip(range(5), stream):
        pass
    stream.close()
    found = at.recorded()
    assert (len(found.calls), len(found.attempts)) == (1, 1)
    for span in found.calls + found.attempts:
        shows(span, {"status": "cancelled", "error": {"type": "client_disconnected"}})
    assert at.requests()[0]["abandoned"]


def test_a_body_that_breaks_off_is_an_error(library):
    at = Scene("openai-body-cut")
    raised(library, "APIError", **at.options)
    found = at.recorded()
    assert found.trace["status"] == "error"
    assert found.calls[0]["error"]["type"]


@pytest.mark.parametrize(
    ("scenario", "type"),
    [("openai-cut", "stream_truncated"), ("openai-no-done", "stream_truncated"), ("openai-error-event", None), ("anthropic-cut", "stream_truncated")],
)
def test_a_stream_that_breaks_raises_after_what_was_said(library, scenario, type):
    at = Scene(scenario)
    stream = library.connect(**at.options).chat.completions.create(**QUESTION, stream=True)
    text, error = read_broken(stream, library.errors.APIError)
    assert len(text) > 3 and "one two ".startswith(text)
    found = at.recorded()
    assert found.trace["status"] == "error"
    for span in (found.calls[0], found.attempts[0]):
        assert span["status"] == "error"
        assert type in (None, span["error"]["type"])
    # A reader of the log learns what the caller was told.
    told, kept = str(error), found.calls[0]["error"]["message"]
    assert told in kept or kept in told
