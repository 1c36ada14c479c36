"""Weights & Biases as a projection of a run folder: written whole from its records, never a second truth.

W&B works in a process of its own with a deadline, so that nothing it does (threads, signals, a hanging
upload) reaches the run. All its files lie in the run folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aegis.record import CurvePoint, Summary
from aegis.statistics import Interval
from aegis.views.folder import RunFolder
from harnessx.canonical import digest_of

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run


@dataclass(frozen=True, slots=True)
class Tracking:
    """Where a run is projected to.

    ``offline`` writes files that ``wandb sync`` can send later. ``group`` is the sweep. ``timeout`` is
    in seconds, for the whole projection.
    """

    project: str = "harness-evolution"
    mode: Literal["offline", "online"] = "offline"
    group: str = ""
    timeout: float = 120.0


def project(run_dir: Path | str, tracking: Tracking) -> str:
    """Write the run at ``run_dir`` to W&B: '' or, where that failed, one line that says how.

    Offline, an earlier projection of the same run is replaced. Online, the run is sent under an id
    made from its folder's name and configuration, and a repeated projection goes on in the same run.
    """
    root = Path(run_dir).resolve()
    command = [sys.executable, "-m", "aegis.views.tracking", str(root), json.dumps(asdict(tracking))]
    with subprocess.Popen(
        command,
        env={**os.environ, **_environment(root)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            _, said = child.communicate(timeout=tracking.timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            return f"W&B tracking took longer than {tracking.timeout:g} s and was stopped; the run is unaffected"
    if child.returncode == 0:
        return ""
    last = (said.strip() or f"exit code {child.returncode}").splitlines()[-1]
    return f"W&B tracking failed: {last}; the run is unaffected"


def _environment(root: Path) -> dict[str, str]:
    """Keeps W&B's files under the run folder, and W&B quiet."""
    own = root / "wandb"
    return {
        "WANDB_DIR": str(root),
        "WANDB_CACHE_DIR": str(own / "cache"),
        "WANDB_DATA_DIR": str(own / "data"),
        "WANDB_CONFIG_DIR": str(own / "config"),
        "WANDB_ARTIFACT_DIR": str(own / "artifacts"),
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
    }


def _write(root: Path, tracking: Tracking) -> None:
    import wandb

    folder = RunFolder.read(root)
    if tracking.mode == "offline" and (root / "wandb").is_dir():
        shutil.rmtree(root / "wandb")
    settings = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True)
    with wandb.init(
        project=tracking.project,
        dir=str(root),
        mode=tracking.mode,
        id=digest_of([folder.name, folder.config])[:16],
        resume="allow" if tracking.mode == "online" else None,
        name=folder.name,
        group=tracking.group or None,
        job_type="evolve",
        config=dict(folder.config),
        settings=settings,
    ) as run:
        _curves(run, folder)
        _generations(run, folder)
        if folder.summary is not None:
            run.summary.update(_summary(folder.summary))
        if (root / "best/harness.yaml").is_file():
            _artifact(run, folder, tracking)


def _curves(run: Run, folder: RunFolder) -> None:
    run.define_metric("round")
    for split in ("evolve", "validation"):
        run.define_metric(f"{split}/*", step_metric="round")
    for point in folder.curves.rounds:
        run.log(_point(point))


def _point(point: CurvePoint) -> dict[str, float | int]:
    row: dict[str, float | int] = {"round": point.round, **_scores("evolve", point.evolve)}
    row |= _scores("validation", point.validation)
    return row | {"evolve/tokens": point.tokens, "evolve/rollouts": point.rollouts}


def _scores(name: str, interval: Interval | None) -> dict[str, float | int]:
    """An unscored metric is absent."""
    if interval is None:
        return {}
    return {f"{name}/pass_rate": interval.mean, f"{name}/lo": interval.lo, f"{name}/hi": interval.hi}


def _generations(run: Run, folder: RunFolder) -> None:
    import wandb

    columns: list[str | int] = ["round", "candidate", "bucket", "title", "digest", "parent"]
    rows = [[g.round, g.candidate, ", ".join(g.bucket), g.title, g.digest, g.parent] for g in folder.generations]
    run.log({"generations": wandb.Table(columns=columns, data=rows)})


def _summary(summary: Summary) -> dict[str, Any]:
    flat: dict[str, Any] = {
        "rollouts": summary.rollouts,
        "tokens": summary.tokens,
        "stopped": summary.stopped,
    }
    if summary.dollars is not None:
        flat["dollars"] = summary.dollars
    for split, scores in summary.splits.items():
        flat |= _scores(f"{split}/baseline", scores.baseline) | _scores(f"{split}/final", scores.final)
        if scores.difference is not None:
            flat[f"{split}/difference"] = scores.difference.mean
    return flat


def _artifact(run: Run, folder: RunFolder, tracking: Tracking) -> None:
    """The best harness; its parent is used where W&B has it, and named in the metadata always."""
    import wandb
    from wandb.errors import CommError

    from harnessx.harness import HarnessConfig

    digest = HarnessConfig.load(folder.path / "best").digest
    mine = next((g for g in folder.generations if g.digest == digest), None)
    parent = mine.parent if mine else ""
    name = f"harness-{folder.setting('benchmark') or 'best'}"
    artifact = wandb.Artifact(name, type="harness", metadata={"digest": digest, "parent": parent})
    artifact.add_dir(str(folder.path / "best"))
    if parent and tracking.mode == "online":
        try:
            run.use_artifact(f"{name}:{parent[:12]}")
        except CommError:  # the parent was never sent: a run is projected at its end, not at every ship
            artifact.metadata["parent_sent"] = False
    aliases = ["latest", "best", digest[:12], *([f"round-{mine.round}"] if mine else [])]
    run.log_artifact(artifact, aliases=aliases)


if __name__ == "__main__":
    _write(Path(sys.argv[1]), Tracking(**json.loads(sys.argv[2])))
