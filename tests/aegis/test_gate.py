"""Every check of the gate is met by the candidate it is there for, from the command line."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
from evolve_drive import SMALL, candidates, code, edit, evolved, good_code, insert, lasting, run, script, trail

from aegis.approvals import Desk
from aegis.candidate import Candidate, Proposal
from aegis.evaluator import EVOLVE, VALIDATION, Evaluation, Evaluator
from aegis.gate.approval import Approval, Risk, risk
from aegis.gate.base import Finding
from aegis.gate.bundle import bundle
from aegis.gate.config import GateConfig
from aegis.gate.confirmation import Confirmation, Draws
from aegis.gate.cost import wider_limits
from aegis.gate.gate import Gate
from aegis.gate.permitted import Consent
from aegis.gate.ruling import Ruling
from aegis.gate.screen import Screening
from aegis.gate.seesaw import seesaw
from aegis.gate.smoke import Smoke
from aegis.gate.source import MAX_SOURCE, findings_in
from aegis.manifest import Manifest, Signature
from aegis.record import Bucket, Decision, Prediction
from aegis.statistics import PairedTest, Spending, Verdict
from aegis.testbed.population import Population
from aegis.testbed.runner import SimulatedRunner, edit_of
from aegis.testbed.simulate import candidate as simulated_candidate
from harnessx.algebra import Edit
from harnessx.errors import Outcome, StopReason
from harnessx.harness import HarnessConfig
from harnessx.runner.jobs import RolloutResult
from harnessx.sandbox import BACKENDS
from harnessx.tasks import Task
from harnessx.trajectory import Step, Trajectory

PASSES = "def test_it(build):\n    assert build\n"
REMIND = insert("Instructions", text="Think.")
WALL = next(b.name for b in BACKENDS if b.name in ("landlock", "none") and not b.missing())


def source(body: str, imports: str = "") -> str:
    return f"""\
from dataclasses import dataclass
{imports}
from harnessx.hooks import Hook
from harnessx.processor import Processor


@dataclass
class X(Processor):
    hooks = (Hook.BEFORE_MODEL,)

    async def process(self, event):
        {body}
