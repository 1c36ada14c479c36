"""The final harness of a run as what it grew from and the edits that shipped on the way; and what served when."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from aegis.record import CandidateRecord, Decision, Generation
from aegis.routing import RoutedPool, System
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


def deployed(run: RunFolder, baseline: HarnessConfig) -> list[System]:
    """What was deployed as each round of a finished run began, and after the last; each checked by its digest.

    Raises:
        UserError: the run is not finished, or its records do not lead to what it says it deployed.
    """
    if run.summary is None or run.summary.digests.final is None:
        raise UserError(f"{run.path} is not finished: run it to its end first")
    harnesses = generations(run, baseline)
    serving = dict.fromkeys(run.scoreboard.clusters.values(), baseline.digest)
    systems = []
    for record in run.rounds:
        systems.append(_system(run, serving, harnesses, record.incumbent))
        serving = _after(run, record.round, serving)
    return [*systems, _system(run, serving, harnesses, run.summary.digests.final)]


def generations(run: RunFolder, baseline: HarnessConfig) -> dict[str, HarnessConfig]:
    """Every harness that shipped in a run, by digest, as it was saved; ``baseline`` is the first."""
    saved = {g.digest: run.path / f"R{g.round}/applied/{g.candidate}" for g in run.generations if g.candidate}
    return {baseline.digest: baseline, **{digest: HarnessConfig.load(path) for digest, path in saved.items()}}


def _after(run: RunFolder, number: int, serving: Mapping[str, str]) -> dict[str, str]:
    """Digest by cluster after round ``number``: ships take their parent's place, then drift, then the routes."""
    after = dict(serving)
    verdicts = {c.id: c for c in run.candidates}
    for generation in run.generations:
        if generation.round == number and generation.candidate and verdicts[generation.candidate].check != "fork":
            after = {c: generation.digest if d == generation.parent else d for c, d in after.items()}
    for drift in run.drift:
        if drift.round == number:
            after = dict.fromkeys(after, drift.harness)
    for routes in run.routes:
        if routes.round == number and routes.verdict is Decision.SHIP:
            after.update(routes.routes)
    return after


def _system(run: RunFolder, serving: Mapping[str, str], harnesses: Mapping[str, HarnessConfig], digest: str) -> System:
    """The harness, or the pool with the default that its digest tells."""
    names = list(harnesses)
    routes = {cluster: names.index(served) for cluster, served in serving.items()}
    for default in range(len(names)):
        pool = RoutedPool(tuple(harnesses.values()), routes, default)
        if pool.digest == digest:
            return harnesses.get(digest, pool)
    raise UserError(f"{run.path}: its records do not lead to the {digest[:8]} that it deployed")
