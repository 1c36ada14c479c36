"""``python -m aegis.evolve``: evolve a harness, end to end, and report what the gain is."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegis.start import start

if TYPE_CHECKING:
    from aegis.record import Summary
    from aegis.settings import Settings
    from aegis.views.tracking import Tracking

PIPE_WIDTH = 120
"""Columns of the summary where standard output is no terminal."""


def evolve(config: dict[str, Any]) -> float | None:
    """Run one evolution; the objective of a sweep is the final harness's mean on validation."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from aegis.resume import finished, taken_up
    from aegis.settings import Settings
    from aegis.views import report
    from aegis.views.summary_table import summary_table

    if HydraConfig.get().mode is RunMode.RUN:
        config = taken_up(config, HydraConfig.get().overrides.task)
    settings = Settings.of(config)
    tracking = _tracking(config["tracking"])
    folder = run_folder(config, settings)
    summary = finished(settings, folder) if settings.resume else None
    over = summary is not None
    if summary is None:
        summary = _run(settings, folder)
    else:
        print(f"{folder} is finished; nothing is left to run", file=sys.stderr)
    page = folder / "report.html"
    if not (over and page.exists()):
        report.write(folder)
    if tracking is not None and not (over and (folder / "wandb").exists()):
        from aegis.views.tracking import project

        problem = project(folder, tracking)
        if problem:
            print(problem, file=sys.stderr)

    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(summary_table(summary))
    print(f"report: {page}")
    final = summary.splits["validation"].final
    return final.mean if final is not None else None


def _run(settings: Settings, folder: Path) -> Summary:
    """Begin the run, or go on with it; what ends it early says how to go on."""
    import asyncio

    from aegis.run import run
    from harnessx.errors import Outage, UserError
    from harnessx.runner.pool import Drained

    again = f"give the same command with run.dir={folder} run.resume=true"
    if settings.resume and not (folder / "run.db").exists():
        print(f"{folder} holds no run yet: a new one begins", file=sys.stderr)
    try:
        return asyncio.run(run(settings, folder, resume=settings.resume))
    except Drained:
        print(f"stopped; to go on, {again}", file=sys.stderr)
        sys.exit(130)
    except Outage as outage:
        raise UserError(f"{outage}; then, to go on, {again}") from outage


def run_folder(config: Mapping[str, Any], settings: Settings) -> Path:
    """``run.dir``; by default a folder named by time, in a sweep by the digest of the config.

    The digest leaves out what does not change a run's result, so that a sweep is resumed by its command.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from aegis.settings import schedule_of
    from harnessx.canonical import digest_of

    sweep = HydraConfig.get().mode is RunMode.MULTIRUN
    if config["run"]["dir"] is not None:
        return Path(config["run"]["dir"])
    base = Path("results", str(config["benchmark"]["name"]))
    if sweep:
        return base / digest_of([settings.identity, schedule_of(config)])[:16]
    return base / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-seed-{settings.seed}"


def _tracking(section: Mapping[str, Any]) -> Tracking | None:
    from aegis.settings import one_of, section_of
    from aegis.views.tracking import Tracking

    if section["name"] == "none":
        return None
    tracking = section_of(Tracking, "tracking", {"timeout": 120.0, **section}, ignore=("name",))
    one_of("tracking.mode", tracking.mode, ("offline", "online"))
    return tracking


if __name__ == "__main__":
    start("evolve", evolve)
