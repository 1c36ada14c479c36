"""Sub-agents: a context and a budget of their own, which the host enforces, and a record nested in their parent's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_drive import World, requests, run, source
from worker_drive import WALL, hostile, rollout

from harnessx.delegation import Allowance
from harnessx.errors import LimitReached, Outcome, StopReason, ToolError
from harnessx.harness import HarnessConfig, Limits, Slots
from harnessx.hooks import Hook
from harnessx.messages import ModelResponse, ToolCall, Usage
from harnessx.model_config import ModelConfig
from harnessx.processors import SubAgents, SystemPrompt, ToolPolicy
from harnessx.runner.budget import MAX_SUBS, Budget
from harnessx.runner.isolation import Workers
from harnessx.runner.lane import summarize
from harnessx.spec import Spec
from harnessx.trajectory import Trajectory

USAGE = Usage(10, 5, 0, 0.25)


@dataclass
class Boss:
    """Delegates ``tasks`` at its first turn, and ends at its second; a sub-agent echoes ``turns`` times, then ends."""

    tasks: tuple[str, ...] = ("one", "two", "three")
    turns: int = 1
    tool: str = "echo"
    delays: dict[str, float] = field(default_factory=dict)
    name: str = "boss"
    digest: str = "boss"
    paths: list[str] = field(default_factory=list)
    offered: dict[str, list[str]] = field(default_factory=dict)

    async def complete(self, request, context):
        self.paths.append(context.path)
        self.offered[context.path] = [tool.name for tool in request.tools]
        turn = sum(message.role == "assistant" for message in request.messages)
        task = request.messages[0].text
        if context.path == "main":
            if turn:
                return ModelResponse("done", (), USAGE, "boss")
            return ModelResponse("", (ToolCall("d", "delegate", {"tasks": list(self.tasks)}),), USAGE, "boss")
        await asyncio.sleep(self.delays.get(task, 0.0))
        if turn < self.turns:
            call = ToolCall(f"c{turn}", self.tool, {"text": f"{task} {turn}"})
            return ModelResponse("", (call,), USAGE, "boss")
        return ModelResponse(f"{task} is done", (), USAGE, "boss")


def harness(*more, limits: Limits | None = None, **params) -> HarnessConfig:
    return HarnessConfig([SystemPrompt(text="Work."), SubAgents(**params), *more], Slots(limits=limits or Limits()))


async def play(boss: Boss, config: HarnessConfig, world=None, **options) -> Trajectory:
    return await run(config, models=ModelConfig(boss), world=world, **options)


def told(record: Trajectory) -> str:
    return requests(record)[-1][-1].text


async def test_each_has_an_empty_history_and_its_record_lies_in_its_parents():
    boss = Boss()
    record = await play(boss, harness())
    assert (record.passed, record.answer, record.model_calls) == (True, "done", 8)
    subs = record.steps[0].subs
    assert [(s.path, s.stop_reason, s.model_calls, len(s.steps)) for s in subs] == [
        (f"sub[{n}]", StopReason.FINISHED, 2, 2) for n in (1, 2, 3)
    ]
    assert [m.text for m in subs[1].steps[0].exchanges[0].sent] == ["two"]
    assert subs[1].steps[0].calls[0].content == "echo: two 0"
    assert [e.path for e in record.steps[0].exchanges] == ["main"]
    assert "Sub-agent 2 (finished, 2 steps):\ntwo is done" in told(record)
    assert "delegate" in boss.offered["main"]
    assert "delegate" not in boss.offered["sub[1]"]


async def test_its_record_survives_the_file_and_counts_in_the_summary():
    record = await play(Boss(), harness())
    again = Trajectory.from_jsonl(record.to_jsonl())
    assert again.steps == record.steps
    assert (again.usage, again.model_calls) == (record.usage, 8)
    unfinished = Trajectory.from_jsonl(record.to_jsonl().rsplit("\n", 2)[0] + "\n")
    assert (unfinished.usage, unfinished.model_calls) == (record.usage, 8)
    summary, other = summarize(record, "k"), summarize(await play(Boss(("one", "two", "3")), harness()), "k")
    assert (summary.model_calls, summary.side_calls, summary.tool_calls) == (8, 6, 3)
    assert summary.trail != other.trail


async def test_they_work_at_the_same_time():
    world = World(together=3)  # ``meet`` returns once three calls are there
    record = await asyncio.wait_for(play(Boss(tool="meet"), harness(), world), 10)
    assert record.passed


@pytest.mark.parametrize("slow", ["one", "two", "three"])
async def test_the_order_in_which_they_reach_the_world_does_not_depend_on_who_is_faster(slow):
    world = World()
    await play(Boss(turns=2, delays={slow: 0.02}), harness(), world)
    assert [c.arguments["text"] for c in world.calls] == ["one 0", "two 0", "three 0", "one 1", "two 1", "three 1"]


async def test_a_step_limit_is_its_own_and_typed():
    record = await play(Boss(turns=50), harness(steps=3))
    assert [(s.stop_reason, s.model_calls) for s in record.steps[0].subs] == [(StopReason.STEP_LIMIT, 3)] * 3
    assert (record.stop_reason, record.answer) == (StopReason.FINISHED, "done")
    assert "Sub-agent 1 (step_limit, 3 steps):\n(no answer)" in told(record)


@pytest.mark.parametrize(
    ("params", "stop"), [({"tokens": 40}, StopReason.TOKEN_LIMIT), ({"usd": 0.6}, StopReason.COST_LIMIT)]
)
async def test_caps_on_tokens_and_dollars_stop_it_after_the_call_that_passes_them(params, stop):
    record = await play(Boss(turns=50), harness(**params))
    assert [(s.stop_reason, s.model_calls) for s in record.steps[0].subs] == [(stop, 3)] * 3
    assert record.stop_reason is StopReason.FINISHED


async def test_they_share_what_is_left_and_one_step_stays_with_their_parent():
    record = await play(Boss(turns=50), harness(steps=40, limits=Limits(steps=12, tokens=1000)))
    granted = [s.granted for s in record.steps[0].subs]
    assert granted == [Allowance(3, (1000 - 15) // 3)] * 3  # 12 steps: one was made, one stays, three times three
    assert (record.model_calls, record.answer) == (11, "done")


async def test_where_nothing_is_left_the_model_is_told_and_nobody_is_spawned():
    record = await play(Boss(), harness(limits=Limits(steps=4)))
    assert "no steps are left for 3 sub-agents" in told(record)
    assert (record.steps[0].subs, record.passed) == ([], True)


async def test_guards_hold_in_it_too_and_what_is_left_out_does_not():
    world = World()
    guarded = harness(ToolPolicy(deny=["echo"]), prompt="You are a scout.", without=["SystemPrompt"])
    record = await play(Boss(), guarded, world)
    assert world.calls == []
    assert record.steps[0].subs[0].steps[0].exchanges[0].system == "You are a scout."


async def test_it_is_offered_the_tools_that_are_named():
    boss = Boss()
    await play(boss, harness(tools=["echo", "end"]))
    assert boss.offered["sub[1]"] == ["echo", "end"]


async def test_an_episode_that_ends_in_one_ends_for_its_parent():
    record = await play(Boss(("one",), tool="end"), harness())
    assert record.stop_reason is StopReason.ENVIRONMENT_DONE
    assert record.steps[0].subs[0].stop_reason is StopReason.ENVIRONMENT_DONE
    assert record.model_calls == 2


async def test_a_limit_of_one_is_not_what_ended_its_parent():
    halt = source("raise Interrupt('enough')\nyield event", Hook.STEP_END, name="Halt")
    processors = [SubAgents(tokens=20, without=["Halt"]), Spec("assets/p.py:Halt")]
    record = await play(Boss(turns=9), HarnessConfig(processors, None, {"assets/p.py": halt}))
    assert {s.stop_reason for s in record.steps[0].subs} == {StopReason.TOKEN_LIMIT}
    assert record.stop_reason is StopReason.INTERRUPTED


async def test_a_world_that_breaks_in_one_is_no_fault_of_the_harness():
    record = await play(Boss(("one",), tool="crash"), harness())
    assert (record.outcome, "the world is gone" in record.error) == (Outcome.INFRA_ERROR, True)


async def test_a_processor_that_crashes_in_one_is():
    crash = source("raise RuntimeError('no')\nyield event", Hook.BEFORE_TOOL)
    config = HarnessConfig([SubAgents(), Spec("assets/p.py:P")], None, {"assets/p.py": crash})
    record = await play(Boss(("one",)), config)
    assert (record.outcome, "RuntimeError: no" in record.error) == (Outcome.HARNESS_ERROR, True)


async def test_a_role_that_nobody_serves_is_refused_before_a_model_is_asked():
    boss = Boss()
    record = await play(boss, harness(role="scout"))
    assert (record.outcome, boss.paths) == (Outcome.HARNESS_ERROR, [])
    assert "no model serves the role 'scout'; roles: main" in record.error


@pytest.mark.parametrize("tasks", [[], ["x"] * 5, "one", [1], [" "]])
async def test_a_call_that_is_none_is_told_so(tasks):
    @dataclass
    class Clumsy(Boss):
        async def complete(self, request, context):
            answer = await super().complete(request, context)
            calls = tuple(ToolCall(c.id, c.name, {"tasks": tasks}) for c in answer.tool_calls)
            return ModelResponse(answer.content, calls, answer.usage)

    record = await play(Clumsy(), harness())
    assert "tasks" in told(record)
    assert record.steps[0].subs == []


# --- the host's own count ------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.integers(2, 60),
    st.integers(1, 200),
    st.lists(st.tuples(st.integers(1, 80), st.none() | st.integers(1, 300)), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 30)), max_size=60),
)
def test_whatever_is_asked_for_nobody_passes_what_was_granted_nor_all_of_them_the_limits(steps, tokens, asked, calls):
    budget = Budget(Limits(steps=steps, tokens=tokens))
    try:
        leases = [lease for lease, _ in budget.carve([Allowance(*a) for a in asked])]
    except ToolError:
        return
    assert sum(lease.granted.steps for lease in leases) < steps
    assert sum(lease.granted.tokens or 0 for lease in leases) <= tokens
    made = dict.fromkeys(["main", *(lease.path for lease in leases)], 0)
    spent = dict(made)
    for who, used in calls:
        path = list(made)[who % len(made)]
        try:
            budget.check(path)
        except LimitReached:
            continue
        budget.count(path, Usage(used))
        made[path], spent[path] = made[path] + 1, spent[path] + used
    assert sum(made.values()) <= steps
    for lease in leases:
        assert made[lease.path] <= lease.granted.steps
        assert spent[lease.path] < (lease.granted.tokens or 0) + 30  # one call more than the cap
    reserved = sum(max((lease.granted.tokens or 0) - spent[lease.path], 0) for lease in leases)
    if made["main"]:
        assert spent["main"] - 30 < tokens - reserved


def test_what_was_not_spent_goes_back():
    budget = Budget(Limits(steps=10))
    (lease, _), _ = budget.carve([Allowance(4), Allowance(4)])
    budget.check("main")
    budget.settle(lease.path, StopReason.FINISHED)
    for _ in range(5):
        budget.check("main")
    with pytest.raises(LimitReached):
        budget.check("main")
    with pytest.raises(ToolError, match="no sub-agent"):
        budget.check(lease.path)


def test_there_are_so_many_in_a_rollout_and_no_more():
    budget = Budget(Limits(steps=1000))
    budget.carve([Allowance(1)] * MAX_SUBS)
    budget.settle_all()
    with pytest.raises(ToolError, match="0 more sub-agents"):
        budget.carve([Allowance(1)])


# --- behind the wall -----------------------------------------------------------------------------------

PASS = source("yield event", Hook.STEP_END, name="Idle")


def walled(**options) -> HarnessConfig:
    """A harness with code of its own, so that it runs in a worker."""
    config = harness(**options)
    return HarnessConfig([*config.processors, Spec("assets/p.py:Idle")], config.slots, {"assets/p.py": PASS})


@pytest.fixture(scope="module")
def workers():
    crew = Workers(WALL, stall_s=60)
    yield crew
    crew.close()


async def test_a_worker_gives_the_same_record_as_the_host(workers):
    config = walled(steps=3)
    beside, apart = Boss(turns=2), Boss(turns=2)
    here = await play(beside, config)
    there = await rollout(workers, config, models=ModelConfig(apart))
    assert there.steps == here.steps
    assert (there.stop_reason, there.usage, there.model_calls) == (here.stop_reason, here.usage, here.model_calls)


ASK = """
from harnessx.delegation import Allowance
question = ModelRequest("", Conversation([Message("user", "?")]))
await port.complete(question, "main")
"""


async def test_a_worker_that_asks_for_more_than_there_is_gets_what_there_is_and_can_use_no_more(workers):
    attack = (
        ASK
        + """
