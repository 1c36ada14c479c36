"""Undecided edits together: each too small for its pairs, perhaps not their sum (STATISTICS rule 6).

A bundle is a new candidate with an index of its own, tested from E = 1; what its parts had gathered is
not carried over, and what is shipped is the bundle, no part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aegis.candidate import Candidate, Proposal
from aegis.manifest import Manifest
from aegis.record import Prediction
from harnessx.algebra import Edit
from harnessx.errors import HarnessInvalid
from harnessx.harness import HarnessConfig


def bundle(undecided: Sequence[tuple[Candidate, float]], incumbent: HarnessConfig) -> Candidate | None:
    """The candidates whose e-value is above 1, the strongest first; None where fewer than two go together."""
    hopeful = sorted((pair for pair in undecided if pair[1] > 1), key=lambda pair: -pair[1])
    parts: list[Proposal] = []
    harness = incumbent
    for candidate, _ in hopeful:
        try:
            moved = candidate.proposal.edit.apply(harness)
        except HarnessInvalid:  # it excludes a stronger one
            continue
        if moved == harness:  # a stronger one has it all
            continue
        harness = moved
        parts.append(candidate.proposal)
    if len(parts) < 2:
        return None
    edit = Edit(tuple(operation for part in parts for operation in part.edit.operations))
    smoke = {path: test for part in parts for path, test in part.smoke.items()}
    number = hopeful[0][0].round
    manifest = _manifest([part.manifest for part in parts], f"C-R{number}-B1")
    return Candidate.of(Proposal(edit, manifest, smoke), incumbent, number)


def _manifest(parts: Sequence[Manifest], candidate_id: str) -> Manifest:
    """What the parts claim, together."""
    impacts = [part.predicted_impact for part in parts]

    def every(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(task for impact in impacts for task in getattr(impact, name)))

    def said(name: str) -> str:
        return "; ".join(dict.fromkeys(getattr(part, name) for part in parts))

    names = ", ".join(part.candidate_id for part in parts)
    return replace(
        parts[0],
        candidate_id=candidate_id,
        title="; ".join(part.title for part in parts),
        bucket=tuple(dict.fromkeys(bucket for part in parts for bucket in part.bucket)),
        capability_evidence=tuple(evidence for part in parts for evidence in part.capability_evidence),
        file_changes=tuple(dict.fromkeys(change for part in parts for change in part.file_changes)),
        predicted_impact=Prediction(every("unlock"), every("stabilize"), every("at_risk")),
        failure_evidence=said("failure_evidence"),
        root_cause=said("root_cause"),
        targeted_fix=said("targeted_fix"),
        risk_argument=said("risk_argument"),
        overlap=f"a bundle of {names}, each undecided alone",
        lever=" + ".join(part.lever for part in parts) if all(part.lever for part in parts) else "",
    )