"""


FIRST_FINDINGS = {
    "incomplete": (edit("incomplete", REMIND, root_cause=" "), "manifest", "root_cause is empty"),
    "dangling": (edit("dangling", REMIND, REMIND, anchors=["ev-0000_a0#step_99"]), "manifest", "names no recorded"),
    "unknown task": (edit("unknown task", REMIND, REMIND, REMIND, unlock=["ev-9999"]), "manifest", "ev-9999"),
    "unpredicted": (edit("unpredicted", *[REMIND] * 4, unlock=[]), "manifest", "names no task that will unlock"),
    "no change": (
        edit("no change", {"op": "set_slot", "path": "limits.steps", "value": 30}),
        "canonical",
        "the edit changes nothing",
    ),
    "imports": (code("imports", source("yield event", "import os"), PASSES), "policy", "imports.py:2: import: 'os'"),
    "evaluates": (code("evaluates", source("yield event.remind(eval('x'))"), PASSES), "policy", ":12: dynamic: eval()"),
    "dunder": (code("dunder", source("yield event.__class__"), PASSES), "policy", ":12: dunder: __class__"),
    "literal": (code("literal", source("yield event.remind('ev-0003')"), PASSES), "policy", "task literal: 'ev-0003'"),
    "prompt literal": (
        edit("prompt literal", insert("Instructions", text="In ev-0003, look in the fridge.")),
        "policy",
        "the edit: task literal: 'ev-0003'",
    ),
    "sly test": (
        code("sly", source("yield event"), "import os\n" + PASSES, title="sly test"),
        "policy",
        "smoke test of",
    ),
    "untested": (code("untested", source("yield event.remind('a')")), "smoke", "new code without a smoke test"),
    "testless": (code("testless", source("yield event.remind('b')"), "x = 1"), "smoke", "defines no test_* function"),
    "failing": (
        code("failing", source("yield event.remind('c')"), "def test_it(build):\n    assert 1 == 2, 'as it should'\n"),
        "smoke",
        "AssertionError: as it should",
    ),
    "dying": (
        code("dying", source("yield event.remind('d')"), "def test_it(build):\n    raise SystemExit\n"),
        "smoke",
        "SystemExit",
    ),
    "silent": (code("silent", source("yield event"), PASSES), "effect", "no request changes in 6 cached attempts"),
    "crashing": (
        code("crashing", source("raise RuntimeError('broken')\n        yield event"), PASSES),
        "effect",
        "crashes in 6 of 6 attempts",
    ),
    "harmful": (edit("harmful", insert("ToolFilter", deny=["act"])), "screen", "vetoed: gains 0 and loses 1 of 6"),
    "more steps": (
        edit("more steps", {"op": "set_slot", "path": "limits.steps", "value": 60}, *[REMIND] * 5),
        "budget",
        "wider budget: steps 30 -> 60",
    ),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """One round in which every candidate but two is refused, each for its own first fault."""
    folder = tmp_path_factory.mktemp("refused")
    proposals = [proposal for proposal, _, _ in FIRST_FINDINGS.values()]
    proposals.append(edit("plain", insert("Instructions", text="Be calm."), bucket=["prompt"]))
    proposals.append(edit("late", insert("Instructions", text="Be brief."), bucket=["prompt"]))
    arguments = ("candidates=30", "rounds=1", "gate.veto=1", "gate.max_trials=1", "gate.cap=12", "gate.run_cap=12")
    return evolved(folder / "run", script(folder / "script.yaml", {"propose": proposals}), *arguments)


@pytest.mark.parametrize("title", FIRST_FINDINGS)
def test_the_first_check_that_finds_something_stops_a_candidate_and_is_recorded(refused, title):
    proposal, check, reason = FIRST_FINDINGS[title]
    record = candidates(refused)[proposal["title"]]
    assert (record["verdict"], record["check"]) == ("reject", check)
    assert reason in record["reason"]
    line = f"{record['id']} [{'+'.join(record['bucket'])}] {record['title']}: **reject** by {check}: {record['reason']}"
    assert line in (refused / "R1/decision.md").read_text()
    assert line in (refused / "journal.md").read_text()
    assert json.loads((refused / f"R1/verdicts/{record['id']}.json").read_text()) == record
    assert [record["id"], "reject", check, None] in trail(refused)[1]["rulings"]
    assert (refused / f"R1/candidates/{record['id']}/manifest.md").read_text().startswith(f"# {record['id']}")


def test_only_the_best_screened_are_confirmed_and_the_caps_are_named(refused):
    records = candidates(refused)
    fates = {title: (records[title]["verdict"], records[title]["reason"]) for title in ("plain", "late")}
    confirmed = {verdict for verdict, _ in fates.values()}
    assert confirmed == {"undecided", "not_tested"}
    assert {"screened behind the best 1"} == {reason for verdict, reason in fates.values() if verdict == "not_tested"}
    undecided = next(r for r in records.values() if r["verdict"] == "undecided")
    assert undecided["pairs"] == 12
    assert "cap of 12 pairs reached" in undecided["reason"]


def test_no_rejected_candidate_changes_the_harness(refused):
    assert trail(refused)[-1]["final"] == trail(refused)[0]["baseline"]
    assert not (refused / "R1/applied").exists()


# --- confirmation: ship, rebase, reject, undecided, not tested ------------------------------------------


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A ship, and three others that meet the new incumbent."""
    folder = tmp_path_factory.mktemp("shipped")
    describe = {"op": "set_slot", "path": "tools.describe.act", "value": "Do one thing."}
    good = good_code()
    good["edit"].append(describe)
    proposals = [
        good,
        edit("conflict", insert("ParseRetry", final_markers=["finished"], max_retries=1)),
        edit("redundant", describe, bucket=["tools"]),
        edit("independent", insert("Instructions", text="Be brief."), bucket=["prompt"]),
    ]
    arguments = ("rounds=1", "gate.max_trials=4", "gate.alpha=0.9", "gate.decisions=8", "gate.cap=48")
    return evolved(folder / "run", script(folder / "script.yaml", {"propose": proposals}), *arguments)


