"""Does prefix replay change a verdict? The same candidates against the same incumbents, with replay and without.

    python scripts/replay_off.py results/household/run-a results/household/run-b --out results/replay_off.json

Candidates are the catalog's levers, each alone on H_0, and what the given runs confirmed, on its own parent. The
incumbent's attempts are the same throughout. Without replay the candidate is asked every request anew, of

* ``same draws``: a model that answers a repeated request alike, as the mechanical player does: replay saves calls;
* ``fresh draws``: one that answers it differently (another attempt's randomness): replay couples the arms as well;

each with as many pairs as with replay (``gate.cap``), and at the same budget: as many model calls as that many pairs
cost the candidate with replay. CPU seconds (user and system, of the lanes) are those of the mechanical player, whose
calls are nearly free: what replay saves there is a lower bound on the time that it saves a provider's model.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import resource
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalog_effects import collect

from aegis.calibration import COPY
from aegis.evaluator import EVOLVE, VALIDATION, Evaluator
from aegis.gate.config import GateConfig
from aegis.gate.confirmation import Draws
from aegis.lineage import generations
from aegis.provenance import publish
from aegis.record import Decision
from aegis.statistics import ClusterHarm, PairedTest, Verdict
from aegis.views.folder import RunFolder
from harnessx.algebra import Edit
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.runner.pool import Pool, PoolConfig
from harnessx.tasks import Task

GATE, DECISIONS = GateConfig(), 24
TOGETHER = GATE.max_trials
"""Candidates that share an incumbent's tape, as at the gate."""
Pair = tuple[Task, RolloutResult, RolloutResult]


@dataclass(frozen=True)
class Case:
    """A candidate and the incumbent it is held against."""

    name: str
    bucket: str
    incumbent: HarnessConfig
    candidate: HarnessConfig


@dataclass
class Arm:
    """One candidate's pairs so far, with its answers replayed or not."""

    pairs: list[Pair] = field(default_factory=list)
    decision: Decision | None = None

    def add(self, clusters: Sequence[str], pairs: Sequence[Pair]) -> None:
        self.pairs += pairs
        found, used = verdict(self.pairs, clusters, GATE.cap)
        if used < len(self.pairs) or found is not Decision.UNDECIDED or used >= GATE.cap:
            self.decision, self.pairs = found, self.pairs[:used]


def verdict(pairs: Sequence[Pair], clusters: Sequence[str], cap: int) -> tuple[Decision, int]:
    """The gate's decision on ``pairs`` in their order, and after how many of them it fell."""
    test = PairedTest(GATE.alpha / DECISIONS, cap=cap, mei=GATE.mei, slack=GATE.slack)
    harm = ClusterHarm(clusters, GATE.cluster_alpha)
    for used, (task, incumbent, candidate) in enumerate(pairs, start=1):
        test.update(incumbent.passed, candidate.passed)
        harm.update(task.cluster, int(candidate.passed) - int(incumbent.passed))
        if harm.harmed and test.verdict in (None, Verdict.SHIP):
            test.overrule(Verdict.REJECT, "harms a cluster")
        if test.verdict is not None:
            return Decision(test.verdict.value), used
    return Decision.UNDECIDED, len(pairs)


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--seed", type=int, default=0, help="of the levers' benchmark")
    parser.add_argument("--variants", type=int, default=2, help="of each lever, at most")
    parser.add_argument("--checked", type=int, default=32, help="pairs a candidate whose equality is checked and timed")
    parser.add_argument("--timed", type=int, default=4, help="candidates of each kind that are timed, at most")
    parser.add_argument("--out", type=Path, default=Path("results/replay_off.json"))
    arguments = parser.parse_args()
    found: list[dict[str, Any]] = []
    times: list[dict[str, Any]] = []
    for seed, folders in _by_seed(arguments.seed, arguments.runs).items():
        rows, cases = asyncio.run(compare(seed, folders, arguments.variants if seed == arguments.seed else 0))
        found += rows
        times += timed(seed, rows, cases, arguments.checked, arguments.timed)
    report = {
        "seeds": sorted({row["seed"] for row in found}),
        "gate": {"cap": GATE.cap, "alpha": GATE.alpha, "decisions": DECISIONS, "slack": GATE.slack, "mei": GATE.mei},
        "candidates": len(found),
        "verdicts": {name: table(found, name) for name in ("same_calls", "fresh", "fresh_calls")},
        "moved": [row for row in found if len({row[n] for n in ("on", "same_calls", "fresh", "fresh_calls")}) > 1],
        "equal": {name: sum(row[name] for row in times) for name in ("checked", "equal")},
        "savings": savings(found, times),
    }
    publish(report, arguments.out)


