"""Taking a run up again: with which settings, and whether anything of it is left to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aegis.record import Summary
from aegis.settings import CHANGEABLE, Settings, identity_of, schedule_of
from aegis.store import first_difference, refuse_another
from aegis.views.folder import RunFolder
from harnessx.errors import UserError


def taken_up(config: dict[str, Any], given: Sequence[str]) -> dict[str, Any]:
    """The settings to resume with: those of the run folder, where ``given`` names none that a resume may not change.

    ``given`` are the arguments, ``key=value``. With any other among them, ``config`` stays as it is, and is
    compared with the run's own later.

    Raises:
        UserError: resume without a folder, or settings there that cannot be read.
    """
    section = config.get("run")
    if not isinstance(section, Mapping) or section.get("resume") is not True or "dir" not in section:
        return config  # nothing to resume, or a mistake that the check of the settings names
    if section["dir"] is None:
        raise UserError("run.resume=true needs the folder of the run: set run.dir=…")
    keys = [argument.lstrip("+").partition("=")[0] for argument in given]
    folder = Path(section["dir"])
    if not (folder / "config.yaml").is_file() or not all(map(_changeable, keys)):
        return config
    stored = {**RunFolder.read(folder).config, "run": section}
    for key in keys:
        _copy(key.split("."), config, stored)
    return stored


def _changeable(key: str) -> bool:
    return key.partition(".")[0] in CHANGEABLE or key in ("runner.lanes", "runner.concurrency")


def _copy(path: Sequence[str], source: Mapping[str, Any], target: dict[str, Any]) -> None:
    """Set the value at ``path`` in ``target``, without touching the mappings it shares."""
    first, *rest = path
    if rest:
        target[first] = dict(target.get(first) or {})
        _copy(rest, source[first], target[first])
    else:
        target[first] = source[first]


def finished(settings: Settings, folder: Path) -> Summary | None:
    """The summary of the run in ``folder`` if its sealed tasks were scored, so that it is over; else None.

    Nothing is written, and no lock taken.

    Raises:
        UserError: it is over, and had other settings, rounds, patience or budget.
    """
    if not (folder / "summary.json").is_file() or not (folder / "data/sealed.json").is_file():
        return None
    run = RunFolder.read(folder)
    assert run.summary is not None
    refuse_another(folder, identity_of(run.config), settings.identity)
    difference = first_difference(schedule_of(run.config), schedule_of(settings.raw))
    if difference is not None:  # of a finished run the schedule is as fixed as the rest
        key, then, now = difference
        raise UserError(
            f"{folder} is finished: its sealed tasks were read after {run.summary.rounds} rounds; "
            f"{key} was {then}: for {key}={now} set another run.dir"
        )
    return run.summary
