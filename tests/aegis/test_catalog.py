"""The catalog's levers make harnesses that work; ships are recorded in the order in which they shipped."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from aegis.candidate import Candidate, Proposal
from aegis.evaluator import EVOLVE
from aegis.gate.config import GateConfig
from aegis.gate.confirmation import Trial
from aegis.gate.gate import Gate
from aegis.gate.smoke import Smoke
from aegis.gate.source import findings_in
from aegis.history import History, Tried
from aegis.manifest import Evidence, FileChange, Manifest, Signature
from aegis.meta.base import Brief
from aegis.meta.catalog import modern
from aegis.meta.catalog.catalog import LEVERS, SETS, Catalog
from aegis.meta.catalog.lever import Scene
from aegis.meta.catalog.source import guard
from aegis.record import Bucket, CandidateRecord, Decision, Prediction
from aegis.stages.digester import digest
from aegis.stages.planner import plan
from aegis.stages.symptoms import Symptom
from aegis.statistics import PairedTest
from benchmarks.bounded import Bounded
from benchmarks.household import Household
from harnessx import Edit, HarnessConfig, ModelConfig, Spec
from harnessx.algebra import Insert
from harnessx.errors import UserError

WORLD = Household(seed=3)
H0 = WORLD.harness()


@pytest.fixture(scope="module")
def scene() -> Scene:
    async def record():
        agent = ModelConfig(main=Bounded(seed=0)).agentic(H0)
        tasks = WORLD.tasks("evolve", 40)
        return [await agent.run(t, WORLD.environment(t, 0), WORLD.verifier) for t in tasks]

    trajectories = asyncio.run(record())
    digested = asyncio.run(digest(trajectories, {}, H0, History(), Catalog()))
    return Scene(H0, digested.failing, trajectories)


def brief(scene: Scene, round: int = 1) -> Brief:
    history = History(outcomes=[{}] * round, incumbents=[H0.digest] * round)
    digested = asyncio.run(digest(scene.trajectories, {}, H0, history, Catalog()))
    landscape = asyncio.run(plan(digested, history, Catalog(), H0))
    return Brief(round, H0, digested, landscape, history, scene.trajectories, 4, 0)


def test_every_variant_applies_to_h0_and_all_four_buckets_have_some(scene):
    buckets = set()
    for lever in LEVERS:
        for variant in lever.variants(scene):
            assert variant.edit.apply(H0) != H0, variant.title
            buckets.add(lever.bucket)
    assert buckets == set(Bucket)


async def test_all_new_code_passes_the_policy_and_its_own_smoke_test(scene):
    coded = [v for lever in LEVERS for v in lever.variants(scene) if v.smoke]
    assert len(coded) >= 6
    for variant in coded:
        proposal = Proposal(variant.edit, manifest(variant.title), variant.smoke)
        candidate = Candidate.of(proposal, H0, 1)
        assert findings_in(candidate.new_code) == []
        assert await Smoke("process")(candidate) is None, variant.title


def test_a_guarded_processor_acts_only_while_its_condition_holds():
    from harnessx.hooks import BeforeModelEvent
    from harnessx.messages import Conversation, Message
    from harnessx.runner.smoke import run_smoke
    from harnessx.spec import Spec as Component
    from harnessx.spec import build

    source = guard("CurrentState", "LateState", "len(event.messages) > 2")
    assets = {"assets/late.py": source}
    spec = Component("assets/late.py:LateState", {"observation": False})
    harness = HarnessConfig([spec], assets=assets)
    assert run_smoke(harness, {}) == 0
    part = build(spec, assets, allow_assets=True)
    part._goal = "the goal"
    messages = [Message("user", str(i)) for i in range(3)]

    short = BeforeModelEvent(1, Conversation(messages[:1]))
    assert list(part.process(short)) == [short]
    assert next(part.process(BeforeModelEvent(1, Conversation(messages)))).appended == "the goal"


def test_the_same_seed_proposes_the_same_and_directions_differ(scene):
    def edits(meta: Catalog) -> list[str]:
        return [p.manifest.title for p in asyncio.run(meta.propose(brief(scene)))]

    assert edits(Catalog(seed=1)) == edits(Catalog(seed=1))
    assert edits(Catalog(seed=1)) != edits(Catalog(seed=2))
    assert edits(Catalog(seed=1)) != edits(Catalog(seed=1, shuffle=True))
    assert edits(Catalog(seed=1)) != edits(Catalog(seed=1).undirected())


def test_what_has_proved_harmful_is_not_proposed_again(scene):
    """Every cure of one symptom, measured as a loss (not ruled out by a verdict): it makes room for the next."""
    cures = [lever for lever in LEVERS if Symptom.REPEATED_CALL in lever.cures and lever.variants(scene)]
    past = []
    for lever in cures:
        for variant in lever.variants(scene):
            decided = (Decision.UNDECIDED, "confirmation", "r", 0.1)
            record = CandidateRecord("C", 1, (lever.bucket,), variant.title, "d", "p", *decided)
            past += [Tried(record, lever.name, f"{lever.name}/{variant.title}", -12, 60)] * 3
    unaware, aware = set(), set()
    for number in range(1, 6):
        asked = brief(scene, number)
        unaware |= named(asked)
        asked.history.tried += past
        aware |= named(asked)
    assert unaware & {lever.name for lever in cures}
    assert aware - {lever.name for lever in cures} == aware != set()


def test_what_was_measured_decides_who_goes_first(scene):
    asked = brief(scene)
    variants = {lever.name: lever.variants(scene)[0] for lever in LEVERS if lever.variants(scene)}
    (bad, worse), (good, better) = list(variants.items())[:2]
    for lever, title, e_value in ((bad, worse.title, 0.1), (good, better.title, 400.0)):
        record = CandidateRecord("C", 1, (Bucket.PROMPT,), title, "d", "p", Decision.UNDECIDED, "confirmation", "r",
                                 e_value)  # fmt: skip
        asked.history.tried += [Tried(record, lever, "d")] * 4
    candidates = []
    for number, (lever, variant) in enumerate([(bad, worse), (good, better)], 1):
        described = replace(manifest(variant.title), lever=lever, candidate_id=f"C-R1-0{number}")
        candidates.append(Candidate.of(Proposal(variant.edit, described, {}), H0, number))
    assert asyncio.run(Catalog().review(candidates, asked)).ranking == ("C-R1-02", "C-R1-01")


def named(asked: Brief) -> set[str]:
    """The levers of a full round of proposals."""
    proposals = asyncio.run(Catalog().propose(asked))
    assert len(proposals) == asked.count
    return {name for p in proposals for name in p.manifest.lever.split(" + ")}


def test_no_lever_twice_in_a_round_and_every_manifest_is_complete(scene):
    proposals = asyncio.run(Catalog().propose(brief(scene)))
    assert len(proposals) == 4
    levers = [name for p in proposals for name in p.manifest.lever.split(" + ")]
    assert len(levers) == len(set(levers))
    assert [p.manifest.problems() for p in proposals] == [[]] * 4


def manifest(title: str) -> Manifest:
    return Manifest(
        candidate_id="C-R1-01",
        title=title,
        bucket=(Bucket.PROCESSOR,),
        capability_evidence=(Evidence("trace", "seen"),),
        file_changes=(FileChange("harness.yaml", "modify", "x"),),
        predicted_impact=Prediction(("ev-0000",)),
        attribution_signature=Signature("processor_invocation", "x"),
        failure_evidence="x",
        root_cause="x",
        targeted_fix="x",
        risk_argument="x",
    )


class LastShipsFirst:
    """A confirmation in which, of the open trials, the last ships."""

    exhausted = ""

    def refuses(self, candidate: Candidate) -> str:
        return ""

    def open(self, candidate: Candidate) -> Trial:
        return Trial(candidate, PairedTest(0.9, cap=10))

    def ship(self) -> None:
        """Nobody counts."""

    def suspend(self, trial: Trial) -> None:
        """Nothing comes again."""

    async def run(self, incumbent: HarnessConfig, trials: list[Trial]) -> Trial:
        trials[-1].test.update(False, True)
        assert trials[-1].decision is Decision.SHIP
        return trials[-1]


async def test_rulings_keep_the_order_of_ships():
    candidates = []
    for number in (1, 2, 3):
        edit = Edit((Insert(Spec("harnessx.processors.Instructions", {"text": f"text {number}"})),))
        named = replace(manifest(f"edit {number}"), candidate_id=f"C-R1-0{number}")
        candidates.append(Candidate.of(Proposal(edit, named), H0, 1))
    gate = Gate(GateConfig(max_trials=3), SimpleNamespace(tasks={EVOLVE: ()}), LastShipsFirst())
    rulings: dict = {}
    final = await gate._confirm(candidates, H0, rulings, dict.fromkeys(["C-R1-01", "C-R1-02", "C-R1-03"]), [])
    assert list(rulings) == ["C-R1-03", "C-R1-02", "C-R1-01"]
    harness = H0
    for ruling in rulings.values():
        assert ruling.candidate.parent == harness
        harness = ruling.candidate.harness
    assert harness == final


def test_the_usual_levers_are_searched_unless_all_are_asked_for(scene):
    assert Catalog().shelf == LEVERS
    assert not {lever.name for lever in modern.LEVERS} & {lever.name for lever in LEVERS}
    asked = brief(scene)
    proposed = {
        part
        for seed in range(12)
        for proposal in asyncio.run(Catalog(seed=seed, levers="all").propose(asked))
        for part in proposal.manifest.lever.split(" + ")
    }
    assert proposed & {lever.name for lever in modern.LEVERS}
    with pytest.raises(UserError, match=r"meta\.levers='modern' is no set of levers; valid: usual, all"):
        Catalog(levers="modern")


def test_every_modern_lever_makes_harnesses_that_play_and_come_back_from_yaml(scene):
    agent = ModelConfig(main=Bounded(seed=0))
    (task,) = WORLD.tasks("evolve", 1)
    for lever in SETS["all"][len(LEVERS) :]:
        variants = lever.variants(scene)
        assert variants, lever.name
        for variant in variants:
            harness = variant.edit.apply(H0)
            assert HarnessConfig.from_yaml(harness.to_yaml(), harness.assets) == harness
            record = asyncio.run(agent.agentic(harness).run(task, WORLD.environment(task, 0), WORLD.verifier))
            assert record.error == "", f"{variant.title}: {record.error}"
            assert lever.variants(replace(scene, incumbent=harness)) == []
