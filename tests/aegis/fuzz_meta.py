"""A meta-agent that writes nonsense: valid answers with wounds, through the real stages, gate and journal."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from simulated import World
from test_static_policy import BAD, GOOD

from aegis.candidate import Candidate, Proposal
from aegis.evaluator import EVOLVE, SEALED, VALIDATION, Evaluator
from aegis.gate.config import GateConfig
from aegis.gate.confirmation import Confirmation, Draws
from aegis.gate.gate import Gate
from aegis.history import History
from aegis.journal import Journal
from aegis.meta.base import Brief, Case, Judgement, Plan, Review, Survey
from aegis.round import Engine, Round, run_round
from aegis.statistics import Spending
from aegis.store import RunStore
from benchmarks.bounded import Bounded
from benchmarks.household import Household
from harnessx import HarnessConfig, ModelConfig, Task
from harnessx.errors import Outcome, StopReason, UserError
from harnessx.runner.jobs import Job, RolloutResult
from harnessx.trajectory import Trajectory

WORLD = Household(seed=3)
H0 = WORLD.harness()
CODE = """\
from dataclasses import dataclass
from harnessx.hooks import Hook
from harnessx.processor import Processor


@dataclass
class X(Processor):
    hooks = (Hook.BEFORE_MODEL,)
    text: str = "Think."

    async def process(self, event):
        yield event.remind(self.text)
