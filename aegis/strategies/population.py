"""Searches that explore from more harnesses than the shipped one: a population, and the one way to ship.

A round chooses a parent from the population by what the evolve attempts say, has edits of it proposed, and puts each
child before the gate as an edit of the *incumbent*: screened beside it, confirmed against it on fresh validation
attempts, at a level of the run's ledger. So a search may wander over unconfirmed harnesses as it likes; what ships is
as sure as with one incumbent. Drift and the provider are watched along the line of incumbents.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from aegis.candidate import Candidate, Proposal
from aegis.evaluator import EVOLVE, Evaluation, Evaluator
from aegis.gate.ruling import Ruling
from aegis.journal import Journal
from aegis.manifest import Manifest
from aegis.record import Decision
from aegis.round import Engine, Round, anchors, begin_watch, end_watch
from aegis.stages.evolver import Rejected
from aegis.strategies.base import Result, Schedule
from harnessx.algebra import diff
from harnessx.errors import BudgetSpent
from harnessx.harness import HarnessConfig


@dataclass(frozen=True, slots=True)
class Member:
    """A harness of the population: ``proposal`` on ``origin`` made it; H_0 has neither."""

    harness: HarnessConfig
    origin: Member | None = None
    proposal: Proposal | None = None

    def ancestry(self) -> Iterator[Member]:
        """Itself, its origin, and so on to H_0."""
        member: Member | None = self
        while member is not None:
            yield member
            member = member.origin

    def common(self, other: Member) -> Member:
        """The nearest harness that both come from."""
        known = {m.harness.digest for m in other.ancestry()}
        return next(m for m in self.ancestry() if m.harness.digest in known)

    def since(self, other: Member) -> tuple[Proposal, ...]:
        """The proposals that made it after it parted from ``other``, oldest first."""
        root = self.common(other).harness
        made = itertools.takewhile(lambda m: m.harness != root, self.ancestry())
        return tuple(m.proposal for m in made if m.proposal is not None)[::-1]


@dataclass(slots=True)
class Population:
    """Every harness that was built and run, by digest, in order of appearance."""

    members: dict[str, Member] = field(default_factory=dict)
    rates: dict[str, Mapping[str, float]] = field(default_factory=dict)
    """Pass rate by evolve task on the attempts that screen."""
    children: dict[str, int] = field(default_factory=dict)
    """How often a member was a parent."""

    def add(self, member: Member) -> None:
        """A harness that is already here stays who it was."""
        self.members.setdefault(member.harness.digest, member)

    async def measure(self, evaluator: Evaluator, attempts: int) -> None:
        """Read the attempts that screened each member; those of a rebased one are run."""
        for digest, member in self.members.items():
            if digest not in self.rates:
                self.rates[digest] = (await evaluator.evaluate(member.harness, EVOLVE, attempts)).rates


class Search(Protocol):
    """Who is the next parent, and what is tried besides its edits."""

    @property
    def name(self) -> str: ...

    def parent(self, population: Population, rng: random.Random) -> Member:
        """The member whose edits are proposed next."""
        ...

    def merged(self, population: Population, parent: Member, ident: str, rng: random.Random) -> Member | None:
        """One more child, made without the proposer; ``ident`` is its candidate's id."""
        ...


async def explore(
    search: Search, engine: Engine, journal: Journal, baseline: HarnessConfig, schedule: Schedule
) -> Result:
    """Search from ``baseline``; the peak is the incumbent with the best evolve rate, as with one harness."""
    population = Population()
    population.add(Member(baseline))
    incumbent, peak, best = baseline, baseline, -1.0
    for number in itertools.count(1):
        this = await _round(search, engine, population, incumbent, number)
        if this.baseline.mean > best:
            peak, best = incumbent, this.baseline.mean
        journal.close_round(this)
        engine.history.idle = 0 if this.successor != incumbent else engine.history.idle + 1
        incumbent = this.successor
        if stopped := schedule.ends(number, engine.history.idle):
            final = await engine.evaluator.evaluate(incumbent, EVOLVE, engine.attempts)
            return Result(incumbent, incumbent if final.mean > best else peak, stopped)
    raise AssertionError("unreachable")


