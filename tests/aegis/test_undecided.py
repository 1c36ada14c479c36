"""Edits that a gate leaves undecided: what they keep, and what may ship together."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest

from aegis.candidate import Candidate
from aegis.evaluator import EVOLVE, VALIDATION, Evaluator
from aegis.gate.base import Finding
from aegis.gate.bundle import bundle
from aegis.gate.config import GateConfig
from aegis.gate.confirmation import Confirmation, Draws
from aegis.gate.gate import Gate
from aegis.record import Decision
from aegis.statistics import PairedTest, Spending, Verdict
from aegis.testbed.population import Population
from aegis.testbed.runner import SimulatedRunner, edit_of
from aegis.testbed.simulate import candidate as simulated_candidate
from harnessx.harness import HarnessConfig
from harnessx.trajectory import Step, Trajectory


def plan(**effects):
    """A simulated population, the gate's parts over it, and one candidate per effect."""
    rng = random.Random("undecided")
    population = Population.drawn(rng)
    made = {name: population.useful(name, rng, scope=0.5, gain=gain) for name, gain in effects.items()}
    runner = SimulatedRunner(population, made, 0)
    evaluator = Evaluator(runner, runner.tasks())
    ledger = Spending(0.05, 20)
    confirmation = Confirmation(evaluator, ledger, Draws(evaluator.tasks[VALIDATION], 0),
                                cap=120, batch=24, run_cap=10_000, mei=0.001)  # fmt: skip
    parent = HarnessConfig()
    candidates = [
        simulated_candidate(effect, parent, 1, number, Trajectory("evolve-0", steps=[Step(1)]))
        for number, effect in enumerate(made.values(), start=1)
    ]
    return SimpleNamespace(evaluator=evaluator, ledger=ledger, confirmation=confirmation, candidates=candidates,
                           parent=parent, runner=runner)  # fmt: skip


async def test_evidence_is_carried_over_only_if_nothing_has_changed():
    world = plan(small=0.03)
    (small,) = world.candidates
    first = world.confirmation.open(small)
    await world.confirmation.run(world.parent, [first])
    assert first.test.verdict is Verdict.UNDECIDED
    world.confirmation.suspend(first)
    spent, evidence, pairs = world.ledger.opened, first.test.e_value, first.pairs
    again = world.confirmation.open(small)
    assert (again.test.e_value, again.pairs, world.ledger.opened) == (evidence, pairs, spent)
    await world.confirmation.run(world.parent, [again])
    assert again.pairs > pairs
    world.confirmation.suspend(again)
    other = edit_of(replace(world.runner.effects(small.harness)[0], name="small")).apply(world.parent)
    moved = replace(small, parent=other)  # the same harness against another incumbent
    fresh = world.confirmation.open(moved)
    assert (fresh.test.e_value, fresh.pairs, world.ledger.opened) == (1.0, 0, spent + 1)
    world.confirmation.forget()  # the provider has changed
    anew = world.confirmation.open(small)
    assert (anew.test.e_value, world.ledger.opened) == (1.0, spent + 2)


async def test_a_ship_that_may_not_be_is_not_counted_and_the_others_go_on_as_they_stand():
    world = plan(fast=0.2, slow=0.1)
    world.confirmation._cap, world.confirmation._slack = 2000, 9.0
    settings = GateConfig(approval="deny", risk_threshold="prompt", calibration=0)
    gate = Gate(settings, world.evaluator, world.confirmation)
    gate._approve = Denied("fast")  # type: ignore[method-assign]
    baseline = await world.evaluator.evaluate(world.parent, EVOLVE, 1)
    report = await gate.check(world.candidates, baseline, world.parent, frozenset({"evolve-0_a0#step_1"}))
    by_title = {r.candidate.manifest.title: r for r in report.rulings}
    assert (by_title["fast"].decision, by_title["fast"].check) == (Decision.REJECT, "approval")
    assert by_title["slow"].decision is Decision.SHIP
    assert by_title["slow"].pairs > by_title["fast"].pairs
    assert (world.ledger.opened, world.ledger.shipped) == (2, 1)


