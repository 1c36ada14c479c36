"""A dead loop is put to a person, or ended with its own reason; a rollback takes the conversation along."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from loop_drive import ECHO, Accept, World, run, texts
from worker_drive import WALL

from harnessx.errors import Outcome, StopReason
from harnessx.harness import HarnessConfig, Limits, Slots
from harnessx.model_config import ModelConfig, Models
from harnessx.models.scripted import Scripted
from harnessx.processors import ConversationRollback, Takeover
from harnessx.runner.cassette import Cassette, ResponseTape
from harnessx.runner.desk import FileDesk
from harnessx.runner.isolation import Workers
from harnessx.runner.rollout import Rollout, run_rollout
from harnessx.spec import Spec
from harnessx.tasks import Task

LOOPING = HarnessConfig([Takeover(repeats=3)], Slots(limits=Limits(steps=12)))


def models(folder: Path | None = None, patience_s: float = 20.0) -> ModelConfig:
    """A model that repeats itself, and a desk."""
    desk = {} if folder is None else {"desk": FileDesk(str(folder), patience_s)}
    return ModelConfig(Scripted([ECHO], loop=True), **desk)


async def someone(folder: Path, *answers: str) -> list[str]:
    """Answers the first questions; what was asked."""
    asked: list[str] = []
    for answer in answers:
        while not (fresh := [f for f in sorted(folder.glob("*.json")) if not f.with_suffix(".answer").exists()]):
            await asyncio.sleep(0.01)
        asked.append(json.loads(fresh[0].read_text())["asked"])
        fresh[0].with_suffix(".answer").write_text(answer)
    return asked


async def test_unattended_a_dead_loop_ends_at_once_with_its_own_reason() -> None:
    record = await run(LOOPING, models=models())
    assert record.stop_reason is StopReason.STUCK
    assert record.outcome is Outcome.PASSED, "a stopped rollout is verified"
    assert len(record.steps) == 3


async def test_nobody_at_the_desk_is_not_waited_for_for_ever(tmp_path) -> None:
    began = time.monotonic()
    record = await run(LOOPING, models=models(tmp_path, 0.2))
    assert record.stop_reason is StopReason.STUCK
    assert time.monotonic() - began < 15
    assert len(list(tmp_path.glob("*.json"))) == 1


async def test_what_a_person_says_is_put_before_the_model_and_the_next_loop_but_one_is_the_end(tmp_path) -> None:
    rollout = asyncio.ensure_future(run(LOOPING, models=models(tmp_path)))
    asked = await someone(tmp_path, "Open the door.", "Then give up.")
    record = await rollout
    assert "The task: Say hello." in asked[0]
    assert asked[0].count("echo hello -> echo: hello") == 3
    assert record.stop_reason is StopReason.STUCK
    assert len(record.steps) == 9
    said = [m.text for step in record.steps for e in step.exchanges if e.path == "main" for m in e.sent]
    assert sum("A person who watches says: Open the door." in text for text in said) >= 1


async def test_an_answer_is_recorded_and_nobody_is_asked_twice(tmp_path) -> None:
    tape = Cassette("t")
    first = asyncio.ensure_future(run(LOOPING, models=models(tmp_path), tape=ResponseTape(tape)))
    await someone(tmp_path, "Go on.", "Go on.")
    await first
    for file in tmp_path.iterdir():
        file.unlink()
    again = await run(LOOPING, models=models(tmp_path), tape=ResponseTape(tape))
    assert not list(tmp_path.iterdir())
    assert len(again.steps) == len((await first).steps) == 9


async def test_behind_the_wall_a_person_is_asked_through_the_host(tmp_path) -> None:
    source = "from harnessx.processors.takeover import Takeover as T\nfrom dataclasses import dataclass\n"
    source += "from harnessx.hooks import Hook\n@dataclass\nclass P(T):\n"
    source += "    hooks = (Hook.AFTER_TOOL, Hook.BEFORE_MODEL)\n"
    harness = HarnessConfig([Spec("assets/p.py:P")], Slots(limits=Limits(steps=8)), {"assets/p.py": source})
    workers = Workers(WALL)
    try:
        order = Rollout(harness, Task("Say hello.", "t"))
        play = run_rollout(order, Models(models(tmp_path)), World(), Accept(), execute=workers.execute)
        playing = asyncio.ensure_future(play)
        (asked,) = await someone(tmp_path, "Stop it.")
        record = await playing
    finally:
        workers.close()
    assert "goes in circles" in asked
    assert record.stop_reason is StopReason.STEP_LIMIT


@pytest.mark.parametrize("params", [{"repeats": 1}, {"repeats": 30}, {"most": -1}, {"shown": 0}])
def test_parameters_that_make_no_sense_are_refused(params) -> None:
    with pytest.raises(ValueError, match="must hold"):
        Takeover(**params)


async def test_a_rollback_takes_workspace_and_conversation_back_and_keeps_the_lesson() -> None:
    harness = HarnessConfig([ConversationRollback()], Slots(workspace="files", limits=Limits(steps=9)))
    script = [
        {"tool": "write_file", "arguments": {"path": "a", "content": "good"}},
        {"tool": "checkpoint", "arguments": {"label": "start"}},
        {"tool": "write_file", "arguments": {"path": "a", "content": "bad"}},
        {"tool": "rollback", "arguments": {"label": "start", "reason": "bad does not work"}},
    ]
    record = await run(harness, script)
    back = record.steps[4].exchanges[0]
    shown = [message.text for message in back.sent]
    assert back.kept + len(back.sent) == 6, "two turns of two messages, the task, and the lesson"
    assert shown[-1] == "Everything after checkpoint start was undone. What was learnt since: bad does not work"
    assert HarnessConfig.from_yaml(harness.to_yaml()) == harness
    assert all("bad" not in text for text in texts(record)[:5])


async def test_a_rollback_that_failed_changes_no_conversation() -> None:
    harness = HarnessConfig([ConversationRollback()], Slots(workspace="files", limits=Limits(steps=9)))
    script = [{"tool": "rollback", "arguments": {"label": "none"}}, "over"]
    record = await run(harness, script)
    assert "there is no checkpoint" in texts(record)[-1]
    assert len(texts(record)) == 3
