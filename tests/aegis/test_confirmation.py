"""A confirmation on simulated rollouts: harm to a cluster, and pairs of which an arm is missing."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log
from types import SimpleNamespace

import pytest
from evolve_drive import insert
from hypothesis import given
from hypothesis import strategies as st

from aegis.candidate import Candidate, Proposal
from aegis.evaluator import VALIDATION
from aegis.gate.confirmation import Confirmation, Draws, Trial
from aegis.gate.pairs import redrawn, worst_case
from aegis.manifest import Manifest, Signature
from aegis.record import Bucket, Decision, Prediction
from aegis.statistics import ClusterProof, PairedTest, Spending, Superiority, Verdict
from harnessx.algebra import Edit
from harnessx.errors import Outage, Outcome, StopReason
from harnessx.harness import HarnessConfig
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.tasks import Task

INCUMBENT = HarnessConfig()


def candidate(text: str) -> Candidate:
    edit = Edit.from_json([insert("Instructions", text=text)])
    manifest = Manifest("C-R1-01", "t", (Bucket.PROMPT,), (), (), Prediction(), Signature("tool_call", "x"),
                        "f", "r", "t", "a")  # fmt: skip
    return Candidate.of(Proposal(edit, manifest, {}), INCUMBENT, 1)


def result(passed: bool | None, trail: str = "", task: str = "t", wall: bool = False) -> RolloutResult:
    outcome = Outcome.INFRA_ERROR if passed is None else Outcome.PASSED if passed else Outcome.FAILED
    reason = StopReason.WALL_LIMIT if wall else StopReason.ERROR if passed is None else StopReason.FINISHED
    return RolloutResult("", task, 0, "", outcome, reason, 0.0, 1, 1, None, 1, 0, trail, "down", 0.0, trail)


class World:
    """Rollouts by a rule: of a job, the results of its arms."""

    def __init__(self, tasks: Sequence[Task], rule: Callable[[Job], list[RolloutResult]]) -> None:
        self.tasks, self._rule, self.jobs, self.forgotten = {VALIDATION: tasks}, rule, list[Job](), list[Job]()
        self.pool = SimpleNamespace(isolation="process")

    def forget(self, jobs: Sequence[Job]) -> None:
        self.forgotten += jobs

    async def run(self, jobs: Sequence[Job]) -> list[list[RolloutResult]]:
        self.jobs += jobs
        return [self._rule(job) for job in jobs]


async def confirmed(world: World, *candidates: Candidate, **changed: float) -> list[Trial]:
    settings = {"cap": 400, "batch": 20, "run_cap": 2000, "mei": 0.03, "cluster_alpha": 0.05, **changed}
    confirmation = Confirmation(world, Spending(0.05, 4), Draws(world.tasks[VALIDATION], 0), **settings)
    trials = [confirmation.open(c) for c in candidates]
    await confirmation.run(INCUMBENT, trials)
    return trials


# --- clusters -----------------------------------------------------------------------------------------

CLUSTERS = [Task("play", f"{cluster}{n}", cluster) for cluster in "abcd" for n in range(5)]
"""Four clusters of five tasks."""


def by_cluster(helped: str, harmed: str) -> Callable[[Job], list[RolloutResult]]:
    """The incumbent fails every second attempt in ``helped``, the candidate each one in ``harmed``."""

    def rule(job: Job) -> list[RolloutResult]:
        cluster = job.task.cluster
        before, after = cluster not in helped or job.attempt % 2 == 0, cluster not in harmed
        return [result(before, "0000"), *(result(after, "1111") for _ in job.arms[1:])]

    return rule


async def test_a_candidate_that_helps_on_the_whole_but_harms_a_cluster_is_rejected_by_its_name():
    (trial,) = await confirmed(World(CLUSTERS, by_cluster("abc", "d")), candidate("x"))
    assert (trial.decision, trial.test.reason[:32]) == (Decision.REJECT, "harms the cluster d, shown after")
    assert sum(map(sum, trial.differences.values())) > 0


async def test_without_a_harmed_cluster_or_with_none_watched_the_same_gain_ships():
    (spared,) = await confirmed(World(CLUSTERS, by_cluster("abc", "")), candidate("x"))
    rule = by_cluster("abc", "d")
    (unwatched,) = await confirmed(World(CLUSTERS, rule), candidate("x"), cluster_alpha=0.0, cap=1500)
    unnamed = [replace(task, cluster="") for task in CLUSTERS]
    (unclustered,) = await confirmed(World(unnamed, lambda job: [result(False), result(True)]), candidate("x"))
    assert [t.decision for t in (spared, unwatched, unclustered)] == [Decision.SHIP] * 3


async def test_harm_at_the_pair_that_would_ship_forbids_the_ship():
    """The cluster's process and the whole test reach their thresholds on the same pair."""
    trial = Trial(candidate("x"), PairedTest(0.05, cap=100))

    class Harmed:
        harmed = ("d",)

        def update(self, cluster: str, d: int) -> None:
            assert (cluster, d) == ("d", 1)

    for _ in range(6):
        trial.score(result(False, "0000"), result(True, "1111"), "d")
    trial.harm = Harmed()
    while trial.test.verdict is None:
        trial.score(result(False, "0000"), result(True, "1111"), "d")
    assert trial.decision is Decision.REJECT


