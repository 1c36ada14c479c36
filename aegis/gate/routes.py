"""The confirmation of routes: a router and its pool are one candidate (STATISTICS rule 13).

A router fitted on some attempts looks better on them than it is: four identical variants routed in-sample per
cluster of 17 tasks seem to gain 4.4 points. So routes are fitted on evolve attempts, frozen, and a change of them is
tested on fresh validation attempts, at a level of its own from the run's ledger.

The pairs are drawn uniformly over the tasks that the change sends to another harness. On every other task both pools
play the same harness on the same attempt, d = 0 by construction and not by observation, so that a gain in the mean
over the changed tasks is one over all tasks, in proportion to their share. That is what a ship claims.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aegis.evaluator import VALIDATION, Evaluator
from aegis.gate.confirmation import Confirmation
from aegis.gate.cost import arm_costs
from aegis.record import ArmCalls, ArmCosts, Decision
from aegis.routing import RoutedPool, changed
from aegis.statistics import ByTask


@dataclass(frozen=True, slots=True)
class RouteRuling:
    """What the gate says of ``after`` in the place of ``before``; ``differences`` by task, after minus before."""

    before: RoutedPool
    after: RoutedPool
    decision: Decision
    reason: str
    e_value: float | None = None
    alpha: float | None = None
    pairs: int = 0
    diverged: int = 0
    differences: ByTask = field(default_factory=dict)
    calls: ArmCalls = ArmCalls()  # noqa: RUF009
    costs: ArmCosts | None = None
    """Of both arms on the confirming pairs."""
    broke: bool = False
    """Undecided for what could not be run, not for what was seen."""

    @property
    def ships(self) -> bool:
        """Whether the change is adopted."""
        return self.decision is Decision.SHIP

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters that another harness serves after."""
        before, after = self.before, self.after
        return tuple(
            sorted(
                cluster
                for cluster in before.routes
                if before.variants[before.routes[cluster]] != after.variants[after.routes[cluster]]
            )
        )


async def confirm_routes(
    confirmation: Confirmation, evaluator: Evaluator, before: RoutedPool, after: RoutedPool
) -> RouteRuling:
    """Test ``after`` against ``before`` where they differ.

    Raises:
        ValueError: no validation task tells them apart, so nothing could be tested.
    """
    population = evaluator.within(changed(before, after))
    if not population.tasks[VALIDATION]:
        raise ValueError("the two pools play every validation task with the same harness")
    if confirmation.exhausted:
        return RouteRuling(before, after, Decision.NOT_TESTED, confirmation.exhausted)
    scoped = confirmation.within(population)
    trial = scoped.open(after)
    await scoped.run(before, [trial])
    test = trial.test
    return RouteRuling(
        before,
        after,
        trial.decision,
        test.reason or scoped.exhausted,
        test.e_value,
        test.alpha,
        trial.pairs,
        trial.diverged,
        trial.differences,
        trial.calls,
        arm_costs(trial.results),
        trial.decision is Decision.UNDECIDED and not test.resumable,
    )
