"""``python -m aegis.evolve``: evolve a harness, end to end, and report what the gain is."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from aegis.cli import hydra_main


def evolve(config: dict[str, Any]) -> float | None:
    """Run one evolution; the objective of a sweep is the final harness's mean on validation."""
    from aegis.run import run
    from aegis.settings import Settings
    from aegis.views import report
    from aegis.views.summary_table import summary_table
    from harnessx.runner.pool import Drained

    settings = Settings.of(config)
    folder = run_folder(config, settings)
    try:
        summary = asyncio.run(run(settings, folder, resume=config["run"]["resume"]))
    except Drained:
        print(f"stopped; go on with: run.resume=true run.dir={folder}", file=sys.stderr)
        sys.exit(130)
    page = report.write(folder)
    _track(config["tracking"], folder)

    from rich.console import Console

    Console().print(summary_table(summary))
    print(f"report: {page}")
    final = summary.splits["validation"].final
    return final.mean if final is not None else None


def run_folder(config: dict[str, Any], settings: Any) -> Path:
    """``run.dir``; by default a folder named by time, in a sweep by the digest of the config."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from harnessx.messages import digest_of

    if config["run"]["dir"] is not None:
        return Path(config["run"]["dir"])
    base = Path("results") / config["benchmark"]["name"]
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        return base / digest_of(settings.identity)[:16]
    return base / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-seed-{settings.seed}"


def _track(section: dict[str, Any], folder: Path) -> None:
    if section["name"] == "none":
        return
    from aegis.views.tracking import Tracking, project

    problem = project(folder, Tracking(**{k: v for k, v in section.items() if k != "name"}))
    if problem:
        print(problem, file=sys.stderr)


if __name__ == "__main__":
    hydra_main("evolve", evolve)