async def test_a_ship_waits_for_the_proof_that_every_cluster_is_spared():
    asked: tuple[dict[str, float], ...] = ({}, {"prove_ni": 0.1, "cap": 100}, {"prove_ni": 0.1})
    worlds = [World(CLUSTERS, by_cluster("abc", "")) for _ in asked]
    trials = [(await confirmed(w, candidate("x"), **a))[0] for w, a in zip(worlds, asked, strict=True)]
    plain, short, proved = trials
    assert (plain.decision, proved.decision, short.decision) == (Decision.SHIP, Decision.SHIP, Decision.UNDECIDED)
    drawn = [job.task.cluster for job in worlds[-1].jobs][: proved.pairs]
    assert (drawn.count("d"), drawn[-1]) == (44, "d")  # ties alone have to show it there
    assert plain.pairs < 44
    assert short.pairs == 100
    assert short.test.e_value > 1 / short.test.alpha
    assert short.test.reason.endswith("; not shown to lose less than 10 points: d")


async def test_a_pair_that_is_missing_is_no_proof_that_a_cluster_is_spared():
    trial = Trial(candidate("x"), PairedTest(0.05, cap=9), proof=ClusterProof("d", 0.1))
    trial.score(result(True, "00001111"), result(None, "00002222"), "d")
    assert trial.proof is not None
    trial.proof.update("d", 1)
    fair = ClusterProof("d", 0.1)
    for d in (-1, 1):
        fair.update("d", d)
    assert trial.proof._processes["d"].e_value == fair._processes["d"].e_value


async def test_harmless_candidates_are_hardly_ever_turned_away_as_harmful_to_a_cluster():
    def harmless(seed: int) -> Callable[[Job], list[RolloutResult]]:
        def rule(job: Job) -> list[RolloutResult]:
            rng = random.Random(f"{seed}/{job.attempt}")
            return [result(rng.random() < 0.5, "0000"), result(rng.random() < 0.5, "1111")]

        return rule

    turned_away = 0
    for seed in range(60):
        (trial,) = await confirmed(World(CLUSTERS, harmless(seed)), candidate("x"), mei=0.6)
        turned_away += "harms the cluster" in trial.test.reason
    assert turned_away <= 7  # 5 % of 60 in expectation, at most


def test_only_evidence_ships():
    with pytest.raises(ValueError, match="a ship needs evidence"):
        PairedTest(0.05, cap=10).overrule(Verdict.SHIP, "I like it")


# --- missing pairs ------------------------------------------------------------------------------------


def broken(share: float, place: int, trail: str) -> Callable[[Job], list[RolloutResult]]:
    """A better candidate; in this share of jobs the arm at ``place`` breaks after ``trail``."""

    def rule(job: Job) -> list[RolloutResult]:
        luck = random.Random(job.attempt)
        results = [result(luck.random() < 0.9, "aaaabbbb"), *(result(True, "aaaacccc") for _ in job.arms[1:])]
        if luck.random() < share:
            results[place] = result(None, trail)
        return results

    return rule


@pytest.mark.parametrize("place", [0, 1])
async def test_what_breaks_before_the_arms_differ_is_redrawn_and_is_no_pair(place):
    (trial,) = await confirmed(World(CLUSTERS, broken(0.15, place, "aaaa")), candidate("x"))
    assert trial.decision is Decision.SHIP
    assert trial.redrawn > 0
    assert trial.test.trace[-1].missing == 0
    assert trial.pairs == sum(map(len, trial.differences.values()))


