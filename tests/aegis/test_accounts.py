"""Prices, gaps, the accuracy-cost frontier and scored predictions: what the final report adds up."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from evolve_drive import edit, evolved, good_code, script
from hypothesis import given, settings
from hypothesis import strategies as st
from views_run import write_run

from aegis.accounts import cost, gaps
from aegis.evaluator import EVOLVE, SEALED, Evaluation
from aegis.history import History, Tried, brier
from aegis.meta.catalog import Catalog
from aegis.phrases import prediction
from aegis.record import (
    Bucket,
    CandidateRecord,
    Decision,
    FrontierPoint,
    Milestone,
    Prediction,
    RecordInvalid,
    Summary,
)
from aegis.stages.digester import Digest
from aegis.stages.planner import plan
from aegis.statistics import paired_difference, unpaired_difference
from aegis.statistics.redraw import chance_of_rise
from aegis.store import RunStore
from aegis.views import economy
from aegis.views.charts import best_for_their_price
from harnessx.errors import Outcome, StopReason
from harnessx.harness import HarnessConfig
from harnessx.runner.jobs import RolloutResult


def rollout(task: str, passed: bool, tokens: int = 10, dollars: float | None = 0.5, *, lost: bool = False):
    outcome = Outcome.INFRA_ERROR if lost else Outcome.PASSED if passed else Outcome.FAILED
    return RolloutResult(f"{task}{passed}{tokens}", task, 0, "h", outcome, StopReason.FINISHED, float(passed), 1,
                         tokens, dollars, 1, 0, "", "", 0.0)  # fmt: skip


def test_failures_are_paid_for_by_what_is_solved_and_lost_attempts_are_not_counted():
    spent = cost([rollout("a", True), rollout("b", False, 30), rollout("c", True), rollout("d", True, 99, lost=True)])
    assert (spent.attempts, spent.solved, spent.tokens, spent.dollars) == (3, 2, 50, 1.5)
    assert (spent.tokens_per_solved, spent.dollars_per_solved) == (25, 0.75)


def test_without_a_solved_task_or_a_price_there_is_no_number():
    spent = cost([rollout("a", False)])
    assert (spent.tokens_per_solved, spent.dollars_per_solved, spent.dollars) == (None, None, 0.5)
    spent = cost([rollout("a", True), rollout("b", True, dollars=None)])
    assert (spent.tokens_per_solved, spent.dollars_per_solved, spent.dollars) == (10, None, None)


def test_an_attempt_of_the_final_harness_is_priced_beside_one_of_h0(tmp_path):
    summary = Summary.from_json(json.loads((write_run(tmp_path / "run") / "summary.json").read_text()))
    spent = {"baseline": cost([rollout("a", True, 10)]), "final": cost([rollout("a", True, 20), rollout("b", True, 5)])}
    priced = replace(summary, costs={"sealed": spent, "evolve": {"baseline": spent["baseline"]}})
    assert economy.growth(priced) == "tokens of an attempt, final over baseline: 1.25 on sealed"
    assert economy.growth(replace(summary, costs={})) == ""


passes = st.lists(st.booleans(), min_size=1, max_size=8)


@settings(deadline=None, max_examples=40)
@given(st.tuples(passes, passes), st.randoms(use_true_random=False))
def test_the_gap_of_the_gain_is_the_final_gap_less_that_of_the_baseline(tasks, rng):
    measured = {
        split: {
            name: Evaluation(name, split, tuple(rollout(f"{split}{i}", rng.random() < 0.5) for i in range(len(size))))
            for name in ("baseline", "final", "peak")
        }
        for split, size in zip((EVOLVE, SEALED), tasks, strict=True)
    }
    found = gaps(measured, 0)
    assert found["gain"].mean == pytest.approx(found["final"].mean - found["baseline"].mean)
    assert found["final"].n == sum(map(len, tasks))
    for interval in found.values():
        assert interval.lo <= interval.mean + 1e-9
        assert interval.mean - 1e-9 <= interval.hi


def test_tasks_of_two_splits_are_no_controls_of_each_other():
    """Equal tasks on both sides: paired there is nothing left to chance, unpaired all of it."""
    values = {f"t{i}": [float(i % 2)] for i in range(40)}
    assert paired_difference(values, values, 0).hi == 0
    apart = unpaired_difference(values, values, 0)
    assert apart.mean == 0
    assert apart.hi - apart.lo == pytest.approx(4 * 0.5 / 20**0.5, rel=0.15)
    assert unpaired_difference({"a": [0.0]}, {"b": [1.0]}, 0).mean == 1, "second minus first"


points = st.builds(
    FrontierPoint,
    kind=st.just(Milestone.GENERATION), name=st.just("x"), harness=st.uuids().map(str), incumbent=st.just(""),
    round=st.just(1), rate=st.floats(0, 1), tokens=st.floats(0, 1e6), attempts=st.just(1),
)  # fmt: skip


@given(st.lists(points, max_size=12))
def test_no_point_is_better_for_less_than_one_of_the_frontier(drawn):
    best = best_for_their_price(drawn)
    for point in best:
        others = [p for p in drawn if p.tokens <= point.tokens and p.rate >= point.rate]
        assert all((p.tokens, p.rate) == (point.tokens, point.rate) for p in others)
    for point in drawn:
        assert any(p.tokens <= point.tokens and p.rate >= point.rate for p in best)


def test_a_summary_from_before_these_figures_is_read_and_one_that_lacks_others_is_not(tmp_path):
    data = json.loads((write_run(tmp_path / "x" / "run") / "summary.json").read_text())
    older = {key: value for key, value in data.items() if key not in ("costs", "gaps", "predictions")}
    assert data["schema"] == 1
    assert Summary.from_json(older) == replace(Summary.from_json(data), costs={}, gaps={}, predictions={})
    del older["stopped"]
    with pytest.raises(RecordInvalid, match="no stopped"):
        Summary.from_json(older)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run that ships once and turns away a candidate that would buy its gain."""
    home = tmp_path_factory.mktemp("accounts")
    wider = edit("wider", {"op": "set_slot", "path": "limits.steps", "value": 60})
    named = script(home / "script.yaml", {"propose": [good_code(), wider]}, {"propose": []})
    return evolved(home / "run", named, "rounds=2", "gate.cap=24", "attempts=2")


