"""Candidates through checks: the first finding rules on one; a ship moves the others to the new incumbent."""

from __future__ import annotations

from collections.abc import Sequence

from aegis.candidate import Candidate
from aegis.gate.base import Check, Untestable
from aegis.gate.confirmation import Trial
from aegis.gate.ruling import Ruling
from aegis.gate.screen import Screening
from aegis.record import Decision
from harnessx.errors import BudgetSpent, HarnessInvalid
from harnessx.harness import HarnessConfig


async def sieve(
    candidates: Sequence[Candidate],
    checks: Sequence[Check],
    rulings: dict[str, Ruling],
    screenings: dict[str, Screening],
    most: int | None = None,
) -> list[Candidate]:
    """The first ``most`` candidates that pass every check; the first finding rules on the others."""
    passed: list[Candidate] = []
    for candidate in candidates:
        if most is not None and len(passed) >= most:
            break
        for check in checks:
            seen = screenings.get(candidate.id)
            try:
                finding = await check(candidate)
            except (BudgetSpent, Untestable) as error:
                rulings[candidate.id] = Ruling(candidate, Decision.NOT_TESTED, check.name, str(error), seen)
                break
            if finding is not None:
                rulings[candidate.id] = Ruling(
                    candidate, Decision.REJECT, finding.check, finding.reason, seen, flagged=finding.flagged
                )
                break
        else:
            passed.append(candidate)
    return passed


def rebased(
    trials: Sequence[Trial],
    incumbent: HarnessConfig,
    rulings: dict[str, Ruling],
    screenings: dict[str, Screening],
) -> list[Candidate]:
    """The undecided trials' candidates on the new incumbent; what does not apply there is rejected."""
    waiting = []
    for trial in trials:
        if trial.test.verdict is not None:
            continue
        candidate = trial.candidate
        try:
            moved = candidate.rebased(incumbent)
        except HarnessInvalid as error:
            reason = f"does not apply to the new incumbent: {error}"
            rulings[candidate.id] = Ruling(candidate, Decision.REJECT, "rebase", reason, screenings[candidate.id])
            continue
        if moved.harness == incumbent:
            reason = "changes nothing on the new incumbent"
            rulings[candidate.id] = Ruling(moved, Decision.REJECT, "rebase", reason, screenings[candidate.id])
            continue
        waiting.append(moved)
    return waiting
