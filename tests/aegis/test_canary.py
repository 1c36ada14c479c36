"""The canary: a provider that changes is noticed, one that does not is hardly ever accused."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evolve_drive import SMALL, edit, good_code, insert, lasting, run, script, trail

from aegis.candidate import Candidate, Proposal
from aegis.evaluator import Evaluation
from aegis.gate.canary import Canary
from aegis.gate.confirmation import Draws
from aegis.gate.drift import DriftConfig, DriftWatch
from aegis.gate.pairs import run_pairs
from aegis.gate.ruling import GateReport, Ruling
from aegis.history import History
from aegis.manifest import Manifest, Signature
from aegis.record import Bucket, Decision, DriftAction, Prediction
from aegis.round import Engine, Round, run_round
from aegis.store import RunStore
from harnessx.algebra import Edit
from harnessx.errors import Outcome, StopReason, UserError
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig
from harnessx.models.scripted import Scripted
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.tasks import Task

TASKS = [Task("play", f"t{n}") for n in range(20)]
BASE = HarnessConfig()


class Provider:
    """Passes with chance ``rate``, drawn anew for every namespace."""

    def __init__(self, rate: float, seed: int = 0, missing: float = 0.0) -> None:
        self.rate, self.seed, self.missing = rate, seed, missing
        self.jobs: list[Job] = []

    async def run(self, jobs: Sequence[Job]) -> list[list[RolloutResult]]:
        self.jobs += jobs
        return [[self._result(job, arm) for arm in job.arms] for job in jobs]

    def _result(self, job: Job, arm: HarnessConfig) -> RolloutResult:
        luck = random.Random(f"{self.seed}/{job.split}/{job.attempt}/{arm.digest}")
        passed = Outcome.PASSED if luck.random() < self.rate else Outcome.FAILED
        outcome = Outcome.INFRA_ERROR if luck.random() < self.missing else passed
        return RolloutResult("", job.task.id, job.attempt, arm.digest, outcome, StopReason.FINISHED, 0.0, 1, 1, None,
                             1, 0, arm.digest, "", 0.0, arm.digest[:4])  # fmt: skip


async def rounds(provider: Provider, rates: Sequence[float], pairs: int = 16) -> list[bool]:
    """Rounds at whose end the provider has these rates; the alarms."""
    canary, alarms = Canary(provider, Draws(TASKS, provider.seed), pairs), []
    for number, rate in enumerate(rates, start=1):
        await canary.begin(BASE, number)
        provider.rate = rate
        alarms.append((await canary.end(number)).alarmed)
    return alarms


async def test_a_provider_that_stays_the_same_is_accused_in_at_most_the_stated_share_of_runs():
    accused = [any(await rounds(Provider(0.5, seed), [0.5] * 15)) for seed in range(100)]
    assert sum(accused) <= 9


@pytest.mark.parametrize(("before", "after"), [(0.9, 0.3), (0.1, 0.7)])
async def test_a_provider_that_collapses_or_wakes_up_within_a_round_is_noticed_in_it(before, after):
    noticed = [await rounds(Provider(before, seed), [before] * 3 + [after], pairs=40) for seed in range(20)]
    assert sum(alarms[3] for alarms in noticed) >= 18


async def test_a_slide_that_goes_on_for_rounds_is_noticed_too():
    sliding = [0.9 - 0.08 * number for number in range(9)]
    noticed = [any(await rounds(Provider(0.9, seed), sliding, pairs=150)) for seed in range(20)]
    assert sum(noticed) >= 10


async def test_after_an_alarm_the_watch_begins_anew_with_the_provider_as_it_is():
    assert await rounds(Provider(1.0), [1.0, 0.0, 0.0, 0.0]) == [False, True, False, False]


async def test_both_arms_are_asked_anew_on_draws_that_nothing_else_uses():
    provider, draws = Provider(0.5), Draws(TASKS, 0)
    canary = Canary(provider, draws, 4)
    for number in (1, 2):
        await canary.begin(BASE, number)
        await canary.end(number)
    later = draws.take(100)
    scopes = [job.scope for job in provider.jobs]
    assert len(scopes) == len(set(scopes)) == 16
    assert not {job.attempt for job in provider.jobs} & {attempt for _, attempt in later}
    assert {job.split for job in provider.jobs} == {
        f"canary/{n}/{when}" for n in (1, 2) for when in ("before", "after")
    }


async def test_missing_canary_pairs_are_counted_and_are_no_evidence():
    provider = Provider(0.5, missing=1.0)
    canary = Canary(provider, Draws(TASKS, 0), 10)
    await canary.begin(BASE, 1)
    report = await canary.end(1)
    assert (report.pairs, report.missing, report.e_value) == (10, 10, 1.0)


# --- what an alarm does -------------------------------------------------------------------------------


def ruling(decision: Decision, text: str) -> Ruling:
    made = Edit.from_json([insert("Instructions", text=text)])
    manifest = Manifest("C-R1-01", "t", (Bucket.PROMPT,), (), (), Prediction(), Signature("tool_call", "x"),
                        "f", "r", "t", "a")  # fmt: skip
    candidate = Candidate.of(Proposal(made, manifest, {}), BASE, 1)
    return Ruling(candidate, decision, "confirmation", "cap reached", e_value=30.0, alpha=0.05, pairs=9)


class FixedGate:
    """Rules as it is told to."""

    def __init__(self, *rulings: Ruling) -> None:
        self._rulings = rulings

    def forget(self) -> None:
        self.forgotten = True

    async def check(self, *_: object) -> GateReport:
        shipped = [r.candidate.harness for r in self._rulings if r.decision is Decision.SHIP]
        return GateReport(self._rulings, shipped[-1] if shipped else BASE)


async def test_an_alarm_discards_open_evidence_and_lets_ships_stand():
    provider = Provider(1.0)
    slipped = Edit.from_json([insert("Instructions", text="slipped")]).apply(BASE)
    watch = DriftWatch(provider, Draws(TASKS, 1), BASE, DriftConfig(pairs=40, rounds=4, check=40, cap=900))
    provider.rate = 0.5
    first = await watch.check(slipped)
    provider.rate = 1.0

    async def propose(engine: Engine, incumbent: HarnessConfig, number: int) -> Round:
        provider.rate = 0.0  # while the round is at work
        return Round(number, incumbent, Evaluation(BASE.digest, "evolve", ()))

    unsure, shipped = ruling(Decision.UNDECIDED, "a"), ruling(Decision.SHIP, "b")
    canary: Any = Canary(provider, Draws(TASKS, 2), 16)
    gate: Any = FixedGate(replace(unsure, reason="cap reached"), shipped)
    nobody: Any = None
    engine = Engine(nobody, nobody, gate, History(), 1, 1, 0.1, 0, propose=propose, drift=watch, canary=canary)
    this = await run_round(engine, BASE, 1)
    assert this.canary is not None
    assert this.canary.alarmed
    assert gate.forgotten
    open_, stands = this.report.rulings
    assert (open_.decision, open_.e_value) == (Decision.UNDECIDED, None)
    assert open_.reason.startswith("cap reached; its evidence is discarded: the same harness passed 0 and failed 16")
    assert stands == shipped
    assert watch.best == shipped.candidate.harness
    again = await watch.check(slipped)
    assert first.action is again.action is DriftAction.WATCHED
    assert "after 40 pairs" in again.reason  # those from before the alarm are forgotten


# --- who needs one ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ModelConfig({"_target_": "benchmarks.bounded.Bounded"}), True),
        (ModelConfig(Scripted(["a"])), True),
        (ModelConfig({"_target_": "fickle_model.Fickle"}), False),
        (ModelConfig("openai/gpt-5.4"), False),
        (ModelConfig({"model": "openai/gpt-5.4"}), False),
        (ModelConfig(Scripted(["a"]), judge="openai/gpt-5.4"), False),
        (ModelConfig(Scripted(["a"]), fallback={"main": ["openai/gpt-5.4"]}), False),
    ],
)
def test_a_model_is_deterministic_if_all_that_may_answer_say_so(model, expected):
    assert model.deterministic is expected


def test_a_model_that_is_not_there_is_one_clear_line():
    with pytest.raises(UserError, match=r"model target 'benchmarks\.bounded\.Nobody'"):
        _ = ModelConfig({"_target_": "benchmarks.bounded.Nobody"}).deterministic


async def test_arms_run_in_a_random_order_that_the_seed_fixes_and_come_back_as_given():
    arms = [Edit.from_json([insert("Instructions", text=text)]).apply(BASE) for text in "abc"]
    orders = []
    for seed in (None, 0, 0, 1):
        provider = Provider(0.5)
        results = await run_pairs(provider, Draws(TASKS, 0).take(40), arms, seed)
        assert [[r.harness for r in row] for row in results] == [[arm.digest for arm in arms]] * 40
        orders.append([job.arms for job in provider.jobs])
    fixed, first, again, other = orders
    assert set(fixed) == {tuple(arms)}
    assert first == again != other
    assert len(set(first)) == 6


FICKLE = {"PYTHONPATH": str(Path(__file__).parent)}
CHANGING = (*SMALL, "task_model.main._target_=fickle_model.Fickle", "gate.canary=4", "gate.cap=24", "rounds=2")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run whose model promises nothing."""
    folder = tmp_path_factory.mktemp("canary")
    late = {"propose": [edit("late", insert("Instructions", text="Be brief."), bucket=["prompt"])]}
    named = script(folder / "script.yaml", {"propose": [good_code()]}, late)
    done = run(*CHANGING, named, f"run.dir={folder / 'run'}", env=FICKLE)
    assert done.returncode == 0, done.stderr
    return folder / "run", named


def test_every_round_of_a_model_that_promises_nothing_has_its_canary(watched):
    folder, _ = watched
    assert [entry["canary"] for entry in trail(folder) if entry["event"] == "round"] == [[4, 0, 1.0, False]] * 2
    assert "Canary: no alarm: the same harness passed 0 and failed 0 of 4" in (folder / "journal.md").read_text()
    assert "## Canary" in (folder / "R1/decision.md").read_text()
    with RunStore.read(folder) as store:
        scopes = {row[0] for row in store._db.execute("SELECT DISTINCT scope FROM recording")}
    assert len([scope for scope in scopes if scope.startswith("canary/1/")]) == 8


def test_it_is_the_same_run_when_it_is_taken_up_again(watched, tmp_path):
    folder, named = watched
    again = tmp_path / "run"
    shutil.copytree(folder, again)
    lines = (folder / "audit.jsonl").read_text().splitlines(keepends=True)
    (again / "audit.jsonl").write_text("".join(lines[:2]))
    shutil.rmtree(again / "R2")
    (again / "summary.json").unlink()
    done = run(*CHANGING, named, f"run.dir={again}", "run.resume=true", env=FICKLE)
    assert done.returncode == 0, done.stderr
    assert lasting(again) == lasting(folder)
