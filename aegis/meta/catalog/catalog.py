"""Who thinks, offline: a search over levers, directed by failure category and by what trying has taught.

Each round it aims at the failing regions in the Planner's order. For each it draws the levers that
might cure it (Thompson sampling from the posterior of their effects), and proposes the best as one edit: alone in
the first round, two together later, because small cures can be confirmed together where each alone could not.
Candidates that ran out of pairs while ahead come back bundled. The last place explores, and so does any that no
symptom fills.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from aegis.candidate import Candidate, Proposal
from aegis.manifest import Evidence, Manifest
from aegis.meta.base import Brief, Case, Judgement, Plan, Review, Survey
from aegis.meta.catalog import learnt, modern, parts, prompts, source
from aegis.meta.catalog.lever import Lever, Scene, Variant
from aegis.meta.catalog.posterior import Effects
from aegis.record import Decision, Prediction
from aegis.stages.digester import TaskDigest
from aegis.stages.symptoms import Symptom
from harnessx.algebra import Edit
from harnessx.errors import HarnessInvalid, UserError

LEVERS: tuple[Lever, ...] = (*prompts.LEVERS, *parts.LEVERS, *source.LEVERS)
SETS: Mapping[str, tuple[Lever, ...]] = {"usual": LEVERS, "all": (*LEVERS, *modern.LEVERS)}
"""What ``meta.levers`` may be: one lever more changes every draw, so what is added later is a set of its own."""
PACKAGE = 2
"""Levers in one package at most; none goes with another in the first round, where one alone may be confirmed."""
HOPE = 0.04
"""What a lever that surely cures a symptom is expected to add, before anything was tried."""
HARM = -0.03
"""A drawn effect below this keeps a lever out."""

Choice: TypeAlias = tuple[Lever, Variant]


@dataclass(frozen=True)
class Catalog:
    """The offline meta-agent.

    Args:
        seed: of every draw.
        directed: False draws levers uniformly, whatever failed: the random-search baseline.
        shuffle: True permutes the failure categories before levers are chosen: what direction is worth.
        levers: which of `SETS` is searched.
        memory: True merges what evolve tasks taught into a long-term memory, by edits that are gated like others.

    Raises:
        UserError: no such set.
    """

    seed: int = 0
    directed: bool = True
    shuffle: bool = False
    name: str = "catalog"
    levers: str = "usual"
    memory: bool = False

    def __post_init__(self) -> None:
        if self.levers not in SETS:
            raise UserError(f"meta.levers={self.levers!r} is no set of levers; valid: {', '.join(SETS)}")

    @property
    def shelf(self) -> tuple[Lever, ...]:
        """The levers that are searched."""
        return SETS[self.levers] + (learnt.LEVERS if self.memory else ())

    def undirected(self) -> Catalog:
        """The same catalog without direction."""
        return replace(self, directed=False)

    async def judge(self, cases: Sequence[Case]) -> Sequence[Judgement | None]:
        """Keeps the first symptoms."""
        return [None] * len(cases)

    async def prioritize(self, survey: Survey) -> Plan:
        """Regions by size; the stage puts those with regressions first."""
        ranked = sorted(survey.landscape.regions, key=lambda r: (-len(r.tasks), r.category))
        return Plan(tuple(r.category for r in ranked))

    async def propose(self, brief: Brief) -> Sequence[Proposal]:
        """Packages for the worst symptoms, a bundle of what was left undecided, and explorations."""
        rng = random.Random(f"catalog/{self.seed}/{brief.seed}/{brief.round}")
        picked: list[list[Choice]] = []
        effects = self._effects(brief, rng) if self.directed else None
        if effects is not None:
            for symptom in self._aims(brief, rng):
                package = self._package(symptom, brief, effects, picked)
                if package and len(picked) < brief.count - 1:
                    picked.append(package)
            revived = self._revived(brief, effects)
            if len(revived) > 1:
                picked[-1:] = [revived]
        while len(picked) < brief.count:
            picked.append(self._exploration(brief, rng, effects, picked))
        proposals: list[Proposal] = []
        for chosen in picked:
            proposal = self._proposal(chosen, brief, len(proposals) + 1)
            if proposal is not None:
                proposals.append(proposal)
        return proposals

    async def revise(self, proposal: Proposal, request: str, brief: Brief) -> Proposal | None:
        """Answers a request about overlap by saying why; the edit stays."""
        return replace(proposal, manifest=replace(proposal.manifest, overlap=f"on purpose: {request}"))

    async def review(self, candidates: Sequence[Candidate], brief: Brief) -> Review:
        """By the posterior of the levers, the wider prediction first; levers that must rest are left to the audit."""
        rng = random.Random(f"review/{self.seed}/{brief.seed}/{brief.round}")
        effects = self._effects(brief, rng)
        failing = len(brief.digest.failing) or 1

        def worth(candidate: Candidate) -> float:
            manifest = candidate.manifest
            parts = zip(manifest.lever.split(" + "), manifest.title.split("; "), strict=False)
            return sum(effects.of(*part) for part in parts) + HOPE * len(manifest.predicted_impact.unlock) / failing

        ranked = sorted(candidates, key=lambda c: (-worth(c), c.id))
        return Review(tuple(c.id for c in ranked))

    def _effects(self, brief: Brief, rng: random.Random) -> Effects:
        """A draw of what the levers add; without direction, one that knows nothing."""
        if not self.directed:
            return Effects((), {}, rng)
        hopes = {lever.name: HOPE * max(lever.cures.values(), default=0.0) for lever in self.shelf}
        return Effects(brief.history.tried, hopes, rng)

    def _aims(self, brief: Brief, rng: random.Random) -> list[Symptom]:
        """Symptoms by the number of failing tasks that show them, in the Planner's order of regions first."""
        counts = {s: sum(s.value in t.symptoms for t in brief.digest.failing) for s in Symptom}
        leading = [r.category for r in brief.landscape.regions]
        known = [s for s in Symptom if counts[s]]
        weights = [counts[s] + (len(brief.digest.failing) if s.value in leading[:1] else 0) for s in known]
        order: list[Symptom] = []
        while known:
            index = rng.choices(range(len(known)), weights)[0]
            order.append(known.pop(index))
            weights.pop(index)
        return order

    def _cures(self, lever: Lever, symptom: Symptom) -> float:
        if not self.shuffle:
            return lever.cures.get(symptom, 0.0)
        others = list(Symptom)
        random.Random(f"shuffle/{self.seed}").shuffle(others)
        return lever.cures.get(others[list(Symptom).index(symptom)], 0.0)

    def _package(self, symptom: Symptom, brief: Brief, effects: Effects, picked: list[list[Choice]]) -> list[Choice]:
        """Up to `PACKAGE` levers that might cure ``symptom``, the best by a draw first; none if it draws no gain."""
        tasks = [t for t in brief.digest.failing if symptom.value in t.symptoms]
        scene = Scene(brief.incumbent, tasks, brief.trajectories)
        taken = {lever.name for package in picked for lever, _ in package}
        resting = set(brief.landscape.forbidden_levers)
        scored: list[tuple[float, str, Choice]] = []
        for lever in self.shelf:
            chance = self._cures(lever, symptom)
            variant = self._best_variant(lever, scene, brief, effects) if chance else None
            if variant is not None and lever.name not in taken and lever.name not in resting:
                boost = 1.3 if lever.bucket in brief.landscape.neglected and brief.round > 1 else 1.0
                hope = effects.of(lever.name, variant.title) + HOPE * (chance * boost - max(lever.cures.values()))
                scored.append((hope, lever.name, (lever, variant)))
        package: list[Choice] = []
        total = 0.0
        for hope, _, choice in sorted(scored, key=lambda row: (-row[0], row[1])):
            if hope > HARM and len(package) < _most(brief) and self._admits(package, choice, brief):
                package.append(choice)
                total += hope
        return package if total > 0.0 else []

    def _exploration(
        self, brief: Brief, rng: random.Random, effects: Effects | None, picked: list[list[Choice]]
    ) -> list[Choice]:
        """Up to as many levers as a package may have, drawn uniformly; not those that seem harmful."""
        scene = Scene(brief.incumbent, brief.digest.failing, brief.trajectories)
        taken = {lever.name for package in picked for lever, _ in package}
        levers = [lever for lever in self.shelf if lever.name not in taken]
        rng.shuffle(levers)
        size = rng.randint(1, _most(brief))
        package: list[Choice] = []
        for lever in levers:
            variants = self._variants(lever, scene, brief)
            if effects is not None:
                variants = [v for v in variants if effects.of(lever.name, v.title) > HARM]
            choice = (lever, rng.choice(variants)) if variants else None
            if choice is not None and self._admits(package, choice, brief):
                package.append(choice)
            if len(package) == size:
                break
        return package

    def _revived(self, brief: Brief, effects: Effects) -> list[Choice]:
        """Levers whose last candidate was left undecided while ahead, together."""
        last: dict[str, tuple[bool, float]] = {}
        for past in brief.history.tried:
            ahead = past.record.verdict in (Decision.UNDECIDED, Decision.NOT_TESTED) and (past.screen or 0) > 0
            for name in past.lever.split(" + "):
                last[name] = (ahead, past.record.e_value or 1.0)
        names = sorted((n for n, (ahead, _) in last.items() if ahead), key=lambda n: (-last[n][1], n))
        scene = Scene(brief.incumbent, brief.digest.failing, brief.trajectories)
        package: list[Choice] = []
        for name in names:
            lever = next((item for item in self.shelf if item.name == name), None)
            variant = self._best_variant(lever, scene, brief, effects) if lever is not None else None
            if lever is not None and variant is not None and self._admits(package, (lever, variant), brief):
                package.append((lever, variant))
        return package[:PACKAGE]

    def _best_variant(self, lever: Lever, scene: Scene, brief: Brief, effects: Effects) -> Variant | None:
        """Of the variants that apply, the best by a draw."""
        variants = self._variants(lever, scene, brief)
        return max(variants, key=lambda v: effects.of(lever.name, v.title)) if variants else None

    @staticmethod
    def _variants(lever: Lever, scene: Scene, brief: Brief) -> list[Variant]:
        """Variants that apply and were not rejected before, alone, by title."""
        failed = {
            past.record.title
            for past in brief.history.tried
            if past.record.verdict is Decision.REJECT and past.lever == lever.name
        }
        return [v for v in lever.variants(scene) if v.title not in failed]

    @staticmethod
    def _admits(package: Sequence[Choice], more: Choice, brief: Brief) -> bool:
        """Whether the package with ``more`` applies and is no harness that was tried before."""
        edit = Edit(tuple(op for _, variant in (*package, more) for op in variant.edit.operations))
        try:
            return not brief.history.seen(edit.apply(brief.incumbent).digest)
        except HarnessInvalid:
            return False

    def _proposal(self, chosen: Sequence[Choice], brief: Brief, number: int) -> Proposal | None:
        if not chosen:
            return None
        variants = [variant for _, variant in chosen]
        symptoms = {s for lever, _ in chosen for s, chance in lever.cures.items() if chance >= 0.3}
        tasks = [t for t in brief.digest.failing if set(t.symptoms) & {s.value for s in symptoms}]
        tasks = tasks or list(brief.digest.failing)
        manifest = Manifest(
            candidate_id=brief.candidate_id(number),
            title="; ".join(v.title for v in variants),
            bucket=tuple(dict.fromkeys(lever.bucket for lever, _ in chosen)),
            capability_evidence=(_evidence(tasks),),
            file_changes=tuple(dict.fromkeys(c for v in variants for c in v.file_changes(brief.incumbent))),
            predicted_impact=Prediction(
                unlock=tuple(t.task for t in tasks if t.rate == 0.0),
                stabilize=tuple(t.task for t in tasks if t.rate > 0.0),
            ),
            attribution_signature=variants[0].signature,
            failure_evidence=f"{len(tasks)} failing tasks show {', '.join(sorted(s.value for s in symptoms))}",
            root_cause="; ".join(dict.fromkeys(t.category for t in tasks)),
            targeted_fix=" ".join(v.fix for v in variants),
            risk_argument="It acts where these failures show; what it does elsewhere the screening tells.",
            overlap="; ".join(dict.fromkeys(v.touches for v in variants)),
            lever=" + ".join(lever.name for lever, _ in chosen),
        )
        smoke = {path: text for v in variants for path, text in v.smoke.items()}
        return Proposal(Edit(tuple(op for v in variants for op in v.edit.operations)), manifest, smoke)


def _most(brief: Brief) -> int:
    return PACKAGE if brief.round > 1 else 1


def _evidence(tasks: Sequence[TaskDigest]) -> Evidence:
    anchors = tuple(e.anchor for t in tasks[:3] for e in t.excerpts[:1])
    return Evidence("trace", f"the symptom shows in {len(tasks)} failing tasks", anchors)
