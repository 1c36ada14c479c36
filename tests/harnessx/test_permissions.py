"""Tools do what three rules grant, and the host has the last word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loop_drive import HEAD, World, run
from test_host import host
from worker_drive import hostile, rollout

from benchmarks.household import Household
from harnessx.algebra import diff
from harnessx.errors import HarnessInvalid, Outcome
from harnessx.harness import HarnessConfig, Slots, ToolRegistry
from harnessx.messages import ToolCall, ToolSchema
from harnessx.permissions import EVERYTHING, USUAL, Effect, Grant, Permissions, effects_of, refusal
from harnessx.runner.isolation import Workers, resolve_isolation
from harnessx.spec import Spec
from harnessx.tools.base import Tool

rules = st.builds(Permissions, *[st.sampled_from(Grant)] * len(Effect))
effects = st.none() | st.frozensets(st.sampled_from(Effect))

TOOL = f"""{HEAD}
from harnessx.permissions import Effect

@dataclass
class Fetch(Tool):
    name = "fetch"
    effects = EFFECTS

    async def run(self, arguments, context):
        return (await context.call("reach", {{"text": "x"}})).content
"""
NETWORK = "frozenset({Effect.NETWORK})"


def with_tool(declared: str, permissions: Permissions | None = None) -> HarnessConfig:
    slots = Slots(ToolRegistry(add=(Spec("assets/f.py:Fetch"),)), permissions=permissions or Permissions())
    return HarnessConfig((), slots, {"assets/f.py": TOOL.replace("EFFECTS", declared)})


class Wide(World):
    """A world with a tool for each effect, one for all, and one that says nothing."""

    @property
    def tools(self) -> tuple[ToolSchema, ...]:
        single = tuple(ToolSchema(e.value, effects=frozenset({e})) for e in Effect)
        return (*super().tools, *single, ToolSchema("reach", effects=EVERYTHING), ToolSchema("silent"))


@given(rules, rules, effects)
def test_a_call_runs_only_if_every_rule_grants_every_effect(user, harness, declared):
    granted = (user & harness).granted()
    runs = not refusal(declared, granted)
    assert runs == all(user[e] is Grant.GRANT and harness[e] is Grant.GRANT for e in effects_of(declared))
    assert refusal(None, EVERYTHING - {Effect.PAY})


@given(rules, rules, rules)
def test_rules_meet_in_any_order_and_no_rule_widens_another(a, b, c):
    assert a & b == b & a
    assert (a & b) & c == a & (b & c)
    assert a & a == a
    assert (a & b).granted(EVERYTHING) <= a.granted(EVERYTHING) & b.granted(EVERYTHING)
    assert not (a & b).wider(a)
    assert a.wider(b) == frozenset(e for e in Effect if list(Grant).index(a[e]) > list(Grant).index(b[e]))


@given(rules)
def test_a_rule_survives_the_harness_file_and_counts_in_its_digest(rule):
    plain = HarnessConfig()
    ruled = HarnessConfig((), Slots(permissions=rule))
    assert HarnessConfig.from_yaml(ruled.to_yaml()) == ruled
    assert (ruled == plain) == (rule == Permissions())
    assert diff(plain, ruled).apply(plain) == ruled
    assert diff(ruled, plain).apply(ruled) == plain


def test_a_harness_that_says_nothing_has_the_digest_that_it_had():
    assert "permissions" not in Household(0).harness().to_yaml()


@pytest.mark.parametrize("section", [{"fly": "grant"}, {"read": "yes"}, {"read": None}, {"read": ["grant"]}])
def test_a_rule_that_is_none_is_refused_with_what_is_valid(section):
    with pytest.raises(HarnessInvalid, match=r"slots\.permissions.*valid:"):
        Slots.from_json({"permissions": section})


@pytest.mark.parametrize("granted", [USUAL, frozenset(), EVERYTHING, frozenset({Effect.NETWORK})])
async def test_the_host_refuses_what_is_not_granted_and_the_world_never_hears_of_it(granted):
    world = Wide()
    one = host(world=world, granted=granted)
    for effect in Effect:
        result = await one.call(ToolCall("c", effect.value))
        assert result.is_error == (effect not in granted)
        assert ("The call did not run: no permission to" in result.content) == (effect not in granted)
    assert (await one.call(ToolCall("c", "reach"))).is_error == (granted != EVERYTHING)
    silent = await one.call(ToolCall("c", "silent"))
    assert silent.is_error == (granted != EVERYTHING)
    assert ("does not say what it does" in silent.content) == (granted != EVERYTHING)
    unknown = await one.call(ToolCall("c", "nothing of the kind"))
    assert "no tool of that name" in unknown.content
    ran = {call.name for call in world.calls}
    assert ran == {e.value for e in granted} | ({"reach", "silent"} if granted == EVERYTHING else set())
    one._flush()
    assert len(one.record.steps[0].calls) == len(Effect) + 3  # the refused ones are in the record too


async def test_the_model_is_told_and_goes_on():
    world = Wide()
    record = await run(HarnessConfig(), [{"tool": "network", "arguments": {}}, "done"], world)
    assert record.passed
    assert record.steps[0].calls[0].content == "The call did not run: no permission to use the network."
    assert world.calls == []


async def test_a_worker_that_speaks_the_wire_itself_is_refused_as_well():
    workers = Workers(resolve_isolation("auto"), stall_s=20)
    world = Wide()
    attack = """
    await port.complete(ModelRequest("", Conversation(), ()), "main")
    said = (await port.call(ToolCall("c", "pay", {}))).content
    tell({"t": "end", "stop": "finished", "answer": said, "claims": {"permissions": "all"}})
    """
    record = await rollout(workers, hostile(attack), world)
    workers.close()
    assert world.calls == []
    assert record.answer == "The call did not run: no permission to pay."


async def test_a_tool_of_the_harness_gets_no_further_than_the_tools_it_calls():
    world = Wide()
    record = await run(with_tool("frozenset()"), [{"tool": "fetch", "arguments": {}}, "done"], world)
    assert record.passed
    assert world.calls == []
    assert "no permission to execute programs" in record.steps[1].exchanges[0].sent[-1].text


async def test_a_harness_whose_tool_declares_more_than_is_granted_does_not_run():
    refused = await run(with_tool(NETWORK), ["done"])
    assert (refused.outcome, refused.model_calls) == (Outcome.HARNESS_ERROR, 0)
    assert "Fetch: no permission to use the network" in refused.error
    asks = Permissions(network=Grant.ASK)
    assert (await run(with_tool(NETWORK, asks), ["done"])).outcome is Outcome.HARNESS_ERROR
    wide = with_tool(NETWORK, Permissions(network=Grant.GRANT))
    assert (await run(wide, ["done"])).outcome is Outcome.HARNESS_ERROR, "the harness alone grants nothing"
    assert (await run(wide, ["done"], granted=USUAL | {Effect.NETWORK})).passed


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (NETWORK, {Effect.NETWORK}),
        ("{Effect.PAY, Effect.READ}", {Effect.PAY, Effect.READ}),
        ("(Effect.EXECUTE,)", {Effect.EXECUTE}),
        ("frozenset()", set()),
    ],
)
def test_effects_are_read_from_source_that_is_not_run(written, read):
    assert with_tool(written).own_effects == {"Fetch": read}


@pytest.mark.parametrize("written", ["compute()", "frozenset(x for x in Effect)", "{'network'}", "Effect", "ALL"])
def test_effects_that_only_running_would_tell_are_refused(written):
    with pytest.raises(HarnessInvalid, match="effects must be"):
        with_tool(written)


def test_a_tool_says_what_it_does_to_the_host_and_not_to_the_model():
    class Pay(Tool):
        name, effects = "pay", frozenset({Effect.PAY})

        async def run(self, arguments, context):
            return ""

    schema = Pay().schema()
    assert schema.effects == {Effect.PAY}
    assert "effects" not in schema.to_json()
    assert replace(schema, effects=None) == schema


def test_the_tools_of_our_worlds_are_declared():
    assert {tool.name: tool.effects for tool in Household(0).tools} == {
        "act": frozenset({Effect.READ, Effect.WRITE}),
        "commands": frozenset({Effect.READ}),
    }
