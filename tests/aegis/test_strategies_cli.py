"""Every strategy as its user runs it: `python -m aegis.evolve strategy=…`, its sweep, and a kill."""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import pytest
from deaths import Driven
from evolve_drive import SMALL, candidates, code, edit, evolved, good_code, insert, lasting, run, script, trail

from aegis.lineage import deployed
from aegis.record import Summary
from aegis.routing import RoutedPool, serving
from aegis.settings import load_system
from aegis.views.folder import RunFolder
from benchmarks.household import Household
from harnessx.errors import UserError

DIVIDER = """\
from dataclasses import dataclass, replace

from harnessx.hooks import Hook
from harnessx.processor import Processor


@dataclass
class X(Processor):
    hooks = (Hook.TASK_START, Hook.BEFORE_TOOL)

    def __post_init__(self):
        self.known = True

    async def process(self, event):
        if hasattr(event, "system_prompt"):
            goal = event.prompt.strip().split("task is to:")[-1]
            self.known = any(word in goal for word in ("cool", "clean", "look at", "examine"))
            text = "Cool things with the fridge. To look at something in the light, hold it and use the desklamp."
            yield replace(event, system_prompt=f"{event.system_prompt} {text}")
        elif self.known:
            yield event
        else:
            yield replace(event, approved=False, reason="not this one")
"""
"""Helps where H_0 does not know the way, and stops every other task."""

FORKING = (
    "strategy=ensemble",
    "benchmark.splits.evolve=16",
    "benchmark.splits.validation=16",
    "gate.veto=1",
    "gate.promise=-1",
    "gate.alpha=0.9",
    "gate.decisions=6",
    "rounds=2",
)


def divider() -> dict[str, object]:
    proposal = code("divider", DIVIDER, "def test_it(build):\n    assert build('assets/divider.py:X')\n")
    proposal["edit"] += [
        insert("CurrentState", observation=False),
        insert("SelfVerification"),
        insert("ParseRetry", final_markers=["finished"]),
    ]
    return proposal


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    return script(tmp_path_factory.mktemp("script") / "script.yaml", {"propose": [divider()]}, {})


@pytest.fixture(scope="module")
def forked(tmp_path_factory, named):
    """A run in which what would harm half of the tasks ships for the other half."""
    return evolved(tmp_path_factory.mktemp("forked") / "run", named, *FORKING)


def test_a_vetoed_edit_ships_as_a_variant_for_the_clusters_it_helps(forked):
    record = candidates(forked)["divider"]
    assert (record["verdict"], record["check"]) == ("ship", "fork")
    assert "before: screen: vetoed" in record["reason"]
    routes = [json.loads(line) for line in (forked / "data/routes.jsonl").read_text().splitlines()]
    assert {r["verdict"] for r in routes} >= {"ship"}
    assert all(len(r["clusters"]) == 1 for r in routes)
    assert "routes cool_and_place to" in (forked / "journal.md").read_text()
    assert [e["routes"] for e in trail(forked) if "routes" in e]


def test_the_routed_pool_is_what_is_deployed_measured_and_reported_as_final(forked):
    pool = load_system(str(forked / "best"), Household())
    assert isinstance(pool, RoutedPool)
    summary = Summary.from_json(json.loads((forked / "summary.json").read_text()))
    assert summary.digests.final == pool.digest == trail(forked)[-1]["final"]
    done = run(
        "split=sealed", "limit=6", f"harness={forked}/best", "json=true", "runner.lanes=1", module="aegis.evaluate"
    )
    assert done.returncode == 0, done.stderr
    (score,) = json.loads(done.stdout)["scores"].values()
    sealed = summary.splits["sealed"].final
    assert sealed is not None
    assert score["mean"] == sealed.mean
    assert (forked / "report.html").is_file()


def test_what_each_round_deployed_is_rebuilt_from_the_records(forked):
    record = RunFolder.read(forked)
    baseline = Household().harness()
    systems = deployed(record, baseline)
    assert [system.digest for system in systems[:-1]] == [r.incumbent for r in record.rounds]
    assert systems[0] == baseline
    assert isinstance(systems[-1], RoutedPool)
    best = load_system(str(forked / "best"), Household())
    assert all(serving(systems[-1], task) == serving(best, task) for task in Household().tasks("sealed", 30))
    with pytest.raises(UserError, match="do not lead to"):
        deployed(replace(record, routes=()), baseline)


def test_a_pool_is_no_harness_to_start_from_but_its_variants_are(forked, tmp_path):
    done = run(*SMALL, "meta.path=x", f"harness={forked}/best", f"run.dir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert f"{forked}/best/variants/V1" in done.stderr
    done = run(f"harness={forked}/best/variants/V2", "limit=1", "runner.lanes=1", module="aegis.evaluate")
    assert done.returncode == 0, done.stderr


def test_a_line_of_a_variant_is_traced_to_its_edit(forked):
    file = "variants/V2/harness.yaml"
    lines = (forked / "best" / file).read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if "divider" in line)
    done = run(str(forked), f"{file}:{number}", module="aegis.why")
    assert done.returncode == 0, done.stderr
    assert "C-R1-01" in done.stdout
    refused = run(str(forked), "variants/V9/harness.yaml:1", module="aegis.why")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("eighths", [5])
def test_a_killed_ensemble_resumes_to_the_same_bytes(tmp_path, named, forked, eighths):
    driven = Driven(tmp_path / "whole", named)
    assert driven.go("none", 0, *FORKING) == 0
    writes = driven.report["write"]
    killed = Driven(tmp_path / "killed", named)
    assert killed.go("write", writes * eighths // 8, *FORKING) == -signal.SIGKILL
    assert killed.go("none", 0, *FORKING) == 0
    assert lasting(killed.run) == lasting(driven.run)
    assert killed.report["again"] == []


def test_a_killed_search_resumes_to_the_same_bytes(tmp_path):
    propose = [{"propose": [good_code()]}, {"propose": [edit("calm", insert("Instructions", text="Be calm."))]}]
    driven = Driven(tmp_path / "whole", script(tmp_path / "script.yaml", *propose))
    assert driven.go("none", 0, "strategy=pareto") == 0
    writes = driven.report["write"]
    killed = Driven(tmp_path / "killed", f"meta.path={tmp_path / 'script.yaml'}")
    assert killed.go("write", writes * 5 // 8, "strategy=pareto") == -signal.SIGKILL
    assert killed.go("none", 0, "strategy=pareto") == 0
    assert lasting(killed.run) == lasting(driven.run)
    assert candidates(killed.run)["procedures"]["verdict"] == "ship"


def test_all_strategies_are_comparable_in_one_sweep(tmp_path):
    named = script(tmp_path.with_suffix(".yaml"), {"propose": [good_code()]})
    sizes = ("benchmark.splits.evolve=16", "benchmark.splits.validation=16", "rounds=1")
    choices = "strategy=ensemble,best_of_n,pareto,archive,global_,static"
    done = run(*SMALL, named, *sizes, "-m", choices, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = list((tmp_path / "results/household").iterdir())
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    assert len(summaries) == 6
    assert len({s["digests"]["final"] for s in summaries}) == 2  # H_0 and the one edit, by whichever way it shipped