def test_a_confirmed_edit_ships_and_becomes_the_best_harness(shipped):
    record = candidates(shipped)["procedures"]
    assert (record["verdict"], record["check"]) == ("ship", "confirmation")
    assert record["e_value"] >= 1 / record["alpha"]
    assert 0 < record["diverged"] <= record["pairs"]
    best = HarnessConfig.load(shipped / "best")
    assert best == HarnessConfig.load(shipped / f"R1/applied/{record['id']}")
    assert best.digest == record["harness"] == trail(shipped)[-1]["final"]


def test_after_a_ship_the_others_are_rebased_and_those_that_cannot_be_are_rejected(shipped):
    records = candidates(shipped)
    assert (records["conflict"]["check"], records["conflict"]["verdict"]) == ("rebase", "reject")
    assert "group 'parse_retry' admits one processor" in records["conflict"]["reason"]
    assert records["redundant"]["check"] == "rebase"
    assert records["redundant"]["reason"] == "changes nothing on the new incumbent"


def test_after_a_ship_what_can_be_rebased_is_tested_anew_against_the_new_incumbent(shipped):
    records = candidates(shipped)
    again = records["independent"]
    assert again["parent"] == records["procedures"]["harness"]
    assert (again["verdict"], again["check"]) == ("undecided", "confirmation")
    assert again["pairs"] == 48  # the pairs against the old incumbent do not count


@pytest.fixture(scope="module")
def denied(tmp_path_factory):
    """A person who lets no new code through."""
    folder = tmp_path_factory.mktemp("denied")
    arguments = ("rounds=1", "gate.approval=deny", "gate.risk_threshold=tools")
    return evolved(folder / "run", script(folder / "script.yaml", {"propose": [good_code()]}), *arguments)


def test_an_edit_above_the_risk_threshold_does_not_ship_without_approval(denied):
    record = candidates(denied)["procedures"]
    assert (record["verdict"], record["check"]) == ("reject", "approval")
    assert record["reason"] == "risk code is above tools"
    assert record["e_value"] >= 1 / record["alpha"]  # it would have shipped
    assert trail(denied)[-1]["final"] == trail(denied)[0]["baseline"]


@pytest.fixture(scope="module")
def poor(tmp_path_factory):
    """An edit that costs too much, and one that does too little for a minimum effect of 60 points."""
    folder = tmp_path_factory.mktemp("poor")
    wordy = edit("wordy", insert("Instructions", text="Consider every single word of this. " * 400))
    propose = [wordy, edit("useless", insert("Instructions", text="Be brief."))]
    return evolved(folder / "run", script(folder / "script.yaml", {"propose": propose}), "rounds=1", "gate.mei=0.6")


def test_an_edit_without_the_minimum_effect_is_rejected_before_its_cap(poor):
    record = candidates(poor)["useless"]
    assert (record["verdict"], record["check"]) == ("reject", "confirmation")
    assert record["reason"].startswith("no gain of 60 points after")
    assert record["pairs"] < 36


def test_spent_decisions_and_spent_pairs_leave_candidates_undecided_or_not_tested(tmp_path):
    propose = [edit(text, insert("Instructions", text=text)) for text in ("Be calm.", "Be brief.")]
    folder = evolved(tmp_path / "run", script(tmp_path / "script.yaml", {"propose": propose}),
                     "rounds=1", "gate.decisions=1", "gate.run_cap=5")  # fmt: skip
    fates = sorted((r["verdict"], r["reason"]) for r in candidates(folder).values())
    assert fates == [
        ("not_tested", "every planned decision is spent"),
        ("undecided", "the run's cap of 5 pairs is reached"),
    ]


def test_tokens_buy_no_gain(poor):
    record = candidates(poor)["wordy"]
    assert record["check"] == "budget"
    assert "times the tokens (at most 3)" in record["reason"]


