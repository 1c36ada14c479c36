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
``data/routes.jsonl``                 one `RouteRecord` a line (strategy ``ensemble``)
``data/drift.jsonl``                  one `DriftRecord` a line (no file where drift drew nothing)
``data/generations.json``             a list of `Generation`
``data/sealed.json``                  `SealedRates`
``data/calibration.json``             `aegis.record_calibration.Calibration`
``data/frontier.json``                a list of `FrontierPoint`
``ablation/ablation.json``            `aegis.record_ablation.Ablation`
====================================  ==========================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aegis.schema import LATER, Record, RecordInvalid
from aegis.statistics import Interval
from harnessx.canonical import JSON

__all__ = ["LATER", "Record", "RecordInvalid"]


class Decision(StrEnum):
    """What became of a candidate. ``not_tested``: an earlier ship or the end of a budget came first."""

    SHIP = "ship"
    REJECT = "reject"
    UNDECIDED = "undecided"
    NOT_TESTED = "not_tested"


class DriftAction(StrEnum):
    """What a round's watch for drift came to.

    ``watched``: nothing to act on. ``kept``: an alarm that its check did not confirm. ``rolled_back``: one
    that it did. ``confirmed``: the current harness proved better, and is the best confirmed one now.
    ``unwatched``: no pair of the run's cap was left.
    """

    WATCHED = "watched"
    KEPT = "kept"
    ROLLED_BACK = "rolled_back"
    CONFIRMED = "confirmed"
    UNWATCHED = "unwatched"


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
class CostPoint:
    """A point for the accuracy-cost frontier: means per attempt. ``side_calls`` are those of processors.

    ``dollars`` is None where any price is unknown.
    """

    attempts: int
    accuracy: float
    tokens: float
    model_calls: float
    side_calls: float
    tool_calls: float
    steps: float
    dollars: float | None = None


@dataclass(frozen=True, slots=True)
class ArmCosts:
    """Both arms on the same attempts."""

    incumbent: CostPoint
    candidate: CostPoint


@dataclass(frozen=True, slots=True)
class Prediction:
    """Task ids the manifest expects to flip to solved, to solve more reliably, to be put at risk."""

    unlock: tuple[str, ...] = ()
    stabilize: tuple[str, ...] = ()
    at_risk: tuple[str, ...] = ()

    @property
    def flips(self) -> tuple[str, ...]:
        """Tasks that are to be solved more often than before."""
        return (*self.unlock, *self.stabilize)


@dataclass(frozen=True)
class CandidateRecord(Record):
    """One candidate edit and what decided it.

    ``check`` is the gate check that decided; ``e_value`` is against a threshold of 1/``alpha``;
    ``pairs`` were scored, of which ``diverged`` sent a different request; ``difference`` is candidate −
    incumbent on those pairs; ``hit_rate`` is the share of predicted flips that came true, ``chance`` the share that
    would without any change, ``forecast`` how likely each was held to be, ``brier`` the mean squared error of that
    (`aegis.history.History`; None until a later round shows it).
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
    forecast: float | None = field(default=None, metadata=LATER)
    brier: float | None = field(default=None, metadata=LATER)
    chance: float | None = field(default=None, metadata=LATER)
    """None too with one attempt a task, which does not tell luck from difficulty."""
    flagged: bool = field(default=False, metadata=LATER)
    """It was caught cheating, by the check that decided."""
    costs: ArmCosts | None = field(default=None, metadata=LATER)
    """Accuracy and cost on the screened attempts of the evolve split."""
    wider: tuple[str, ...] = field(default=(), metadata=LATER)
    """The budgets that it widens beyond what is matched, whether or not that was allowed."""
    approval: str = field(default="", metadata=LATER)
    """What a person said of it, where one was asked."""


@dataclass(frozen=True)
class RouteRecord(Record):
    """A change of routes among variants and what decided it; ``routes`` maps a cluster to a harness, after it.

    The pairs were drawn uniformly over the validation tasks of ``clusters``, which another harness then serves.
    """

    round: int
    clusters: tuple[str, ...]
    routes: Mapping[str, str]
    before: str
    after: str
    verdict: Decision
    reason: str
    e_value: float | None = None
    alpha: float | None = None
    pairs: int = 0
    diverged: int = 0
    difference: Interval | None = None
    calls: ArmCalls = ArmCalls()


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
class DriftRecord(Record):
    """One round in which the harness at work was not the best confirmed one.

    ``pairs`` were drawn to watch, ``check_pairs`` to confirm an alarm; ``e_value`` is the detector's, against
    20; ``difference`` is current − best on the former. ``harness`` is what the round left at work.
    """

    round: int
    action: DriftAction
    reason: str
    current: str
    best: str
    harness: str
    pairs: int
    check_pairs: int
    e_value: float
    alarmed: bool
    difference: Interval | None = None


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
class CanaryScores:
    """How many canary tasks there were (0: the check was skipped) and how many the harnesses passed.

    None where a harness played none. One that the baseline passes says nothing about an edit.
    """

    tasks: int
    baseline: int | None = None
    final: int | None = None


@dataclass(frozen=True, slots=True)
class CandidateOutcome:
    """A candidate, as the summary lists it."""

    id: str
    round: int
    bucket: tuple[Bucket, ...]
    title: str
    verdict: Decision
    reason: str
    flagged: bool = field(default=False, metadata=LATER)


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


@dataclass(frozen=True, slots=True)
class HarnessCost:
    """What the attempts of one harness on one split cost.

    Tokens and dollars are those the attempts would cost alone: an answer that was replayed counts like
    one that was paid for, so that harnesses compare. Per solved task they are those of all attempts over
    the number that passed; None where none did, dollars also where a price is unknown.
    """

    attempts: int
    solved: int
    tokens: int
    dollars: float | None
    tokens_per_solved: float | None
    dollars_per_solved: float | None


@dataclass(frozen=True, slots=True)
class PredictionScore:
    """The predicted flips of one bucket's ships, as far as a later round has shown them: means over ships."""

    ships: int
    hit_rate: float
    brier: float
    chance: float | None = field(default=None, metadata=LATER)
    """What ``hit_rate`` would be without any change; None where it is known of none."""


