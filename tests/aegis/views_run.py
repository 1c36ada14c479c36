"""A finished run folder made from a seed, with records as the engine would write them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from aegis.record import (
    ArmCalls,
    Bucket,
    Calls,
    CandidateOutcome,
    CandidateRecord,
    CurvePoint,
    Curves,
    Decision,
    Digests,
    FrontierPoint,
    Generation,
    HarnessCost,
    Milestone,
    Prediction,
    PredictionScore,
    RoundRecord,
    Scoreboard,
    ScoreboardRound,
    SealedRates,
    SplitScores,
    Summary,
    Versions,
)
from aegis.statistics import Interval
from harnessx import Edit, HarnessConfig, Spec
from harnessx.algebra import Insert, SetParam, SetSlot
from harnessx.canonical import digest_of

CONFIG = """\
benchmark: {name: household, evolve: 40, validation: 40, sealed: 40}
task_model: bounded
meta: catalog
strategy: global_
gate: {name: paired, ledger: spending}
seed: SEED
"""
CLUSTERS = (
    "clean then place",
    "cool then place",
    "examine in light",
    "heat then place",
    "pick and place",
    "pick two",
)
P = "harnessx.processors."
H_0 = HarnessConfig([Spec(P + "SystemPrompt", {"text": "Explore, then act."}), Spec(P + "LoopDetection")])
EDITS = (
    (
        Bucket.PROMPT,
        "State the order of clean, then place",
        SetParam("SystemPrompt", "text", "Clean, then place."),
    ),
    (
        Bucket.PROCESSOR,
        "Keep notes of where things were seen",
        Insert(Spec(P + "RunningNotes", {"max_items": 8})),
    ),
    (Bucket.TOOLS, "Repair a call whose name is nearly right", Insert(Spec(P + "ToolCallRepair"))),
    (Bucket.CONFIG, "Let notes hold twelve items", SetParam("RunningNotes", "max_items", 12)),
    (Bucket.CONFIG, "Allow thirty steps", SetSlot("limits.steps", 30)),
    (
        Bucket.PROMPT,
        "Ask for a plan before the first action",
        SetParam("SystemPrompt", "text", "Plan first."),
    ),
)
SHIPPED = {0: 0, 1: 1, 3: 3, 6: 2}
"""The edit that ships in a round: prompt, notes, their size, repair."""
HOSTILE = '<script>alert("x")</script> & <img src=x onerror=alert(1)>'

REASONS = {
    Decision.SHIP: ("E reached 1/alpha", 0.11),
    Decision.REJECT: ("futility: less than the minimum effect of interest", -0.03),
    Decision.UNDECIDED: ("cap of 400 pairs reached", 0.02),
    Decision.NOT_TESTED: ("the round's budget ended", 0.0),
}
SOLVED = (("baseline", 40), ("final", 64), ("peak", 64))


def interval(mean: float, half: float, n: int = 40, lowest: float = 0.0) -> Interval:
    return Interval(mean, max(lowest, mean - half), min(1.0, mean + half), n)


def write_run(path: Path, *, seed: int = 0, rounds: int = 8, gain: float = 0.2) -> Path:
    """A whole run at ``path``; ``gain`` is the sealed gain it reports."""
    rng = random.Random(seed)
    path.mkdir(parents=True)
    (path / "data").mkdir()
    (path / "config.yaml").write_text(CONFIG.replace("SEED", str(seed)))
    (path / "journal.md").write_text("# Journal\n\nR1: the notes helped where the window forgets.\n")
    generations, candidates, records, best = evolve(rng, rounds)
    best.save(path / "best")
    write(path / "data/generations.json", [generation.to_json() for generation in generations])
    for name, lines in (("candidates", candidates), ("rounds", records)):
        text = "".join(json.dumps(line.to_json()) + "\n" for line in lines)
        (path / f"data/{name}.jsonl").write_text(text)
    incumbents = {record.round: record.incumbent for record in records}
    board = scoreboard(rng, incumbents)
    write(path / "scoreboard.json", board.to_json())
    points = [
        CurvePoint(r.round, r.harness, interval(sum(r.rates.values()) / 40, 0.13), None, 412_000, 80)
        for r in board.rounds
    ]
    write(path / "curves.json", Curves(tuple(points)).to_json())
    tasks = [f"sealed-{index:02d}" for index in range(40)]
    before = {task: float(rng.random() < 0.5) for task in tasks}
    after = {task: float(rate or rng.random() < 2 * gain) for task, rate in before.items()}
    write(path / "data/sealed.json", SealedRates(before, after, after).to_json())
    write(path / "data/frontier.json", [point.to_json() for point in frontier(generations, candidates)])
    summary = summarize(points, candidates, generations, seed, gain)
    write(path / "summary.json", summary.to_json())
    return path


def write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data))


def evolve(
    rng: random.Random, rounds: int
) -> tuple[list[Generation], list[CandidateRecord], list[RoundRecord], HarnessConfig]:
    harness = H_0
    generations = [Generation(harness.digest, "", 0, "", (), "The handcrafted harness")]
    candidates: list[CandidateRecord] = []
    records: list[RoundRecord] = []
    for number in range(rounds):
        incumbent = harness.digest
        proposed: list[CandidateRecord] = []
        for k in range(rng.choice((2, 3, 4)) if number != 5 else 0):
            ships = k == 0 and number in SHIPPED
            bucket, title, operation = EDITS[SHIPPED[number] if ships else (number + 2 * k) % len(EDITS)]
            record = confirm(rng, f"C-R{number}-{k + 1:02d}", bucket, title, incumbent, ships)
            edit = Edit((operation,))
            if ships:
                harness = edit.apply(harness)
                generations.append(Generation(harness.digest, incumbent, number, record.id, (bucket,), title))
            proposed.append(replace(record, edit=edit.to_json(), harness=harness.digest if ships else record.harness))
        candidates += proposed
        stop = "" if proposed else "actionability 0.04 is below 0.10"
        evolved = interval(0.5 + 0.05 * len(generations), 0.13)
        shipped = tuple(c.id for c in proposed if c.verdict is Decision.SHIP)
        records.append(RoundRecord(number, incumbent, evolved, 0.4, stop, tuple(c.id for c in proposed), shipped))
    return generations, candidates, records, harness


def confirm(rng: random.Random, id: str, bucket: Bucket, title: str, parent: str, ship: bool) -> CandidateRecord:
    other = rng.choice((Decision.REJECT, Decision.REJECT, Decision.UNDECIDED, Decision.NOT_TESTED))
    verdict = Decision.SHIP if ship else other
    reason, mean = REASONS[verdict]
    record = CandidateRecord(
        id=id,
        round=int(id[3]),
        bucket=(bucket,),
        title=HOSTILE if id == "C-R2-02" else title,
        harness=digest_of(id),
        parent=parent,
        verdict=verdict,
        check="",
        reason=reason,
        predicted=Prediction(unlock=("evolve-03",)),
    )
    if verdict is Decision.NOT_TESTED:
        return record
    pairs = rng.randint(80, 400)
    return replace(
        record,
        check="paired confirmation",
        e_value=rng.uniform(1300, 9000) if ship else rng.uniform(0.01, 4),
        alpha=0.05 / 60,
        pairs=pairs,
        diverged=pairs // 3,
        difference=interval(mean + rng.uniform(-0.02, 0.02), 0.05, pairs, -1.0),
        calls=ArmCalls(Calls(4 * pairs, 6 * pairs), Calls(pairs, 9 * pairs)),
        hit_rate=rng.choice((0.5, 0.67, 1.0)) if ship else None,
        chance=0.21 if ship else None,
    )


def scoreboard(rng: random.Random, incumbents: dict[int, str]) -> Scoreboard:
    tasks = [f"evolve-{index:02d}" for index in range(40)]
    ease = {task: rng.betavariate(0.6, 0.6) for task in tasks}
    rounds = []
    for number, harness in incumbents.items():
        rates = {t: round(2 * min(1.0, ease[t] + 0.04 * number + rng.uniform(-0.2, 0.2)), 0) / 2 for t in tasks}
        rounds.append(ScoreboardRound(number, harness, {t: max(0.0, r) for t, r in rates.items()}))
    return Scoreboard({t: CLUSTERS[i % 6] for i, t in enumerate(tasks)}, tuple(rounds))


def frontier(generations: list[Generation], candidates: list[CandidateRecord]) -> list[FrontierPoint]:
    found = [
        FrontierPoint(
            Milestone.GENERATION, g.candidate or "H_0", g.digest, "", g.round, 0.5 + 0.04 * i, 9e3 + 900 * i, 80
        )
        for i, g in enumerate(generations)
    ]
    bought = candidates[1]
    parent = found[0]
    return [*found, FrontierPoint(Milestone.BUDGET, bought.id, bought.harness, parent.harness, 0, 0.62, 15_300.0, 40)]


def summarize(
    points: list[CurvePoint],
    candidates: list[CandidateRecord],
    generations: list[Generation],
    seed: int,
    gain: float,
) -> Summary:
    final = interval(0.525 + gain, 0.13)
    sealed = SplitScores(interval(0.525, 0.15), final, final, interval(gain, 0.11, lowest=-1.0))
    evolve = SplitScores(points[0].evolve, points[-1].evolve, points[-1].evolve, interval(0.24, 0.1, lowest=-1))
    validation = SplitScores(interval(0.5, 0.14), interval(0.71, 0.13), None, interval(0.21, 0.09, lowest=-1))
    return Summary(
        splits={"evolve": evolve, "validation": validation, "sealed": sealed},
        rounds=len(points),
        candidates=tuple(CandidateOutcome(c.id, c.round, c.bucket, c.title, c.verdict, c.reason) for c in candidates),
        rollouts=3_912,
        model_calls=Calls(21_480, 64_120),
        tokens=18_204_512,
        dollars=None,
        seconds={
            "baseline": 2.4,
            "rollouts": 18.2,
            "digest": 0.7,
            "plan": 0.2,
            "evolve": 1.1,
            "gate": 31.6,
            "sealed": 4.9,
        },
        seeds=(seed,),
        digests=Digests("b" * 32, "m" * 32, generations[0].digest, generations[-1].digest, generations[-1].digest),
        isolation="landlock",
        gate="paired",
        ledger="spending",
        alpha=0.05,
        versions=Versions("3.11.2", {"hydra-core": "1.3.8", "rich": "14.0.0"}, None),
        stopped="8 rounds done",
        costs={
            split: {name: HarnessCost(80, solved, 800_000, None, 800_000 / solved, None) for name, solved in SOLVED}
            for split in ("evolve", "sealed", "validation")
        },
        gaps={name: interval(0.03, 0.1, lowest=-1.0) for name in ("baseline", "final", "peak", "gain")},
        predictions={"prompt": PredictionScore(2, 0.6, 0.24, 0.21)},
    )
