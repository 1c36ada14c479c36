"""One task, watched: ``python -m harnessx.run harness=… model=… task="…"``.

    harness     bundle folder, YAML file or named bundle (default: minimal; with a benchmark, its own)
    model       LiteLLM name (provider/name), or the dotted path of a class; its parameters as model.<name>=…
    task        what to do; with a benchmark, <split>/<number> of one of its tasks, counted from 0
    benchmark   dotted path of a benchmark that gives world and verifier; its parameters as benchmark.<name>=…
    seed, attempt, isolation, out

What was answered is kept in the folder ``out`` as it comes. ``--resume`` goes on with a run that was stopped: what it
had is replayed, no call is paid for twice. The trace goes to standard error, the answer to standard output. Exit code:
0 for a rollout that passed or that nobody scored, 1 for any other, 2 for what the user can mend.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from harnessx.canonical import digest_of
from harnessx.errors import HarnessInvalid, Outcome, UserError
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig, Models, check_reference
from harnessx.models.identity import Identity, Register
from harnessx.redaction import redact
from harnessx.runner.cassette import Entry, RecordedVerifier, RecordedWorld, ResponseTape
from harnessx.runner.host import Recorder
from harnessx.runner.isolation import Workers, resolve_isolation
from harnessx.runner.lane import create_benchmark
from harnessx.runner.recording import Recording
from harnessx.runner.rollout import Rollout, run_rollout
from harnessx.tasks import Benchmark, Environment, Task, Verifier
from harnessx.trace import Trace, told
from harnessx.trajectory import Trajectory

SETTINGS = ("harness", "model", "task", "benchmark", "seed", "attempt", "isolation", "out")
SHORT = {"scripted": "harnessx.models.scripted.Scripted", "litellm": "harnessx.models.litellm.LiteLLM"}
FOLDER = "results/tasks"
RESUME = "--resume"
_PLAN, _HARNESS, _RECORDING, _TRAJECTORY = "run.json", "harness", "recording.jsonl", "trajectory.jsonl"
_ORIGIN = "run"
"""Whoever goes on with a rollout is who began it: what it had counts as its own."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: all that a resumed run needs beside the harness."""

    model: dict[str, Any]
    task: str
    benchmark: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    attempt: int = 0
    isolation: str = "auto"
    harness: str = ""
    """The digest of the harness."""

    @property
    def folder(self) -> Path:
        """Where it is kept, if nobody says: equal plans in the same place."""
        return Path(FOLDER) / digest_of(asdict(self))[:12]


def main(arguments: Sequence[str]) -> int:
    """Run what the command line says; the exit code."""
    if any(word in ("-h", "--help") for word in arguments):
        print(__doc__)
        return 0
    try:
        settings, resume = _parsed(arguments)
        plan, harness, folder = _resumed(settings) if resume and "model" not in settings else _planned(settings, resume)
    except UserError as error:
        _fail(str(error))
    resumable = f"go on with: python -m harnessx.run {RESUME} {shlex.quote(f'out={folder}')}"
    try:
        record = asyncio.run(play(plan, harness, folder, Trace()))
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print(f"stopped; {resumable}", file=sys.stderr)
        return 130
    if record.halt is not None:
        _fail(f"{record.halt.reason}; then {resumable}")
    print(record.answer)
    return 0 if record.outcome in (Outcome.PASSED, Outcome.UNSCORED) else 1


def _fail(said: str) -> NoReturn:
    print(redact(f"error: {' '.join(said.split())}"), file=sys.stderr)
    raise SystemExit(2)