class Milestone(StrEnum):
    """What a point of the accuracy-cost frontier is."""

    GENERATION = "generation"
    BUDGET = "rejected for its budget"


@dataclass(frozen=True)
class FrontierPoint(Record):
    """A harness by what it solves and what it costs, on the evolve tasks.

    ``rate`` is a fraction, ``tokens`` are per attempt. A generation was measured on all ``attempts``. A
    candidate was only screened, on ``attempts`` that its incumbent had run: it is placed from
    the point of that ``incumbent`` (a digest, '' for a generation) by what it won, lost and spent there.
    """

    kind: Milestone
    name: str
    harness: str
    incumbent: str
    round: int
    rate: float
    tokens: float
    attempts: int


@dataclass(frozen=True, slots=True)
class MetaCost:
    """What the meta-agent's sessions took, beside the rollouts; dollars are None where a price is not known."""

    sessions: int
    tokens: int
    dollars: float | None


@dataclass(frozen=True)
class Summary(Record):
    """``summary.json``: a run on one page, everything it takes to quote or repeat it.

    ``splits`` has keys ``evolve``, ``validation``, ``sealed``; ``costs`` has the same, then ``baseline``,
    ``final``, ``peak``. ``gaps`` are evolve − sealed: of the pass rates of these three, and of the ``gain``
    (final − baseline), which is what the run gained on tasks it read beyond what carries over.
    ``predictions`` are by bucket. ``seconds`` is wall time by stage.
    ``dollars`` is None where any price is unknown. ``isolation``, ``gate`` and ``ledger`` are the names
    of the settings; ``alpha`` is the run's error level. ``stopped`` says why the run ended. ``drift`` has the
    rounds in which the harness at work was not the best confirmed one. ``missing`` of the rollouts could not be
    run; ``unscored`` says of a split without scores why it has none. ``hosts`` is what evolved code was allowed to ask.
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
    drift: tuple[DriftRecord, ...] = field(default=(), metadata=LATER)
    costs: Mapping[str, Mapping[str, HarnessCost]] = field(default_factory=dict, metadata=LATER)
    gaps: Mapping[str, Interval] = field(default_factory=dict, metadata=LATER)
    predictions: Mapping[str, PredictionScore] = field(default_factory=dict, metadata=LATER)
    canaries: CanaryScores = field(default=CanaryScores(0), metadata=LATER)
    missing: int = field(default=0, metadata=LATER)
    unscored: Mapping[str, str] = field(default_factory=dict, metadata=LATER)
    hosts: tuple[str, ...] = field(default=(), metadata=LATER)
    meta: MetaCost | None = field(default=None, metadata=LATER)
    """None for a meta-agent that asks nobody."""

    def having(self, *verdicts: Decision) -> tuple[CandidateOutcome, ...]:
        """The candidates with one of ``verdicts``, in order."""
        return tuple(candidate for candidate in self.candidates if candidate.verdict in verdicts)
