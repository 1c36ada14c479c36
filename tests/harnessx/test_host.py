"""What the host sees, counts and keeps, whatever the loop on the other side does."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from loop_drive import ECHO, World

from harnessx.errors import Failure, LimitReached, Outcome, StopReason
from harnessx.harness import Limits
from harnessx.messages import Conversation, Message, ModelRequest, ModelResponse, ToolCall
from harnessx.model_config import ModelConfig, Models
from harnessx.models.base import CallContext
from harnessx.models.scripted import Scripted
from harnessx.runner.host import Host, Recorder
from harnessx.trajectory import Trajectory

ASK = ModelRequest("", Conversation([Message("user", "hi")]))


@dataclass
class Counting:
    """Answers with how it was asked."""

    asked: list[CallContext] = field(default_factory=list)
    name: str = "counting"
    digest: str = "counting"

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        self.asked.append(context)
        return ModelResponse(f"{context.path} {context.n} {len(self.asked)}")


class Shelf:
    """A tape in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[ModelResponse, str]] = {}

    def get(self, key: str) -> tuple[ModelResponse, str] | None:
        return self.kept.get(key)

    def put(self, key: str, origin: str, response: ModelResponse) -> None:
        self.kept.setdefault(key, (response, origin))


def host(model=None, *, limits: Limits | None = None, world=None, **options) -> Host:
    models = Models(ModelConfig(model or Scripted(["hello"], loop=True)))
    return Host(Trajectory("t"), models, world, limits or Limits(), **options)


async def test_the_step_limit_counts_requests_of_the_main_path_and_parts_of_a_split():
    one = host(limits=Limits(steps=3))
    await one.complete(ASK, "main")
    await one.complete(ASK, "main[1]")
    await one.complete(ASK, "processor:judge")
    await one.complete(ASK, "main")
    with pytest.raises(LimitReached) as caught:
        await one.complete(ASK, "main")
    assert caught.value.reason is StopReason.STEP_LIMIT
    await one.complete(ASK, "processor:judge")
    one.finish()
    assert [[e.path for e in step.exchanges] for step in one.record.steps] == [
        ["main", "main[1]", "processor:judge"],
        ["main", "processor:judge"],
    ]


async def test_the_same_question_in_the_same_place_gets_the_same_answer_from_the_tape():
    model, shelf = Counting(), Shelf()
    first = host(model, tape=shelf, origin="a")
    answers = [await first.complete(ASK, path) for path in ("main", "main", "processor:judge")]
    assert [a.content for a in answers] == ["main 0 1", "main 1 2", "processor:judge 0 3"]
    second = host(model, tape=shelf, origin="b")
    assert [await second.complete(ASK, path) for path in ("main", "main", "processor:judge")] == answers
    assert (len(model.asked), second.record.model_calls, second.record.replayed_calls) == (3, 3, 3)
    assert (await second.complete(ASK, "main")).content == "main 2 4"


async def test_what_a_rollout_asked_before_it_died_counts_as_asked_by_it():
    shelf = Shelf()
    await host(Counting(), tape=shelf, origin="a").complete(ASK, "main")
    again = host(Counting(), tape=shelf, origin="a")
    await again.complete(ASK, "main")
    assert (again.record.model_calls, again.record.replayed_calls) == (1, 0)


async def test_nothing_happens_after_the_end_of_the_episode():
    world = World()
    one = host(world=world)
    assert (await one.call(ToolCall("a", "end"))).done
    late = await one.call(ToolCall("b", "echo"))
    assert (late.content, late.is_error, len(world.calls)) == ("The episode is over.", True, 1)


async def test_without_a_world_no_tool_runs():
    assert (await host().call(ToolCall("a", "echo"))).content == "There is no environment."


async def test_what_the_agent_did_wrong_is_in_the_record():
    one = host(world=World())
    await one.complete(ASK, "main")
    result = await one.call(ToolCall("a", "refuse"))
    one.finish()
    (exchange,) = one.record.steps[0].calls
    assert (exchange.content, exchange.is_error) == (result.content, True) == ("not like that", True)
    assert one.failure is None


async def test_a_role_nobody_serves_is_the_harnesss_fault():
    with pytest.raises(Failure, match="no role 'judge'; roles: main") as caught:
        await host().complete(ModelRequest("", ASK.messages, (), "judge"), "processor:judge")
    assert caught.value.outcome is Outcome.HARNESS_ERROR


async def test_a_file_that_cannot_be_written_is_the_worlds_fault():
    def full(line: bytes) -> None:
        if b"step" in line:
            raise OSError("no space left")

    one = host(recorder=Recorder(full))
    await one.complete(ASK, "main")
    with pytest.raises(Failure, match="trajectory file: OSError: no space left") as caught:
        await one.complete(ASK, "main")
    assert caught.value.outcome is Outcome.INFRA_ERROR
    assert one.failure is caught.value


@pytest.mark.parametrize(("contents", "keep"), [(True, True), (True, False), (False, True)])
async def test_the_recorder_decides_what_is_kept(contents: bool, keep: bool):
    lines: list[bytes] = []
    one = host(Scripted([ECHO, "bye"]), recorder=Recorder(lines.append, keep=keep, contents=contents))
    await one.complete(ASK, "main")
    one.finish()
    one.write_ending()
    assert (len(lines), len(one.record.steps)) == (2 + contents, int(keep))
    assert one.record.usage.total_tokens == 9
