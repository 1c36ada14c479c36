"""What the parts of a meta-agent promise: strict answers, a view without a way out, evidence within its room."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis.history import History, Tried
from aegis.meta.answers import Unreadable, choice, criticism, findings, judgement, plan
from aegis.meta.llm import LanguageModels
from aegis.meta.roles import Role
from aegis.meta.view import view
from aegis.record import Bucket, CandidateRecord, Decision
from aegis.stages.digester import Digest, Excerpt, TaskDigest, survey, without_judgement
from aegis.stages.evidence import CHARACTERS, evidence
from aegis.stages.reading import read_trajectories
from harnessx.errors import Outcome, UserError
from harnessx.harness import HarnessConfig
from harnessx.messages import Message, ModelResponse, ToolCall
from harnessx.model_config import ModelConfig
from harnessx.trajectory import Exchange, Step, ToolExchange, Trajectory

ANCHORS = {"t1_a0#step_1", "t2_a0#step_1"}
READERS = (
    lambda text: judgement(text, "t1", ["SystemPrompt"], ANCHORS),
    lambda text: findings(text, ANCHORS),
    lambda text: plan(text, ["crash"]),
    lambda text: choice(text, ["a"], 1),
    lambda text: criticism(text, ["C-R1-01"], ["t1"], may_ask=True),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        "category cause components anchors findings order advice no_op candidates ranking requests questions".split()
    ) | st.text(max_size=5), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


def refusal(read: Callable[[str], object], text: str) -> str:
    try:
        read(text)
    except Unreadable as error:
        return str(error) or "refused without a word"
    return ""


@settings(deadline=None, max_examples=60)
@given(JSON | st.text())
def test_an_answer_is_read_or_refused_with_a_reason_whatever_it_is(data):
    for text in (data if isinstance(data, str) else json.dumps(data), json.dumps(data, allow_nan=True)):
        for read in READERS:
            assert refusal(read, text) != "refused without a word"


GOOD = {"category": "crash", "cause": "c", "components": [], "anchors": ["t1_a0#step_1"]}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"anchors": []}, "at least one step of t1"),
        ({"anchors": ["t2_a0#step_1"]}, "at least one step of t1"),
        ({"anchors": ["t1_a0#step_1", "t1_a0#step_9"]}, "'t1_a0#step_9' names no recorded step"),
        ({"components": ["Gate"]}, "components names 'Gate', which is not there"),
        ({"category": "t1!"}, "category must be"),
        ({"cause": "x" * 601}, "cause has 601 characters"),
        ({"verdict": "ship"}, "unknown field 'verdict'"),
        ({"anchors": "t1_a0#step_1"}, "anchors must be a list"),
    ],
)
def test_a_judgement_needs_a_step_that_is_there(changed, said):
    text = json.dumps(GOOD | changed)
    if not said:
        assert READERS[0](f"```json\n{text}\n```").anchors == ("t1_a0#step_1",)
        return
    with pytest.raises(Unreadable, match=said.replace("(", r"\(")):
        READERS[0](text)


@pytest.mark.parametrize(
    ("answer", "may_ask", "said"),
    [
        ({"ranking": ["C-R1-01"]}, True, ""),
        ({"questions": [{"task": "t1", "question": "why?"}]}, True, ""),
        ({"questions": [{"task": "t1", "question": "why?"}]}, False, "you have asked once"),
        ({"questions": [{"task": "se-1", "question": "why?"}]}, True, "questions names 'se-1'"),
        ({"ranking": ["C-R1-01"], "no_op": "no"}, True, "exactly one of"),
        ({}, True, "exactly one of"),
        ({"ranking": ["C-R1-02"]}, True, "ranking names 'C-R1-02'"),
        ({"ranking": ["C-R1-01"], "requests": {"C-R1-09": "x"}}, True, "requests names 'C-R1-09'"),
    ],
)
def test_a_critic_decides_or_asks_once(answer, may_ask, said):
    def read() -> object:
        return criticism(json.dumps(answer), ["C-R1-01"], ["t1"], may_ask=may_ask)

    if not said:
        assert read()
        return
    with pytest.raises(Unreadable, match=said):
        read()


# --- what may be read -----------------------------------------------------------------------------------


def past(folder: Path) -> None:
    """A round's folder as the journal leaves it, with links and a pipe that somebody put there."""
    (folder / "secret").write_text("42")
    for name in ("landscape.md", "decision.md", "verdicts/C-R1-01.json", "candidates/C-R1-01/edit.json",
                 "trajectories/evolve.jsonl", "digests/digest.md", "meta/plan.jsonl"):  # fmt: skip
        file = folder / "run/R1" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (folder / "run/R1/candidates/link.md").symlink_to(folder / "secret")
    (folder / "run/R1/candidates/folder").symlink_to(folder)


