"""Every check of the gate is met by the candidate it is there for, from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from evolve_drive import candidates, code, edit, evolved, good_code, insert, script, trail
from gate_drive import PASSES, REMIND, candidate, evaluation, result, source

from aegis.evaluator import EVOLVE, VALIDATION
from aegis.gate.config import GateConfig
from aegis.gate.confirmation import Confirmation, Draws
from aegis.gate.gate import Gate
from aegis.gate.ruling import Ruling
from aegis.gate.screen import Screening
from aegis.gate.seesaw import seesaw
from aegis.record import Decision
from aegis.statistics import Spending
from harnessx.harness import HarnessConfig
from harnessx.tasks import Task

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
    arguments = (
        "candidates=30",
        "rounds=1",
        "gate.veto=1",
        "gate.promise=-1",
        "gate.max_trials=1",
        "gate.cap=12",
        "gate.run_cap=12",
    )
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


# --- the paper's rule -----------------------------------------------------------------------------------


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


# --- ships at one pair ----------------------------------------------------------------------------------


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