await port.spawn([Allowance(10**9)] * 2)
paths = ["sub[1]", "sub[2]", "sub[1]/main[1]"] * 20
await asyncio.gather(*(port.complete(question, path) for path in paths), return_exceptions=True)
tell(end)
"""
    )
    config = hostile(attack)
    config = HarnessConfig(config.processors, Slots(limits=Limits(steps=8)), config.assets)
    record = await rollout(workers, config)
    assert [s.granted.steps for s in record.steps[0].subs] == [3, 3]
    assert [s.model_calls for s in record.steps[0].subs] == [3, 3]
    assert record.model_calls == 7


@pytest.mark.parametrize("path", ["sub[1]", "sub[7]/processor:main", "sub[1]/main[2]", "sub["])
async def test_a_worker_cannot_ask_or_act_as_a_sub_agent_that_there_is_not(workers, path):
    asking = f"port.complete(question, {path!r}), port.call(ToolCall('c', 'echo', {{}}), {path!r})"
    world = World()
    attack = f"{ASK}\nawait asyncio.gather({asking}, return_exceptions=True)\ntell(end)"
    record = await rollout(workers, hostile(attack), world)
    assert (record.model_calls, world.calls) == (1, [])


@pytest.mark.parametrize(
    "asked", ['"all"', '[{"steps": 0, "tokens": None, "usd": None}]', '[{"steps": True, "tokens": None, "usd": None}]',
              '[{"steps": 1, "tokens": -1, "usd": None}]', '[{"steps": 1, "tokens": None, "usd": float("nan")}]'],
)  # fmt: skip
async def test_an_allowance_that_is_none_ends_the_connection(workers, asked):
    record = await rollout(workers, hostile(f'tell({{"t": "spawn", "id": 1, "asked": {asked}}})'))
    assert (record.outcome, "worker" in record.error) == (Outcome.HARNESS_ERROR, True)
