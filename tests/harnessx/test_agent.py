"""An agent from the outside: ``ModelConfig(…).agentic(harness).run(task)``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from loop_drive import ECHO, Accept, World, harness

from harnessx import HarnessConfig, Hook, ModelConfig, Outcome, Slots, StopReason, Task
from harnessx.errors import HarnessInvalid
from harnessx.models.scripted import Scripted
from harnessx.processors.budget import StepBudgetReminder
from harnessx.processors.control import LoopDetection
from harnessx.trajectory import Trajectory

HARNESS = HarnessConfig([StepBudgetReminder(limit=9), LoopDetection()])


async def test_an_agent_answers_and_without_a_verifier_nothing_is_claimed():
    record = await ModelConfig(Scripted(["391"])).agentic(HARNESS).run("What is 17 * 23?")
    assert (record.answer, record.outcome, record.stop_reason) == ("391", Outcome.UNSCORED, StopReason.FINISHED)
    assert record.harness == HARNESS.digest


async def test_a_trajectory_file_is_the_record(tmp_path: Path):
    agent = ModelConfig(Scripted([ECHO, "done"])).agentic(HARNESS)
    path = tmp_path / "runs" / "one.jsonl"
    record = await agent.run(Task("Say hello."), World(), Accept(), trajectory=path)
    read = Trajectory.from_jsonl(path.read_text(encoding="utf-8"))
    read.wall_s = record.wall_s
    assert (read, record.outcome) == (record, Outcome.PASSED)


async def test_a_summary_tracer_writes_no_contents(tmp_path: Path):
    quiet = HarnessConfig(slots=Slots(tracer="summary"))
    record = await ModelConfig(Scripted([ECHO, "done"])).agentic(quiet).run("x", World(), trajectory=tmp_path / "t")
    written = (tmp_path / "t").read_text()
    assert ("echo: hello" in written, len(written.splitlines())) == (False, 2)
    assert Trajectory.from_jsonl(written).usage == record.usage


async def test_agents_at_once_do_not_share_processors():
    agent = ModelConfig(Scripted([ECHO, ECHO, ECHO, ECHO, "done"])).agentic(HARNESS)
    records = await asyncio.gather(*(agent.run(Task("Say hello.", f"t{i}"), World(), Accept()) for i in range(5)))
    said = [[m.text for s in r.steps for e in s.exchanges for m in e.sent] for r in records]
    assert all(texts == said[0] for texts in said)
    assert any("has given the same result 3 times" in text for text in said[0])


def test_code_of_a_harness_does_not_run_in_this_process():
    with pytest.raises(HarnessInvalid, match=r"use harnessx\.runner\.pool\.Pool"):
        ModelConfig(Scripted(["x"])).agentic(harness("yield event", Hook.STEP_END))


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"litellm", "wandb", "datasets", "pandas", "torch", "numpy", "ray", "yaml", "hydra", "libcst"}
    code = f"import sys, harnessx; print(sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