def _by_seed(levers: int, runs: Sequence[Path]) -> dict[int, list[RunFolder]]:
    grouped: defaultdict[int, list[RunFolder]] = defaultdict(list, {levers: []})
    for path in runs:
        folder = RunFolder.read(path)
        grouped[int(folder.config["seed"])].append(folder)
    return dict(grouped)


def _pool(seed: int, **changes: int) -> Pool:
    benchmark = {"_target_": "benchmarks.household.Household", "seed": seed}
    model = ModelConfig(main={"_target_": "benchmarks.bounded.Bounded"})
    return Pool(PoolConfig(benchmark, model, seed=seed, persist=False, **changes))


async def compare(seed: int, runs: Sequence[RunFolder], variants: int) -> tuple[list[dict[str, Any]], list[Case]]:
    """A row for each candidate on the benchmark of one seed."""
    pool = _pool(seed)
    tasks = {VALIDATION: pool.benchmark.tasks(VALIDATION, 100), EVOLVE: pool.benchmark.tasks(EVOLVE, 60)}
    clusters = [task.cluster for task in tasks[VALIDATION]]
    h0, rows = pool.benchmark.harness(), []
    async with pool:
        evaluator = Evaluator(pool, tasks)
        cases = await levers(evaluator, h0, variants) if variants else []
        cases += [case for run in runs for case in packages(run, h0)]
        for _, group in itertools.groupby(cases, key=lambda case: case.incumbent.digest):
            while together := list(itertools.islice(group, TOGETHER)):
                for case, on, off in await confirmed(evaluator, together, clusters, seed):
                    rows.append({"seed": seed, **row(case, on, off, clusters)})
                    print(json.dumps(rows[-1]), flush=True)
    return rows, cases


async def levers(evaluator: Evaluator, h0: HarnessConfig, most: int) -> list[Case]:
    """The first variants of every lever on H_0."""
    taken: Counter[str] = Counter()
    cases = []
    for lever, bucket, variant in await collect(evaluator, h0):
        taken[lever] += 1
        if taken[lever] <= most:
            cases.append(Case(variant.title, bucket, h0, variant.edit.apply(h0)))
    return cases


def packages(run: RunFolder, h0: HarnessConfig) -> list[Case]:
    """What a run confirmed or tried to."""
    incumbents = generations(run, h0)
    return [
        Case(
            c.title,
            "+".join(sorted(c.bucket)),
            incumbents[c.parent],
            Edit.from_json(c.edit).apply(incumbents[c.parent]),
        )
        for c in run.candidates
        if c.pairs and c.check != "fork"
    ]


async def confirmed(
    evaluator: Evaluator, cases: Sequence[Case], clusters: Sequence[str], seed: int
) -> list[tuple[Case, Arm, Arm]]:
    """Draw pairs in batches until every case has its verdicts: with replay, and with its own draws anew."""
    draws = Draws(evaluator.tasks[VALIDATION], seed)
    arms = [(case, Arm(), Arm()) for case in cases]
    while any(on.decision is None or off.decision is None for _, on, off in arms):
        drawn = draws.take(GATE.batch)
        coupled = [(case, on) for case, on, _ in arms if on.decision is None]
        apart = [(case, off) for case, _, off in arms if off.decision is None]
        tape = (cases[0].incumbent, *(case.candidate for case, _ in coupled))
        jobs = [Job(VALIDATION, task, attempt, tape, confirming=True) for task, attempt in drawn]
        jobs += [Job(VALIDATION, task, attempt + COPY, (c.candidate,)) for c, _ in apart for task, attempt in drawn]
        results = await evaluator.run(jobs)
        shared, alone = results[: len(drawn)], [r[0] for r in results[len(drawn) :]]
        tasks, before = [task for task, _ in drawn], [r[0] for r in shared]
        for place, (_, arm) in enumerate(coupled, start=1):
            arm.add(clusters, list(zip(tasks, before, [r[place] for r in shared], strict=True)))
        for place, (_, arm) in enumerate(apart):
            after = alone[place * len(drawn) : (place + 1) * len(drawn)]
            arm.add(clusters, list(zip(tasks, before, after, strict=True)))
    return arms


