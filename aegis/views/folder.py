"""A run folder, read: whatever is there of it, finished or not, without taking its lock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from aegis.record import (
    CandidateRecord,
    Curves,
    DriftRecord,
    FrontierPoint,
    Generation,
    Record,
    RecordInvalid,
    RoundRecord,
    RouteRecord,
    Scoreboard,
    SealedRates,
    Summary,
)
from aegis.record_ablation import Ablation
from harnessx.errors import UserError

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class RunFolder:
    """The records of one run. What is not written yet is None or empty.

    ``candidates`` has the last record of each id, in order of first appearance: a later line of the
    file replaces an earlier one (a hit rate is known rounds after the verdict).
    """

    path: Path
    config: Mapping[str, Any]
    summary: Summary | None
    curves: Curves
    scoreboard: Scoreboard
    candidates: tuple[CandidateRecord, ...]
    rounds: tuple[RoundRecord, ...]
    generations: tuple[Generation, ...]
    sealed: SealedRates | None
    frontier: tuple[FrontierPoint, ...]
    ablation: Ablation | None
    journal: str
    drift: tuple[DriftRecord, ...] = ()
    routes: tuple[RouteRecord, ...] = ()
    """Every ruling on routes, in order."""

    @classmethod
    def read(cls, path: Path | str) -> RunFolder:
        """The run at ``path``.

        Raises:
            UserError: not a run folder, or a file in it that is not what it should be.
        """
        path = Path(path)
        if not (path / "config.yaml").is_file():
            raise UserError(
                f"{path} is not a run folder (no config.yaml in it); give one like results/<experiment>/<run>"
            )
        return cls(
            path=path,
            config=_config(path / "config.yaml"),
            summary=_record(Summary, path / "summary.json"),
            curves=_record(Curves, path / "curves.json") or Curves(),
            scoreboard=_record(Scoreboard, path / "scoreboard.json") or Scoreboard(),
            candidates=tuple({c.id: c for c in _lines(CandidateRecord, path / "data/candidates.jsonl")}.values()),
            rounds=tuple({r.round: r for r in _lines(RoundRecord, path / "data/rounds.jsonl")}.values()),
            generations=tuple(_list(Generation, path / "data/generations.json")),
            sealed=_record(SealedRates, path / "data/sealed.json"),
            frontier=tuple(_list(FrontierPoint, path / "data/frontier.json")),
            ablation=_record(Ablation, path / "ablation/ablation.json"),
            journal=_text(path / "journal.md") or "",
            drift=tuple({d.round: d for d in _lines(DriftRecord, path / "data/drift.jsonl")}.values()),
            routes=tuple(_lines(RouteRecord, path / "data/routes.jsonl")),
        )

    @property
    def name(self) -> str:
        """``<experiment>/<run>``, as the folders are called."""
        resolved = self.path.resolve()
        return f"{resolved.parent.name}/{resolved.name}"

    def setting(self, key: str) -> str:
        """A choice of the config by its name: ``benchmark`` is 'household' however it is nested."""
        value = self.config.get(key)
        if isinstance(value, Mapping):
            value = value.get("name", value.get("_target_"))
        return "" if value is None else str(value)

    @property
    def offline(self) -> bool:
        """Whether no language model took part: the mechanical player and the catalog."""
        return self.setting("task_model") == "bounded" and self.setting("meta") == "catalog"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _config(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        config = yaml.safe_load(_text(path) or "")
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if config is not None and not isinstance(config, Mapping):
        raise UserError(f"{path} is not a run's configuration: expected a mapping of settings")
    return config or {}


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from error


def _parse(kind: type[R], path: Path, data: object) -> R:
    try:
        return kind.from_json(data)
    except RecordInvalid as error:
        raise UserError(f"{path}: {error}") from error


def _record(kind: type[R], path: Path) -> R | None:
    text = _text(path)
    return None if text is None else _parse(kind, path, _json(path, text))


def _list(kind: type[R], path: Path) -> Iterator[R]:
    data = _json(path, _text(path) or "[]")
    if not isinstance(data, list):
        raise UserError(f"{path}: expected a list")
    yield from (_parse(kind, path, item) for item in data)


def _lines(kind: type[R], path: Path) -> Iterator[R]:
    """One record a line. A last line without its newline is still being written: not there yet."""
    *whole, _torn = (_text(path) or "").split("\n")
    yield from (_parse(kind, path, _json(path, line)) for line in whole if line)
