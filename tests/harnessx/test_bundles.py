"""Named harnesses: each runs, and any of them compose."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from loop_drive import run

from harnessx import HarnessConfig, Hook, ModelConfig, Outcome, StopReason, Task, bundles, diff, docs
from harnessx.errors import UserError
from harnessx.models.scripted import Scripted
from harnessx.processors import RunningNotes, StepBudgetReminder

ALL = tuple(bundles.BUNDLES.values())
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(ALL, 2)))
def test_any_two_bundles_compose(first, second):
    both = first() | second()
    assert len(both.processors) == len(first().processors) + len(second().processors)


def test_all_bundles_compose_into_one_that_survives_yaml():
    whole = bundles.load("|".join(bundles.BUNDLES))
    assert len(whole.processors) == sum(len(bundle().processors) for bundle in ALL)
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


def test_bundles_are_loaded_by_name_alone_and_together():
    assert {"minimal", "coding", "research", "assistant", "web"} <= bundles.BUNDLES.keys()
    assert all(bundles.load(name) == bundle() for name, bundle in bundles.BUNDLES.items())
    assert bundles.load("minimal | web") == bundles.minimal() | bundles.web()
    with pytest.raises(UserError, match="no bundle is called 'codeing'; bundles: minimal, reliability, coding"):
        bundles.load("minimal|codeing")


async def test_all_of_them_at_once_run_with_a_world():
    script = [{"tool": "echo", "arguments": {"text": "hello"}}, "done"]
    record = await run(bundles.load("|".join(bundles.BUNDLES)), script)
    assert (record.error, record.stop_reason) == ("", StopReason.FINISHED)
    assert "delegate" in str(record.steps[0].exchanges[0].system)


def test_the_pages_are_current_and_name_every_part_and_parameter():
    assert docs.outdated(ROOT / docs.PLACE) == []
    for name, bundle in bundles.BUNDLES.items():
        text = docs.page(name)
        assert bundle.__doc__ in text
        for spec in bundle().processors:
            assert f"## {spec.name}\n" in text
            assert all(f"* `{parameter}` (" in text for parameter in spec.params)


def test_a_page_that_differs_is_found_and_one_too_many_too(tmp_path):
    for name, text in docs.pages().items():
        (tmp_path / name).write_text(text)
    assert docs.outdated(tmp_path) == []
    (tmp_path / "web.md").write_text("old")
    (tmp_path / "gone.md").write_text("old")
    (tmp_path / "coding.md").unlink()
    assert docs.outdated(tmp_path) == ["coding.md", "gone.md", "web.md"]
