"""Whole runs with four language models behind a real HTTP server: every duty of every role occurs, and is recorded."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evolve_drive import candidates, good_code, insert, rounds, run, trail
from loopback import Asked, Provider, Script, call, judged, ranked, serving
from meta_drive import LLM, sessions, tells, writes

from aegis.store import RunStore
from benchmarks.household.h0 import PROMPT, harness

TRANSFORMS = "Clean things with the sinkbasin. Heat things with the microwave; it need not be opened for that."
GARBAGE = "I am sorry, as a model I would rather chat."


PATH = {"path": "assets/procedures.py", "action": "add", "summary": "s"}


def coded(name: str, **fields: Any) -> Any:
    """The procedures as code that ships; without the reminder that `reminding` brings."""
    made = good_code()
    edit = [operation for operation in made["edit"] if "CurrentState" not in str(operation)]
    return writes(name, *edit, smoke=made["smoke"], bucket=["processor"], file_changes=[PATH], **fields)


reminding = writes("first", insert("CurrentState", observation=False), insert("Instructions", text=TRANSFORMS))


def sloppy(asked: Asked) -> Any:
    """A Digester that answers one task in prose at first, and cites for another a step that nobody saw."""
    if asked.task == "ev-0000":
        return GARBAGE
    return {**judged(asked), "anchors": ["ev-0001_a0#step_999"]} if asked.task == "ev-0001" else judged(asked)


def mended(asked: Asked) -> Any:
    return judged(asked) if asked.task == "ev-0000" else {**judged(asked), "anchors": ["ev-0001_a7#step_1"]}


def questioning(asked: Asked) -> Any:
    return {"questions": [{"task": "ev-0001", "question": "Was it ever told how?"}]}


def found(asked: Asked) -> Any:
    return call("search", text="step_1") if asked.turn == 0 else {
        "findings": [{"anchor": f"{asked.task}_a0#step_1", "says": "it was not"}]}  # fmt: skip


def deciding(asked: Asked) -> Any:
    ids = ranked(asked)["ranking"]
    return {"ranking": ids, "requests": {ids[1]: "say it shorter"}, "strategy_concern": "nobody looks at tools"}


SCRIPT = Script({
    ("Digester", "ask", 1): sloppy,
    ("Digester", "mend", 1): mended,
    ("Digester", "evidence", 0): found,
    ("Evolver", "ask", 1): [400],
    ("Planner", "ask", 2): [GARBAGE],
    ("Planner", "mend", 2): [[]],
    ("Planner", "ask", 3): [{"order": [], "advice": {}, "no_op": "all of it was tried"}],
    ("Evolver", "ask", 4): [call("list_files", folder="traces"), {"candidates": [], "no_op": "nothing to point at"}],
    ("Evolver", "ask", 5): [tells("calm", "Be calm."), {"candidates": ["calm"]}],
    ("Critic", "ask", 5): [{"no_op": "the traces say otherwise", "strategy_concern": "look at the tools"}],
    ("Evolver", "ask", 6): [
        reminding, call("try_candidate", name="first", tasks=["ev-0001", "ev-0002"]),
        tells("wordy", "Take care. " * 20), coded("second"),
        tells("dangling", "Look twice.",
              capability_evidence=[{"type": "trace", "claim": "seen", "observed": ["ev-0001_a0#step_77"]}]),
        {"candidates": ["first", "wordy", "second", "dangling"]},
    ],
    ("Critic", "ask", 6): questioning,
    ("Critic", "decide", 6): deciding,
    ("Evolver", "revise", 6): [tells("short", "Take care."), {"candidates": ["short"]}],
    ("Evolver", "ask", 7): [tells("late", "Think."), {"candidates": ["late"]}],
    ("Critic", "ask", 7): [{"ranking": ["C-R9-01"]}],
    ("Critic", "mend", 7): [GARBAGE],
})  # fmt: skip


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> Iterator[tuple[Path, Provider]]:
    """Seven rounds over LiteLLM: no-ops of every stage, a refusal, a round that ships twice, a Critic that fails."""
    home = tmp_path_factory.mktemp("llm")
    told = harness().set_param("SystemPrompt", text=PROMPT.replace(TRANSFORMS, ""))
    (home / "h.yaml").write_text(told.to_yaml())
    with serving(SCRIPT) as provider, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_BASE", provider.base)
        patch.setenv("OPENAI_API_KEY", "loopback")
        done = run(*LLM, "meta=mixed", "meta.model=openai/local", "meta.roles.digester.model=openai/cheap",
                   f"harness={home / 'h.yaml'}", f"run.dir={home / 'run'}", "rounds=7", "patience=9", "gate.alpha=0.9",
                   "gate.cap=60", "gate.decisions=5", "candidates=4")  # fmt: skip
        assert done.returncode == 0, done.stderr
        yield home / "run", provider


@pytest.mark.parametrize(
    ("number", "stop"),
    [
        (1, r"no answer to propose candidates: ModelFailure: .*openai/local"),
        (2, r"no answer to plan plan: the answer must be a JSON object, not list"),
        (3, r"the landscape is empty: all of it was tried$"),
        (4, r"the evolver proposes nothing: nothing to point at$"),
        (5, r"the critic ranks nothing: the traces say otherwise$"),
        (7, r"no answer to review candidates: the answer must be one JSON object"),
    ],
)
def test_a_role_that_has_nothing_to_say_or_cannot_be_read_is_a_clean_no_op(played, number, stop):
    folder, _ = played
    record = rounds(folder)[number - 1]
    assert re.match(stop, record["stop"])
    assert record["shipped"] == []
    assert trail(folder)[number]["successor"] == trail(folder)[number]["incumbent"]
    assert f"No-op: {record['stop']}" in (folder / "journal.md").read_text()


def test_two_candidates_of_one_round_ship_one_after_the_other(played):
    folder, _ = played
    assert len(rounds(folder)[5]["shipped"]) == 2
    made = candidates(folder)
    assert [made[title]["verdict"] for title in ("first", "second")] == ["ship", "ship"]


def test_a_dangling_anchor_is_refused_at_once_and_by_the_gate(played):
    folder, provider = played
    said = next(a.last for a in provider.seen if a.role == "Evolver" and a.round == 6 and "step_77 names" in a.last)
    assert said.startswith("written; refused by manifest: anchor ev-0001_a0#step_77 names no recorded step")
    record = candidates(folder)["dangling"]
    assert (record["verdict"], record["check"]) == ("reject", "manifest")


def test_a_digester_is_asked_once_more_and_a_step_that_nobody_saw_is_no_evidence(played):
    folder, _ = played
    first = {s["name"]: s for s in sessions(folder) if (s["round"], s["duty"]) == (1, "judge")}
    assert first["ev-0000"]["ending"] == "repaired"
    assert first["ev-0001"]["ending"] == "no answer"
    assert "'ev-0001_a7#step_1' names no recorded step" in first["ev-0001"]["problem"]
    digest = (folder / "R1/digests/digest.md").read_text()
    assert digest.count("cause: It was not told how.") == len(first) - 1


def test_the_critic_gets_the_evidence_it_asks_for_and_one_revision(played):
    folder, provider = played
    (asked,) = [s for s in sessions(folder) if s["duty"] == "evidence"]
    assert (asked["said"], asked["tools"]) == ("Was it ever told how?", {"search": 1})
    decided = next(a for a in provider.seen if a.duty == "decide")
    assert "  * `ev-0001_a0#step_1` it was not" in decided.question
    (revised,) = [s for s in sessions(folder) if s["duty"] == "revise"]
    assert (revised["name"], revised["said"]) == ("C-R6-02", "say it shorter")
    assert "* C-R6-02 was revised when asked: say it shorter" in (folder / "R6/decision.md").read_text()
    assert (folder / "R6/candidates/C-R6-02/manifest.md").read_text().startswith("# C-R6-02: short")


def test_evidence_of_level_1_and_2_is_what_running_showed_and_not_what_was_claimed(played):
    folder, _ = played
    kinds = {}
    for number in (1, 3):
        manifest = json.loads((folder / f"R6/candidates/C-R6-0{number}/manifest.json").read_text())
        kinds[number] = {e["type"]: e for e in manifest["capability_evidence"]}
    assert kinds[1].keys() == {"trace", "level_2"}
    assert kinds[3].keys() == {"trace", "level_1", "level_2"}
    assert kinds[3]["level_2"]["observed"] == ["ev-0001_a0#step_1"]
    assert "trust me" not in str(kinds)


def test_the_planner_is_told_what_the_critic_left_what_is_neglected_and_what_regressed(played):
    _, provider = played
    asked = {a.round: a.question for a in provider.seen if (a.role, a.duty) == ("Planner", "ask")}
    assert "* the critic's concern: look at the tools" in asked[6]
    assert "* the critic's concern: nobody looks at tools" in asked[7]
    assert re.search(r"\* neglected buckets: .*tools", asked[7])
    assert re.search(r"\* persistent failures: ev-", asked[3])
    assert re.search(r"\* hit rates: .*processor", asked[7])
    assert "* C-R6-01 [prompt] first: ship by confirmation; E " in asked[7]


def test_trying_is_charged_to_the_run_and_says_what_happened_beside_the_incumbent(played):
    _, provider = played
    said = next(a.last for a in provider.seen if a.role == "Evolver" and "of 2 attempts" in a.last)
    assert re.match(r"gained \d, lost \d of 2 attempts\nev-0001: failed -> \w+\nev-0002: ", said)
    assert "9 rollouts are left" in said


def test_each_role_has_its_model_and_every_token_is_counted(played):
    folder, provider = played
    by_role = Counter((a.role, model) for a, model in zip(provider.seen, provider.models, strict=True))
    assert {role: model for role, model in by_role if role != "probe"} == {
        "Digester": "cheap", "Planner": "local", "Evolver": "local", "Critic": "local"}  # fmt: skip
    assert sum(s["tokens"] for s in sessions(folder)) == provider.tokens - 110 * by_role["probe", "local"]


def test_every_duty_occurs(played):
    folder, _ = played
    counts = Counter(s["duty"] for s in sessions(folder))
    assert counts["judge"] > 7
    assert {name: counts[name] for name in ("plan", "propose", "review", "revise", "evidence")} == {
        "plan": 7, "propose": 5, "review": 4, "revise": 1, "evidence": 1}  # fmt: skip
    assert Counter(s["ending"] for s in sessions(folder))["no answer"] == 4


def test_nothing_of_other_splits_is_ever_sent(played):
    folder, provider = played
    sent = provider.sent
    assert re.search(r"ev-\d{4}", sent)
    assert not re.search(r"\b(va|se|sealed|validation)-\d{4}", sent)
    with RunStore.read(folder) as store:
        assert store.paid() == {}  # no cap, no account
    assert os.fspath(folder) not in sent
