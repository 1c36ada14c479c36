"""The records of a run: what the engine writes, what every view reads.

Each is a frozen value that round-trips through JSON. A `Record` is written with the version of its
schema and refuses to be read from another one. Rates and differences are fractions, not percent;
intervals are 95 %. **What was not measured is null**: no record holds a made-up number.

====================================  ==========================================
``summary.json``                      `Summary`
``curves.json``                       `Curves`
``scoreboard.json``                   `Scoreboard`
``data/candidates.jsonl``             one `CandidateRecord` a line
``data/rounds.jsonl``                 one `RoundRecord` a line
``data/generations.json``             a list of `Generation`
``data/sealed.json``                  `SealedRates`
====================================  ==========================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, ClassVar, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from aegis.statistics import Interval
from harnessx.errors import UserError
from harnessx.messages import JSON

T = TypeVar("T")

LATER = {"later": True}
"""Metadata of a field that came after the first release of its schema: a record without it has the default."""


class RecordInvalid(UserError):
    """JSON that is not the record it should be; the message names the field."""


class Record:
    """Base of the top-level records: JSON with a schema version."""

    schema: ClassVar[int] = 1

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object, ``schema`` first.

        Raises:
            ValueError: a number is not finite; an unscored metric is None.
        """
        return {"schema": self.schema, **_encode(self, type(self).__name__)}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Inverse of `to_json`.

        Raises:
            RecordInvalid: a field is missing, unknown or of another type, or the schema differs.
        """
        if not isinstance(data, Mapping):
            raise RecordInvalid(f"{cls.__name__}: expected an object, got {_brief(data)}")
        if data.get("schema") != cls.schema:
            raise RecordInvalid(
                f"{cls.__name__}: schema {data.get('schema')!r}, this version reads {cls.schema}; "
                "use the version that wrote the run"
            )
        body = {key: value for key, value in data.items() if key != "schema"}
        return _decode_dataclass(cls, body, cls.__name__)


class Decision(StrEnum):
    """What became of a candidate. ``not_tested``: an earlier ship or the end of a budget came first."""

    SHIP = "ship"
    REJECT = "reject"
    UNDECIDED = "undecided"
    NOT_TESTED = "not_tested"


class Bucket(StrEnum):
    """Which kind of component an edit changes (paper §3, change manifest)."""

    PROMPT = "prompt"
    TOOLS = "tools"
    CONFIG = "config"
    PROCESSOR = "processor"


@dataclass(frozen=True, slots=True)
class Calls:
    """Model calls: ``made`` reached the model, ``replayed`` came from the response cache."""

    made: int = 0
    replayed: int = 0


@dataclass(frozen=True, slots=True)
class ArmCalls:
    """Model calls of the two arms of a confirmation."""

    incumbent: Calls = Calls()
    candidate: Calls = Calls()


@dataclass(frozen=True, slots=True)
class Prediction:
    """Task ids the manifest expects to flip to solved, to solve more reliably, to be put at risk."""

    unlock: tuple[str, ...] = ()
    stabilize: tuple[str, ...] = ()
    at_risk: tuple[str, ...] = ()


@dataclass(frozen=True)
class CandidateRecord(Record):
    """One candidate edit and what decided it.

    ``check`` is the gate check that decided; ``e_value`` is against a threshold of 1/``alpha``;
    ``pairs`` were scored, of which ``diverged`` sent a different request; ``difference`` is candidate −
    incumbent on those pairs; ``hit_rate`` is the share of predicted flips that came true (None until a
    later round shows it).
    """

    id: str
    round: int
    bucket: tuple[Bucket, ...]
    title: str
    harness: str
    parent: str
    verdict: Decision
    check: str
    reason: str
    e_value: float | None = None
    alpha: float | None = None
    pairs: int = 0
    diverged: int = 0
    difference: Interval | None = None
    calls: ArmCalls = ArmCalls()
    predicted: Prediction = Prediction()
    hit_rate: float | None = None
    edit: JSON = None
    """JSON of the edit, as `harnessx.algebra.Edit` writes it."""


@dataclass(frozen=True)
class RoundRecord(Record):
    """One round of Algorithm 1 (paper §3). ``stop`` is '' or the reason of a clean no-op."""

    round: int
    incumbent: str
    evolve: Interval | None
    actionability: float | None = None
    stop: str = ""
    candidates: tuple[str, ...] = ()
    shipped: tuple[str, ...] = ()
    strategy_concern: str = ""


@dataclass(frozen=True)
class Generation(Record):
    """A harness that was an incumbent. The baseline has no parent and no candidate ('')."""

    digest: str
    parent: str
    round: int
    candidate: str
    bucket: tuple[Bucket, ...]
    title: str


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One round's incumbent as measured. ``tokens`` and ``rollouts`` are this round's own."""

    round: int
    harness: str
    evolve: Interval | None
    validation: Interval | None = None
    tokens: int = 0
    rollouts: int = 0


