"""The statistics behind "a shipped gain is a real gain".

`PairedTest` decides one candidate at a level that a `Ledger` hands out; both rest on the e-processes
of `betting`. Estimates and their 95 % intervals are in `intervals`: they describe, they never decide.
`ClusterHarm` watches a confirmation's clusters, `ClusterProof` proves that none loses much where that is
asked for, `DriftDetector` watches the run's harness against the best confirmed.
"""

from aegis.statistics.betting import (
    BETS,
    MEI,
    ClusterHarm,
    ClusterProof,
    DriftDetector,
    EProcess,
    Futility,
    Harm,
    NonInferiority,
    Superiority,
)
from aegis.statistics.intervals import (
    ByTask,
    Interval,
    bootstrap_mean,
    clopper_pearson,
    hierarchical,
    paired_difference,
    pass_at_k,
    unpaired_difference,
    wilson,
)
from aegis.statistics.ledger import Elond, Ledger, LedgerSpent, Spending
from aegis.statistics.paired import Look, PairedTest, Verdict, expected_pairs

__all__ = [
    "BETS",
    "MEI",
    "ByTask",
    "ClusterHarm",
    "ClusterProof",
    "DriftDetector",
    "EProcess",
    "Elond",
    "Futility",
    "Harm",
    "Interval",
    "Ledger",
    "LedgerSpent",
    "Look",
    "NonInferiority",
    "PairedTest",
    "Spending",
    "Superiority",
    "Verdict",
    "bootstrap_mean",
    "clopper_pearson",
    "expected_pairs",
    "hierarchical",
    "paired_difference",
    "pass_at_k",
    "unpaired_difference",
    "wilson",
]
