"""A gain that a wider budget buys is named, kept with its price, and shipped only where that is allowed."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from evolve_drive import candidates, code, edit, evolved, good_code, insert, script, unscreened

from aegis.evaluator import EVOLVE, Evaluator
from aegis.gate.cost import CostMatched, Matched, Tolerance
from aegis.gate.screen import screen
from aegis.record import ArmCosts, CandidateRecord, CostPoint
from aegis.testbed.population import Population
from aegis.testbed.runner import SimulatedRunner, edit_of
from aegis.testbed.simulate import candidate
from harnessx.harness import HarnessConfig
from harnessx.trajectory import Step, Trajectory

PASSES = "def test_it(build):\n    assert build\n"
SAMPLES = """\
from dataclasses import dataclass, replace

from harnessx.hooks import Hook
from harnessx.messages import ModelRequest
from harnessx.processor import Processor


@dataclass
class X(Processor):
    hooks = (Hook.TASK_START, Hook.BEFORE_MODEL)
    spending = True

    async def process(self, event):
        if hasattr(event, "system_prompt"):
            WHEN
        elif self.spending:
            for sample in range(4):
                await self.ctx.complete("main", ModelRequest(f"Sample {sample}.", event.messages))
        yield event
"""
"""Best of several samples: the agent's own request, and four more, at every step."""


def sampler(name: str, when: str = "self.spending = True"):
    """The good edit, with samples beside it."""
    made = code(name, SAMPLES.replace("WHEN", when), PASSES)
    good = good_code()
    made["edit"] += good["edit"]
    made["smoke"] |= good["smoke"]
    made["file_changes"] += good["file_changes"]
    return made


STEPS = {"op": "set_slot", "path": "limits.steps", "value": 60}


@pytest.fixture(scope="module")
def priced(tmp_path_factory):
    """Budgets of every kind, widened; nothing is allowed."""
    folder = tmp_path_factory.mktemp("priced")
    proposals = [
        edit("steps", STEPS, insert("Instructions", text="Go on.")),
        edit("tokens", insert("Instructions", text="Consider every single word of this. " * 400)),
        sampler("samples"),
        sampler("quiet_samples", f"self.spending = {unscreened()}"),
    ]
    arguments = ("rounds=1", "gate.max_token_ratio=2", "gate.veto=99", "gate.alpha=0.9", "gate.cap=48")
    return evolved(folder / "run", script(folder / "script.yaml", {"propose": proposals}), *arguments)


@pytest.mark.parametrize(
    ("title", "named"),
    [
        ("steps", "steps 30 -> 60"),
        ("tokens", "times the tokens (at most 2)"),
        ("samples", "times the model calls (at most 3)"),
        ("samples", "model calls a task by processors, 0.0 before"),
    ],
)
def test_a_bought_gain_is_rejected_with_the_budget_named_and_its_price_kept(priced, title, named):
    record = candidates(priced)[title]
    assert (record["verdict"], record["check"]) == ("reject", "budget")
    assert named in record["reason"]
    assert any(named in budget for budget in record["wider"])
    costs = CandidateRecord.from_json(record).costs
    assert costs is not None
    assert costs.incumbent.attempts == costs.candidate.attempts == 6
    assert 0 <= costs.incumbent.accuracy <= 1
    assert costs.candidate.tokens > 0
    passed = round(6 * costs.candidate.accuracy)
    assert f"{passed} instead of {round(6 * costs.incumbent.accuracy)} of 6 screened attempts pass" in record["reason"]


def test_what_keeps_quiet_on_evolve_tasks_and_spends_on_others_is_found_by_its_confirming_pairs(priced):
    record = candidates(priced)["quiet_samples"]
    assert (record["verdict"], record["check"]) == ("reject", "budget")
    assert "confirming pairs pass" in record["reason"]
    assert record["wider"] == []  # the screened attempts show nothing
    assert record["e_value"] >= 1 / record["alpha"]  # it would have shipped