def test_an_endless_smoke_test_is_ended(tmp_path):
    endless = code("endless", source("yield event.remind('e')"), "def test_it(build):\n    while True:\n        pass\n")
    folder = evolved(tmp_path / "run", script(tmp_path / "script.yaml", {"propose": [endless]}),
                     "rounds=1", "gate.smoke_s=1")  # fmt: skip
    record = candidates(folder)["endless"]
    assert (record["check"], record["reason"]) == ("smoke", "no answer within 1 s")


# --- the paper's rule ----------------------------------------------------------------------------------


def test_the_seesaw_rule_ships_the_first_ranked_that_breaks_nothing(tmp_path):
    propose = [
        edit("harmful", insert("ToolFilter", deny=["act"])),
        good_code(),
        edit("late", insert("Instructions", text="Be brief.")),
    ]
    folder = evolved(
        tmp_path / "run", script(tmp_path / "script.yaml", {"propose": propose}), "gate=seesaw", "rounds=1"
    )
    records = candidates(folder)
    assert records["harmful"]["reason"].startswith("1 solved tasks regress: ev-")
    assert (records["procedures"]["verdict"], records["procedures"]["check"]) == ("ship", "seesaw")
    assert (records["late"]["verdict"], records["late"]["reason"]) == ("not_tested", "an earlier candidate shipped")
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["gate"], summary["ledger"], summary["alpha"]) == ("seesaw", "none", None)


def result(task: str, attempt: int, passed: bool) -> RolloutResult:
    outcome = Outcome.PASSED if passed else Outcome.FAILED
    return RolloutResult(
        "", task, attempt, "", outcome, StopReason.FINISHED, float(passed), 1, 1, None, 1, 0, "", "", 0.0
    )


def evaluation(**tasks: str) -> Evaluation:
    """``a="01"``: task a failed its first attempt and passed its second."""
    return Evaluation(
        "", "evolve", tuple(result(t, i, o == "1") for t, row in tasks.items() for i, o in enumerate(row))
    )


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (evaluation(a="10", b="00"), evaluation(a="01", b="10"), None),
        (evaluation(a="10", b="00"), evaluation(a="00", b="11"), "1 solved tasks regress: a"),
        (evaluation(a="11", b="00"), evaluation(a="10", b="00"), "no further task is solved"),
        (evaluation(a="10", b="00"), evaluation(a="11", b="00"), "no further task is solved"),
    ],
)
def test_the_seesaw_rule_counts_a_task_as_solved_on_any_attempt(before, after, reason):
    finding = seesaw(before, after)
    assert (finding.reason if finding else None) == reason


# --- ships at one pair --------------------------------------------------------------------------------


class Better:
    """Every candidate wins every pair against the baseline; two together win no more than one."""

    def __init__(self) -> None:
        self.pool = SimpleNamespace(isolation="process")
        self.tasks = {EVOLVE: (), VALIDATION: (Task("play", "t"),)}

    async def run(self, jobs):
        baseline = jobs[0].arms[0] == HarnessConfig()
        return [[result("t", job.attempt, place > 0 or not baseline) for place in range(len(job.arms))] for job in jobs]


async def test_of_two_that_would_ship_at_one_pair_the_second_is_tested_against_the_first():
    """Both would have reached 1/alpha on the same draw; only one of them may be the new incumbent."""
    world = Better()
    confirmation = Confirmation(world, Spending(0.05, 8), Draws(world.tasks[VALIDATION], 0),
                                cap=60, batch=30, run_cap=500, mei=0.03)  # fmt: skip
    first, second = candidate(REMIND), candidate(insert("CurrentState"))
    second = replace(second, proposal=replace(second.proposal, manifest=replace(second.proposal.manifest,
                                                                               candidate_id="C-R1-02")))  # fmt: skip
    seen = {c.id: Screening(c.id, 1, 1, (), (), (), 0) for c in (first, second)}
    rulings: dict[str, Ruling] = {}
    gate = Gate(GateConfig(), world, confirmation)
    incumbent = await gate._confirm([first, second], HarnessConfig(), rulings, seen, [])
    assert incumbent == first.harness
    assert rulings[first.id].decision is Decision.SHIP
    assert rulings[second.id].decision is not Decision.SHIP
    assert rulings[second.id].candidate.harness == second.proposal.edit.apply(first.harness)


