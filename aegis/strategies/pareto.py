"""Pareto search: parents from the per-task frontier, and merges of two of them.

A harness that alone solves a task is worth keeping however it fares elsewhere. Parents are drawn in proportion to the
number of evolve tasks on which nobody does better; each round also merges the edits of two that come from one
ancestor by different ways. Source: Agrawal et al., "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement
Learning" (2025), where the frontier's winner is returned; here it ships through the gate like any other.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from aegis.candidate import Proposal
from aegis.journal import Journal
from aegis.manifest import Evidence, Manifest
from aegis.meta.base import MetaAgent
from aegis.record import Prediction
from aegis.round import Engine
from aegis.strategies.base import Result, Schedule
from aegis.strategies.population import Member, Population, explore, joined
from harnessx.algebra import diff
from harnessx.errors import HarnessInvalid
from harnessx.harness import HarnessConfig
from harnessx.tasks import Task


class Pareto:
    """One search over the frontier."""

    name = "pareto"

    def check(self, tasks: Mapping[str, Sequence[Task]], meta: MetaAgent) -> None:
        """Any tasks will do."""

    async def run(self, engine: Engine, journal: Journal, baseline: HarnessConfig, schedule: Schedule) -> Result:
        """Evolve ``baseline``."""
        return await explore(self, engine, journal, baseline, schedule)

    def parent(self, population: Population, rng: random.Random) -> Member:
        """A member of the frontier, by the number of tasks it is best on."""
        return _drawn(population, frontier(population.rates), rng)

    def merged(self, population: Population, parent: Member, ident: str, rng: random.Random) -> Member | None:
        """``parent`` with the edits of another member of the frontier, where they go together."""
        others = {d: n for d, n in frontier(population.rates).items() if d != parent.harness.digest}
        merge = merged(parent, _drawn(population, others, rng), population.rates, ident) if others else None
        return merge if merge is not None and merge.harness.digest not in population.members else None


def frontier(rates: Mapping[str, Mapping[str, float]]) -> dict[str, int]:
    """On how many tasks a harness is as good as any, by digest; none that another beats or equals everywhere.

    Tasks that nobody solves say nothing. Of harnesses that fare alike everywhere, the first stays.
    """
    tasks = sorted({task for rate in rates.values() for task, value in rate.items() if value > 0})
    rows = {digest: [rate.get(task, 0.0) for task in tasks] for digest, rate in rates.items()}
    order = list(rows)

    def beaten(digest: str) -> bool:
        mine = rows[digest]
        return any(
            all(b >= a for a, b in zip(mine, theirs, strict=True))
            and (theirs != mine or order.index(other) < order.index(digest))
            for other, theirs in rows.items()
            if other != digest
        )

    tops = [max(column) for column in zip(*rows.values(), strict=True)]
    return {d: sum(a == top for a, top in zip(rows[d], tops, strict=True)) for d in order if not beaten(d)}


def merged(left: Member, right: Member, rates: Mapping[str, Mapping[str, float]], ident: str) -> Member | None:
    """``left`` with what ``right`` became since their common ancestor; None where that is nothing or does not apply."""
    root = left.common(right)
    if root.harness in (left.harness, right.harness):
        return None
    edit = diff(root.harness, right.harness)
    try:
        harness = edit.apply(left.harness)
    except HarnessInvalid:
        return None
    proposals = right.since(left)
    mine, theirs = rates[left.harness.digest], rates[right.harness.digest]
    better = tuple(task for task, rate in theirs.items() if rate > mine.get(task, 0.0))
    if not better or harness == left.harness:
        return None
    smoke = {path: text for p in proposals for path, text in p.smoke.items()}
    manifest = replace(_manifest([p.manifest for p in proposals], better), candidate_id=ident)
    return Member(harness, left, Proposal(edit, manifest, smoke))


def _manifest(manifests: Sequence[Manifest], better: tuple[str, ...]) -> Manifest:
    """What the second parent brings; anchors of earlier rounds are not cited again."""
    said = f"the other parent solves {len(better)} tasks that this one does not"
    return replace(
        joined(manifests),
        capability_evidence=(Evidence("merge", said),),
        predicted_impact=Prediction(unlock=better),
        failure_evidence=said,
        risk_argument="Each parent was run on every evolve task; what they do together the screening tells.",
        overlap=joined(manifests).overlap or "on purpose: a merge of two lineages",
    )


def _drawn(population: Population, weights: Mapping[str, int], rng: random.Random) -> Member:
    digests = list(weights)
    if not any(weights.values()):  # nobody solves anything yet
        return population.members[rng.choice(digests)]
    return population.members[rng.choices(digests, [weights[d] for d in digests])[0]]
