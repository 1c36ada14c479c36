"""The run loop: limits, blame, tools, roles."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from loop_drive import ECHO, HEAD, Accept, World, harness, requests, run, texts

from harnessx.errors import ModelFailure, Outcome, Source, StopReason, UserError
from harnessx.harness import HarnessConfig, Limits, Slots, ToolRegistry
from harnessx.hooks import Hook
from harnessx.loop import Ending
from harnessx.messages import ModelRequest, ModelResponse, ToolCall, Usage
from harnessx.model_config import ModelConfig, Models
from harnessx.models.base import CallContext
from harnessx.models.scripted import Scripted
from harnessx.runner.rollout import Rollout, run_rollout
from harnessx.spec import Spec
from harnessx.tasks import Task

EMPTY = HarnessConfig()


def limited(**limits: object) -> HarnessConfig:
    return HarnessConfig(slots=Slots(limits=Limits(**limits)))


@dataclass
class Costly:
    """Answers at a price, or none that is known."""

    cost_usd: float | None
    name: str = "costly"
    digest: str = "costly"

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        answer = await Scripted([ECHO]).complete(ModelRequest("", request.messages.prefix(1)), context)
        return ModelResponse("", answer.tool_calls, Usage(10, 10, 0, self.cost_usd))


@dataclass
class Broken:
    """A provider that is down, or hangs."""

    hang: bool = False
    name: str = "broken"
    digest: str = "broken"

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        if self.hang:
            await asyncio.sleep(60)
        raise ModelFailure("503")


@pytest.mark.parametrize(
    ("limits", "models", "reason", "calls"),
    [
        ({"steps": 3}, Scripted([ECHO], loop=True), StopReason.STEP_LIMIT, 3),
        ({"tokens": 25}, Costly(0.0), StopReason.TOKEN_LIMIT, 2),
        ({"cost_usd": 0.25}, Costly(0.1), StopReason.COST_LIMIT, 3),
        ({"cost_usd": 0.25}, Costly(None), StopReason.COST_LIMIT, 1),
        ({"wall_s": 0.05}, Broken(hang=True), StopReason.WALL_LIMIT, 0),
    ],
    ids=["steps", "tokens", "cost", "unknown cost", "wall"],
)
async def test_a_limit_ends_a_rollout_that_is_verified_all_the_same(limits, models, reason, calls):
    verifier = Accept()
    record = await run(limited(**limits), models=ModelConfig(models), verifier=verifier)
    assert (record.stop_reason, record.outcome, record.error) == (reason, Outcome.PASSED, "")
    assert (record.model_calls, verifier.scored) == (calls, 1)


async def test_an_unknown_price_does_not_matter_without_a_cost_limit():
    record = await run(limited(steps=2), models=ModelConfig(Costly(None)))
    assert record.stop_reason is StopReason.STEP_LIMIT
    assert record.usage == Usage(20, 20, 0, None)


async def test_the_environment_may_end_the_episode():
    record = await run(EMPTY, [{"tool": "end"}, "never asked"])
    assert (record.stop_reason, record.model_calls, record.outcome) == (
        StopReason.ENVIRONMENT_DONE,
        1,
        Outcome.PASSED,
    )


@pytest.mark.parametrize(
    ("script", "models", "source"),
    [(["done"], Broken(), Source.MODEL), ([{"tool": "crash"}], None, Source.ENVIRONMENT)],
)
async def test_what_the_world_breaks_is_an_infra_error(script, models, source):
    verifier, world = Accept(), World()
    record = await run(EMPTY, script, world, verifier, models=models and ModelConfig(models))
    assert (record.outcome, record.stop_reason) == (Outcome.INFRA_ERROR, StopReason.ERROR)
    assert source in record.error
    assert (verifier.scored, world.closed) == (0, 1)


class NoReset(World):
    async def reset(self) -> str:
        raise UserError("the data is not there")


class NoScore(Accept):
    async def score(self, *arguments):
        raise UserError("no judge")


class NoClose(World):
    async def close(self) -> None:
        raise OSError("busy")


async def test_a_world_that_cannot_begin_and_a_verifier_that_cannot_score_are_infra_errors():
    record = await run(EMPTY, world=NoReset())
    assert (record.outcome, record.model_calls) == (Outcome.INFRA_ERROR, 0)
    assert "environment: UserError: the data is not there" in record.error
    record = await run(EMPTY, verifier=NoScore())
    assert record.outcome is Outcome.INFRA_ERROR
    assert "verifier: UserError: no judge" in record.error


async def test_a_world_that_does_not_close_leaves_the_score_standing():
    record = await run(EMPTY, world=NoClose())
    assert (record.outcome, record.error) == (Outcome.PASSED, "environment: close: OSError: busy")


@pytest.mark.parametrize("hook", Hook)
@pytest.mark.parametrize(
    "error",
    [
        "Failure(Source.MODEL, 'honest')",
        "Failure(Source.ENVIRONMENT, 'honest')",
        "ModelFailure('503')",
        "LimitReached(StopReason.TOKEN_LIMIT)",
        "UserError('you')",
        "ToolError('you')",
    ],
)
async def test_a_harness_cannot_blame_the_world(hook: Hook, error: str):
    record = await run(harness(f"raise {error}\nyield", hook))
    if hook is Hook.TASK_END and error.startswith("Limit"):
        assert record.stop_reason is StopReason.FINISHED
    else:
        assert (record.outcome, record.stop_reason) == (Outcome.HARNESS_ERROR, StopReason.ERROR), record.error


async def test_a_failure_that_a_harness_got_over_is_not_what_breaks_it_later():
    body = """
