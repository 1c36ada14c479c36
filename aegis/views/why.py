"""Which edit brought a line of ``best/``: the lineage walked back until an operation wrote that line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from aegis.record import CandidateRecord, Generation
from aegis.views import notation
from aegis.views.folder import RunFolder
from aegis.views.terminal import console
from aegis.views.wording import VERDICTS
from harnessx.algebra import Edit, Insert, Operation, Remove, Replace, SetAsset, SetParam, SetSlot
from harnessx.errors import UserError
from harnessx.harness import HarnessConfig
from harnessx.spec import Spec, traits_of

if TYPE_CHECKING:
    from yaml.nodes import Node


VARIANT = re.compile(r"variants/[^/]+/")
"""Where a pool of variants keeps each as a bundle of its own."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a line comes from: the generation and candidate whose ``operation`` brought it.

    ``candidate`` is None for a line the baseline already had. ``exact`` is false where the harness has
    several processors of the line's class and no edit put in this very one: the likeliest is named.
    """

    line: str
    generation: Generation
    candidate: CandidateRecord | None
    operation: str
    exact: bool


@dataclass(frozen=True, slots=True)
class _Target:
    """What a line says. One of: a processor or its parameter, a slot, a line of an asset."""

    spec: Spec | None = None
    names: tuple[str | None, ...] = ()
    unique: bool = True
    param: str = ""
    slot: str = ""
    asset: str = ""
    text: str = ""


class _Content(Enum):
    UNTOUCHED = "the operation is about something else"
    GONE = "the operation took the line away"


def why(run_dir: Path | str, where: str) -> Origin:
    """The origin of line ``where`` (``file:line``) of the run's ``best/`` bundle, or of a variant in it.

    As in a blame, an operation that writes again what was there already is passed over.

    Raises:
        UserError: not a run folder, no such file or line, or a harness that the lineage does not hold.
    """
    run = RunFolder.read(run_dir)
    best = run.path / "best"
    file, number = _split(where)
    lines = _lines(best, file)
    variant = VARIANT.match(file)
    if variant is not None:
        best, file = best / variant[0], file[variant.end() :]
    if not 1 <= number <= len(lines):
        raise UserError(f"{file} has {len(lines)} lines, there is no line {number}")
    line = lines[number - 1]
    harness = HarnessConfig.load(best)
    if file == "harness.yaml":
        target = _in_yaml(harness, "\n".join(lines), number - 1)
    else:
        target = _Target(asset=file, text=line)
    lineage = _lineage(run, harness)
    origin = Origin(line, lineage[-1], None, "", exact=target.unique)
    newest: object = _Content.UNTOUCHED
    for generation, candidate, operation in _history(run, lineage):
        content = _content(operation, target)
        if content is _Content.UNTOUCHED:
            continue
        if newest not in (_Content.UNTOUCHED, content):
            break
        newest = content
        exact = target.unique or isinstance(operation, Insert | Replace)
        origin = Origin(line, generation, candidate, _said(operation), exact)
    return origin


def _history(run: RunFolder, lineage: list[Generation]) -> Iterator[tuple[Generation, CandidateRecord, Operation]]:
    """Every operation that made the lineage, newest first.

    Raises:
        UserError: a generation's candidate is not on record.
    """
    candidates = {candidate.id: candidate for candidate in run.candidates}
    for generation in lineage:
        if not generation.candidate:
            continue
        if generation.candidate not in candidates:
            raise UserError(f"{run.path}/data/candidates.jsonl has no {generation.candidate}, which made a harness")
        candidate = candidates[generation.candidate]
        for operation in reversed(Edit.from_json(candidate.edit).operations):
            yield generation, candidate, operation


def show(run_dir: Path | str, where: str) -> None:
    """Print the origin of a line, and on what evidence its edit shipped."""
    origin = why(run_dir, where)
    screen = console()
    screen.print(f"{where}  {origin.line.strip()}", style="bold")
    for line in _story(origin):
        screen.print(f"  {line}")


def _story(origin: Origin) -> Iterator[str]:
    candidate, generation = origin.candidate, origin.generation
    if not origin.exact:
        yield "best/ has several processors of this class and no edit put in this very one; the likeliest:"
    if candidate is None:
        yield f"unchanged since the harness the run began with ({generation.digest[:8]})"
        return
    yield f"{candidate.id}, round {candidate.round} ({', '.join(candidate.bucket)}): {candidate.title}"
    yield f"by {origin.operation}; harness {generation.digest[:8]}, grown from {generation.parent[:8]}"
    measured = "" if candidate.difference is None else f", {notation.gain(candidate.difference)} points on them"
    evidence = f"{notation.count(candidate.pairs)} pairs, e-value {notation.significant(candidate.e_value)}"
    yield f"{VERDICTS[candidate.verdict]} by {candidate.check}: {evidence}{measured}"


def _split(where: str) -> tuple[str, int]:
    file, _, number = where.rpartition(":")
    if not file or not number.isdecimal():
        raise UserError(f"{where!r} is not FILE:LINE; write e.g. harness.yaml:17 (files are those of best/)")
    return file.removeprefix("best/"), int(number)


def _lines(best: Path, file: str) -> list[str]:
    there = sorted(path.relative_to(best).as_posix() for path in best.rglob("*") if path.is_file())
    if file not in there:
        raise UserError(f"best/ has no {file}; it has {', '.join(there) or 'nothing yet'}")
    return (best / file).read_text(encoding="utf-8").splitlines()


def _lineage(run: RunFolder, harness: HarnessConfig) -> list[Generation]:
    """From the generation of ``harness`` back to the baseline."""
    by_digest = {generation.digest: generation for generation in reversed(run.generations)}
    if harness.digest not in by_digest:
        raise UserError(
            f"{run.path / 'best'} is not a harness of this run (digest {harness.digest[:8]}); was it edited?"
        )
    lineage = [by_digest[harness.digest]]
    while (parent := by_digest.get(lineage[-1].parent)) is not None:
        lineage.append(parent)
    return lineage


def _in_yaml(harness: HarnessConfig, text: str, line: int) -> _Target:
    import yaml

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    path = [] if root is None else _path(root, line)
    if path[:1] == ["slots"]:
        return _Target(slot=".".join(path[1:]))
    if path[:1] != ["processors"] or len(path) < 2:
        return _Target()
    spec = harness.processors[int(path[1])]
    return _Target(
        spec=spec,
        names=(traits_of(spec, harness.assets).group, spec.name, spec.target),
        param=path[2] if len(path) > 2 and path[2] != "_target_" else "",
        unique=sum(other.name == spec.name for other in harness.processors) == 1,
    )


def _path(node: Node, line: int) -> list[str]:
    """Keys and indices down to what stands on ``line``, counted from 0."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        steps = [(str(key.value), key.start_mark.line, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        steps = [(str(index), item.start_mark.line, item) for index, item in enumerate(node.value)]
    else:
        return []
    before = [(key, inner) for key, start, inner in steps if start <= line]
    return [before[-1][0], *_path(before[-1][1], line)] if before else []


