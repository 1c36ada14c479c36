"""Acceptance judged against known truth: simulated tasks and edits under the real gate.

Success rates and the effects of edits are given here, so that a shipped edit is known to be good or
bad. Everything that decides is the real thing: `Gate`, `Confirmation`, the ledgers, the strategies; only
the rollouts behind `aegis.evaluator.Runner` are drawn instead of run, thousands of runs in minutes.

    python -m aegis.testbed null --runs 1000 --json
"""