def _parsed(arguments: Sequence[str]) -> tuple[dict[str, Any], bool]:
    """The settings by name, parameters below ``model`` and ``benchmark``; and whether to resume."""
    import yaml

    settings: dict[str, Any] = {}
    resume = False
    for argument in arguments:
        if redact(argument) != argument:
            raise UserError(f"{argument.partition('=')[0]} holds what looks like a key: put it into the provider's "
                            "environment variable and leave it out here")  # fmt: skip
        if argument == RESUME:
            resume = True
            continue
        name, equals, text = argument.partition("=")
        section, _, parameter = name.partition(".")
        if not equals or section not in SETTINGS or (parameter and section not in ("model", "benchmark")):
            raise UserError(f"cannot read {argument!r}; settings: {', '.join(f'{s}=…' for s in SETTINGS)} and {RESUME}")
        if section in ("task", "harness", "out") or name in ("model", "benchmark"):
            settings[name] = text
            continue
        try:
            settings[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"{name}={text}: not a YAML value: {error}") from error
    return settings, resume


def _planned(settings: Mapping[str, Any], resume: bool) -> tuple[Plan, HarnessConfig, Path]:
    """What the settings ask for, with its folder made; or found, to resume."""
    for name in ("model", "task"):
        if not settings.get(name):
            example = "model=openai/gpt-5.4-mini" if name == "model" else 'task="What is 17 * 23?"'
            raise UserError(f"{name} is not set; set {example}")
    for name in ("seed", "attempt"):
        if not isinstance(settings.get(name, 0), int) or settings.get(name, 0) < 0:
            raise UserError(f"{name}={settings[name]!r} must be a whole number of at least 0")
    isolation = resolve_isolation(str(settings.get("isolation", "auto")))
    benchmark = _reference("benchmark", settings) if settings.get("benchmark") else {}
    harness = _harness(settings.get("harness"), create_benchmark(benchmark) if benchmark else None)
    if harness.has_code and isolation == "inprocess":
        raise UserError("the harness brings code of its own, which isolation=inprocess does not run")
    seed, attempt = settings.get("seed", 0), settings.get("attempt", 0)
    model = _reference("model", settings)
    check_reference(model)
    plan = Plan(model, str(settings["task"]), benchmark, seed, attempt, isolation, harness.digest)
    folder = Path(settings.get("out") or plan.folder)
    if (folder / _PLAN).exists():
        known = _plan(folder)
        if known != plan:
            raise UserError(f"{folder} holds a run of other settings; give another out=")
        if not resume:
            raise UserError(f"{folder} holds this run already; add {RESUME} to go on with it, or attempt={attempt + 1}")
    elif resume:
        raise UserError(f"{folder} holds no run to go on with; leave out {RESUME}")
    _write(folder, plan, harness)
    return plan, harness, folder


