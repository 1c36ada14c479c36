"""The paired confirmation: ship, reject or undecided (STATISTICS rules 2, 6 and 15)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from aegis.statistics.betting import MEI, Futility, Superiority

MISSING_LIMIT = 0.02


class Verdict(StrEnum):
    """What a confirmation concludes. Undecided is an answer: the pairs did not suffice."""

    SHIP = "ship"
    REJECT = "reject"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Look:
    """The evidence after ``pairs`` drawn pairs. ``missing`` ones are in neither wins nor losses."""

    pairs: int
    wins: int
    losses: int
    missing: int
    e_value: float
    futility: float


class PairedTest:
    """Consumes pairs in draw order until the evidence suffices one way or the other.

    Promise: if the candidate's mean success over the population is not above the incumbent's, the
    test ever ships it with probability at most ``alpha``. That holds for (task, fresh attempt) drawn
    uniformly with replacement before either arm runs, every drawn pair fed in draw order; or for
    complete passes over n tasks with ``look_every`` = n.

    In order, at each look:

    1. over 2 % of the drawn pairs are missing in either arm (a single one never counts): undecided;
    2. fewer than ``min_pairs`` drawn: go on;
    3. E ≥ 1/alpha: ship, unless ``hold`` says what is still to be shown: then go on;
    4. futility against "μ ≥ ``mei``" reaches 10: reject;
    5. E is off its course, log E < log(1/alpha) · (pairs / cap − ``slack``): undecided;
    6. ``cap`` pairs drawn: undecided.

    When to give up a test is free to choose: stopping early as undecided never ships anything.

    A pair may be missing (an infra error after the first divergence). Shipping would have to hold both
    without it and with it as the candidate's failure; the second never exceeds the first, so E is the
    second. Futility leaves it out: an infra error is no evidence against a candidate.

    An undecided test may `resume` as long as both harnesses, the model and the tasks are unchanged.
    """

    def __init__(
        self,
        alpha: float,
        *,
        cap: int,
        min_pairs: int = 1,
        look_every: int = 1,
        mei: float = MEI,
        slack: float = math.inf,
        hold: Callable[[], str] = str,
    ) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"an error level lies in (0, 1), not {alpha}")
        if look_every < 1 or cap < 1 or cap % look_every:
            raise ValueError(f"a cap of {cap} pairs is no whole number of looks every {look_every} pairs")
        self.alpha, self.mei, self.slack = alpha, mei, slack
        self.cap, self.min_pairs, self.look_every = cap, min_pairs, look_every
        self._hold = hold
        self.trace: list[Look] = []
        self.verdict: Verdict | None = None
        self.reason = ""
        self.resumable = False
        """Whether it ended for want of pairs alone."""
        self._superiority, self._futility = Superiority(), Futility(mei)
        self._pairs = self._wins = self._losses = self._missing = 0
        self._missing_by_arm = {"incumbent": 0, "candidate": 0}

    @property
    def e_value(self) -> float:
        """Evidence that the candidate is better, missing pairs counted as its failures."""
        return self._superiority.e_value

    def update(self, incumbent: bool | None, candidate: bool | None) -> Verdict | None:
        """Score one drawn pair (None: missing in that arm); the verdict, or None to go on.

        Raises:
            ValueError: there is a verdict already: a decided test takes no more pairs.
        """
        if self.verdict is not None:
            raise ValueError(f"the test has ended ({self.verdict}) and takes no more pairs")
        self._pairs += 1
        if incumbent is None or candidate is None:
            self._score_missing(incumbent, candidate)
        else:
            self._score(int(candidate) - int(incumbent))
        if self._pairs % self.look_every == 0:
            self._look()
        return self.verdict

    def resume(self, pairs: int) -> None:
        """Go on after an undecided verdict, for up to ``pairs`` more pairs: the same level, the same evidence.

        Raises:
            ValueError: the test has not ended, it has decided, or it did not end for want of pairs.
        """
        if not self.resumable:
            raise ValueError(f"only an undecided test goes on, this one is {self.verdict or 'not over'}: {self.reason}")
        self.cap = self._pairs + pairs
        self.verdict, self.reason, self.resumable = None, "", False

    def overrule(self, verdict: Verdict, reason: str) -> None:
        """End the test, also one that has ended, for a reason that no mean gain outweighs.

        Raises:
            ValueError: on a ship: only evidence ships.
        """
        if verdict is Verdict.SHIP:
            raise ValueError("a ship needs evidence, not a reason")
        self._end(verdict, reason)

    def _score(self, d: int) -> None:
        self._wins += d == 1
        self._losses += d == -1
        self._superiority.update(d)
        self._futility.update(d)

    def _score_missing(self, incumbent: bool | None, candidate: bool | None) -> None:
        self._missing += 1
        self._missing_by_arm["incumbent"] += incumbent is None
        self._missing_by_arm["candidate"] += candidate is None
        # An unknown incumbent is taken to have passed: the worst that the pair can have been.
        self._superiority.update(0 if incumbent is False else -1)

    def _look(self) -> None:
        look = Look(self._pairs, self._wins, self._losses, self._missing, self.e_value, self._futility.e_value)
        self.trace.append(look)
        arm, missing = max(self._missing_by_arm.items(), key=lambda item: item[1])
        if missing > max(1.0, MISSING_LIMIT * look.pairs):
            self._end(Verdict.UNDECIDED, f"{missing} of {look.pairs} pairs missing in the {arm} arm, over 2 %")
        elif look.pairs < min(self.min_pairs, self.cap):
            return
        elif look.e_value >= 1 / self.alpha and not self._hold():
            self._end(Verdict.SHIP, f"E = {look.e_value:.4g} ≥ {1 / self.alpha:.4g} after {look.pairs} pairs")
        elif look.futility >= self._futility.stop:
            self._end(Verdict.REJECT, f"no gain of {100 * self.mei:g} points after {look.pairs} pairs")
        elif math.log(max(look.e_value, 1e-300)) < -math.log(self.alpha) * (look.pairs / self.cap - self.slack):
            self._give_up(f"off course: E = {look.e_value:.4g} after {look.pairs} of {self.cap} pairs")
        elif look.pairs >= self.cap:
            held = f"; {waits}" if look.e_value >= 1 / self.alpha and (waits := self._hold()) else ""
            self._give_up(f"cap of {self.cap} pairs reached with E = {look.e_value:.4g}{held}")

    def _give_up(self, reason: str) -> None:
        self._end(Verdict.UNDECIDED, reason)
        self.resumable = True

    def _end(self, verdict: Verdict, reason: str) -> None:
        self.verdict, self.reason, self.resumable = verdict, reason, False


def expected_pairs(gain: float, loss: float, alpha: float) -> float:
    """About how many pairs `PairedTest` draws before it ships at level ``alpha``.

    ``gain`` and ``loss`` are the chances that a drawn pair has d = +1 and d = −1; their difference is
    the net effect μ. The answer is where the e-value of the *expected* counts reaches 1/alpha: exact
    but for the spread of the counts; the median run needs about as many. ``inf`` where the evidence
    does not grow (no net gain, or one too small beside the losses).
    """
    if min(gain, loss) < 0 or gain + loss > 1:
        raise ValueError(f"gain {gain} and loss {loss} are no chances of one pair")
    process, target = Superiority(), math.log(1 / alpha)

    def short_of_target(pairs: float) -> bool:
        return process.log_e_at(pairs * loss, pairs * (1 - gain - loss), pairs * gain) < target

    hi = 1.0
    while short_of_target(hi):
        hi *= 2
        if hi > 1e9:
            return math.inf
    lo = 0.0
    while hi - lo > 0.5:
        middle = (lo + hi) / 2
        lo, hi = (middle, hi) if short_of_target(middle) else (lo, middle)
    return hi
