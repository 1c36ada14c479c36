"""Tasks and edits whose rates are known (STATISTICS.md: n = 103, rates U-shaped, Beta(.25, .15))."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

TASKS = 103
CLUSTERS = 6
RARE = 0.08
"""Chance per attempt that a rare trigger fires outside the tasks it was seen on."""


class Kind(StrEnum):
    """What an edit is, in truth."""

    USEFUL = "useful"
    LOSSY = "lossy"
    """Useful, with losses of a third of its gains."""
    INERT = "inert"
    """Changes every request and no rate: a salted copy of the incumbent."""
    USELESS = "useless"
    """Moves rates of the tasks it touches up and down by the same total."""
    HARMFUL = "harmful"
    """Below the threshold at which a single look would notice."""
    RARE_HARM = "rare_harm"
    """Helps ten tasks, and elsewhere fires seldom and fatally: a net loss."""
    CONFLICTING = "conflicting"
    """Helps one half of the clusters and harms the other."""
    BUDGET = "budget"
    """Gains by more tokens alone."""
    BUNDLE = "bundle"
    """Edits of a round that were undecided alone, together."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One edit's truth, by task: the chance per attempt that it acts, and what it adds to the rate if it does."""

    name: str
    kind: Kind
    acts: tuple[float, ...]
    adds: tuple[float, ...]
    tokens: float = 1.0


