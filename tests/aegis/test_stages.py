"""Every stage can end a round cleanly, and the Critic does its duties, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from evolve_drive import candidates, edit, evolved, good_code, insert, rounds, script, trail

from aegis.candidate import Candidate, Proposal
from aegis.history import History, Tried
from aegis.manifest import Manifest, Signature
from aegis.meta import base
from aegis.meta.base import Brief, Survey
from aegis.meta.scripted import ScriptedMeta
from aegis.record import Bucket, CandidateRecord, Decision, Prediction
from aegis.stages.critic import criticize
from aegis.stages.digester import Digest
from aegis.stages.planner import Landscape, plan
from aegis.stages.symptoms import Symptom, observe
from benchmarks.household.h0 import PROMPT, harness
from harnessx.algebra import Edit
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig
from harnessx.models.scripted import Scripted
from harnessx.processors import Plan

WIDER = {"op": "set_slot", "path": "limits.steps", "value": 60}
UNTYPED = edit("untyped", insert("NoSuchProcessor"))


def wider(title: str, calm: str, **fields: object) -> dict[str, object]:
    """A proposal that applies and that the gate stops without a pair; ``calm`` makes it another harness."""
    return edit(title, WIDER, insert("Instructions", text=calm), **fields)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """Rounds that end at one stage after another; then one with every answer to a revision request."""
    folder = tmp_path_factory.mktemp("stopped")
    replace = {"op": "set_param", "reference": "SystemPrompt", "name": "text", "value": "Play well."}
    proposals = [
        wider("answers", "a", revision=wider("answers, revised", "b")),
        wider("withdraws", "c"),
        edit("overlaps", replace, overlap="", revision=edit("overlaps still", replace, overlap="")),
        edit("explains", replace, WIDER, overlap="", revision=edit("explained", replace, WIDER)),
        wider("unranked", "d"),
        wider("ill revised", "e", revision=UNTYPED),
    ]
    review = {
        "ranking": [4, 1, 2, 6],
        "requests": {1: "say it better", 2: "show evidence", 6: "try again"},
        "strategy_concern": "nothing about tools",
    }
    return evolved(
        folder / "run",
        script(
            folder / "script.yaml",
            {"prioritize": []},
            {"propose": [UNTYPED]},
            {
                "propose": [wider("fine", "f")],
                "review": {"no_op": "nothing convinces", "strategy_concern": "look wider"},
            },
            {"propose": proposals, "review": review},
            {},
        ),
        "rounds=5",
        "patience=9",
        "candidates=6",
    )


@pytest.mark.parametrize(
    ("number", "stop"),
    [
        (1, "the landscape is empty"),
        (2, "no candidate is well typed"),
        (3, "the critic ranks nothing: nothing convinces"),
        (5, "no candidate is well typed"),
    ],
)
def test_a_stage_ends_its_round_as_a_clean_no_op(stopped, number, stop):
    assert rounds(stopped)[number - 1]["stop"] == stop
    entry = trail(stopped)[number]
    assert (entry["stop"], entry["successor"]) == (stop, entry["incumbent"])
    assert f"No-op: {stop}." in (stopped / f"R{number}/decision.md").read_text()
    assert f"No-op: {stop}." in (stopped / "journal.md").read_text().split("## Round ")[number]


def test_nothing_to_explain_is_a_no_op_of_the_digester(tmp_path):
    """The one evolve task of this seed is solved by H_0."""
    folder = evolved(tmp_path / "run", script(tmp_path / "script.yaml", {"propose": [good_code()]}),
                     "rounds=1", "seed=1", "benchmark.splits.evolve=1")  # fmt: skip
    assert rounds(folder)[0]["stop"] == "actionability 0.00 is below 0.1"
    assert rounds(folder)[0]["actionability"] == 0.0
    assert not (folder / "R1/landscape.md").exists()


def test_a_proposal_that_is_not_well_typed_is_kept_with_its_reason(stopped):
    record = candidates(stopped)["untyped"]
    assert (record["verdict"], record["check"]) == ("reject", "evolver")
    assert "unknown target 'harnessx.processors.NoSuchProcessor'" in record["reason"]
    assert (stopped / f"R2/candidates/{record['id']}/edit.json").exists()


def test_the_concern_of_the_critic_is_in_the_next_landscape(stopped):
    for number, said in ((3, "look wider"), (4, "nothing about tools")):
        concern = rounds(stopped)[number - 1]["strategy_concern"]
        assert concern.startswith(said)
        assert f"* the critic's concern: {concern}\n" in (stopped / f"R{number + 1}/landscape.md").read_text()
        assert f"Concern: {concern}.\n" in (stopped / "journal.md").read_text()


def test_a_revision_that_answers_takes_the_place_of_its_proposal(stopped):
    record = candidates(stopped)["answers, revised"]
    assert record["id"] == "C-R4-01"
    assert record["check"] == "budget"  # it reached the gate
    decision = (stopped / "R4/decision.md").read_text()
    assert "* C-R4-01 was revised when asked: say it better" in decision
    folder = stopped / "R4/candidates/C-R4-01"
    assert (folder / "manifest.md").read_text().startswith("# C-R4-01: answers, revised")
    assert (folder / "before_revision/manifest.md").read_text().startswith("# C-R4-01: answers\n")


def test_an_overlap_is_found_and_a_word_about_it_is_enough(stopped):
    assert candidates(stopped)["explained"]["check"] == "budget"
    decision = (stopped / "R4/decision.md").read_text()
    assert "* C-R4-04 was revised when asked: say why it touches what is there: SystemPrompt" in decision


@pytest.mark.parametrize(
    ("title", "reason"),
    [
        ("withdraws", "withdrawn when asked: show evidence"),
        ("overlaps", "still overlaps without a word about it"),
        ("unranked", "left out of the ranking"),
        ("ill revised", "the revision is not well typed: unknown target"),
        ("fine", "nothing convinces"),
    ],
)
def test_what_the_critic_drops_never_reaches_the_gate_and_is_recorded(stopped, title, reason):
    record = candidates(stopped)[title]
    assert (record["verdict"], record["check"]) == ("reject", "critic")
    assert record["reason"].startswith(reason)
    decision = (stopped / f"R{record['round']}/decision.md").read_text()
    assert f"* {record['id']} may not ship: {record['reason']}" in decision


def test_the_ranking_of_the_critic_is_the_order_of_the_gate(stopped):
    decision = (stopped / "R4/decision.md").read_text()
    assert "* ranking: C-R4-04, C-R4-01" in decision
    assert decision.index("* C-R4-04 [") < decision.index("* C-R4-01 [")


# --- the portfolio audit --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def levers(tmp_path_factory) -> Path:
    """A lever that ships twice in a row, each time predicting a flip that does not come; then a third time."""
    folder = tmp_path_factory.mktemp("levers")
    transforms = "Clean things with the sinkbasin. Heat things with the microwave; it need not be opened for that."
    (folder / "h.yaml").write_text(harness().set_param("SystemPrompt", text=PROMPT.replace(transforms, "")).to_yaml())
    same = {"lever": "say more", "unlock": ["ev-0001"]}
    second = good_code(**same)
    second["edit"] = [operation for operation in second["edit"] if "CurrentState" not in str(operation)]
    return evolved(
        folder / "run",
        script(
            folder / "script.yaml",
            {"propose": [edit("first", insert("CurrentState", observation=False),
                              insert("Instructions", text=transforms), **same)]},
            {"propose": [second]},
            {"propose": [edit("third", insert("Instructions", text="Be brief."), **same), wider("other", "x")]},
            {},
        ),
        f"harness={folder / 'h.yaml'}",
        "rounds=4",
        "gate.alpha=0.9",
        "gate.cap=60",
    )  # fmt: skip


def test_hit_rates_are_scored_by_the_next_rollouts_and_planned_with(levers):
    records = candidates(levers)
    assert [records[title]["verdict"] for title in ("first", "procedures")] == ["ship", "ship"]
    assert [records[title]["hit_rate"] for title in ("first", "procedures")] == [0.0, 0.0]
    assert "* hit rates: none scored" in (levers / "R1/landscape.md").read_text()
    assert "* hit rates: config 0.00\n" in (levers / "R2/landscape.md").read_text()
    assert "* hit rates: config 0.00, processor 0.00\n" in (levers / "R3/landscape.md").read_text()


def test_a_lever_that_shipped_twice_without_hitting_must_rest(levers):
    record = candidates(levers)["third"]
    assert (record["verdict"], record["check"]) == ("reject", "critic")
    assert record["reason"] == "lever 'say more' shipped twice lately without hitting"
    assert "* levers that must rest: say more" in (levers / "R3/landscape.md").read_text()


def test_untouched_buckets_are_a_concern_for_the_next_plan(levers):
    assert rounds(levers)[2]["strategy_concern"] == "untouched buckets: prompt, tools"
    assert "* the critic's concern: untouched buckets: prompt, tools" in (levers / "R4/landscape.md").read_text()


def tried(number: int, hit: float | None, lever: str = "x", verdict: Decision = Decision.SHIP) -> Tried:
    record = CandidateRecord("C", number, (Bucket.PROMPT,), "t", "d", "p", verdict, "c", "r", hit_rate=hit)
    return Tried(record, lever, "d")


@pytest.mark.parametrize(
    ("ships", "forbidden"),
    [
        ([tried(3, 0.0), tried(4, 0.5)], ("x",)),
        ([tried(3, 0.5), tried(4, 0.5)], ()),
        ([tried(3, 0.3), tried(4, 0.5)], ()),  # 0.4 is not below 0.4
        ([tried(1, 0.0), tried(4, 0.0)], ()),  # one of the last three rounds
        ([tried(2, 0.0), tried(4, None)], ("x",)),
        ([tried(2, None), tried(4, None)], ()),
        ([tried(4, 0.0), tried(4, 0.0)], ()),
        ([tried(3, 0.0), tried(4, 0.0, verdict=Decision.REJECT)], ()),
        ([tried(3, 0.0), tried(4, 0.0, lever="y")], ()),
        ([tried(3, 0.0, lever=""), tried(4, 0.0, lever="")], ()),  # no lever named: none shared
    ],
)
def test_a_lever_rests_after_ships_in_two_of_the_last_three_rounds_below_a_hit_rate_of_04(ships, forbidden):
    history = History(outcomes=[{}] * 5, tried=ships)
    assert history.round == 5
    assert history.forbidden_levers() == forbidden


def shipped(*buckets: str, verdict: Decision = Decision.SHIP) -> Tried:
    record = CandidateRecord("C", 1, tuple(map(Bucket, buckets)), "t", "d", "p", verdict, "confirmation", "r")
    return Tried(record, "x", "d")


@pytest.mark.parametrize(
    ("ships", "streaks"),
    [
        ([shipped("prompt")] * 3, (("prompt", 3),)),
        ([shipped("prompt")] * 2, ()),
        ([shipped("tools"), *[shipped("prompt")] * 4], (("prompt", 4),)),
        ([*[shipped("prompt")] * 3, shipped("tools")], ()),
        ([shipped("prompt", "tools")] * 3, (("prompt", 3), ("tools", 3))),
        ([shipped("prompt"), shipped("prompt", "config"), shipped("prompt")], (("prompt", 3),)),
        ([shipped("prompt"), shipped("tools", verdict=Decision.REJECT), *[shipped("prompt")] * 2], (("prompt", 3),)),
    ],
)
async def test_three_ships_in_a_row_in_one_bucket_are_a_streak_that_the_planner_sees(ships, streaks):
    class Planner(ScriptedMeta):
        def __init__(self) -> None:
            self.shown: list[Landscape] = []

        async def prioritize(self, survey: Survey) -> base.Plan:
            self.shown.append(survey.landscape)
            return base.Plan(())

    history, meta = History(tried=ships), Planner()
    landscape = await plan(Digest(2, ()), history, meta, HarnessConfig())
    assert history.streaks() == meta.shown[0].streaks == streaks
    said = ", ".join(f"{bucket} {number}" for bucket, number in streaks) or "no streak"
    assert f"* ships in a row in one bucket: {said}\n" in landscape.to_markdown()


async def test_regressions_that_no_candidate_addresses_are_a_concern(tmp_path):
    """Of two tasks lost by the last ship, one is named by a prediction."""
    history = History([{"a": 1.0, "b": 0.5, "c": 0.0}, {"a": 0.5, "b": 0.0, "c": 1.0}], ["h0", "h1"])
    script(tmp_path / "script.yaml", {})
    meta = ScriptedMeta(str(tmp_path / "script.yaml"))
    digest = Digest(2, ())
    landscape = await plan(digest, history, meta, HarnessConfig())
    assert landscape.regressions == ("a", "b")
    assert "* regressions since the last round: a, b" in landscape.to_markdown()
    manifest = Manifest("C-R2-01", "t", (Bucket.PROMPT,), (), (), Prediction(stabilize=("a",)),
                        Signature("tool_call", "x"), "f", "r", "t", "a", overlap="on purpose")  # fmt: skip
    proposal = Proposal(Edit.from_json([insert("Instructions", text="Be brief.")]), manifest)
    base = HarnessConfig()
    brief = Brief(2, base, digest, landscape, history, (), 4, 0)
    critique = await criticize([Candidate.of(proposal, base, 2)], brief, meta)
    assert critique.strategy_concern == "unaddressed regressions: b"
    assert [c.id for c in critique.ranking] == ["C-R2-01"]


def test_the_same_harness_measured_again_is_no_regression():
    history = History([{"a": 1.0}, {"a": 0.0}], ["h0", "h0"])
    assert history.regressions() == ()


async def test_a_call_of_the_harness_s_own_tool_is_not_malformed_and_one_that_no_tool_answers_is():
    lines = [{"tool": "plan", "arguments": {"items": []}}, {"tool": "go", "arguments": {}}, "done"]
    record = await ModelConfig(main=Scripted(lines)).agentic(HarnessConfig([Plan()])).run("Go.")
    found = {o.symptom: o.steps for o in observe(record)}
    assert found[Symptom.MALFORMED_CALL] == (2,)
