"""How often the sealed tasks of a benchmark were looked at (STATISTICS rule 10).

One run reads them once, for the three harnesses that its audit trail names beforehand. Many runs read them many
times, and whoever quotes the best of them has chosen by sealed tasks after all; so every reading is counted, over
runs and sweeps that share a folder. ``aegis.evaluate split=sealed`` leaves no record, and is not among them.
"""

from __future__ import annotations

import json
from pathlib import Path


def readings(folder: Path, benchmark: str) -> int:
    """The runs beside ``folder``, and itself, that scored the sealed tasks of the benchmark with this digest."""
    beside = [file.parent for file in folder.resolve().parent.glob("*/summary.json")]
    return 1 + sum(_read(other, benchmark) for other in beside if other != folder.resolve())


def said(folder: Path, benchmark: str) -> str:
    """The count in a line, for whoever ends a run; '' where it was the first reading."""
    count = readings(folder, benchmark)
    if count < 2:
        return ""
    return f"sealed tasks scored by {count} runs in {folder.parent}: the best of them, chosen by it, is no fair score"


def _read(folder: Path, benchmark: str) -> bool:
    if not (folder / "data/sealed.json").is_file():
        return False
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return bool(summary["digests"]["benchmark"] == benchmark)
    except (OSError, ValueError, KeyError, TypeError):  # not a run of ours, or one that is being written
        return False