@dataclass(frozen=True)
class Curves(Record):
    """``curves.json``: the learning curve, oldest round first."""

    rounds: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreboardRound:
    """The fraction of attempts passed, by evolve task. A task that was not run is absent."""

    round: int
    harness: str
    rates: Mapping[str, float]


@dataclass(frozen=True)
class Scoreboard(Record):
    """``scoreboard.json``: task × round. ``clusters`` maps a task to its cluster."""

    clusters: Mapping[str, str] = field(default_factory=dict)
    rounds: tuple[ScoreboardRound, ...] = ()


@dataclass(frozen=True)
class SealedRates(Record):
    """``data/sealed.json``: fraction of attempts passed by sealed task, for comparing runs pairwise."""

    baseline: Mapping[str, float]
    final: Mapping[str, float]
    peak: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SplitScores:
    """Pass rates on one split. ``difference`` is final − baseline, paired by task."""

    baseline: Interval | None = None
    final: Interval | None = None
    peak: Interval | None = None
    difference: Interval | None = None


@dataclass(frozen=True, slots=True)
class CandidateOutcome:
    """A candidate, as the summary lists it."""

    id: str
    round: int
    bucket: tuple[Bucket, ...]
    title: str
    verdict: Decision
    reason: str


@dataclass(frozen=True, slots=True)
class Digests:
    """Identities. ``final`` and ``peak`` (chosen without the sealed split) are None until known."""

    benchmark: str
    model: str
    baseline: str
    final: str | None = None
    peak: str | None = None


@dataclass(frozen=True, slots=True)
class Versions:
    """What ran: interpreter, installed packages, and the commit (None outside a repository)."""

    python: str
    packages: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None


@dataclass(frozen=True)
class Summary(Record):
    """``summary.json``: a run on one page, everything it takes to quote or repeat it.

    ``splits`` has keys ``evolve``, ``validation``, ``sealed``. ``seconds`` is wall time by stage.
    ``dollars`` is None where any price is unknown. ``isolation``, ``gate`` and ``ledger`` are the names
    of the settings; ``alpha`` is the run's error level. ``stopped`` says why the run ended. ``missing`` of the
    rollouts could not be run; ``unscored`` says of a split without scores why it has none.
    """

    splits: Mapping[str, SplitScores]
    rounds: int
    candidates: tuple[CandidateOutcome, ...]
    rollouts: int
    model_calls: Calls
    tokens: int
    dollars: float | None
    seconds: Mapping[str, float]
    seeds: tuple[int, ...]
    digests: Digests
    isolation: str
    gate: str
    ledger: str
    alpha: float | None
    versions: Versions
    stopped: str
    missing: int = field(default=0, metadata=LATER)
    unscored: Mapping[str, str] = field(default_factory=dict, metadata=LATER)

    def having(self, *verdicts: Decision) -> tuple[CandidateOutcome, ...]:
        """The candidates with one of ``verdicts``, in order."""
        return tuple(candidate for candidate in self.candidates if candidate.verdict in verdicts)


def _encode(value: object, where: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; an unscored metric is None")
    if is_dataclass(value):
        return {f.name: _encode(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _encode(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_encode(item, f"{where}[{index}]") for index, item in enumerate(value)]
    return value.value if isinstance(value, StrEnum) else value


def _decode(kind: Any, data: object, where: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        inner = [arg for arg in args if arg is not NoneType]
        # Several alternatives are `JSON` itself, which is kept as it came.
        return data if data is None or len(inner) > 1 else _decode(inner[0], data, where)
    if origin is tuple and isinstance(data, list):
        return tuple(_decode(args[0], item, f"{where}[{index}]") for index, item in enumerate(data))
    if origin is Mapping and isinstance(data, dict):
        return {key: _decode(args[1], item, f"{where}.{key}") for key, item in data.items()}
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(data, dict):
        return _decode_dataclass(kind, data, where)
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        return float(data)
    if isinstance(kind, type) and issubclass(kind, StrEnum) and data in list(kind):
        return kind(str(data))
    if kind in (str, int, bool) and type(data) is kind:
        return data
    raise RecordInvalid(f"{where}: expected {getattr(kind, '__name__', kind)}, got {_brief(data)}")


def _decode_dataclass(kind: type[T], data: Mapping[str, Any], where: str) -> T:
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    later = {f.name for f in fields(kind) if f.metadata.get("later")}  # type: ignore[arg-type]
    wrong = [f"no {name}" for name in names if name not in data and name not in later]
    wrong += [f"unknown {name}" for name in data if name not in names]
    if wrong:
        raise RecordInvalid(f"{where}: {', '.join(wrong)}; fields are {', '.join(names)}")
    return kind(**{name: _decode(hints[name], data[name], f"{where}.{name}") for name in names if name in data})


def _brief(data: object) -> str:
    text = repr(data)
    return text if len(text) <= 60 else f"{text[:57]}..."