def _write(folder: Path, plan: Plan, harness: HarnessConfig) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        harness.save(folder / _HARNESS)
        (folder / _PLAN).write_text(json.dumps(asdict(plan), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"out={folder}: {error.strerror}") from error


def _resumed(settings: Mapping[str, Any]) -> tuple[Plan, HarnessConfig, Path]:
    """A run by its folder alone."""
    others = sorted(settings.keys() - {"out"})
    if "out" not in settings or others:
        raise UserError(f"{RESUME} takes the folder of the run, out=…, or all the settings it began with")
    folder = Path(settings["out"])
    if not (folder / _PLAN).exists():
        raise UserError(f"{folder} holds no run to go on with")
    plan = _plan(folder)
    harness = HarnessConfig.load(folder / _HARNESS)
    if harness.digest != plan.harness:
        raise UserError(f"{folder / _HARNESS} is not the harness that the run began with")
    return plan, harness, folder


def _plan(folder: Path) -> Plan:
    try:
        return Plan(**json.loads((folder / _PLAN).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder / _PLAN}: {error}") from error


def _reference(section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A ``{_target_: …}`` mapping; a model with a slash in its name is LiteLLM's."""
    params = {key.partition(".")[2]: value for key, value in settings.items() if key.startswith(f"{section}.")}
    name = str(settings[section])
    if section == "model" and "/" in name:
        return {"_target_": SHORT["litellm"], "model": name, **params}
    target = SHORT.get(name, name)
    if "." not in target:
        raise UserError(f"{section}={name}: neither provider/name nor the dotted path of a class")
    return {"_target_": target, **params}


def _harness(name: str | None, benchmark: Benchmark | None) -> HarnessConfig:
    """A path or a named bundle."""
    if name is None and benchmark is not None:
        return benchmark.harness()
    name = name or "minimal"
    if Path(name).exists():
        return HarnessConfig.load(name)
    from harnessx import bundles

    try:
        return bundles.load(name)
    except HarnessInvalid:
        raise
    except UserError as error:
        raise UserError(f"harness={name}: no such file or folder, and {error}") from error


async def play(plan: Plan, harness: HarnessConfig, folder: Path, trace: Trace) -> Trajectory:
    """Run ``plan`` in its folder to the end, from where it was; a finished one is told again.

    Raises:
        UserError: no such model, benchmark or task; a file that cannot be read or written.
    """
    done = _finished(folder)
    if done is not None:
        trace.line(f"this run was over already: {folder}")
        return done
    with Recording(folder / _RECORDING) as recording, contextlib.ExitStack() as open_files:
        task, environment, verifier = _world(plan, recording)
        models = Models(ModelConfig(plan.model), report=_register(recording, trace).note)
        workers = Workers(plan.isolation)
        open_files.callback(workers.close)
        file = open_files.enter_context(open(folder / _TRAJECTORY, "wb", buffering=0))
        trace.line(f"{task.prompt}", "bold")
        record = await run_rollout(
            Rollout(harness, task, plan.attempt, plan.seed, _ORIGIN),
            models,
            environment,
            verifier,
            execute=workers.execute,
            tape=ResponseTape(recording.cassette("answers")),
            recorder=Recorder(file.write, keep=True, contents=True, seen=trace),
        )
    why = f": {record.error}" if record.error else ""
    calls = f"{record.model_calls} model calls, {told(record.usage)}"
    trace.line(f"{record.outcome} ({record.stop_reason}){why}; {calls}; {folder}", "bold")
    return record


def _register(recording: Recording, trace: Trace) -> Register:
    """Who answered, in this sitting and those before."""

    def keep(identity: Identity) -> None:
        row = identity.to_json()
        recording.put("models", Entry(digest_of(row), _ORIGIN, json.dumps(row)))

    known = [Identity.from_json(json.loads(entry.body)) for entry in recording.entries("models")]
    return Register(lambda line: trace.line(line, "yellow"), known, keep)


def _finished(folder: Path) -> Trajectory | None:
    """The record of a run that came to its end."""
    path = folder / _TRAJECTORY
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if not text.endswith("\n"):
        return None
    record = Trajectory.from_jsonl(text)
    return None if record.outcome is Outcome.INFRA_ERROR else record


def _world(plan: Plan, recording: Recording) -> tuple[Task, Environment | None, Verifier | None]:
    """The task, with world and verifier where a benchmark gives them."""
    if not plan.benchmark:
        return Task(plan.task), None, None
    benchmark = create_benchmark(plan.benchmark)
    split, _, number = plan.task.partition("/")
    if not number.isdigit():
        raise UserError(f"task={plan.task}: with a benchmark, <split>/<number>, e.g. task=evolve/0")
    tasks = benchmark.tasks(split, int(number) + 1)
    if len(tasks) <= int(number):
        raise UserError(f"task={plan.task}: {split} has {len(tasks)} tasks")
    task = tasks[int(number)]

    def make() -> Environment:
        world = benchmark.environment(task, plan.attempt)
        assert world is not None
        return world

    if not benchmark.recorded:
        return task, benchmark.environment(task, plan.attempt), benchmark.verifier
    recorded = RecordedWorld(make, benchmark.tools, recording.cassette("world"))
    return task, recorded, RecordedVerifier(benchmark.verifier)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