def test_a_view_has_what_proposers_may_read_and_follows_no_link(tmp_path):
    past(tmp_path)
    seen = view(tmp_path / "run", 2, HarnessConfig(), [])
    assert seen.under("rounds") == [
        f"rounds/R1/{name}" for name in ("candidates/C-R1-01/edit.json", "digests/digest.md", "landscape.md")
    ]
    assert seen.within("") == ["harness/ (1 texts)", "rounds/ (3 texts)"]
    assert seen["rounds/R1/landscape.md"] == "landscape.md"
    (tmp_path / "run/R1/landscape.md").unlink()
    (tmp_path / "run/R1/landscape.md").symlink_to(tmp_path / "secret")  # between listing and reading
    with pytest.raises(OSError, match="symbolic links"):
        seen["rounds/R1/landscape.md"]


def test_a_link_in_the_place_of_a_round_is_not_followed(tmp_path):
    past(tmp_path)
    (tmp_path / "run/R2").symlink_to(tmp_path / "run/R1")
    assert not view(tmp_path / "run", 3, HarnessConfig(), []).under("rounds/R2")


def test_history_tells_the_verdict_of_a_confirmation_and_not_what_it_measured(tmp_path):
    record = CandidateRecord("C-R1-01", 1, (Bucket.PROMPT,), "t", "d", "p", Decision.REJECT, "confirmation",
                             "lost 7 of 90 pairs", e_value=0.5, alpha=0.1)  # fmt: skip
    screened = replace(record, id="C-R1-02", check="effect", reason="no request changes in 6 attempts", e_value=None)
    history = History(tried=[Tried(record, "x", "d"), Tried(screened, "y", "d", 1, 6)])
    told = view(tmp_path, 1, HarnessConfig(), [], history)["history.md"]
    assert "C-R1-01 [prompt] t: reject by confirmation; E 0.5 of 10" in told
    assert "pairs" not in told
    assert "net +1 on 6 evolve attempts" in told
    assert "no request changes in 6 attempts" in told


# --- evidence -------------------------------------------------------------------------------------------

TASK = st.builds(
    TaskDigest,
    task=st.integers(0, 10**6).map(lambda n: f"t{n}"), cluster=st.text(max_size=20), rate=st.floats(0, 0.99),
    category=st.sampled_from(["crash", "forgetting"]), symptoms=st.just(()), detail=st.text(max_size=500),
    components=st.just(("SystemPrompt",)), history=st.lists(st.floats(0, 1), max_size=6).map(tuple),
    excerpts=st.lists(st.builds(Excerpt, st.just("t_a0#step_1"), st.text(max_size=240)), max_size=6).map(tuple),
    cause=st.text(max_size=600),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.lists(TASK, max_size=120, unique_by=lambda t: t.task), st.integers(300, 3000))
