"""D4, D5: which tools are offered, what is mended, what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processor_drive import act, answer, before_model, before_tool, bound, every, one, step_start

from harnessx.messages import ToolCall, ToolSchema
from harnessx.processors import ArgumentCoercion, ParseRetry, ToolCallRepair, ToolFilter, ToolPolicy
from harnessx.processors.json_repair import find_object
from harnessx.processors.tools import edit_distance, nearest

ACT = ToolSchema("act", "", {"properties": {"command": {"type": "string"}}, "required": ["command"]})
BOOK = ToolSchema(
    "book",
    "",
    {
        "properties": {
            "seats": {"type": "integer"},
            "price": {"type": "number"},
            "window": {"type": "boolean"},
            "names": {"type": "array"},
            "meal": {"type": "object"},
            "note": {"type": "string"},
        },
        "required": ["seats", "names"],
    },
)


async def test_filter_offers_what_is_allowed_and_not_denied():
    event = step_start(tools=("act", "commands", "look"))
    assert (await one(bound(ToolFilter(deny=["commands"])), event)).tools == ("act", "look")
    assert (await one(bound(ToolFilter(allow=["act", "look"], deny=["look"])), event)).tools == ("act",)
    assert await one(bound(ToolFilter(deny=["other"])), event) is event


@pytest.mark.parametrize(
    ("raw", "arguments"),
    [
        ('{"command": "go"}', {"command": "go"}),
        ('```json\n{"command": "go"}\n```', {"command": "go"}),
        ("{'command': 'it\\'s', 'n': None}", {"command": "it's", "n": None}),
        ('{"command": "go", "list": [1, 2,],}', {"command": "go", "list": [1, 2]}),
        ('{"command": "go', {"command": "go"}),
        ('{"a": {"b": [1, 2', {"a": {"b": [1, 2]}}),
        ('```json\n{"command": "go"\n```', {"command": "go"}),
        ('Sure: {"command": "say }"} and so on {', {"command": "say }"}),
        ("{command: go to fridge 1}", {"command": "go to fridge 1"}),
        ('{"command": "it\'s {here}"}', {"command": "it's {here}"}),
        ("go to fridge 1", None),
        ("{1: 2}", None),
        ("{...}", None),
        ("{'a': ('b', 1)}", {"a": ["b", 1]}),
        ("{'a': {1, 2}}", None),
    ],
)
def test_objects_are_found_as_models_write_them(raw, arguments):
    assert find_object(raw) == arguments


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_valid_objects_are_read_as_they_are(value):
    assert find_object(json.dumps(value)) == value
    assert find_object(f"Here you are:\n```json\n{json.dumps(value, indent=1)}\n```\nDone.") == value


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1), st.data())
def test_no_text_breaks_the_repair(value, data):
    text = json.dumps(value)
    torn = text[: data.draw(st.integers(0, len(text)))]
    assert isinstance(find_object(torn), dict | None)


@given(st.text(max_size=8), st.text(max_size=8))
def test_edit_distance_is_a_distance(a, b):
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


def test_a_name_becomes_the_only_near_one():
    tools = ("act", "commands", "read_file", "read_line")
    assert nearest("Act", tools, 2) == "act"
    assert nearest("readFile", tools, 2) == "read_file"
    assert nearest("comands", tools, 2) == "commands"
    assert nearest("read_fine", tools, 2) is None, "as near to read_line"
    assert nearest("xy", tools, 2) is None, "half of the name would change"


async def test_repair_mends_name_and_arguments_of_offered_tools_only():
    repair = bound(ToolCallRepair())
    await one(repair, step_start(tools=("act",)))
    mended = await one(repair, answer("", ToolCall("c", "ACT", {}, '{"command": "go",}')))
    assert mended.tool_calls == (ToolCall("c", "act", {"command": "go"}),)
    fine = answer("", act("go"))
    assert await one(repair, fine) is fine
    unknown = answer("", ToolCall("c", "commands"))
    assert await one(repair, unknown) is unknown


async def test_repair_runs_a_call_that_was_written_into_the_text():
    repair = bound(ToolCallRepair())
    await one(repair, step_start(tools=("act",)))
    text = 'I will do this:\n```json\n{"name": "act", "arguments": {"command": "go"}}\n```'
    assert (await one(repair, answer(text, step=4))).tool_calls == (ToolCall("text_4", "act", {"command": "go"}),)
    prose = answer('The answer is {"name": "Ann", "arguments": {}}')
    assert await one(repair, prose) is prose


@pytest.mark.parametrize(
    ("given_call", "arguments"),
    [
        (ToolCall("c", "act", {"cmd": "go"}), {"command": "go"}),
        (ToolCall("c", "act", {"Command": "go"}), {"command": "go"}),
        (ToolCall("c", "act", {"arguments": {"command": "go"}}), {"command": "go"}),
        (ToolCall("c", "act", {}, "'go to fridge 1'"), {"command": "go to fridge 1"}),
        (ToolCall("c", "act", {"command": 3}), {"command": "3"}),
        (
            ToolCall("c", "book", {"seats": "2", "price": "3.5", "window": "True", "names": "Ann"}),
            {"seats": 2, "price": 3.5, "window": True, "names": ["Ann"]},
        ),
        (
            ToolCall("c", "book", {"seat": 2.0, "names": '["Ann"]', "meal": '{"a": 1}', "note": [1]}),
            {"seats": 2, "names": ["Ann"], "meal": {"a": 1}, "note": "[1]"},
        ),
    ],
)
async def test_coercion_fits_arguments_to_the_schema(given_call, arguments):
    coercion = bound(ArgumentCoercion(), tools=(ACT, BOOK))
    (call,) = (await one(coercion, answer("", given_call))).tool_calls
    assert call.arguments == arguments
    assert [type(v) for v in call.arguments.values()] == [type(v) for v in arguments.values()]
    assert call.raw is None


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("c", "act", {"command": "go"}),
        ToolCall("c", "book", {"seats": "two", "names": ["Ann"]}),
        ToolCall("c", "book", {"seats": 2, "names": ["Ann"], "window": 1}),
        ToolCall("c", "book", {}, "go"),
        ToolCall("c", "act", {}, '{"command": go", "x"'),
        ToolCall("c", "unknown", {"x": 1}),
    ],
)
async def test_coercion_leaves_alone_what_has_no_one_reading(call):
    event = answer("", call)
    assert await one(bound(ArgumentCoercion(), tools=(ACT, BOOK)), event) is event


async def test_retry_withholds_an_answer_that_announces_an_action_and_says_why():
    retry = bound(ParseRetry(max_retries=1, final_markers=["done"]))
    await one(retry, step_start())
    assert await every(retry, answer("I will go to fridge 1.")) == []
    reminded = (await one(retry, before_model(2))).appended
    assert '"I will go to fridge 1."' in reminded
    assert "act, commands" in reminded
    assert (await one(retry, before_model(3))).appended is None, "it is said once"
    assert await every(retry, answer("I will go to fridge 1.")) != [], "retries are bounded"


async def test_retry_counts_anew_after_a_call():
    retry = bound(ParseRetry(max_retries=1))
    assert await every(retry, answer("")) == []
    await one(retry, answer("", act("go")))
    assert await every(retry, answer("  ")) == []


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("The mug is in the cabinet.", True),
        ("We act as one.", True),
        ("It takes two commands: go and open.", True),
        ('act({"command": "go"})', False),
        ('"act": "go to fridge"', False),
        ("Let me look around", False),
    ],
)
async def test_retry_without_markers_looks_for_calls_in_the_text(text, passes):
    retry = bound(ParseRetry(intents=[r"^let me\b"]))
    await one(retry, step_start())
    assert bool(await every(retry, answer(text))) is passes


async def test_policy_refuses_with_a_reason():
    policy = bound(ToolPolicy(deny=[r"\brm -rf\b"], allow=[r"^act\("]))
    refused = await one(policy, before_tool(act("sudo rm -rf /")))
    assert (refused.approved, refused.reason) == (False, "the policy forbids 'rm -rf'")
    assert not (await one(policy, before_tool(ToolCall("c", "commands")))).approved
    fine = before_tool(act("ls"))
    assert await one(policy, fine) is fine


def test_a_bad_pattern_is_named():
    with pytest.raises(ValueError, match=r"\(unclosed"):
        ToolPolicy(deny=["(unclosed"])