async def test_what_is_screened_below_the_promise_is_not_confirmed_and_may_come_back():
    world = plan(good=0.2, poor=0.005)
    world.confirmation._cap, world.confirmation._slack = 2000, 9.0
    gate = Gate(GateConfig(calibration=0, promise=5), world.evaluator, world.confirmation)
    baseline = await world.evaluator.evaluate(world.parent, EVOLVE, 1)
    report = await gate.check(world.candidates, baseline, world.parent, frozenset({"evolve-0_a0#step_1"}))
    good, poor = report.rulings
    assert good.decision is Decision.SHIP
    assert (poor.decision, poor.pairs) == (Decision.NOT_TESTED, 0)
    assert poor.reason == f"screened {poor.screening.net:+d} of 103 attempts, too little for a confirmation"
    assert -4 < poor.screening.net < 5 <= good.screening.net
    assert world.ledger.opened == 1


class Denied:
    """Lets everything pass but one title."""

    def __init__(self, title: str) -> None:
        self._title = title

    async def __call__(self, candidate: Candidate) -> Finding | None:
        return Finding("approval", "denied") if candidate.manifest.title == self._title else None


def test_a_test_that_broke_does_not_go_on():
    test = PairedTest(0.01, cap=200)
    for _ in range(2):
        test.update(None, True)
    assert test.verdict is Verdict.UNDECIDED
    with pytest.raises(ValueError, match="pairs missing"):
        test.resume(100)


def test_a_test_that_fell_behind_early_draws_no_more_than_a_cap_when_it_goes_on():
    test = PairedTest(0.01, cap=200, mei=0.001, slack=0.3)
    while test.verdict is None:
        test.update(*((True, False) if len(test.trace) % 2 else (True, True)))
    assert (test.verdict, test.resumable) == (Verdict.UNDECIDED, True)
    assert test.trace[-1].pairs < 100
    test.resume(200)
    assert test.cap == test.trace[-1].pairs + 200


def test_only_an_undecided_test_goes_on():
    test = PairedTest(0.5, cap=4)
    with pytest.raises(ValueError, match="not over"):
        test.resume(4)
    for _ in range(4):
        test.update(False, True)
        if test.verdict is not None:
            break
    assert test.verdict is Verdict.SHIP
    with pytest.raises(ValueError, match="only an undecided test"):
        test.resume(4)


async def test_edits_that_are_undecided_alone_may_ship_together():
    world = plan(one=0.08, two=0.08, three=0.08)
    gate = Gate(GateConfig(cap=120, batch=24, mei=0.001, slack=9.0, max_trials=3, calibration=0), world.evaluator,
                world.confirmation)  # fmt: skip
    baseline = await world.evaluator.evaluate(world.parent, EVOLVE, 1)
    report = await gate.check(world.candidates, baseline, world.parent, frozenset({"evolve-0_a0#step_1"}))
    alone = [r for r in report.rulings if r.candidate.id != "C-R1-B1"]
    (together,) = [r for r in report.rulings if r.candidate.id == "C-R1-B1"]
    assert {r.decision for r in alone} == {Decision.UNDECIDED}
    assert together.decision is Decision.SHIP
    assert together.alpha == 0.05 / 20
    assert world.ledger.opened == 4  # an index of its own
    assert report.incumbent == together.candidate.harness
    assert len(together.candidate.harness.assets) >= 2


def test_edits_that_exclude_each_other_or_show_nothing_are_not_bundled():
    world = plan(one=0.06, two=0.06)
    one, two = world.candidates
    assert bundle([(one, 3.0), (two, 0.9)], world.parent) is None
    assert bundle([(one, 3.0), (one, 2.0)], world.parent) is None
    made = bundle([(one, 2.0), (two, 3.0)], world.parent)
    assert made.manifest.title == "two; one"
    assert made.harness == two.proposal.edit.apply(one.harness)