def test_evidence_fits_its_room_and_leaves_nothing_out_in_silence(tasks, tokens):
    said = evidence(Digest(1, tuple(tasks)), tokens)
    assert len(said) <= tokens * CHARACTERS
    left = int(said.rsplit("and ", 1)[1].split()[0]) if "more failing tasks" in said else 0
    named = sum(f"\n{t.task}: " in said or f"\n{t.task} in " in said for t in tasks)
    assert named + left == len(tasks)


def test_evidence_names_what_the_last_change_lost_first():
    def task(name: str, rate: float, *history: float) -> TaskDigest:
        return TaskDigest(name, "", rate, "crash", (), "d", (), (), history)

    said = evidence(Digest(3, (task("never", 0.0, 0.0, 0.0), task("lost", 0.5, 1.0, 0.5), task("half", 0.5, 0.5, 0.5))))
    assert said.index("\nlost: ") < said.index("\nnever: ") < said.index("\nhalf: ")


def failing(task: str, attempt: int, outcome: Outcome = Outcome.FAILED) -> Trajectory:
    call = ToolCall("c", "act", {"do": "x"})
    step = Step(1, [Exchange("main", 0, (Message("user", "Find it."),), ModelResponse("", (call,)))],
                [ToolExchange(call, "no")])  # fmt: skip
    return Trajectory(task, attempt, "h", "m", [step], outcome)


def test_a_long_file_is_digested_one_trajectory_at_a_time_and_alike(tmp_path):
    records = [failing("a", 0, Outcome.PASSED), failing("b", 0), failing("a", 1), failing("c", 0, Outcome.INFRA_ERROR)]
    file = tmp_path / "evolve.jsonl"
    file.write_text("".join(record.to_jsonl() for record in records))
    alive: list[Trajectory] = []
    assert list(read_trajectories(file)) == records
    for record in read_trajectories(file):
        alive = [record]
    assert alive == records[-1:]
    found = without_judgement(read_trajectories(file), {}, History())
    assert [(t.task, t.rate, t.excerpts[0].anchor) for t in found.tasks] == [
        ("a", 0.5, "a_a1#step_1"), ("b", 0.0, "b_a0#step_1")]  # fmt: skip
    assert [s.failed for s in survey(records)] == ["a_a1", "b_a0"]


def test_a_file_of_something_else_is_named(tmp_path):
    with pytest.raises(UserError, match=r"x\.jsonl cannot be read"):
        list(read_trajectories(tmp_path / "x.jsonl"))


# --- roles ----------------------------------------------------------------------------------------------

ROLE = {"model": None, "harness": None, "steps": 8, "tokens": 1000, "usd": None}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"digester": ROLE | {"steps": 1}}, r"meta\.roles\.digester\.steps=1 must be a whole number of at least 2"),
        ({"digester": ROLE | {"usd": 0}}, r"meta\.roles\.digester\.usd=0 must be a number above 0"),
        ({"digester": {"model": None}}, r"the setting meta\.roles\.digester\.harness is missing"),
        ({"digester": ROLE | {"model": 5}}, r"meta\.roles\.digester\.model=5 must be a model"),
        ({"judge": ROLE}, r"no setting is called meta\.roles\.judge; valid: digester, planner, evolver, critic"),
        ({"critic": None}, r"meta\.roles\.critic must be a mapping"),
        ({"critic": ROLE | {"harness": "nowhere"}}, r"meta\.roles\.critic\.harness: nowhere"),
    ],
)
def test_a_role_that_cannot_be_is_named_with_its_setting(changed, said):
    with pytest.raises(UserError, match=said):
        LanguageModels(None, dict.fromkeys(Role, ROLE) | changed)


def test_a_task_model_that_only_plays_cannot_evolve():
    meta = LanguageModels(None, dict.fromkeys(Role, ROLE))
    with pytest.raises(UserError, match=r"set meta\.model=provider/name"):
        meta.prepare(ModelConfig({"_target_": "benchmarks.bounded.Bounded"}))
    meta.prepare(ModelConfig("openai/gpt-5.4-mini"))
