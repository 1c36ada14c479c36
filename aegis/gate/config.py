"""The settings of the gate, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass

from aegis.statistics.power import PlannedTest


@dataclass(frozen=True, slots=True)
class GateConfig:
    """The gate's settings (config group ``gate``)."""

    rule: str = "paired"
    alpha: float = 0.05
    ledger: str = "spending"
    cap: int = 480
    batch: int = 32
    run_cap: int = 4000
    mei: float = 0.03
    slack: float = 0.3
    cluster_alpha: float = 0.05
    """Chance that a candidate harmless to every cluster is rejected as harmful to one; 0 watches none."""
    drift_pairs: int = 206
    """Fresh pairs a round, current against best confirmed harness, where they differ; 0 watches no drift."""
    drift_rounds: int = 15
    """Rounds over which the alarms of drift and canary each keep their 5 %."""
    drift_check: int = 1000
    """Pairs of one paired check after an alarm, at most."""
    drift_cap: int = 8000
    """Pairs that drift may draw in the whole run, checks included."""
    canary: int = 16
    """A/A pairs of the incumbent a round, which watch the provider; 0, or a deterministic model: none."""
    max_trials: int = 2
    """Candidates that may be confirmed at once; the best screened go first."""
    bundle: bool = True
    """Test a round's undecided edits once more, together."""
    smoke_s: float = 30.0
    """Seconds that the smoke test of a candidate may take."""
    screen_attempts: int = 1
    """Of the incumbent's cached attempts, those that candidates are screened on."""
    finalists: int = 3
    """Candidates screened on more than the first attempt; the best on that."""
    veto: int = 4
    """A net loss of this many cached attempts vetoes a candidate."""
    promise: int = 1
    """A net gain of this many cached attempts is worth a confirmation."""
    max_token_ratio: float = 1.5
    max_call_ratio: float = 1.5
    allow_budget: bool = False
    demonstrations: int = 1
    """Evolve tasks that the worked examples of a harness may show."""
    canaries: int = 10
    """Canary tasks that each confirmed candidate plays, where the benchmark has them; 0: none."""
    approval: str = "auto"
    risk_threshold: str = "code"
    calibration: int = 128
    """Pairs of copies of H_0 that are run before round 1, and half as many of it and an edit that says nothing; 0:
    no calibration."""
    power: float | None = None
    effect: float = 0.1
    """A run is refused whose settings do not show a gain of ``effect`` with power ``power``."""

    def test(self, decisions: int) -> PlannedTest:
        """One confirmation as a run of ``decisions`` plans it."""
        return PlannedTest(self.alpha / decisions, self.cap, self.mei, self.slack)