def row(case: Case, on: Arm, off: Arm, clusters: Sequence[str]) -> dict[str, Any]:
    """Verdicts with replay, and without it at the same pairs or the same model calls of the candidate."""
    calls = sum(candidate.model_calls for _, _, candidate in on.pairs)
    replayed = sum(candidate.replayed_calls for _, _, candidate in on.pairs)
    afford = max(1, round(GATE.cap * (1 - replayed / calls)))
    return {
        "candidate": case.name,
        "bucket": case.bucket,
        "acts": "later_request" if replayed else "first_request",
        "pairs": len(on.pairs),
        "calls": calls,
        "replayed": replayed,
        "affordable_pairs": afford,
        "on": _said(on.decision),
        "same_calls": verdict(on.pairs, clusters, afford)[0].value,
        "fresh": _said(off.decision),
        "fresh_calls": verdict(off.pairs, clusters, afford)[0].value,
    }


def _said(decision: Decision | None) -> str:
    assert decision is not None
    return decision.value


def timed(
    seed: int, rows: Sequence[Mapping[str, Any]], cases: Sequence[Case], pairs: int, most: int
) -> list[dict[str, Any]]:
    """CPU seconds of the candidates with replay and without, by kind; and whether replay changed any outcome."""
    kinds: defaultdict[tuple[str, str], list[Case]] = defaultdict(list)
    for found, case in zip(rows, cases, strict=True):
        kinds[found["acts"], found["bucket"]].append(case)
    start = _seconds(seed, [], 0)[0]
    measured = []
    for (acts, bucket), of_kind in sorted(kinds.items()):
        chosen = of_kind[:most]
        both, together = _seconds(seed, [(c.incumbent, c.candidate) for c in chosen], pairs)
        first, _ = _seconds(seed, [(c.incumbent,) for c in chosen], pairs)
        alone, apart = _seconds(seed, [(c.candidate,) for c in chosen], pairs)
        same = [
            a[-1].passed == b[-1].passed and a[-1].trail == b[-1].trail for a, b in zip(together, apart, strict=True)
        ]
        measured.append(
            {"acts": acts, "bucket": bucket, "cpu_on": both - first, "cpu_off": alone - start,
             "checked": len(same), "equal": sum(same)}
        )  # fmt: skip
    return measured


def _seconds(
    seed: int, arms: Sequence[tuple[HarnessConfig, ...]], pairs: int
) -> tuple[float, list[list[RolloutResult]]]:
    """CPU of a pool, its start included, that runs each of ``arms`` on ``pairs`` draws; without arms: of its start."""

    async def go() -> list[list[RolloutResult]]:
        async with _pool(seed, lanes=1, concurrency=4) as pool:
            tasks = pool.benchmark.tasks(VALIDATION, 100)
            drawn = Draws(tasks, seed, name="timed").take(pairs)
            jobs = [Job(VALIDATION, task, attempt, harnesses) for harnesses in arms for task, attempt in drawn]
            return await pool.run(jobs or [Job(VALIDATION, tasks[0], 0, (pool.benchmark.harness(),))])

    before = _children()
    results = asyncio.run(go())
    return _children() - before, results


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Counts by verdict with replay, then by verdict without; how many were turned from ship to reject or back."""
    counts = Counter((row["on"], row[name]) for row in rows)
    words = [d.value for d in (Decision.SHIP, Decision.REJECT, Decision.UNDECIDED)]
    turned = sum(counts[pair] for pair in (("ship", "reject"), ("reject", "ship")))
    return {"counts": {on: {off: counts[on, off] for off in words} for on in words}, "ship_to_reject_or_back": turned}


def savings(rows: Sequence[Mapping[str, Any]], times: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares of model calls and CPU seconds that replay saves the candidates, by where they act and by bucket."""
    groups: defaultdict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for one in (*rows, *times):
        groups[one["acts"], one["bucket"]].append(one)
        groups[one["acts"], "all"].append(one)
    found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for (acts, bucket), members in sorted(groups.items()):
        calls = [m for m in members if "calls" in m]
        cpu = [m for m in members if "checked" in m]
        on, off = sum(m["cpu_on"] for m in cpu), sum(m["cpu_off"] for m in cpu)
        found[acts][bucket] = {
            "candidates": len(calls),
            "calls_saved": sum(m["replayed"] for m in calls) / sum(m["calls"] for m in calls),
            "cpu_s_on": on,
            "cpu_s_off": off,
            "cpu_saved": 1 - on / off if off > 0 else None,
        }
    return dict(found)


if __name__ == "__main__":
    main()
