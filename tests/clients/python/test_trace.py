"""Trace ids, spans and metadata, from a library's option to the stored trace (protocol §1.2, §1.5, §1.9; checklist 1, 2)."""

from conftest import QUESTION, Scene, read, recorded, shows


def test_what_a_client_is_given_is_on_its_call(library):
    at = Scene("openai")
    client = library.connect(**at.options, span_id="plan", span_name="Plan the trip", parent_span_id="agent", metadata={"_user": "zoe", "team": "maps"})
    _, headers = library.with_headers(client.chat.completions.create, **QUESTION)
    shows(headers, {"x-portkey-trace-id": at.trace_id})
    found = at.recorded()
    assert found.trace["trace_id"] == at.trace_id
    shows(found.calls[0], {"span_id": "plan", "name": "Plan the trip", "parent_span_id": "agent", "metadata": {"_user": "zoe", "team": "maps"}})


def test_what_with_options_is_given_wins_and_streams_have_it_too(library):
    at = Scene("openai")
    client = library.connect(**{**at.options, "trace_id": f"{at.trace_id}-unused", "metadata": {"team": "maps"}})
    client = library.given(client, trace_id=at.trace_id, span_id="one", metadata={"team": "search"})
    read(client.chat.completions.create(**QUESTION, stream=True))
    shows(at.recorded().calls[0], {"span_id": "one", "stream": True, "metadata": {"team": "search"}})


def test_calls_of_one_client_share_its_trace_and_a_parent_is_found_by_its_id(library):
    at = Scene("openai")
    library.connect(**at.options, span_id="root").chat.completions.create(**QUESTION)
    leaf = library.connect(**at.options, span_id="leaf", parent_span_id="root")
    leaf.embeddings.create(model="text-embedding-3-small", input="x", encoding_format="float")
    found = at.recorded(2)
    shows(found.trace, {"request_count": 2, "span_count": 4})
    assert [(span["span_id"], span["parent_span_id"], span["operation"]) for span in found.calls] == [("root", None, "chat"), ("leaf", "root", "embeddings")]
    assert [span["parent_span_id"] for span in found.attempts] == ["root", "leaf"]


def test_without_a_trace_id_each_call_gets_one_of_its_own(library):
    at = Scene("openai")
    create = library.connect(**{**at.options, "trace_id": None}).chat.completions.create
    ids = [library.with_headers(create, **QUESTION)[1]["x-portkey-trace-id"] for _ in range(2)]
    assert len(set(ids)) == 2
    assert [recorded(id).trace["request_count"] for id in ids] == [1, 1]
