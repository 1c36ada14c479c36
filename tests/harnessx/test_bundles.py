"""Named harnesses: each runs, and any of them compose."""

from __future__ import annotations

import itertools

import pytest

from harnessx import HarnessConfig, Hook, ModelConfig, Outcome, StopReason, Task, bundles, diff
from harnessx.models.scripted import Scripted
from harnessx.processors import RunningNotes, StepBudgetReminder

ALL = (bundles.minimal, bundles.reliability, bundles.coding, bundles.research)


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(ALL, 2)))
def test_any_two_bundles_compose(first, second):
    both = first() | second()
    assert len(both.processors) == len(first().processors) + len(second().processors)


def test_all_bundles_compose_into_one_that_survives_yaml():
    whole = bundles.minimal() | bundles.reliability() | bundles.coding() | bundles.research()
    assert HarnessConfig.from_yaml(whole.to_yaml()) == whole


async def test_the_example_of_the_design_runs():
    harness = (bundles.minimal() | bundles.reliability()).insert(Hook.BEFORE_MODEL, StepBudgetReminder(limit=20))
    lighter = harness.replace("memory", RunningNotes(max_items=8))
    assert diff(harness, lighter).apply(harness) == lighter
    agent = ModelConfig(main=Scripted(["289"])).agentic(lighter)
    trajectory = await agent.run(Task("What is 17 * 23?"))
    assert (trajectory.stop_reason, trajectory.answer) == (StopReason.FINISHED, "289")
    request = trajectory.steps[0].exchanges[0]
    assert request.system.startswith("You are an agent")
    assert request.sent[-1].text == "This is step 1 of 20: 19 more after it."


@pytest.mark.parametrize("bundle", ALL)
async def test_every_bundle_brings_an_answer_through(bundle):
    trajectory = await ModelConfig(main=Scripted(["forty two"], loop=True)).agentic(bundle()).run("Question?")
    assert trajectory.error == ""
    assert (trajectory.outcome, trajectory.answer) == (Outcome.UNSCORED, "forty two")