def _content(operation: Operation, target: _Target) -> object:
    """What ``operation`` made of ``target``: a value, or why there is none."""
    match operation:
        case SetSlot(path, value) if f"{target.slot}.".startswith(f"{path}."):
            return value
        case SetAsset(target.asset, text):
            return target.text if target.text in (text or "").splitlines() else _Content.GONE
        case _ if target.spec is not None:
            return _content_of_processor(operation, target, target.spec)
        case _:
            return _Content.UNTOUCHED


def _content_of_processor(operation: Operation, target: _Target, spec: Spec) -> object:
    """Among namesakes a reference may mean another one: there, only what is present now counts as written."""
    present = spec.params.get(target.param) if target.param else spec.target
    match operation:
        case Insert(processor) | Replace(_, processor) if processor.target == spec.target:
            if target.unique:
                return processor.params.get(target.param, _Content.GONE) if target.param else present
            return present if processor == spec else _Content.UNTOUCHED
        case SetParam(reference, target.param, value) if reference.partition("#")[0] in target.names:
            return value if target.unique or value == present else _Content.UNTOUCHED
        case Remove(reference) | Replace(reference, _) if target.unique and reference in target.names:
            return _Content.GONE
        case _:
            return _Content.UNTOUCHED


def _said(operation: Operation) -> str:
    match operation:
        case Insert(processor):
            return f"insert {processor.name}"
        case Replace(reference, processor):
            return f"replace {reference} with {processor.name}"
        case SetParam(reference, name, value):
            return f"set {reference}.{name} to {value!r}"
        case SetSlot(path, value):
            return f"set slot {path} to {value!r}"
        case SetAsset(path):
            return f"write {path}"
        case _:
            return f"remove {operation.reference}"