"""
OPERATIONS: list[dict[str, Any]] = [
    {"op": "insert", "processor": {"_target_": "harnessx.processors.Instructions", "text": "Think."}},
    {"op": "insert", "processor": {"_target_": "harnessx.processors.StepBudgetReminder", "limit": 20}, "index": 0},
    {"op": "insert", "processor": {"_target_": "assets/x.py:X"}},
    {"op": "replace", "reference": "SystemPrompt", "processor": {"_target_": "harnessx.processors.LoopDetection"}},
    {"op": "set_param", "reference": "SystemPrompt", "name": "text", "value": "Play well."},
    {"op": "set_slot", "path": "limits.steps", "value": 29},
    {"op": "set_slot", "path": "permissions.network", "value": "grant"},
    {"op": "set_slot", "path": "tools.describe.act", "value": "Do one thing."},
    {"op": "set_slot", "path": "tools.add", "value": [{"_target_": "assets/x.py:X"}]},
    {"op": "set_slot", "path": "tools.expose", "value": ["act"]},
    {"op": "set_asset", "path": "assets/x.py", "text": CODE},
    {"op": "set_asset", "path": "assets/x.py/y.md", "text": "a"},
    {"op": "remove", "reference": "SystemPrompt"},
]
MANIFEST: dict[str, Any] = {
    "candidate_id": "C-R1-01", "title": "an edit", "bucket": ["config", "prompt"],
    "capability_evidence": [{"type": "trace", "claim": "seen", "observed": ["ev-0000_a0#step_1"]}],
    "file_changes": [{"path": "harness.yaml", "action": "modify", "summary": "s"},
                     {"path": "assets/x.py", "action": "add", "summary": "s"}],
    "predicted_impact": {"unlock": ["ev-0000"], "stabilize": [], "at_risk": []},
    "attribution_signature": {"type": "prompt_feature", "name": "x", "expected_min_calls": 1},
    "failure_evidence": "f", "root_cause": "r", "targeted_fix": "t", "risk_argument": "a", "overlap": "on purpose",
}  # fmt: skip
SMOKE = {"assets/x.py": "def test_it(build):\n    assert build('assets/x.py:X')\n"}
DEEP: Any = []
for _ in range(150):
    DEEP = [DEEP]
NASTY: list[Any] = [
    None, True, -1, 0, 10**400, 1e308, float("nan"), float("inf"), "", " ", "\ud800", "\x00", "\u202e", "a\nb",
    "x" * 3000,
    "../../x", "assets/../x.py", "assets/" + "y" * 300, "assets/x.py", "harnessx..x", "harnessx.\x00.x", "harnessx.",
    "harnessx.runner.worker.zygote", "os.system", "assets/x.py:Nobody", "ev-0000", "SystemPrompt#9", "limits",
    "tools.add.0",
    "tracer.x", "permissions", "permissions.fly", "limits.wall_s.x", [], {}, [[]], [None], {"a": None}, {"_target_": 5},
    {"_target_": "assets/x.py:X", "self": 1}, {"_target_": "harnessx.messages.ToolSchema", "name": "x"}, DEEP,
    ["act", "act", 5], {"act": 5}, {1: 2}, "{0.__class__}", "sk-" + "a1B2" * 10,
]  # fmt: skip
LINES = [*BAD, *GOOD]


def wounded(value: Any, rng: random.Random) -> Any:
    """``value`` with one place of it replaced, removed or doubled."""
    value = copy.deepcopy(value)
    holder, key = None, None
    at = value
    while isinstance(at, dict | list) and at and (holder is None or rng.random() < 0.75):
        holder, key = at, rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
        at = at[key]
    if holder is None:
        return rng.choice(NASTY)
    kind = rng.random()
    if kind < 0.7:
        holder[key] = cut(at, rng) if isinstance(at, str) and rng.random() < 0.3 else copy.deepcopy(rng.choice(NASTY))
    elif kind < 0.85:
        del holder[key]
    elif isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(at))
    else:
        holder[rng.choice(["", "x", "op", "_target_", "text", 5])] = at
    return value


def cut(text: str, rng: random.Random) -> str:
    """A source or text with a line of another in it, a piece missing, or a character changed."""
    lines = text.split("\n")
    place = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            lines.insert(place, " " * rng.choice((0, 4, 8)) + rng.choice(LINES)[:2000])
        case 1:
            del lines[place]
        case 2:
            return text[: rng.randrange(len(text) + 1)]
        case _:
            spot = rng.randrange(len(text) + 1)
            strange = rng.choice((0, 9, 34, 92, 123, 0x202E, 0xD800, 0xFF45, rng.randrange(1, 0x10000)))
            return text[:spot] + chr(strange) + text[spot:]
    return "\n".join(lines)


def proposal(rng: random.Random) -> Any:
    """What a meta-agent might write as a proposal: well, or with up to three wounds."""
    edit = [copy.deepcopy(rng.choice(OPERATIONS)) for _ in range(rng.choice((1, 1, 2, 3)))]
    if any("assets/x.py:X" in json.dumps(operation) for operation in edit) and rng.random() < 0.8:
        edit.insert(0, OPERATIONS[10])
    if rng.random() < 0.2:
        edit = [o if o.get("text") != CODE else {**o, "text": cut(CODE, rng)} for o in edit]
    found: Any = {"edit": edit, "manifest": copy.deepcopy(MANIFEST), "smoke": dict(SMOKE)}
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        found = wounded(found, rng)
    return found


class FuzzMeta:
    """Answers each role from ``rng``; what cannot be read as an answer is dropped, as any meta-agent must."""

    name = "fuzz"

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.read = self.unread = 0

    def _text(self) -> str:
        return self._rng.choice(["", "fine", "a\nb", "\ud800", "x" * 300, "C-R1-01", "|<script>"])

    def _proposal(self) -> Proposal | None:
        raw = proposal(self._rng)
        try:
            found = Proposal.from_json(raw)
        except UserError as error:
            if not str(error):
                raise AssertionError(f"refused without a word: {raw!r}") from error
            self.unread += 1
            return None
        self.read += 1
        if self._rng.random() < 0.1:  # made by hand, past the reader
            fields = {"title": self._text(), "lever": self._text(), "root_cause": self._text()}
            found = replace(found, manifest=replace(found.manifest, **fields))
        return found

    async def judge(self, cases: Sequence[Case]) -> Sequence[Judgement | None]:
        wild = [None, Judgement(self._text(), (self._text(), "SystemPrompt"), self._text(), (self._text(),))]
        return [self._rng.choice(wild) for _ in range(len(cases) + self._rng.choice((-1, 0, 0, 1)))]

    async def prioritize(self, survey: Survey) -> Plan:
        known = [region.category for region in survey.landscape.regions]
        order = self._rng.choices([*known, *known, self._text()], k=self._rng.choice((0, 1, 2, 3)))
        return Plan(tuple(order), {self._text(): self._text()}, self._text())

    async def propose(self, brief: Brief) -> Sequence[Proposal]:
        made = [self._proposal() for _ in range(self._rng.choice((1, 3, 6)))]
        return [found for found in made if found is not None]

    async def revise(self, old: Proposal, request: str, brief: Brief) -> Proposal | None:
        return self._proposal()

    async def review(self, candidates: Sequence[Candidate], brief: Brief) -> Review:
        rng, ids = self._rng, [c.id for c in candidates]
        some = rng.choices([*ids, *ids, self._text()], k=rng.choice((0, 1, 2, 4)))
        ranking = tuple(some if rng.random() < 0.5 else ids)
        requests = {rng.choice([*ids, "nobody"]): self._text() for _ in range(rng.choice((0, 0, 1)))}
        return Review(ranking, requests, self._text() if rng.random() < 0.1 else "", self._text())


class FuzzWorld(World):
    """Every harness but H_0 wins every rollout: what passes the checks in front of the confirmation ships."""

    isolation = "inprocess"

    def __init__(self) -> None:
        super().__init__({})

    def _play(self, job: Job, harness: HarnessConfig) -> RolloutResult:
        won = harness != H0
        return RolloutResult(
            f"{job.scope}/{harness.digest}", job.task.id, job.attempt, harness.digest,
            Outcome.PASSED if won else Outcome.FAILED, StopReason.FINISHED, float(won),
            1, 1, None, 1, 0, harness.digest, "", 0.0,
        )  # fmt: skip

    async def run_recorded(
        self, jobs: Sequence[Job], on_result: Callable[[RolloutResult], None] | None = None
    ) -> list[list[tuple[RolloutResult, str | None]]]:
        texts = dict(failures())
        return [[(result, texts[job.task.id]) for result in arms]
                for job, arms in zip(jobs, await self.run(jobs), strict=True)]  # fmt: skip


@cache
def failures() -> tuple[tuple[str, str], ...]:
    """Two evolve tasks at which H_0 fails, with what happened."""
    agent = ModelConfig(main=Bounded(seed=0)).agentic(H0)

    async def play(task: Task) -> Trajectory:
        return await agent.run(task, WORLD.environment(task, 0), WORLD.verifier)

    async def play_all() -> list[Trajectory]:
        return [await play(task) for task in WORLD.tasks(EVOLVE, 8)]

    records = asyncio.run(play_all())
    lost = [record for record in records if not record.passed][:2]
    return tuple((record.task_id, record.to_jsonl()) for record in lost)


async def fuzz_round(rng: random.Random, folder: Path) -> tuple[Round, FuzzMeta]:
    """One round of nonsense from its rollouts to the last file of its record."""
    meta = FuzzMeta(rng)
    known = {name for name, _ in failures()}
    evolve = tuple(task for task in WORLD.tasks(EVOLVE, 8) if task.id in known)
    splits = {EVOLVE: evolve, VALIDATION: tuple(WORLD.tasks(VALIDATION, 2)), SEALED: tuple(WORLD.tasks(SEALED, 1))}
    evaluator = Evaluator(FuzzWorld(), splits)
    config = GateConfig(alpha=0.9, cap=12, batch=12, run_cap=100, canaries=0)
    confirmation = Confirmation(evaluator, Spending(0.9, 4), Draws(splits[VALIDATION], 0),
                                cap=12, batch=12, run_cap=100, mei=0.03)  # fmt: skip
    engine = Engine(evaluator, meta, Gate(config, evaluator, confirmation, WORLD), History(), 1, 4, 0.1, 0)
    with RunStore.open(folder, {}, resume=True) as store:
        journal = Journal(store, evaluator, engine.history, 0)
        journal.begin(H0)
        this = await run_round(engine, H0, 1)
        journal.close_round(this)
    return this, meta
