"""One rollout: whatever the other side hands back, the record can be stored and blames the right one."""

from __future__ import annotations

import asyncio

import pytest
from loop_drive import ECHO, Accept, World

from harnessx.errors import Failure, LimitReached, Outcome, Source, StopReason
from harnessx.harness import HarnessConfig, Limits, Slots
from harnessx.loop import Ending
from harnessx.messages import Conversation, ModelRequest, ModelResponse, ToolCall
from harnessx.model_config import ModelConfig, Models
from harnessx.models.scripted import Scripted
from harnessx.runner.cassette import Cassette, ResponseTape
from harnessx.runner.host import Recorder
from harnessx.runner.rollout import Rollout, run_rollout
from harnessx.tasks import Task
from harnessx.trajectory import Trajectory

NESTED: list = []
for _ in range(100_000):
    NESTED = [NESTED]


async def rollout(execute, *, models=None, world=None, verifier=None, limits=None, key="r1", **options) -> Trajectory:
    """The record of a rollout whose untrusted side is ``execute``."""
    harness = HarnessConfig(slots=Slots(limits=limits or Limits()))
    models = Models(models or ModelConfig(Scripted([ECHO, "done"], loop=True)))
    order = Rollout(harness, Task("Say hello.", "t"), key=key)
    return await run_rollout(order, models, world or World(), verifier or Accept(), execute=execute, **options)


@pytest.mark.parametrize(
    ("answer", "claims"),
    [("\ud800", {}), ("", {"x": "\ud800"}), ("", {"x": {1, 2}}), ("", {"x": object()}), ("", {"x": NESTED})],
)
async def test_an_ending_that_nothing_can_store_is_a_harness_error(answer, claims):
    async def execute(harness, episode, host):
        return Ending(StopReason.FINISHED, answer, claims)

    lines: list[bytes] = []
    record = await rollout(execute, recorder=Recorder(lines.append))
    assert (record.outcome, record.stop_reason) == (Outcome.HARNESS_ERROR, StopReason.ERROR)
    assert Trajectory.from_jsonl(b"".join(lines).decode()).outcome is Outcome.HARNESS_ERROR


@pytest.mark.parametrize("said", [s for s in StopReason if s.value.endswith("_limit") and s != "step_limit"])
async def test_a_limit_is_reached_only_where_the_host_saw_it(said):
    async def execute(harness, episode, host):
        return Ending(said)

    assert (await rollout(execute)).outcome is Outcome.HARNESS_ERROR


async def test_a_limit_that_the_other_side_keeps_to_itself_is_still_what_ended_it():
    async def execute(harness, episode, host):
        await host.complete(ModelRequest("", Conversation()), "main")
        with pytest.raises(LimitReached, match="1 steps"):
            await host.complete(ModelRequest("", Conversation()), "main")
        return Ending(StopReason.FINISHED, "I am done")

    record = await rollout(execute, limits=Limits(steps=1))
    assert (record.outcome, record.stop_reason) == (Outcome.PASSED, StopReason.STEP_LIMIT)
    assert record.model_calls == 1


async def test_a_broken_world_stays_broken_and_is_not_asked_again():
    async def execute(harness, episode, host):
        for name in ("crash", "echo"):
            await host.complete(ModelRequest("", Conversation()), "main")
            with pytest.raises(Failure, match="the world is gone"):
                await host.call(ToolCall("c", name))
        return Ending(StopReason.FINISHED)

    world, verifier = World(), Accept()
    record = await rollout(execute, world=world, verifier=verifier)
    assert (record.outcome, record.stop_reason) == (Outcome.INFRA_ERROR, StopReason.ERROR)
    assert [call.name for call in world.calls] == ["crash"]
    assert verifier.scored == 0


async def test_an_answer_of_the_model_that_nothing_can_store_is_the_models_fault_and_not_kept():
    class Odd(Scripted):
        async def complete(self, request, context) -> ModelResponse:
            return ModelResponse("\ud800")

    async def execute(harness, episode, host):
        await host.complete(ModelRequest("", Conversation()), "main")
        return Ending(StopReason.FINISHED)

    tape = Cassette("s")
    record = await rollout(execute, models=ModelConfig(Odd()), tape=ResponseTape(tape))
    assert record.outcome is Outcome.INFRA_ERROR
    assert record.error.startswith("Failure: model")
    assert len(tape) == 0


async def test_a_rollout_that_was_cut_off_closes_its_world():
    async def execute(harness, episode, host):
        await asyncio.Event().wait()

    world = World()
    running = asyncio.ensure_future(rollout(execute, world=world))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert world.closed == 1


async def test_a_rollout_out_of_time_is_verified_and_says_so():
    async def execute(harness, episode, host):
        await asyncio.Event().wait()

    record = await rollout(execute, limits=Limits(wall_s=0.01))
    assert (record.outcome, record.stop_reason) == (Outcome.PASSED, StopReason.WALL_LIMIT)


async def test_a_repeated_rollout_counts_as_made_what_it_asked_itself_and_as_replayed_what_another_did():
    async def execute(harness, episode, host):
        for text in ("a", "b"):
            await host.complete(ModelRequest(text, Conversation()), "main")
        return Ending(StopReason.FINISHED)

    tape = ResponseTape(Cassette("s"))
    own = await rollout(execute, tape=tape)
    repeated = await rollout(execute, tape=tape)
    assert (own.model_calls, own.replayed_calls) == (repeated.model_calls, repeated.replayed_calls) == (2, 0)
    other = await rollout(execute, tape=tape, key="r2")
    assert (other.model_calls, other.replayed_calls) == (2, 2)


def test_every_source_has_one_outcome():
    blamed = {source for source in Source if source.outcome is Outcome.HARNESS_ERROR}
    assert blamed == {Source.PROCESSOR, Source.TOOL, Source.WORKER}
