"""The scripts that measure, with tiny settings: what they write can be read, adds up, and says what made it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from views_run import write_run

from aegis.meta.catalog.catalog import LEVERS
from aegis.record import Bucket
from aegis.views.folder import RunFolder

SCRIPTS = Path(__file__).parents[2] / "scripts"


def measured(script: str, out: Path, *arguments: str) -> dict[str, Any]:
    """The table that a script writes to ``out``; it says what made it."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / script, *arguments, "--out", out], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    table: dict[str, Any] = json.loads(out.read_text())
    assert set(table["versions"]) == {"python", "packages", "commit"}
    return table


def test_what_replay_saves_is_counted_by_bucket_over_the_runs_given(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    confirmed = [candidate for candidate in RunFolder.read(run).candidates if candidate.pairs]
    table = measured("replay.py", tmp_path / "replay.json", str(run), str(run))
    assert table["runs"] == len(table["seeds"]) == 2
    assert set(table["first_request"]) <= {"all", *map(str, Bucket)}
    whole = table["later_request"]["all"]
    assert whole["candidates"] == 2 * len(confirmed)
    assert whole["calls"] == 2 * sum(c.calls.candidate.made + c.calls.candidate.replayed for c in confirmed)
    assert 0 < whole["replayed_share"] < 1


def test_what_levers_do_is_counted_by_cluster(tmp_path: Path) -> None:
    table = measured("cluster_effects.py", tmp_path / "effects.json", "--tasks", "2", "--seed", "1")
    assert (table["tasks"], table["seed"]) == (2, 1)
    assert set(table["conflicting"]) == set(table["rates"]) == {"goal", "place"}
    assert 20 < len(table["levers"]) <= len(LEVERS)  # those that apply to H_0
    for lever in table["levers"]:
        for groups in lever["effects"].values():
            assert sum(counts["tasks"] for counts in groups.values()) == 2
            assert all(counts["wins"] + counts["losses"] <= counts["tasks"] for counts in groups.values())
