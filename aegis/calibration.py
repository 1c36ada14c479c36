"""Null calibration: before round 1 the gate must let pass what is the same (STATISTICS rule 12).

Two copies of H_0 run on pairs of fresh attempts, as incumbent and candidate would, with nothing replayed
between them. Their outcomes give the noise floor, from which follow the smallest gain the gate can
confirm and the price of each. Half as many pairs hold H_0 against an edit that says nothing and changes
every request, run as the gate runs its pairs. A gate that ships nulls more often than it states, or finds
that they differ or harm a cluster of tasks, is refused: no later verdict would mean anything. Edits whose
effects sum to zero, and rare harm, are the testbed's nulls (`aegis.testbed.null`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import TypeAlias

from aegis.evaluator import SEALED, VALIDATION, Evaluator
from aegis.gate.config import GateConfig
from aegis.gate.confirmation import Draws
from aegis.gate.pairs import run_pairs
from aegis.outage import Outage, check_some_ran
from aegis.record_calibration import Calibration, InertPairs
from aegis.statistics import ClusterHarm, EProcess, Harm, Interval, Superiority, bootstrap_mean, clopper_pearson
from aegis.statistics.power import TYPICAL_NOISE, detectable_gains, null_ship_rate, power_table, touching
from aegis.statistics.prices import prices
from harnessx.algebra import Edit, Insert
from harnessx.errors import UserError
from harnessx.harness import HarnessConfig
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.spec import Spec

FIRST_ATTEMPT = 1 << 30
"""Calibrating attempts start here; those of the gate lie below."""
COPY = 1 << 20
"""The copy of an attempt is that far away: other draws, another place in every cache."""
ALARM = 100.0
"""Evidence at which two copies count as different: a false alarm in at most 1 % of runs."""
NULL_PATHS = 4_000
INERT = Edit((Insert(Spec("harnessx.processors.Instructions", {"text": "(No further notes.)"})),))
"""Changes every request, and says nothing."""


Pair: TypeAlias = tuple[RolloutResult, RolloutResult]


class GateRefused(UserError):
    """The gate cannot be trusted here, or cannot see what it was asked to see."""


async def calibrate(
    evaluator: Evaluator, harness: HarnessConfig, gate: GateConfig, decisions: int, seed: int, order: int | None = None
) -> Calibration:
    """Run ``gate.calibration`` pairs of copies of ``harness``, half as many with `INERT`, and judge the gate by them.

    ``order`` is the seed of the arms' random order (`run_pairs`).

    Raises:
        GateRefused: the copies differ, nulls ship more often than stated, or too few pairs could be run.
    """
    jobs = _jobs(evaluator, harness, gate.calibration, seed)
    results = await _copies(evaluator, jobs)
    pairs = [(a, b) for a, b in results if not a.missing and not b.missing]
    if 2 * len(pairs) < len(results):
        evaluator.forget(jobs)
        broken = next(r for pair in results for r in pair if r.missing)
        raise GateRefused(f"only {len(pairs)} of {len(results)} calibrating pairs could be run: {broken.error}")
    inert = await _inert(evaluator, harness, gate.calibration // 2, seed, order)
    clusters = {task.id: task.cluster for task in evaluator.tasks[VALIDATION]}
    for name, null in (("a copy of H_0", pairs), ("an edit that says nothing", inert)):
        _unharmed(name, null, clusters)
    noise = sum(a.passed != b.passed for a, b in pairs) / len(pairs)
    test = gate.test(decisions)
    calibration = Calibration(
        pairs=len(pairs),
        discordant=sum(a.passed != b.passed for a, b in pairs),
        noise=noise,
        difference=_difference(pairs, seed),
        e_value=_evidence(pairs),
        alarm=ALARM,
        alpha=test.alpha,
        null_ship_rate=null_ship_rate(test, noise, NULL_PATHS, seed),
        tokens_per_rollout=sum(r.tokens for pair in pairs for r in pair) / (2 * len(pairs)),
        detectable={str(scope): gain for scope, gain in detectable_gains(test, noise, seed).items()},
        rows=tuple(power_table(test, noise, seed)),
        inert=_inert_pairs(inert, seed) if inert else None,
    )
    _accept(calibration)
    return calibration


def _jobs(evaluator: Evaluator, harness: HarnessConfig, pairs: int, seed: int) -> list[Job]:
    """Two for each pair. What is missing stays so when the run is taken up again, as in a confirmation."""
    draws = Draws(evaluator.tasks[VALIDATION], seed, name="calibration", first=FIRST_ATTEMPT)
    arms = [(task, a) for task, attempt in draws.take(pairs) for a in (attempt, attempt + COPY)]
    return [Job(VALIDATION, task, a, (harness,), confirming=True) for task, a in arms]


async def _inert(evaluator: Evaluator, harness: HarnessConfig, pairs: int, seed: int, order: int | None) -> list[Pair]:
    """Those pairs of ``harness`` and `INERT` of which both arms could be run."""
    first = FIRST_ATTEMPT + 2 * COPY
    drawn = Draws(evaluator.tasks[VALIDATION], seed, name="calibration/inert", first=first).take(pairs)
    results = await run_pairs(evaluator, drawn, (harness, INERT.apply(harness)), order)
    return [(a, b) for a, b in results if not a.missing and not b.missing]


def _inert_pairs(pairs: Sequence[Pair], seed: int) -> InertPairs:
    return InertPairs(
        len(pairs),
        sum(a.passed != b.passed for a, b in pairs),
        sum(a.requests != b.requests for a, b in pairs),
        _difference(pairs, seed),
        _evidence(pairs),
    )


def _difference(pairs: Sequence[Pair], seed: int) -> Interval:
    """Second minus first."""
    differences: dict[str, list[float]] = {}
    for first, second in pairs:
        differences.setdefault(first.task_id, []).append(float(second.passed) - float(first.passed))
    return bootstrap_mean(differences, seed)


def _unharmed(name: str, pairs: Sequence[Pair], clusters: Mapping[str, str]) -> None:
    """Refuse a gate to which a null harms a cluster, by the process that rejects candidates for it (rule 8)."""
    if not any(clusters.values()):
        return
    harm = ClusterHarm(clusters.values(), 1 / ALARM)
    for first, second in pairs:
        harm.update(clusters[first.task_id], int(second.passed) - int(first.passed))
    if harm.harmed:
        raise GateRefused(
            f"{name} is found to harm the cluster {harm.harmed[0]} within {len(pairs)} pairs: "
            "the arms are not run alike, so no candidate could be rejected on such evidence"
        )


async def _copies(evaluator: Evaluator, jobs: Sequence[Job]) -> list[Pair]:
    results = [r[0] for r in await evaluator.run(jobs)]
    try:
        check_some_ran(results, VALIDATION)
    except Outage:  # a resumed run asks again
        evaluator.forget(jobs)
        raise
    return list(zip(results[::2], results[1::2], strict=True))


def _evidence(pairs: Sequence[Pair]) -> float:
    """The highest that either side's e-process ever reached, halved: valid against a difference in any direction."""
    sides: tuple[EProcess, ...] = (Superiority(), Harm())
    highest = 1.0
    for first, second in pairs:
        for side in sides:
            side.update(int(second.passed) - int(first.passed))
        highest = max(highest, sum(side.e_value for side in sides) / 2)
    return highest