async def _round(
    search: Search, engine: Engine, population: Population, incumbent: HarnessConfig, number: int
) -> Round:
    """One round; where the run's budget is spent on the way it ends there, with what the gate had let through."""
    this = Round(number, incumbent, Evaluation(incumbent.digest, EVOLVE, ()))
    try:
        await _search(this, search, engine, population)
    except BudgetSpent as spent:
        this.stop = str(spent)
    return this


async def _search(this: Round, search: Search, engine: Engine, population: Population) -> None:
    """Propose on a chosen parent, decide against the incumbent, and let in what built and ran."""
    number, incumbent = this.number, this.incumbent
    rng = random.Random(f"{search.name}/{engine.seed}/{number}")
    await begin_watch(engine, incumbent, number)
    shipped = population.members[incumbent.digest]
    parent = search.parent(population, rng) if population.rates else shipped
    proposed = await engine.propose(engine, parent.harness, number)
    for name in ("digest", "landscape", "candidates", "rejected", "critique", "trajectories", "stop"):
        setattr(this, name, getattr(proposed, name))
    this.baseline, seen = await engine.evaluator.record(incumbent, engine.attempts)
    engine.history.restate(incumbent.digest, this.baseline.rates)
    children = [] if this.stop else _children(this, parent, shipped)
    if population.rates:
        merge = search.merged(population, parent, f"C-R{number}-{engine.candidates + 1:02d}", rng)
        if merge is not None and merge.harness not in [*(c.harness for c in children), incumbent]:
            children.append(merge)
    lifted = [_lifted(member, shipped, number) for member in children]
    if lifted:
        engine.on_stage(number, "gate")
        this.stop = ""
        this.report = await engine.gate.check(lifted, this.baseline, incumbent, anchors(this.trajectories), seen)
        population.children[parent.harness.digest] = population.children.get(parent.harness.digest, 0) + 1
        _let_in(population, children, lifted, this.report.rulings)
    await end_watch(engine, this)
    await population.measure(engine.evaluator, engine.gate.config.screen_attempts)


def _children(this: Round, parent: Member, incumbent: Member) -> list[Member]:
    """What was proposed on ``parent``; what the incumbent is or grew out of is put down as rejected."""
    past = {m.harness.digest for m in incumbent.ancestry()}
    known = [Rejected(c.proposal, "the incumbent has this already") for c in this.ranking if c.harness.digest in past]
    this.rejected = (*this.rejected, *known)
    return [Member(c.harness, parent, c.proposal) for c in this.ranking if c.harness.digest not in past]


def _lifted(member: Member, incumbent: Member, number: int) -> Candidate:
    """A member as an edit of the incumbent, with all that its lineage has claimed and tested since they parted."""
    assert member.proposal is not None
    proposals = member.since(incumbent)
    smoke = {path: text for p in proposals for path, text in p.smoke.items() if path in member.harness.assets}
    ident = member.proposal.manifest.candidate_id
    manifest = replace(joined([p.manifest for p in proposals]), candidate_id=ident)
    edit = diff(incumbent.harness, member.harness)
    return Candidate(number, Proposal(edit, manifest, smoke), incumbent.harness, member.harness)


def joined(manifests: Sequence[Manifest]) -> Manifest:
    """The last manifest, in which title, lever, buckets, files and overlaps are those of all."""
    return replace(
        manifests[-1],
        title="; ".join(m.title for m in manifests),
        lever=" + ".join(m.lever for m in manifests if m.lever),
        bucket=tuple(dict.fromkeys(b for m in manifests for b in m.bucket)),
        file_changes=tuple(dict.fromkeys(c for m in manifests for c in m.file_changes)),
        overlap="; ".join(m.overlap for m in manifests if m.overlap),
    )


def _let_in(
    population: Population, made: Sequence[Member], lifted: Sequence[Candidate], rulings: Sequence[Ruling]
) -> None:
    """Whatever runs without a crash, has an effect and buys none; and what shipped, as it was rebased."""
    by_id = {r.candidate.id: r for r in rulings}
    for member, candidate in zip(made, lifted, strict=True):
        ruling = by_id[candidate.id]
        if ruling.screening is not None and ruling.check not in ("effect", "budget"):
            population.add(member)
    for ruling in rulings:
        if ruling.decision is Decision.SHIP:
            origin = population.members[ruling.candidate.parent.digest]
            population.add(Member(ruling.candidate.harness, origin, ruling.candidate.proposal))