def test_a_bought_gain_ships_where_budget_is_allowed_and_its_record_says_what_it_costs(tmp_path):
    propose = [sampler("samples")]
    folder = evolved(tmp_path / "run", script(tmp_path / "script.yaml", {"propose": propose}), "rounds=1",
                     "gate.allow_budget=true", "gate.veto=99", "gate.alpha=0.9", "gate.cap=48")  # fmt: skip
    record = candidates(folder)["samples"]
    assert record["verdict"] == "ship"
    assert any("model calls (at most 3)" in budget for budget in record["wider"])
    costs = CandidateRecord.from_json(record).costs
    assert costs is not None
    assert costs.candidate.side_calls >= 4 * 0.9 * costs.candidate.steps
    assert costs.incumbent.side_calls == 0


def test_what_two_edits_add_up_to_is_held_against_h0(tmp_path):
    """Each is within what one edit may use."""
    first = good_code()
    first["edit"].append(insert("Instructions", text="Consider every single word of this. " * 60))
    second = edit("more", insert("Instructions", text="Consider every single word of that. " * 100))
    meta = script(tmp_path / "script.yaml", {"propose": [first]}, {"propose": [second]})
    folder = evolved(tmp_path / "run", meta, "rounds=2", "gate=seesaw", "gate.drift_pairs=0")
    one, two = (CandidateRecord.from_json(record) for record in candidates(folder).values())
    assert (one.verdict, two.verdict, two.check) == ("ship", "reject", "budget")
    assert one.costs is not None
    assert two.costs is not None
    alone = [costs.candidate.tokens / costs.incumbent.tokens for costs in (one.costs, two.costs)]
    assert max(alone) < 3 < alone[0] * alone[1]
    (wider,) = two.wider
    assert wider == f"{alone[0] * alone[1]:.2f} times the tokens of H_0 (at most 3)"


def point(**values: float) -> CostPoint:
    return CostPoint(**{"attempts": 10, "accuracy": 0.5, "tokens": 1000.0, "model_calls": 10.0, "side_calls": 0.0,
                        "tool_calls": 10.0, "steps": 10.0, **values})  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize(
    ("used", "named"),
    [
        ({}, []),
        ({"tokens": 1490.0, "model_calls": 14.9, "tool_calls": 14.9}, []),
        ({"tokens": 1510.0}, ["1.51 times the tokens (at most 1.5)"]),
        ({"tool_calls": 40.0}, ["4.00 times the tool calls (at most 1.5)"]),
        (
            {"model_calls": 20.0, "side_calls": 10.0},
            ["2.00 times the model calls (at most 1.5)", "10.0 model calls a task by processors, 0.0 before"],
        ),
    ],
)
def test_each_budget_has_its_ratio(used, named):
    assert Tolerance(1.5, 1.5).exceeded(ArmCosts(point(), point(**used))) == named


async def test_a_candidate_is_screened_beside_h0_where_that_is_another():
    population = Population.drawn(random.Random(0))
    dear = {name: replace(population.inert(name), tokens=1.4) for name in ("one", "two")}
    runner = SimulatedRunner(population, dear, 0)
    evaluator, h0 = Evaluator(runner, runner.tasks()), HarnessConfig()
    trace = Trajectory("evolve-0", steps=[Step(1)])
    parents = {"one": h0, "two": edit_of(dear["one"]).apply(h0)}
    for name, parent in parents.items():
        made = candidate(dear[name], parent, 1, 1, trace)
        baseline = await evaluator.evaluate(parent, EVOLVE, 2)
        seen = await screen(evaluator, baseline, [made], 1, origin=h0)
        tight, loose = [await CostMatched(seen, Matched(Tolerance(1.5, 1.5), most), allow_budget=False)(made)
                        for most in (1.9, 2.0)]  # fmt: skip
        assert loose is None
        if name == "one":
            assert (tight, seen[made.id].total) == (None, None)
        else:
            assert tight is not None
            assert tight.reason.startswith(
                "buys its gain with a wider budget: 1.96 times the tokens of H_0 (at most 1.9);"
            )