if event.step == 1:
    try:
        await self.ctx.complete("judge", ModelRequest("", event.messages))
    except ModelFailure:
        pass
elif event.step == 2:
    raise KeyError("mine")
yield event
"""
    models = ModelConfig(Scripted([ECHO, ECHO, "done"]), judge=Broken())
    record = await run(harness(body, Hook.STEP_END), models=models)
    assert (record.outcome, "KeyError" in record.error) == (Outcome.HARNESS_ERROR, True)
    survived = await run(harness(body.replace("== 2", "== 9"), Hook.STEP_END), models=models)
    assert (survived.outcome, survived.model_calls) == (Outcome.PASSED, 3)


async def test_a_failure_of_the_world_that_a_harness_meets_is_the_worlds():
    body = "await self.ctx.complete('judge', ModelRequest('', event.messages))\nyield event"
    record = await run(harness(body, Hook.STEP_END), models=ModelConfig(Scripted(["done"]), judge=Broken()))
    assert (record.outcome, "model: 503" in record.error) == (Outcome.INFRA_ERROR, True)


async def test_what_a_processor_asks_counts_and_is_recorded_under_its_role():
    body = "answer = await self.ctx.complete('judge', ModelRequest('Judge.', Conversation()))\nyield event"
    models = ModelConfig(Scripted(["done"]), judge=Scripted(["fine"]))
    record = await run(harness(body, Hook.AFTER_MODEL), models=models)
    assert [e.path for e in record.steps[0].exchanges] == ["main", "processor:judge"]
    assert (record.model_calls, record.usage.total_tokens) == (2, 4)
    unknown = await run(harness(body.replace("judge", "oracle"), Hook.AFTER_MODEL), models=models)
    assert unknown.outcome is Outcome.HARNESS_ERROR
    assert "no role 'oracle'; roles: main, judge" in unknown.error


@dataclass
class TwoCalls:
    """Asks for two calls at once, then is done."""

    tools: tuple[str, str] = ("meet", "meet")
    ids: tuple[str, str] = ("a", "b")
    name: str = "two"
    digest: str = "two"

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        if len(request.messages) > 1:
            return ModelResponse("done")
        pairs = zip(self.ids, self.tools, strict=True)
        return ModelResponse("", tuple(ToolCall(i, t, {"text": str(n)}) for n, (i, t) in enumerate(pairs)))


async def test_parallel_calls_run_together_and_answer_in_order():
    world = World()
    async with asyncio.timeout(5):  # one after the other they would wait for ever
        record = await run(EMPTY, world=world, models=ModelConfig(TwoCalls()))
    assert texts(record)[-2:] == ["meet: 0", "meet: 1"]
    assert [m.tool_call_id for m in requests(record)[-1][-2:]] == ["a", "b"]


async def test_a_call_that_breaks_the_world_stops_the_others():
    world = World()
    async with asyncio.timeout(5):  # the first call waits for a second that never comes
        record = await run(EMPTY, world=world, models=ModelConfig(TwoCalls(("meet", "crash"))))
    assert record.outcome is Outcome.INFRA_ERROR


async def test_calls_without_ids_of_their_own_get_some():
    record = await run(EMPTY, models=ModelConfig(TwoCalls(("echo", "echo"), ("", ""))))
    assert [m.tool_call_id for m in requests(record)[-1][-2:]] == ["call_1_0", "call_1_1"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"tool": "fly"}, "There is no tool named 'fly'. Tools: echo, end, meet, refuse, crash."),
        ({"tool": "refuse"}, "not like that"),
        ({"tool": "echo", "raw": '{"text": '}, 'The arguments of echo are not a JSON object: {"text": '),
    ],
)
async def test_what_the_model_does_wrong_is_told_to_the_model(line, told):
    record = await run(EMPTY, [line, "done"])
    assert (texts(record)[-1], record.outcome) == (told, Outcome.PASSED)


async def test_a_step_may_narrow_the_tools_and_choose_the_role():
    body = "yield replace(event, tools=('end',), role='strong' if event.step > 1 else 'main')"

    seen: list[tuple[str, tuple[str, ...]]] = []

    class Watching(Scripted):
        async def complete(self, request, context):
            seen.append((request.role, tuple(tool.name for tool in request.tools)))
            return await super().complete(request, context)

    model = Watching([ECHO, "done"])
    record = await run(harness(body, Hook.STEP_START), models=ModelConfig(model, strong=model))
    assert seen == [("main", ("end",)), ("strong", ("end",))]
    assert record.outcome is Outcome.PASSED


async def test_a_changed_last_user_message_holds_for_one_request():
    body = "yield replace(event, last_user='Say bye.') if event.step == 1 else event"
    record = await run(harness(body, Hook.BEFORE_MODEL))
    first, second = requests(record)
    assert (first[0].text, second[0].text) == ("Say bye.", "Say hello.\n\nYou are here.")


TOOL = f"""{HEAD}
@dataclass
class Twice(Tool):
    name = "twice"
    description = "Says it twice."
    parameters = {{"type": "object", "properties": {{"text": {{"type": "string"}}}}}}
    fail: bool = False

    async def run(self, arguments, context):
        if self.fail:
            raise ZeroDivisionError("oh")
        if "text" not in arguments:
            raise ToolError("'text' is missing")
        await context.call("echo", arguments)
        return (await context.call("echo", arguments)).content