@pytest.mark.parametrize(("place", "trail", "arm"), [(0, "aaaabbbb", "incumbent"), (1, "aaaacccc", "candidate")])
async def test_what_breaks_later_is_missing_and_over_two_percent_of_it_ends_the_test(place, trail, arm):
    (trial,) = await confirmed(World(CLUSTERS, broken(0.3, place, trail)), candidate("x"))
    assert (trial.decision, trial.redrawn) == (Decision.UNDECIDED, 0)
    assert f"pairs missing in the {arm} arm, over 2 %" in trial.test.reason


async def test_one_trial_is_redrawn_without_the_other_and_each_has_its_pairs():
    def rule(job: Job) -> list[RolloutResult]:
        lost = random.Random(job.attempt).random() < 0.1
        return [result(True, "aaaa"), result(None if lost else True, "aaaa"), result(True, "aaaa")][: len(job.arms)]

    first, second = await confirmed(World(CLUSTERS, rule), candidate("x"), candidate("y"), cap=60, mei=0.01)
    assert (first.pairs, second.pairs) == (60, 60)
    assert (first.redrawn > 0, second.redrawn) == (True, 0)


async def test_where_most_draws_break_the_trial_ends_with_its_reason_and_not_with_the_runs_last_pair():
    def rule(job: Job) -> list[RolloutResult]:
        passed = None if job.attempt % 4 else True
        return [result(passed, "aaaa"), result(passed, "aaaa")]

    world = World(CLUSTERS, rule)
    (trial,) = await confirmed(world, candidate("x"))
    assert trial.decision is Decision.UNDECIDED
    assert trial.test.reason == "21 of 28 draws broke before the arms differed, the last by down"
    assert len(world.jobs) == 40


async def test_a_world_in_which_nothing_can_be_run_ends_the_run():
    world = World(CLUSTERS, lambda job: [result(None, "aaaa")] * 2)
    with pytest.raises(Outage, match="none of the 20 rollouts on validation could be run: down"):
        await confirmed(world, candidate("x"))
    assert world.forgotten == world.jobs  # a resumed run asks again


async def test_every_rollout_of_a_confirmation_is_marked_as_one():
    """Else a resumed run would try the missing ones again, and replay what is out of date."""
    world = World(CLUSTERS, by_cluster("a", ""))
    await confirmed(world, candidate("x"))
    assert world.jobs
    assert all(job.confirming for job in world.jobs)


trails = st.lists(st.sampled_from(["aaaa", "bbbb"]), max_size=5).map("".join)


@given(trails, trails, st.booleans())
def test_a_pair_is_redrawn_exactly_if_the_broken_arm_had_not_left_the_others_trail(broke, other, swap):
    pair = (result(None, broke), result(True, other))
    assert redrawn(*(pair[::-1] if swap else pair)) == (other[: len(broke)] == broke)
    assert not redrawn(result(False, broke), result(True, other))


def test_a_candidate_cannot_choose_its_pairs_by_running_out_of_time():
    late = result(None, "aaaa", wall=True)
    assert not redrawn(result(True, "aaaabbbb"), late)
    assert redrawn(late, result(True, "aaaabbbb"))  # the incumbent knows nothing of the candidate


outcomes = st.sampled_from([True, False, None])


@given(st.lists(st.tuples(outcomes, outcomes), max_size=60), st.randoms(use_true_random=False))
def test_whatever_the_missing_arms_would_have_shown_the_evidence_was_not_overstated(pairs, rng):
    """Two-sided: below the truth and below what leaving the missing pairs out gives, so a ship holds by both."""
    test = PairedTest(1e-12, cap=60, min_pairs=60)
    truth, left_out = Superiority(), Superiority()
    for incumbent, candidate in pairs:
        if test.verdict is not None:
            break
        test.update(incumbent, candidate)
        known = [rng.random() < 0.5 if x is None else x for x in (incumbent, candidate)]
        truth.update(int(known[1]) - int(known[0]))
        if None not in (incumbent, candidate):
            left_out.update(int(candidate) - int(incumbent))
    assert log(test.e_value) <= log(truth.e_value) + 1e-9
    assert log(test.e_value) <= log(left_out.e_value) + 1e-9


@given(outcomes, outcomes)
def test_the_worst_case_of_a_pair_is_its_least_value(a, b):
    possible = [int(y) - int(x) for x in ([True, False] if a is None else [a]) for y in
                ([True, False] if b is None else [b])]  # fmt: skip
    assert worst_case(a, b) == min(possible)
