"""Critic: candidates -> an order of shipping, after an audit no candidate can skip (paper §3).

Computed: overlap of each mutation surface with the components that are there, levers that must rest,
untouched buckets, unaddressed regressions. Asked of the meta-agent: the ranking, and a no-op.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aegis.candidate import Candidate
from aegis.meta.base import Brief, MetaAgent
from aegis.record import Bucket
from aegis.stages.evolver import revise
from harnessx.algebra import Insert, Replace, SetAsset, SetParam
from harnessx.spec import traits_of


@dataclass(frozen=True, slots=True)
class Critique:
    """The ranking and what the audit found.

    ``dropped`` holds candidates with why they may not ship, ``revised`` those that changed when asked, with
    what was asked.
    """

    ranking: tuple[Candidate, ...]
    dropped: tuple[tuple[Candidate, str], ...]
    revised: tuple[tuple[Candidate, str], ...]
    no_op: str
    strategy_concern: str

    def to_markdown(self) -> str:
        """The critique as people read it."""
        lines = [
            f"* ranking: {', '.join(c.id for c in self.ranking) or 'none'}",
            *(f"* {c.id} was revised when asked: {request}" for c, request in self.revised),
            *(f"* {c.id} may not ship: {reason}" for c, reason in self.dropped),
            f"* concern for the next plan: {self.strategy_concern or 'none'}",
        ]
        return "\n".join(lines) + "\n"


async def criticize(candidates: Sequence[Candidate], brief: Brief, meta: MetaAgent) -> Critique:
    """Audit, ask for at most one revision per candidate, rank."""
    dropped: list[tuple[Candidate, str]] = []
    revised: list[tuple[Candidate, str]] = []
    review = await meta.review(candidates, brief)
    standing: dict[str, Candidate] = {}
    for candidate in candidates:
        request = review.requests.get(candidate.id) or _overlap(candidate, brief)
        if request:
            changed, reason = await revise(candidate, request, brief, meta)
            if changed is None or _overlap(changed, brief):
                dropped.append((candidate, reason or "still overlaps without a word about it"))
                continue
            candidate = changed
            revised.append((candidate, request))
        if candidate.manifest.lever in brief.landscape.forbidden_levers:
            dropped.append((candidate, f"lever {candidate.manifest.lever!r} shipped twice lately without hitting"))
            continue
        standing[candidate.id] = candidate
    ranking = tuple(standing[i] for i in review.ranking if i in standing)
    dropped += [(c, "left out of the ranking") for i, c in standing.items() if i not in review.ranking]
    if review.no_op:
        dropped += [(c, review.no_op) for c in ranking]
        ranking = ()
    concern = "; ".join(filter(None, [review.strategy_concern, *_audit(ranking, brief)]))
    return Critique(ranking, tuple(dropped), tuple(revised), review.no_op, concern)


def _overlap(candidate: Candidate, brief: Brief) -> str:
    """A revision request when the edit touches or doubles a component and does not say why."""
    if candidate.manifest.overlap:
        return ""
    incumbent = brief.incumbent
    present = {t.name: t for t in incumbent.traits}
    touched = []
    for operation in candidate.proposal.edit.operations:
        if isinstance(operation, Replace | SetParam):
            touched.append(operation.reference)
        elif isinstance(operation, Insert):
            traits = traits_of(operation.processor, candidate.harness.assets)
            touched += [
                n for n, t in present.items() if t.dimension == traits.dimension and set(t.hooks) & set(traits.hooks)
            ]
        elif isinstance(operation, SetAsset) and operation.path in incumbent.assets:
            touched.append(operation.path)
    return f"say why it touches what is there: {', '.join(dict.fromkeys(touched))}" if touched else ""


def _audit(ranking: Sequence[Candidate], brief: Brief) -> list[str]:
    """What the portfolio leaves undone."""
    concerns = []
    proposed = {bucket for c in ranking for bucket in c.manifest.bucket}
    untouched = [b for b in brief.landscape.neglected if b not in proposed]
    if untouched and len(untouched) < len(Bucket) and brief.round > 2:
        concerns.append(f"untouched buckets: {', '.join(untouched)}")
    named = {t for c in ranking for t in (*c.manifest.predicted_impact.unlock, *c.manifest.predicted_impact.stabilize)}
    open_regressions = [t for t in brief.landscape.regressions if t not in named]
    if open_regressions:
        concerns.append(f"unaddressed regressions: {', '.join(open_regressions[:8])}")
    return concerns
