"""Messages and requests are values; a conversation behaves as a tuple that costs O(new content)."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harnessx.canonical import canonical_json, json_line
from harnessx.messages import (
    Conversation,
    Message,
    Meter,
    ModelRequest,
    ModelResponse,
    Part,
    ToolCall,
    ToolSchema,
    Usage,
)

texts = st.text(max_size=6)
leaves = st.none() | st.booleans() | st.integers(2) | texts  # no 0 and 1: Python takes them for booleans
values = st.recursive(leaves, lambda v: st.lists(v, max_size=2), max_leaves=4)
calls = st.builds(ToolCall, texts, texts, st.dictionaries(texts, values, max_size=2), st.none() | texts)
parts = st.lists(st.builds(Part, st.sampled_from(["text", "image"]), texts, texts, texts), max_size=2).map(tuple)
messages = st.builds(
    Message,
    st.sampled_from(["user", "assistant", "tool"]),
    texts | parts,
    st.lists(calls, max_size=2).map(tuple),
    st.none() | texts,
    st.none() | st.dictionaries(texts, values, min_size=1, max_size=1),
)
usages = st.builds(
    Usage, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.none() | st.sampled_from([0.25, 1.0])
)


@given(messages)
def test_a_message_survives_json(message: Message):
    assert Message.from_json(json.loads(json.dumps(message.to_json()))) == message


@given(st.builds(ModelResponse, texts, st.lists(calls, max_size=2).map(tuple), usages, texts, texts, st.none(),
                 st.none() | st.just((1, 2)), st.none() | st.just((-0.5, -1.0))))  # fmt: skip
def test_a_response_survives_json(response: ModelResponse):
    assert ModelResponse.from_json(json.loads(json.dumps(response.to_json()))) == response


@given(st.lists(messages, max_size=6), st.data())
def test_a_conversation_is_a_sequence_whoever_else_grows_from_it(start: list[Message], data: st.DataObject):
    """A model test: any tree of appends, prefixes and tails against plain lists."""
    known: list[tuple[Conversation, list[Message]]] = [(Conversation(start), list(start))]
    for _ in range(data.draw(st.integers(0, 6))):
        conversation, model = data.draw(st.sampled_from(known))
        more = data.draw(st.lists(messages, max_size=2))
        match data.draw(st.sampled_from(["append", "prefix", "tail", "log"])):
            case "append":
                known.append((conversation.append(*more), model + more))
            case "prefix":
                size = data.draw(st.integers(0, 8))
                bare = model[: len(model) - len(conversation.tail)]
                known.append((conversation.prefix(size), bare[:size]))
            case "tail":
                known.append((conversation.with_tail(*more), model[: len(model) - len(conversation.tail)] + more))
            case "log":
                known.append((conversation.log, model[: len(model) - len(conversation.tail)]))
    for conversation, model in known:
        assert list(conversation) == model
        assert list(reversed(conversation)) == model[::-1]
        assert len(conversation) == len(model)
        start_at, stop_at = data.draw(st.integers(-3, 8)), data.draw(st.none() | st.integers(-3, 8))
        step = data.draw(st.sampled_from([1, 2, -1]))
        assert conversation[start_at:stop_at:step] == tuple(model[start_at:stop_at:step])
        assert [conversation[i] for i in range(-len(model), len(model))] == model + model
        assert conversation == Conversation(model)
        assert conversation.digest() == Conversation(model).digest()


@given(st.lists(messages, max_size=4), st.lists(messages, max_size=4))
def test_the_digest_tells_conversations_apart(a: list[Message], b: list[Message]):
    assert (Conversation(a).digest() == Conversation(b).digest()) == (a == b)


@given(st.lists(messages, max_size=5), st.lists(messages, max_size=5))
def test_a_shared_prefix_is_the_longest_one(a: list[Message], b: list[Message]):
    longest = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert Conversation(a).shared_prefix(Conversation(b)) == longest


def test_an_index_outside_is_an_error():
    with pytest.raises(IndexError, match="message 1 of 1"):
        Conversation([Message("user", "hi")])[1]


LOG = Conversation([Message("user", "hi")])
REQUEST = ModelRequest("Be brief.", LOG, (ToolSchema("look"),), "main", {"temperature": 0.0})


@pytest.mark.parametrize(
    "other",
    [
        ModelRequest("Be loud.", LOG, REQUEST.tools, "main", REQUEST.sampling),
        ModelRequest("Be brief.", LOG.append(Message("user", "hi")), REQUEST.tools, "main", REQUEST.sampling),
        ModelRequest("Be brief.", LOG.with_tail(Message("user", "hi")), REQUEST.tools, "main", REQUEST.sampling),
        ModelRequest("Be brief.", LOG, (), "main", REQUEST.sampling),
        ModelRequest("Be brief.", LOG, (ToolSchema("look", "Look."),), "main", REQUEST.sampling),
        ModelRequest("Be brief.", LOG, REQUEST.tools, "judge", REQUEST.sampling),
        ModelRequest("Be brief.", LOG, REQUEST.tools, "main", {"temperature": 1.0}),
        ModelRequest("Be brief.", LOG, REQUEST.tools, "main"),
    ],
)
def test_the_digest_of_a_request_covers_all_that_a_model_sees(other: ModelRequest):
    assert other.digest() != REQUEST.digest()
    again = ModelRequest("Be brief.", Conversation(list(LOG)), (ToolSchema("look"),), "main", {"temperature": 0.0})
    assert again.digest() == REQUEST.digest()


@given(st.lists(usages, max_size=5))
def test_a_meter_reads_the_sum(several: list[Usage]):
    meter = Meter()
    for usage in several:
        meter.add(usage)
    assert meter.total == sum(several, Usage())
    assert meter.tokens == meter.total.total_tokens


def test_a_price_that_is_unknown_is_not_zero():
    assert (Usage() + Usage(1)).cost_usd is None
    assert (Usage(cost_usd=0.5) + Usage(1)).cost_usd == 0.5


def test_json_is_canonical_and_finite():
    assert canonical_json({"b": 1, "a": "ä"}) == '{"a":"ä","b":1}'
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="nested too deeply"):
        canonical_json(circle)
    with pytest.raises(TypeError):
        canonical_json(object())


# --- lines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [{"a": [1, 2.5, None, True]}, {"text": 'quote " tab \t ünïcode ✓'}, {"many": 2**80}, {"nested": {"b": []}}]
)
def test_a_line_of_json_reads_back_as_what_was_written(value):
    line = json_line(value)
    assert b"\n" not in line
    assert json.loads(line) == value


def test_a_line_of_json_knows_no_nan():
    assert json_line([math.nan, -math.inf]) == b"[null,null]"
    assert json_line({"a": [math.nan, 2**70]}) == f'{{"a":[null,{2**70}]}}'.encode()


def test_a_number_as_a_key_is_written_as_text():
    assert json_line({1: "one"}) == b'{"1":"one"}'


@pytest.mark.parametrize(("value", "error"), [({"x": "\ud800"}, ValueError), (Message("user"), TypeError)])
def test_what_no_line_can_hold_is_refused(value, error):
    with pytest.raises(error):
        json_line(value)