# --- single checks ------------------------------------------------------------------------------------


def candidate(*operations, smoke=None, bucket=("config",)) -> Candidate:
    manifest = Manifest("C-R1-01", "t", tuple(Bucket(b) for b in bucket), (), (), Prediction(),
                        Signature("tool_call", "x"), "f", "r", "t", "a")  # fmt: skip
    return Candidate.of(Proposal(Edit.from_json(operations), manifest, smoke or {}), HarnessConfig(), 1)


def with_code(text: str, test: str) -> Candidate:
    asset = {"op": "set_asset", "path": "assets/x.py", "text": text}
    return candidate(asset, insert("assets/x.py:X"), smoke={"assets/x.py": test})


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("import socket", "import"),
        ("from os import path", "import"),
        ("import collections, subprocess", "import"),
        ("from . import x", "import"),
        ("from harnessx.runner.host import Host", "reflection"),
        ("from harnessx import loop", "reflection"),
        ("x = exec('1')", "dynamic"),
        ("x = open('/etc/passwd')", "dynamic"),
        ("x = getattr(1, 'real')", "dynamic"),
        ("x = ().__class__.__bases__", "dunder"),
        ("x = __builtins__", "dunder"),
        ("x = lambda self: self.ctx.task_id[:2] == 'va'", "identity"),
        ("x = lambda self: self.ctx.attempt >= 1000", "identity"),
        ("match 1:\n    case int(task_id=x):\n        pass", "identity"),
        ("x = (lambda: 0).f_globals", "reflection"),
        ("x = 'the answer of task-0007'", "task literal"),
        ("x = f'{1} of task-0007'", "task literal"),
        ("\u0435val = 1", "identifier"),
        ("def", "syntax"),
        ("x = '" + "x" * MAX_SOURCE + "'", "size"),
    ],
)
def test_policy_names_the_place_and_the_rule(body, rule):
    found = findings_in({"assets/x.py": f"y = 1\n{body}\n"}, ["task-0007"])
    assert found
    assert str(found[0]).startswith("assets/x.py:")
    assert f": {rule}: " in str(found[0])


def test_policy_lets_ordinary_processors_through():
    usual = source("yield event.remind(json.dumps({'a': math.floor(1.5)}))", "import json, math, re")
    assert findings_in({"assets/x.py": usual}, ["task-0007"]) == []


async def test_a_smoke_test_may_print_and_use_what_it_builds():
    test = "def test_it(build):\n    print('working')\n    assert build('assets/x.py:X').ctx.attempt == 0\n"
    assert await Smoke(WALL)(with_code(source("yield event"), test)) is None


async def test_a_smoke_test_that_ends_its_process_has_not_passed():
    finding = await Smoke(WALL)(with_code(source("yield event"), "import os\nos._exit(0)\n"))
    assert finding is not None
    assert finding.reason == "the process died or wrote nonsense"


async def test_a_component_that_cannot_be_built_fails_the_smoke_check():
    broken = source("yield event") + "\n    def __post_init__(self):\n        raise ValueError('no way')\n"
    finding = await Smoke(WALL)(with_code(broken, PASSES))
    assert finding is not None
    assert "no way" in finding.reason


async def test_without_a_wall_new_code_is_refused_with_the_remedy():
    finding = await Smoke("inprocess")(with_code(source("yield event"), PASSES))
    assert finding is not None
    assert "refused without a wall (isolation=inprocess): install bubblewrap" in finding.reason