"""


def with_tool(**params: object) -> HarnessConfig:
    registry = ToolRegistry(expose=("echo",), describe={"echo": "Says it."}, add=(Spec("assets/t.py:Twice", params),))
    return HarnessConfig((), Slots(registry), {"assets/t.py": TOOL})


async def test_a_harness_brings_tools_and_describes_those_of_the_world():
    world, offered = World(), []

    class Watching(Scripted):
        async def complete(self, request, context):
            offered[:] = [(tool.name, tool.description) for tool in request.tools]
            return await super().complete(request, context)

    script = [{"tool": "twice", "arguments": {"text": "yo"}}, {"tool": "twice"}, {"tool": "end"}, "done"]
    record = await run(with_tool(), world=world, models=ModelConfig(Watching(script)))
    assert offered == [("echo", "Says it."), ("twice", "Says it twice.")]
    assert [call.name for call in world.calls] == ["echo", "echo"]
    told = [m.text for m in requests(record)[-1] if m.role == "tool"]
    assert told == ["echo: yo", "'text' is missing", "There is no tool named 'end'. Tools: echo, twice."]


async def test_a_tool_of_the_harness_that_crashes_is_a_harness_error():
    record = await run(with_tool(fail=True), [{"tool": "twice"}])
    assert (record.outcome, "tool: twice: ZeroDivisionError" in record.error) == (Outcome.HARNESS_ERROR, True)


async def test_a_loop_may_not_claim_what_did_not_happen():
    async def liar(harness, episode, host):
        return Ending(StopReason.ENVIRONMENT_DONE, "won")

    models = Models(ModelConfig(Scripted(["done"])))
    record = await run_rollout(Rollout(EMPTY, Task("x")), models, World(), Accept(), execute=liar)
    assert (record.outcome, "did not happen" in record.error) == (Outcome.HARNESS_ERROR, True)


@pytest.mark.parametrize("end", ["yield event", "raise Interrupt\nyield", "raise KeyError\nyield"])
async def test_scratch_dies_with_the_rollout_whatever_ends_it(end: str, tmp_path: Path):
    left = tmp_path / "left"
    body = f"open({str(left)!r}, 'w').write(str(self.ctx.scratch()))\n{end}"
    await run(harness(body, Hook.STEP_START))
    assert left.read_text()
    assert not Path(left.read_text()).exists()