def _accept(found: Calibration) -> None:
    if found.e_value >= found.alarm:
        raise GateRefused(
            f"two copies of H_0 differ by {100 * found.difference.mean:+.1f} points over {found.pairs} pairs "
            f"(E = {found.e_value:.3g}): the arms are not run alike, so no difference between harnesses can be believed"
        )
    inert = found.inert
    if inert is not None and inert.e_value >= found.alarm:
        raise GateRefused(
            f"an edit that says nothing differs from H_0 by {100 * inert.difference.mean:+.1f} points over "
            f"{inert.pairs} pairs (E = {inert.e_value:.3g}): whatever an edit changes, its request alone would decide"
        )
    shipped = round(found.null_ship_rate * NULL_PATHS)
    if found.null_ship_rate > found.alpha < clopper_pearson(shipped, NULL_PATHS).lo:
        raise GateRefused(
            f"edits without effect ship in {100 * found.null_ship_rate:.2g} % of decisions at a noise of "
            f"{found.noise:.2g}, more than the {100 * found.alpha:.2g} % the gate states"
        )


def check_power(gate: GateConfig, decisions: int, sealed: int) -> None:
    """Refuse settings that can ship nothing, or not show a gain of ``gate.effect`` with the power asked for.

    That is known before any rollout. Both the confirmation of an edit that acts everywhere and the final
    difference on ``sealed`` tasks count; rates are taken as U-shaped until they are measured.

    Raises:
        GateRefused: which of the two falls short, and what would do.
    """
    _check_level(gate, decisions)
    if gate.power is None:
        return
    effect = touching(gate.effect, 1.0, TYPICAL_NOISE)
    if effect is None:
        raise GateRefused(f"gate.effect={gate.effect}: no edit can gain that much at a noise of {TYPICAL_NOISE:.2g}")
    test = gate.test(decisions)
    found = prices(effect, alpha=test.alpha, cap=test.cap, mei=test.mei, slack=test.slack).power()
    if found < gate.power:
        raise GateRefused(
            f"with gate.cap={gate.cap} {100 * gate.effect:+.0f} points are confirmed with power {found:.2f}, not the "
            f"gate.power={gate.power} asked for; raise gate.cap or gate.slack, or plan fewer gate.decisions"
        )
    spread = effect.gain + effect.loss - gate.effect**2
    z = NormalDist().inv_cdf
    needed = math.ceil((z(0.975) + z(gate.power)) ** 2 * spread / gate.effect**2)
    if sealed < needed:
        raise GateRefused(
            f"benchmark.splits.{SEALED}={sealed} tasks are too few to show {100 * gate.effect:+.0f} points with "
            f"power {gate.power}; at least {needed}"
        )


def _check_level(gate: GateConfig, decisions: int) -> None:
    """Refuse a level that an edit which wins every pair would not reach within its cap."""
    needed = -math.log(gate.alpha / decisions)
    best = Superiority()
    if gate.rule == "paired" and best.log_e_at(0, 0, gate.cap) < needed:
        pairs = next((n for n in range(gate.cap, 100 * gate.cap) if best.log_e_at(0, 0, n) >= needed), None)
        remedy = f"raise gate.cap to {pairs} at least, or" if pairs is not None else "raise"
        raise GateRefused(
            f"with gate.cap={gate.cap} nothing can ship at gate.alpha={gate.alpha:g} over gate.decisions={decisions}, "
            f"not even an edit that wins every pair; {remedy} gate.alpha, or plan fewer gate.decisions"
        )