def test_the_prices_of_a_run_are_those_of_its_rollouts(folder):
    summary = Summary.from_json(json.loads((folder / "summary.json").read_text()))
    with RunStore.read(folder) as store:
        bodies = [json.loads(body) for _, body in store.rollouts()]
    for name in ("baseline", "final", "peak"):
        digest = getattr(summary.digests, name)
        mine = [b for b in bodies if b["harness"] == digest and b["task_id"].startswith("se-")]
        spent = summary.costs["sealed"][name]
        assert (spent.attempts, spent.solved) == (len(mine), sum(b["outcome"] == "passed" for b in mine))
        assert spent.tokens == sum(b["tokens"] for b in mine)
        assert spent.tokens_per_solved == (spent.tokens / spent.solved if spent.solved else None)
    assert summary.costs["evolve"]["final"].attempts == 12
    evolve, sealed = (summary.splits[split] for split in ("evolve", "sealed"))
    assert summary.gaps["final"].mean == pytest.approx(evolve.final.mean - sealed.final.mean)
    assert summary.gaps["gain"].mean == pytest.approx(evolve.difference.mean - sealed.difference.mean)


def test_the_frontier_holds_the_generations_and_what_was_bought(folder):
    read = [FrontierPoint.from_json(p) for p in json.loads((folder / "data/frontier.json").read_text())]
    summary = Summary.from_json(json.loads((folder / "summary.json").read_text()))
    found = {point.name: point for point in read}
    assert list(found) == ["H_0", "C-R1-02", "C-R1-01"]
    assert (found["H_0"].kind, found["H_0"].attempts) == (Milestone.GENERATION, 12)
    assert found["C-R1-01"].rate == pytest.approx(summary.splits["evolve"].final.mean)
    spent = summary.costs["evolve"]["final"]
    assert found["C-R1-01"].tokens == pytest.approx(spent.tokens / spent.attempts)
    bought = found["C-R1-02"]
    assert (bought.kind, bought.incumbent, bought.attempts) == (Milestone.BUDGET, found["H_0"].harness, 12)
    assert bought.tokens > found["H_0"].tokens
    assert "C-R1-02: " in (folder / "report.html").read_text()


def ship(number: int, bucket: Bucket, *unlock: str) -> Tried:
    record = CandidateRecord(
        f"C-R{number}-{bucket}", number, (bucket,), "t", "d", "p", Decision.SHIP, "c", "r",
        predicted=Prediction(unlock=unlock),
    )  # fmt: skip
    return Tried(record, "lever", "d")


