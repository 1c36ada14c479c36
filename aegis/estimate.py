"""What a run may cost, said before its first rollout, and asked about where it is much."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from aegis.allowance import Budget
from aegis.evaluator import CANARY, EVOLVE, SEALED, VALIDATION
from aegis.settings import Settings
from aegis.views import notation
from harnessx.errors import UserError
from harnessx.harness import HarnessConfig
from harnessx.tasks import Task

CHARACTERS = 4
"""Of text in a token, about."""
STEP_TOKENS = 80
"""What a step adds to the next request: a call and what came of it."""
SAID_TOKENS = 40
"""What a model says at a step."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bounds of what a run takes.

    ``least`` rollouts are run where nothing is ever confirmed, ``most`` where every cap is reached.
    ``tokens_per_rollout`` is that of H_0: measured, or what a rollout takes that uses up its steps. Answers that
    are replayed cost nothing, and are not taken off. ``usd`` is None where no price is known.
    """

    least: int
    most: int
    tokens_per_rollout: float
    measured: bool
    usd: float | None

    @property
    def line(self) -> str:
        """For a person."""
        known = "as calibrated" if self.measured else "at most, by its steps"
        price = "at a price that is not known" if self.usd is None else f"at most {notation.dollars(self.usd)}"
        tokens = notation.count(round(self.tokens_per_rollout))
        total = notation.count(round(self.most * self.tokens_per_rollout))
        return (
            f"estimate: {self.least:,} to {self.most:,} rollouts of {tokens} tokens ({known}), "
            f"{total} tokens in all at most, {price}"
        )


def estimate(
    settings: Settings, baseline: HarnessConfig, tasks: Mapping[str, Sequence[Task]], measured: float | None = None
) -> Estimate:
    """What the run of ``settings`` takes; ``measured`` tokens per rollout, where they are."""
    least, most = _rollouts(settings, tasks)
    steps = baseline.slots.limits.steps
    tokens = _tokens(baseline, tasks, steps) if measured is None else measured
    price = settings.pool.model.price
    usd: float | None = None
    if price is not None:
        said = min(tokens, SAID_TOKENS * steps)
        usd = most * ((tokens - said) * price[0] + said * price[1])
        if settings.budget.usd is not None:
            usd = min(usd, settings.budget.usd)
    return Estimate(least, most, tokens, measured is not None, usd)


def _rollouts(settings: Settings, tasks: Mapping[str, Sequence[Task]]) -> tuple[int, int]:
    gate, rounds = settings.gate, settings.rounds
    evolve, canaries = len(tasks[EVOLVE]), len(tasks.get(CANARY, ()))
    paired = gate.rule == "paired"
    calibration = 2 * gate.calibration if paired else 0
    final = (len(tasks[VALIDATION]) + len(tasks[SEALED])) * settings.sealed_attempts
    least = calibration + evolve * settings.attempts + final + canaries
    again = min(settings.candidates, gate.finalists) * (gate.screen_attempts - 1)
    a_round = evolve * (settings.attempts + settings.candidates + again)
    a_round += canaries * settings.candidates
    a_round += 0 if settings.steady else 4 * gate.canary
    drift = 2 * min(gate.drift_cap, rounds * (gate.drift_pairs + gate.drift_check)) if gate.drift_pairs else 0
    confirming = gate.run_cap * (1 + gate.max_trials) if paired else 0
    most = calibration + rounds * a_round + confirming + drift + 3 * final + 2 * evolve * settings.attempts + canaries
    return least, most


def _tokens(harness: HarnessConfig, tasks: Mapping[str, Sequence[Task]], steps: int) -> float:
    """Of a rollout that uses up its steps, each of whose requests holds all that went before."""
    prompts = [len(task.prompt) for task in tasks[EVOLVE]]
    first = (len(harness.to_yaml()) + sum(prompts) / max(1, len(prompts))) / CHARACTERS
    return steps * (first + SAID_TOKENS + STEP_TOKENS * (steps - 1) / 2)


def confirm(expected: Estimate, budget: Budget, stdin: TextIO | None = None) -> None:
    """Ask where a run may cost more than ``budget.confirm_above`` dollars.

    Raises:
        UserError: it may, and nobody says yes.
    """
    limit = budget.confirm_above
    if limit is None or expected.usd is None or expected.usd <= limit or budget.confirm == "yes":
        return
    asked = stdin or sys.stdin
    much = f"the run may cost {notation.dollars(expected.usd)}, more than budget.confirm_above={limit:g}"
    remedy = "set budget.confirm=yes, a smaller budget.usd, or fewer rounds"
    if not asked.isatty():
        raise UserError(f"{much}, and there is no terminal to ask at; {remedy}")
    print(f"{expected.line}\n{much}; type yes to begin: ", end="", file=sys.stderr, flush=True)
    if asked.readline().strip().lower() != "yes":
        raise UserError(f"{much}, and was not confirmed; {remedy}")