async def test_a_smoke_test_runs_behind_the_wall(tmp_path):
    (tmp_path / "answers").write_text("42")
    peek = f"def test_it(build):\n    assert open({str(tmp_path / 'answers')!r}).read() == '42'\n"
    assert await Smoke("none")(with_code(source("yield event"), peek)) is None
    if WALL == "none":
        pytest.skip("landlock is not available here")
    finding = await Smoke(WALL)(with_code(source("yield event"), peek))
    assert finding is not None
    assert "answers" in finding.reason
    daemon = await Smoke(WALL)(with_code(source("yield event"), "import os\ndef test_it(build):\n    os.fork()\n"))
    assert daemon is not None
    assert "Operation not permitted" in daemon.reason


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (candidate(REMIND, bucket=["prompt"]), Risk.PROMPT),
        (candidate(REMIND, bucket=["prompt", "config"]), Risk.CONFIG),
        (candidate(REMIND, bucket=["processor"]), Risk.CONFIG),
        (candidate(REMIND, bucket=["config", "tools"]), Risk.TOOLS),
        (with_code(source("yield event"), PASSES), Risk.CODE),
    ],
)
async def test_risk_follows_what_an_edit_can_change_and_denial_starts_above_the_threshold(made, expected):
    assert risk(made) is expected
    for threshold in Risk:
        refused = await Approval(Consent(Desk("deny")), threshold)(made)
        assert (refused is not None) == (expected > threshold)
        assert await Approval(Consent(Desk("auto")), threshold)(made) is None


@pytest.mark.parametrize(
    ("path", "value", "wider"),
    [("limits.steps", 51, 1), ("limits.steps", 49, 0), ("limits.tokens", 1000, 0), ("limits.wall_s", None, 1)],
)
def test_a_wider_limit_is_found(path, value, wider):
    made = candidate({"op": "set_slot", "path": path, "value": value})
    assert len(wider_limits(made.parent, made.harness)) == wider


def test_findings_do_not_depend_on_the_process(tmp_path):
    """Two literals in one text: which is named may not follow the hash seed of the process."""
    both = edit("both", insert("Instructions", text="ev-0001 ev-0002 ev-0003 ev-0004 ev-0005"))
    named = script(tmp_path / "script.yaml", {"propose": [both]})
    files = []
    for seed in ("1", "2"):
        done = run(*SMALL, named, f"run.dir={tmp_path / seed}", "rounds=1", env={"PYTHONHASHSEED": seed})
        assert done.returncode == 0, done.stderr
        files.append(lasting(tmp_path / seed))
    assert files[0] == files[1]


# --- undecided edits ------------------------------------------------------------------------------------


def plan(**effects):
    """A simulated population, the gate's parts over it, and one candidate per effect."""
    rng = random.Random("undecided")
    population = Population.drawn(rng)
    made = {name: population.useful(name, rng, scope=0.5, gain=gain) for name, gain in effects.items()}
    runner = SimulatedRunner(population, made, 0)
    evaluator = Evaluator(runner, runner.tasks())
    ledger = Spending(0.05, 20)
    confirmation = Confirmation(evaluator, ledger, Draws(evaluator.tasks[VALIDATION], 0),
                                cap=120, batch=24, run_cap=10_000, mei=0.001)  # fmt: skip
    parent = HarnessConfig()
    candidates = [
        simulated_candidate(effect, parent, 1, number, Trajectory("evolve-0", steps=[Step(1)]))
        for number, effect in enumerate(made.values(), start=1)
    ]
    return SimpleNamespace(evaluator=evaluator, ledger=ledger, confirmation=confirmation, candidates=candidates,
                           parent=parent, runner=runner)  # fmt: skip


async def test_evidence_is_carried_over_only_if_nothing_has_changed():
    world = plan(small=0.03)
    (small,) = world.candidates
    first = world.confirmation.open(small)
    await world.confirmation.run(world.parent, [first])
    assert first.test.verdict is Verdict.UNDECIDED
    world.confirmation.suspend(first)
    spent, evidence, pairs = world.ledger.opened, first.test.e_value, first.pairs
    again = world.confirmation.open(small)
    assert (again.test.e_value, again.pairs, world.ledger.opened) == (evidence, pairs, spent)
    await world.confirmation.run(world.parent, [again])
    assert again.pairs > pairs
    world.confirmation.suspend(again)
    other = edit_of(replace(world.runner.effects(small.harness)[0], name="small")).apply(world.parent)
    moved = replace(small, parent=other)  # the same harness against another incumbent
    fresh = world.confirmation.open(moved)
    assert (fresh.test.e_value, fresh.pairs, world.ledger.opened) == (1.0, 0, spent + 1)
    world.confirmation.forget()  # the provider has changed
    anew = world.confirmation.open(small)
    assert (anew.test.e_value, world.ledger.opened) == (1.0, spent + 2)