@dataclass(frozen=True, slots=True)
class Population:
    """``rates[i]`` is the bare harness's success rate on task i, which belongs to ``clusters[i]``."""

    rates: tuple[float, ...]
    clusters: tuple[str, ...]

    @classmethod
    def drawn(cls, rng: random.Random, tasks: int = TASKS, clusters: int = CLUSTERS) -> Population:
        """U-shaped difficulty; clusters of nearly equal size."""
        rates = tuple(rng.betavariate(0.25, 0.15) for _ in range(tasks))
        return cls(rates, tuple(f"c{i % clusters}" for i in range(tasks)))

    def rate(self, task: int, acting: Sequence[Effect]) -> float:
        """The success rate of an attempt in which exactly these edits act."""
        return min(1.0, max(0.0, self.rates[task] + sum(effect.adds[task] for effect in acting)))

    def truth(self, effects: Sequence[Effect], cluster: str | None = None) -> float:
        """The exact mean success rate with these edits, over all tasks or one cluster's."""
        tasks = [i for i, c in enumerate(self.clusters) if cluster in (None, c)]
        return sum(self._expected(i, effects) for i in tasks) / len(tasks)

    def _expected(self, task: int, effects: Sequence[Effect]) -> float:
        always = [e for e in effects if e.acts[task] == 1.0]
        seldom = [e for e in effects if 0.0 < e.acts[task] < 1.0]
        if not seldom:
            return self.rate(task, always)
        total = 0.0
        for acting in itertools.product((False, True), repeat=len(seldom)):
            chance = 1.0
            for effect, acts in zip(seldom, acting, strict=True):
                chance *= effect.acts[task] if acts else 1 - effect.acts[task]
            total += chance * self.rate(task, always + list(itertools.compress(seldom, acting)))
        return total

    def useful(self, name: str, rng: random.Random, *, scope: float, gain: float, losses: float = 0.0) -> Effect:
        """Adds ``gain`` to the mean rate, net, touching a share ``scope`` of the tasks.

        ``losses``: what it takes from some of them, as a share of what it gives to others. Negative gains harm.

        Raises:
            ValueError: the touched tasks have no room for the effect.
        """
        n = len(self.rates)
        given = abs(gain) * n / (1 - losses)
        touched = self._touched(rng, round(scope * n), given, losses, harm=gain < 0)
        losers = touched[: round(len(touched) * losses / (1 + losses))]
        winners = touched[len(losers) :]
        sign = 1.0 if gain > 0 else -1.0
        adds = [0.0] * n
        self._spread(adds, winners, sign * given)
        self._spread(adds, losers, -sign * given * losses)
        kind = Kind.HARMFUL if gain < 0 else Kind.LOSSY if losses else Kind.USEFUL
        return Effect(name, kind, self._acting(touched), tuple(adds))

    def inert(self, name: str) -> Effect:
        """Changes every request, and no rate."""
        n = len(self.rates)
        return Effect(name, Kind.INERT, (1.0,) * n, (0.0,) * n)

    def useless(self, name: str, rng: random.Random, *, scope: float, moved: float) -> Effect:
        """Gives ``moved`` of the mean rate to some touched tasks and takes as much from others."""
        n = len(self.rates)
        touched = self._touched(rng, round(scope * n), moved * n, 1.0, harm=False)
        half = len(touched) // 2
        adds = [0.0] * n
        self._spread(adds, touched[:half], -moved * n)
        self._spread(adds, touched[half:], moved * n)
        return Effect(name, Kind.USELESS, self._acting(touched), tuple(adds))

    def rare_harm(self, name: str, rng: random.Random, *, helped: int = 10, gain: float = 0.02) -> Effect:
        """Helps ``helped`` tasks whenever they are tried; elsewhere acts in 8 % of attempts, which then fail."""
        n = len(self.rates)
        tasks = self._touched(rng, helped, gain * n, 0.0, harm=False)
        adds = [-1.0] * n
        acts = [RARE] * n
        for task in tasks:
            acts[task], adds[task] = 1.0, 0.0
        self._spread(adds, tasks, gain * n)
        return Effect(name, Kind.RARE_HARM, tuple(acts), tuple(adds))

    def conflicting(self, name: str, rng: random.Random, *, gain: float, net: float) -> Effect:
        """Adds ``gain`` to the mean rate in half of the clusters and takes ``gain - net`` in the others."""
        n = len(self.rates)
        names = sorted(set(self.clusters))
        liked = set(rng.sample(names, len(names) // 2))
        adds = [0.0] * n
        self._spread(adds, [i for i in range(n) if self.clusters[i] in liked], gain * n)
        self._spread(adds, [i for i in range(n) if self.clusters[i] not in liked], -(gain - net) * n)
        return Effect(name, Kind.CONFLICTING, (1.0,) * n, tuple(adds))

    def budget(self, name: str, rng: random.Random, *, gain: float) -> Effect:
        """Adds ``gain`` everywhere there is room, for three times the tokens."""
        n = len(self.rates)
        adds = [0.0] * n
        self._spread(adds, range(n), gain * n)
        return Effect(name, Kind.BUDGET, (1.0,) * n, tuple(adds), tokens=3.0)

    def _touched(self, rng: random.Random, count: int, given: float, losses: float, *, harm: bool) -> list[int]:
        """``count`` tasks at random, losers first, that have room for what is given and taken."""
        up: Callable[[int], float] = self._below if harm else self._above
        down: Callable[[int], float] = self._above if harm else self._below
        for _ in range(1000):
            tasks = rng.sample(range(len(self.rates)), count)
            if losses:
                tasks.sort(key=up)
            split = count // 2 if losses == 1.0 else round(count * losses / (1 + losses))
            enough = sum(map(up, tasks[split:])) >= given and sum(map(down, tasks[:split])) >= given * losses
            if enough:
                return tasks
        raise ValueError(f"no {count} tasks of this population have room for an effect of {given:.3g} tasks")

    def _above(self, task: int) -> float:
        return 1 - self.rates[task]

    def _below(self, task: int) -> float:
        return self.rates[task]

    def _spread(self, adds: list[float], tasks: Sequence[int], total: float) -> None:
        """Add ``total`` over ``tasks`` in proportion to the room each has."""
        room = self._above if total > 0 else self._below
        whole = sum(room(task) for task in tasks)
        for task in tasks:
            adds[task] = total * room(task) / whole

    def _acting(self, touched: Sequence[int]) -> tuple[float, ...]:
        chosen = set(touched)
        return tuple(1.0 if i in chosen else 0.0 for i in range(len(self.rates)))
