"""The final harness of a run as what it grew from and the edits that shipped on the way."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from aegis.record import CandidateRecord, Generation
from aegis.views.folder import RunFolder
from harnessx.algebra import Edit
from harnessx.errors import HarnessInvalid, UserError
from harnessx.harness import HarnessConfig


@dataclass(frozen=True, slots=True)
class ShippedEdit:
    """An edit that made an incumbent out of the one before."""

    record: CandidateRecord
    edit: Edit

    @property
    def id(self) -> str:
        """The candidate's."""
        return self.record.id


def shipped_edits(run: RunFolder, baseline: HarnessConfig, final: str) -> tuple[ShippedEdit, ...]:
    """The edits between ``baseline`` and the harness of digest ``final``, oldest first, each checked by its result.

    A run that forked or rolled back has other generations beside these; they are passed over.

    Raises:
        UserError: the harness cannot be rebuilt: it is no generation of the run, did not come from one
            edit of another, does not grow from ``baseline``, or an edit makes another harness than it did.
    """
    candidates = {candidate.id: candidate for candidate in run.candidates}
    harness, edits = baseline, []
    first, *path = _path(run, final)
    if first.digest != baseline.digest:
        raise UserError(
            f"{run.path} grew from {first.digest[:8]} and its settings now give {baseline.digest[:8]}: "
            "restore the harness and benchmark that it began with"
        )
    for generation in path:
        if generation.candidate not in candidates:
            raise UserError(f"{run.path}: no candidate {generation.candidate!r} that made {generation.digest[:8]}")
        record = candidates[generation.candidate]
        try:
            shipped = ShippedEdit(record, Edit.from_json(record.edit))
            harness = shipped.edit.apply(harness)
        except HarnessInvalid as error:
            raise UserError(f"{run.path}: the edit of {record.id} does not apply any more: {error}") from error
        if harness.digest != generation.digest:
            raise UserError(
                f"{run.path}: {record.id} makes {harness.digest[:8]}, the run had {generation.digest[:8]}: "
                "its harness cannot be rebuilt from edits"
            )
        edits.append(shipped)
    return tuple(edits)


def _path(run: RunFolder, final: str) -> list[Generation]:
    """From the generation without a parent to ``final``."""
    by_digest = {generation.digest: generation for generation in reversed(run.generations)}  # the first of each
    path: list[Generation] = []
    digest = final
    while digest in by_digest and by_digest[digest] not in path:
        path.insert(0, by_digest[digest])
        digest = path[0].parent
    if not path or digest:
        raise UserError(
            f"{run.path}: its final harness {final[:8]} is no chain of single edits; "
            "only such a harness can be rebuilt without one of them"
        )
    return path


def regrown(
    baseline: HarnessConfig, edits: Sequence[ShippedEdit], without: Container[str]
) -> tuple[HarnessConfig, tuple[str, ...]]:
    """``edits`` in order on ``baseline``, but those ``without``; and which others could then not be applied.

    What builds on a left-out edit (sets a parameter of the part that it brought) falls with it.
    """
    harness, fallen = baseline, []
    for shipped in edits:
        if shipped.id in without:
            continue
        try:
            harness = shipped.edit.apply(harness)
        except HarnessInvalid:
            fallen.append(shipped.id)
    return harness, tuple(fallen)
