"""Who is screened how much: all candidates on the first attempt, the best of them on the others."""

from __future__ import annotations

import random

from aegis.evaluator import EVOLVE, Evaluator
from aegis.gate.screen import screen
from aegis.history import History, Tried
from aegis.record import CandidateRecord, Decision
from aegis.testbed.population import Population
from aegis.testbed.runner import SimulatedRunner
from aegis.testbed.simulate import candidate as simulated_candidate
from harnessx.harness import HarnessConfig
from harnessx.trajectory import Step, Trajectory


async def screened(attempts: int, finalists: int | None = None):
    """The screenings of two large gains, a loss and an edit that changes nothing, in the order they came out."""
    rng = random.Random("screen")
    population = Population.drawn(rng)
    adds = {"good": (0.8, 0.1), "best": (0.8, 0.2), "idle": (0.0, 0.0), "loss": (0.8, -0.15)}
    made = {name: population.useful(name, rng, scope=scope, gain=gain) for name, (scope, gain) in adds.items()}
    runner = SimulatedRunner(population, made, 0)
    evaluator = Evaluator(runner, runner.tasks())
    parent, read = HarnessConfig(), Trajectory("evolve-0", steps=[Step(1)])
    candidates = [
        simulated_candidate(effect, parent, 1, number, read) for number, effect in enumerate(made.values(), start=1)
    ]
    baseline = await evaluator.evaluate(parent, EVOLVE, 2)
    names = {c.id: name for c, name in zip(candidates, made, strict=True)}
    seen = await screen(evaluator, baseline, candidates, attempts, finalists)
    return {names[candidate]: screening for candidate, screening in seen.items()}, len(evaluator.tasks[EVOLVE])


async def test_only_finalists_are_screened_on_the_second_attempt_and_come_first():
    seen, tasks = await screened(2, finalists=2)
    assert {name: screening.attempts // tasks for name, screening in seen.items()} == {
        "best": 2, "good": 2, "loss": 1, "idle": 1,
    }  # fmt: skip
    assert set(list(seen)[:2]) == {"best", "good"}


async def test_without_finalists_all_are_screened_alike_and_the_first_attempt_counts_the_same():
    everyone, tasks = await screened(2)
    assert {screening.attempts for screening in everyone.values()} == {2 * tasks}
    once, _ = await screened(1)
    raced, _ = await screened(2, finalists=2)
    assert (raced["loss"].net, raced["idle"].net) == (once["loss"].net, once["idle"].net)
    assert raced["best"].net == everyone["best"].net > once["best"].net


async def test_what_changes_nothing_takes_no_place_from_a_candidate_that_seems_to_lose():
    seen, tasks = await screened(2, finalists=3)
    assert seen["loss"].net < seen["idle"].net == 0
    assert (seen["loss"].attempts, seen["idle"].attempts) == (2 * tasks, tasks)
    assert list(seen)[-1] == "idle"


def test_a_candidate_that_was_not_tested_may_come_back_and_one_that_was_ruled_on_may_not():
    history = History(incumbents=["h0"])
    for decision in Decision:
        record = CandidateRecord("C", 1, (), "t", "d", "p", decision, "confirmation", "r", None)
        history.tried.append(Tried(record, "lever", decision.value))
    assert [d for d in Decision if not history.seen(d.value)] == [Decision.NOT_TESTED]
    assert history.seen("h0")