async def test_a_ship_that_may_not_be_is_not_counted_and_the_others_go_on_as_they_stand():
    world = plan(fast=0.2, slow=0.1)
    world.confirmation._cap, world.confirmation._slack = 2000, 9.0
    settings = GateConfig(approval="deny", risk_threshold="prompt", calibration=0)
    gate = Gate(settings, world.evaluator, world.confirmation)
    gate._approve = Denied("fast")  # type: ignore[method-assign]
    baseline = await world.evaluator.evaluate(world.parent, EVOLVE, 1)
    report = await gate.check(world.candidates, baseline, world.parent, frozenset({"evolve-0_a0#step_1"}))
    by_title = {r.candidate.manifest.title: r for r in report.rulings}
    assert (by_title["fast"].decision, by_title["fast"].check) == (Decision.REJECT, "approval")
    assert by_title["slow"].decision is Decision.SHIP
    assert by_title["slow"].pairs > by_title["fast"].pairs
    assert (world.ledger.opened, world.ledger.shipped) == (2, 1)


class Denied:
    """Lets everything pass but one title."""

    def __init__(self, title: str) -> None:
        self._title = title

    async def __call__(self, candidate: Candidate) -> Finding | None:
        return Finding("approval", "denied") if candidate.manifest.title == self._title else None


def test_a_test_that_broke_does_not_go_on():
    test = PairedTest(0.01, cap=200)
    for _ in range(2):
        test.update(None, True)
    assert test.verdict is Verdict.UNDECIDED
    with pytest.raises(ValueError, match="pairs missing"):
        test.resume(100)


def test_only_an_undecided_test_goes_on():
    test = PairedTest(0.5, cap=4)
    with pytest.raises(ValueError, match="not over"):
        test.resume(4)
    for _ in range(4):
        test.update(False, True)
        if test.verdict is not None:
            break
    assert test.verdict is Verdict.SHIP
    with pytest.raises(ValueError, match="only an undecided test"):
        test.resume(4)


async def test_edits_that_are_undecided_alone_may_ship_together():
    world = plan(one=0.08, two=0.08, three=0.08)
    gate = Gate(GateConfig(cap=120, batch=24, mei=0.001, slack=9.0, bundle=True, calibration=0), world.evaluator,
                world.confirmation)  # fmt: skip
    baseline = await world.evaluator.evaluate(world.parent, EVOLVE, 1)
    report = await gate.check(world.candidates, baseline, world.parent, frozenset({"evolve-0_a0#step_1"}))
    alone = [r for r in report.rulings if r.candidate.id != "C-R1-B1"]
    (together,) = [r for r in report.rulings if r.candidate.id == "C-R1-B1"]
    assert {r.decision for r in alone} == {Decision.UNDECIDED}
    assert together.decision is Decision.SHIP
    assert together.alpha == 0.05 / 20
    assert world.ledger.opened == 4  # an index of its own
    assert report.incumbent == together.candidate.harness
    assert len(together.candidate.harness.assets) >= 2


def test_edits_that_exclude_each_other_or_show_nothing_are_not_bundled():
    world = plan(one=0.06, two=0.06)
    one, two = world.candidates
    assert bundle([(one, 3.0), (two, 0.9)], world.parent) is None
    assert bundle([(one, 3.0), (one, 2.0)], world.parent) is None
    made = bundle([(one, 2.0), (two, 3.0)], world.parent)
    assert made.manifest.title == "two; one"
    assert made.harness == two.proposal.edit.apply(one.harness)
