"""An agent: a model and a harness, runnable (``agent = M.agentic(C)``, paper §2)."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from harnessx.errors import HarnessInvalid
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig, Models
from harnessx.models.base import Tape
from harnessx.runner.host import Recorder
from harnessx.runner.rollout import Rollout, run_rollout
from harnessx.tasks import Environment, Task, Verifier
from harnessx.trajectory import Trajectory


class Agent:
    """Runs tasks. One agent may run many tasks at once: each rollout has its own processors.

    Raises:
        HarnessInvalid: the harness brings code of its own; that runs in worker processes only, so
            give it to a runner (`harnessx.runner.pool.Pool`) instead.
    """

    def __init__(self, model: ModelConfig, harness: HarnessConfig) -> None:
        if harness.has_code:
            raise HarnessInvalid(
                "the harness brings code of its own, which does not run in this process: "
                "use harnessx.runner.pool.Pool, or python -m aegis.evaluate"
            )
        self.model, self.harness = model, harness
        self._models = Models(model)

    async def run(
        self,
        task: Task | str,
        environment: Environment | None = None,
        verifier: Verifier | None = None,
        *,
        attempt: int = 0,
        seed: int = 0,
        tape: Tape | None = None,
        trajectory: Path | str | None = None,
    ) -> Trajectory:
        """Run one task to a verified record; with ``trajectory``, also write it to that file as it grows.

        A rollout that fails returns a record that says so. Without a verifier its outcome is
        ``unscored``.
        """
        task = Task(task) if isinstance(task, str) else task
        rollout = Rollout(self.harness, task, attempt, seed)
        if trajectory is None:
            return await run_rollout(rollout, self._models, environment, verifier, tape=tape)
        contents = self.harness.slots.tracer == "full"
        with _created(trajectory) as file:
            recorder = Recorder(file.write, keep=verifier is not None, contents=contents)
            return await run_rollout(rollout, self._models, environment, verifier, tape=tape, recorder=recorder)


def _created(path: Path | str) -> BinaryIO:
    """A new file to write bytes to: opening one for text costs more than running a step."""
    try:
        return open(path, "wb")
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return open(path, "wb")
