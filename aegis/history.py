"""What a run has learnt so far: the only memory the stages share between rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from aegis.record import ArmCalls, Bucket, CandidateRecord, Decision, PredictionScore


@dataclass(frozen=True, slots=True)
class Tried:
    """One candidate of the past, as the stages may know it.

    ``screen`` is its net change on ``attempts`` cached evolve attempts (gained minus lost), None when it was
    stopped before.
    """

    record: CandidateRecord
    lever: str
    digest: str
    screen: int | None = None
    attempts: int = 0


@dataclass(slots=True)
class History:
    """Outcomes by task and round, candidates and their fates, ships, hit rates, open concerns."""

    outcomes: list[Mapping[str, float]] = field(default_factory=list)
    """Per round: the incumbent's pass rate on each evolve task."""
    incumbents: list[str] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    strategy_concern: str = ""
    idle: int = 0

    def told(self) -> History:
        """What a proposer may know: of a confirmation its verdict and e-value, and nothing else that validation showed.

        What was estimated on the draws that decide would steer the search towards their chance (STATISTICS, rule 4).
        """
        records = [replace(t.record, difference=None, pairs=0, diverged=0, calls=ArmCalls()) for t in self.tried]
        return replace(self, tried=[replace(t, record=r) for t, r in zip(self.tried, records, strict=True)])

    @property
    def round(self) -> int:
        """The number of rounds whose rollouts are in."""
        return len(self.outcomes)

    def score_predictions(self) -> None:
        """Score the ships of the round before by the rollouts that are in: which predicted flips came true.

        A manifest names the tasks that will flip and not how surely. So each of its predictions is read as
        the probability that its buckets have earned so far, `forecast`, known before the outcome is; its
        Brier score is the mean of (forecast − outcome)² over the tasks it names. 0 is certain and right;
        .25 is what saying one half of everything gets.
        """
        if self.round < 2:
            return
        before, now = self.outcomes[-2:]
        due = [
            (index, self.forecast(tried.record.bucket))
            for index, tried in enumerate(self.tried)
            if tried.record.round == self.round - 1 and tried.record.verdict is Decision.SHIP
        ]
        for index, forecast in due:
            tried = self.tried[index]
            hits = hit_rate(tried.record.predicted.flips, before, now)
            error = None if hits is None else brier(forecast, hits)
            scored = replace(tried.record, hit_rate=hits, forecast=forecast, brier=error)
            self.tried[index] = replace(tried, record=scored)

    def forecast(self, buckets: Sequence[Bucket]) -> float:
        """The chance that a flip predicted by an edit of ``buckets`` comes true, by the record of those that share one.

        Laplace's rule, (hits + 1) / (predictions + 2): one half as long as nothing is known.
        """
        known = [t.record for t in self.shipped() if set(t.record.bucket) & set(buckets)]
        scored = [(r.hit_rate, len(r.predicted.flips)) for r in known if r.hit_rate is not None]
        return (1 + sum(rate * flips for rate, flips in scored)) / (2 + sum(flips for _, flips in scored))

    def prediction_scores(self) -> dict[Bucket, PredictionScore]:
        """How the predictions of each bucket's scored ships came out, means over ships."""
        scores = {}
        for bucket, rate in self.hit_rates().items():
            errors = [t.record.brier for t in self.shipped() if bucket in t.record.bucket]
            known = [error for error in errors if error is not None]
            if known:
                scores[bucket] = PredictionScore(len(known), rate, sum(known) / len(known))
        return scores

    def restate(self, deployed: str, rates: Mapping[str, float]) -> None:
        """The round was about one harness of several: what counts of it is how what is ``deployed`` fares."""
        if self.outcomes:
            self.outcomes[-1], self.incumbents[-1] = rates, deployed
            self.score_predictions()

    def regressions(self) -> tuple[str, ...]:
        """Tasks the incumbent solved more often in the round before than in the last."""
        if len(self.outcomes) < 2 or self.incumbents[-1] == self.incumbents[-2]:
            return ()
        before, now = self.outcomes[-2], self.outcomes[-1]
        return tuple(t for t in now if now[t] < before.get(t, 0.0))

    def persistent_failures(self, rounds: int = 2) -> tuple[str, ...]:
        """Tasks played in each of the last ``rounds`` rounds and never solved."""
        recent = self.outcomes[-rounds:]
        if len(recent) < rounds:
            return ()
        return tuple(t for t in recent[-1] if all(r.get(t) == 0.0 for r in recent))

    def of_task(self, task: str) -> tuple[float, ...]:
        """The task's pass rate, round by round."""
        return tuple(r[task] for r in self.outcomes if task in r)

    def shipped(self) -> list[Tried]:
        """Candidates that shipped, oldest first."""
        return [t for t in self.tried if t.record.verdict is Decision.SHIP]

    def hit_rates(self) -> dict[Bucket, float]:
        """Mean hit rate of scored ships, by bucket."""
        scores: dict[Bucket, list[float]] = {}
        for tried in self.shipped():
            for bucket in tried.record.bucket:
                if tried.record.hit_rate is not None:
                    scores.setdefault(bucket, []).append(tried.record.hit_rate)
        return {bucket: sum(values) / len(values) for bucket, values in scores.items()}

    def neglected(self, rounds: int = 3) -> tuple[Bucket, ...]:
        """Buckets without a candidate in the last ``rounds`` rounds."""
        recent = [t for t in self.tried if t.record.round > self.round - rounds]
        seen = {bucket for t in recent for bucket in t.record.bucket}
        return tuple(bucket for bucket in Bucket if bucket not in seen)

    def streaks(self, least: int = 3) -> tuple[tuple[Bucket, int], ...]:
        """Buckets that each of the last ``least`` ships or more changed, with the number of those ships.

        The paper's worst fall, 14 points, came with the sixth edit in a row of one bucket, after five that had
        each passed the gate: what several ships in a row have in common is worth a look.
        """
        ships = self.shipped()[::-1]

        def length(bucket: Bucket) -> int:
            return sum(1 for _ in takewhile(lambda tried: bucket in tried.record.bucket, ships))

        return tuple((bucket, length(bucket)) for bucket in sorted(Bucket) if length(bucket) >= least)

    def forbidden_levers(self) -> tuple[str, ...]:
        """Levers shipped in at least 2 of the last 3 rounds with a cumulative hit rate under 0.4.

        A candidate without a named lever belongs to none.
        """
        recent = [t for t in self.shipped() if t.lever and t.record.round > self.round - 4]
        rounds: dict[str, set[int]] = {}
        hits: dict[str, list[float]] = {}
        for ship in recent:
            for lever in ship.lever.split(" + "):
                rounds.setdefault(lever, set()).add(ship.record.round)
                if ship.record.hit_rate is not None:
                    hits.setdefault(lever, []).append(ship.record.hit_rate)
        return tuple(
            lever
            for lever, seen in rounds.items()
            if len(seen) >= 2 and lever in hits and sum(hits[lever]) / len(hits[lever]) < 0.4
        )

    def tally(self) -> Counter[tuple[Bucket, Decision]]:
        """How many candidates of each bucket met each fate."""
        return Counter((b, t.record.verdict) for t in self.tried for b in t.record.bucket)

    def seen(self, digest: str) -> bool:
        """Whether a harness of this digest was ruled on or was an incumbent; what was not tested may come back."""
        ruled = (t.digest for t in self.tried if t.record.verdict is not Decision.NOT_TESTED)
        return digest in self.incumbents or digest in ruled


def hit_rate(predicted: Sequence[str], before: Mapping[str, float], now: Mapping[str, float]) -> float | None:
    """The share of predicted flips that came true: tasks whose pass rate rose. None without any."""
    named = [t for t in predicted if t in before and t in now]
    return sum(now[t] > before[t] for t in named) / len(named) if named else None


def brier(forecast: float, hits: float) -> float:
    """The mean of (forecast − outcome)² where a share ``hits`` of the outcomes is 1 and the others are 0."""
    return hits * (1 - forecast) ** 2 + (1 - hits) * forecast**2
