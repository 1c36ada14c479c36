"""The measurement of the run loop writes only where it is told to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARGUMENTS = ("--json", "--steps", "3", "--repeat", "1")
TRACKED = ROOT / "results/bench_loop.json"


def test_a_measurement_writes_only_where_it_is_told_to(tmp_path: Path) -> None:
    before = TRACKED.read_bytes()
    try:
        done = subprocess.run(
            [sys.executable, ROOT / "scripts/bench_loop.py", *ARGUMENTS, "--out", tmp_path / "speed.json"],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        assert TRACKED.read_bytes() == before
    finally:
        TRACKED.write_bytes(before)
    assert json.loads((tmp_path / "speed.json").read_text()) == json.loads(done.stdout)
