"""Evolver: landscape -> candidates, each a typed edit with a manifest (paper §3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aegis.candidate import Candidate, Proposal
from aegis.meta.base import Brief, MetaAgent, NoAnswer
from harnessx.errors import HarnessInvalid


@dataclass(frozen=True, slots=True)
class Rejected:
    """A proposal that is no candidate, and why."""

    proposal: Proposal
    reason: str


async def evolve(brief: Brief, meta: MetaAgent) -> tuple[list[Candidate], list[Rejected]]:
    """At most ``brief.count`` candidates that apply, each another harness; and what fell away.

    They are named by their place, whatever they call themselves.
    """
    candidates: list[Candidate] = []
    rejected: list[Rejected] = []
    for number, proposed in enumerate(list(await meta.propose(brief))[: brief.count], start=1):
        proposal = named(proposed, brief.candidate_id(number))
        problem = _admit(proposal, brief, candidates)
        if problem:
            rejected.append(Rejected(proposal, problem))
    return candidates, rejected


def _admit(proposal: Proposal, brief: Brief, candidates: list[Candidate]) -> str:
    try:
        candidate = Candidate.of(proposal, brief.incumbent, brief.round)
    except HarnessInvalid as error:
        return f"not well typed: {error}"
    if any(candidate.harness == other.harness for other in candidates):
        return "the same harness as another candidate of this round"
    candidates.append(candidate)
    return ""


def named(proposal: Proposal, ident: str) -> Proposal:
    """The proposal with ``ident`` as its candidate's id."""
    return replace(proposal, manifest=replace(proposal.manifest, candidate_id=ident))


async def revise(candidate: Candidate, request: str, brief: Brief, meta: MetaAgent) -> tuple[Candidate | None, str]:
    """The one revision a Critic may ask for: the revised candidate, or None and the reason."""
    try:
        proposal = await meta.revise(candidate.proposal, request, brief)
    except NoAnswer as silent:
        return None, f"no revision: {silent}"
    if proposal is None:
        return None, f"withdrawn when asked: {request}"
    try:
        return Candidate.of(named(proposal, candidate.id), brief.incumbent, brief.round), ""
    except HarnessInvalid as error:
        return None, f"the revision is not well typed: {error}"