def test_a_forecast_is_what_the_buckets_record_was_before_and_its_error_is_scored():
    history = History(outcomes=[{"a": 0.0, "b": 0.0, "c": 0.5, "d": 0.0}], tried=[ship(1, Bucket.PROMPT, "a", "b")])
    history.outcomes.append({"a": 1.0, "b": 0.0, "c": 0.5, "d": 0.0})
    history.score_predictions()
    first = history.tried[0].record
    assert (first.hit_rate, first.forecast, first.brier) == (0.5, 0.5, 0.25)
    assert history.forecast([Bucket.PROMPT]) == (1 + 1) / (2 + 2)
    assert history.forecast([Bucket.TOOLS]) == 0.5, "another bucket's record says nothing"
    history.tried += [ship(2, Bucket.PROMPT, "c"), ship(2, Bucket.TOOLS, "d")]
    history.outcomes.append({"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0})
    history.score_predictions()
    second, third = (tried.record for tried in history.tried[1:])
    assert (second.forecast, second.brier) == (0.5, 0.25)
    assert (third.hit_rate, third.brier) == (0.0, 0.25)
    scores = history.prediction_scores()
    assert (scores[Bucket.PROMPT].ships, scores[Bucket.PROMPT].hit_rate) == (2, 0.75)
    assert history.forecast([Bucket.PROMPT]) == (1 + 2) / (2 + 3)


async def test_a_hit_rate_stands_beside_what_chance_alone_would_flip():
    before = {"a": 0.0, "b": 0.5, "c": 0.5, "d": 1.0, "gone": 0.0}
    history = History([before], ["h0", "h1"], [ship(1, Bucket.PROMPT, "a", "b", "gone")], attempts=2)
    history.outcomes.append({"a": 0.5, "b": 0.5, "c": 0.5, "d": 1.0})
    history.score_predictions()
    (tried,) = history.tried
    chance = chance_of_rise(before, 2, ["a", "b"])  # of those that were played again, like the hit rate
    assert chance is not None
    assert (tried.record.hit_rate, tried.record.chance) == (0.5, chance)
    assert history.prediction_scores()[Bucket.PROMPT].chance == chance
    assert f"50 % came true, {100 * chance:.0f} % would by chance (" in prediction(tried.record)
    landscape = await plan(Digest(2, ()), history, Catalog(), HarnessConfig())
    assert f"* hit rates: prompt 0.50 ({chance:.2f} by chance)\n" in landscape.to_markdown()


@pytest.mark.parametrize("attempts", [2, 4])
def test_the_chance_level_is_what_an_unchanged_harness_flips(attempts):
    """Populations with U-shaped rates, played twice by the same harness; named are the tasks that failed at all."""
    expected, seen = [], []
    for seed in range(200):
        rng = random.Random(seed)
        truth = [rng.betavariate(0.25, 0.15) for _ in range(103)]
        before, now = ({str(i): sum(rng.random() < p for _ in range(attempts)) / attempts for i, p in enumerate(truth)}
                       for _ in range(2))  # fmt: skip
        named = [task for task, rate in before.items() if rate < 1]
        expected.append(chance_of_rise(before, attempts, named))
        seen.append(sum(now[task] > before[task] for task in named) / len(named))
    assert sum(seen) / 200 > 0.2
    assert sum(expected) / 200 == pytest.approx(sum(seen) / 200, abs=0.012)


@given(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from((0.0, 0.5, 1.0)), min_size=1))
def test_the_chance_level_is_a_share_and_nothing_rises_above_all_or_where_attempts_end_alike(rates):
    chance = chance_of_rise(rates, 2, list(rates))
    assert chance is not None
    assert 0 <= chance <= 1
    assert chance_of_rise(rates, 2, [task for task, rate in rates.items() if rate == 1.0]) in (0.0, None)
    if 0.5 not in rates.values():
        assert chance == 0.0
    assert chance_of_rise(rates, 1, list(rates)) is None
    assert chance_of_rise(rates, 2, ["unknown"]) is None


@given(st.floats(0, 1), st.lists(st.booleans(), min_size=1))
def test_the_brier_score_is_the_mean_squared_error_and_best_at_the_rate_itself(forecast, outcomes):
    rate = sum(outcomes) / len(outcomes)
    assert brier(forecast, rate) == pytest.approx(sum((forecast - o) ** 2 for o in outcomes) / len(outcomes))
    assert brier(forecast, rate) >= brier(rate, rate) - 1e-12


def test_predictions_are_scored_in_the_journal_the_records_and_the_next_plan(folder):
    summary = Summary.from_json(json.loads((folder / "summary.json").read_text()))
    score = summary.predictions["processor"]
    (outcome,) = json.loads((folder / "data/ship_outcomes.json").read_text())
    assert (outcome["hit_rate"], outcome["brier"]) == (score.hit_rate, score.brier)
    assert outcome["brier"] == pytest.approx(0.25), "nothing was known: one half, and off by one half"
    said = f"* C-R1-01 predicted flips, held to be 50 % likely; {100 * score.hit_rate:.0f} % came true"
    assert said in (folder / "journal.md").read_text()
    assert "* Brier scores: none scored" in (folder / "R1/landscape.md").read_text()
    assert "* Brier scores: processor 0.25" in (folder / "R2/landscape.md").read_text()
    assert "Brier 0.25" in (folder / "report.html").read_text()
