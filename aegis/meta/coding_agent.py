"""Who thinks: an external coding agent, one session a round (the single-agent baseline of paper §5).

It is any program. It works in a scratch folder with a copy of what it may read of the run, and leaves candidates
there as files. What it leaves is read with care, checked and measured like any other proposal. What it printed, how
it ended and how long it took is recorded; a run taken up again starts no session anew that was over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from aegis.candidate import Candidate, Proposal
from aegis.meta import handed, questions
from aegis.meta.base import Brief, Case, Judgement, NoAnswer, Plan, Review, Survey
from aegis.meta.desk import Trials
from aegis.meta.roles import PROMPTS
from aegis.meta.session import Asked
from aegis.meta.view import view
from aegis.meta.walled import Wall, missing
from aegis.meta.workbench import ACCOUNT, Workbench
from aegis.record_session import Duty, Ending, SessionRecord
from aegis.settings import number, one_of, whole
from harnessx.errors import UserError
from harnessx.model_config import ModelConfig
from harnessx.tasks import Task

KEPT = 64 << 10
"""Bytes of output that are kept, the last ones."""
ORDERS = "Read TASK.md in this folder and do what it says."
GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Session:
    """A session that is over: what it handed over, printed, and came to. ``exit_code`` is None where time was up."""

    files: Mapping[str, str]
    refused: tuple[str, ...]
    output: str
    exit_code: int | None
    seconds: float


@dataclass
class CodingAgent:
    """The meta-agent of ``meta=coding_agent``.

    Args:
        command: the program and its arguments; ``{prompt}`` stands for what it is to do, ``{folder}`` for its folder.
        timeout_s: a session that takes longer is ended; what it has left by then counts.
        wall: ``landlock`` (it sees system folders, ``readable``, ``writable`` and its own), or ``none``.
        readable, writable: further paths, ``~`` for the home folder: its own program and settings.
        environment: names of variables that it gets, besides PATH and LANG.
        trials: rollouts of a round by which what it leaves is checked.

    Raises:
        UserError: a setting is out of range.
    """

    command: str
    timeout_s: float = 1800.0
    wall: str = "landlock"
    readable: Sequence[str] = ()
    writable: Sequence[str] = ()
    environment: Sequence[str] = ()
    trials: int = 8
    name: str = "coding_agent"
    _bench: Workbench | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            self._arguments = shlex.split(self.command) if isinstance(self.command, str) else []
        except ValueError as error:
            raise UserError(f"meta.command={self.command!r}: {error}") from error
        if not self._arguments:
            raise UserError(f"meta.command={self.command!r} must be a program with its arguments")
        number("meta.timeout_s", self.timeout_s, "above 0", lambda x: x > 0)
        one_of("meta.wall", self.wall, ("landlock", "none"))
        whole("meta.trials", self.trials, 0)
        for name in ("readable", "writable", "environment"):
            values = getattr(self, name)
            if isinstance(values, str) or not all(isinstance(value, str) for value in values):
                raise UserError(f"meta.{name}={values!r} must be a list of texts")

    def prepare(self, task_model: ModelConfig) -> None:
        """See that the program and the wall are there.

        Raises:
            UserError: one is not.
        """
        if shutil.which(self._arguments[0]) is None:
            raise UserError(f"meta.command: there is no program {self._arguments[0]!r} on the PATH")
        if self.wall == "landlock" and (lacking := missing()):
            raise UserError(f"meta.wall=landlock: {lacking}")

    def attach(self, bench: Workbench) -> None:
        """Work at ``bench`` from now on."""
        self._bench = bench

    async def judge(self, cases: Sequence[Case]) -> Sequence[Judgement | None]:
        """Keeps the first symptoms: the session looks for causes itself."""
        return [None] * len(cases)

    async def prioritize(self, survey: Survey) -> Plan:
        """Every region, the largest first."""
        return Plan(tuple(region.category for region in survey.landscape.regions))

    async def propose(self, brief: Brief) -> Sequence[Proposal]:
        """What the session leaves, by name; each with what running it shows.

        Raises:
            NoAnswer: it leaves nothing that can be read.
        """
        assert self._bench is not None, "run.py attaches it"
        asked = Asked(brief.round, brief.incumbent.digest, Duty.SESSION, "session")
        session = await self._session(asked, brief)
        found, wrong = handed.proposals(session.files)
        record = self._record(asked, session, [*session.refused, *wrong], bool(found))
        self._bench.settle([(record, handed.usage(session.files))])
        if not found:
            raise NoAnswer(f"the session left no candidate: {record.problem or 'there is none in candidates/'}")
        trials = Trials(self.trials)
        return [await self._supported(proposal, brief, trials) for proposal in list(found.values())[: brief.count]]

    async def revise(self, proposal: Proposal, request: str, brief: Brief) -> Proposal | None:
        """Nothing: there is one session a round, and it is over."""
        raise NoAnswer(f"the session is over, and was asked: {request}")

    async def review(self, candidates: Sequence[Candidate], brief: Brief) -> Review:
        """All of them, in the order of their names; the audit of the stage is as for anybody."""
        return Review(tuple(candidate.id for candidate in candidates))

    async def _supported(self, proposal: Proposal, brief: Brief, trials: Trials) -> Proposal:
        assert self._bench is not None
        tasks = self._bench.tasks
        named = (t for t in (*proposal.manifest.predicted_impact.flips, brief.digest.failing[0].task) if t in tasks)
        task: Task | None = next((tasks[t] for t in named), None) if trials.left else None
        trials.left -= task is not None
        seen = await self._bench.check(proposal, brief, task)
        evidence = (*proposal.manifest.capability_evidence, *seen.evidence)
        return replace(proposal, manifest=replace(proposal.manifest, capability_evidence=evidence))

    async def _session(self, asked: Asked, brief: Brief) -> Session:
        """The session of the round: as it was recorded, else run now."""
        assert self._bench is not None
        known = self._bench.store.memo(asked.scope)
        if known is None:
            with self._bench.asking():
                await self._bench.purse.reserve(ACCOUNT)
                session: Session | None = None
                try:
                    session = await self._run(brief)
                finally:
                    self._bench.purse.settle(ACCOUNT, handed.usage(session.files) if session is not None else None)
            self._bench.store.put_memo(asked.scope, json.dumps(asdict(session)))
            known = self._bench.store.memo(asked.scope)
            assert known is not None
        data = json.loads(known)
        session = Session(**{**data, "refused": tuple(data["refused"])})
        self._bench.store.write_text(f"R{asked.round}/meta/session-{asked.incumbent[:8]}.log", session.output)
        return session

    async def _run(self, brief: Brief) -> Session:
        assert self._bench is not None
        with tempfile.TemporaryDirectory(prefix="session-") as name:
            scratch = Path(os.path.realpath(name))
            self._furnish(scratch, brief)
            began = time.monotonic()
            output, code = await self._program(scratch)
            seconds = round(time.monotonic() - began, 3)
            files, refused = handed.collect(scratch)
        return Session(files, tuple(refused), output, code, seconds)

    def _furnish(self, scratch: Path, brief: Brief) -> None:
        """The copy of what may be read, the task, and folders to work in."""
        assert self._bench is not None
        seen = view(self._bench.store.path, brief.round, brief.incumbent, brief.trajectories, brief.history,
                    brief.digest, brief.landscape)  # fmt: skip
        for path, text in seen.items():
            file = scratch / "run" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", errors="backslashreplace")
        prompts = [
            (PROMPTS / f"{name}.md").read_text(encoding="utf-8") for name in ("coding_agent", "manifest", "edits")
        ]
        task = "\n\n".join([*prompts, questions.propose(brief, 0)])
        (scratch / "TASK.md").write_text(task, encoding="utf-8", errors="backslashreplace")
        for folder in (handed.FOLDER, "home", "tmp"):
            (scratch / folder).mkdir()

    async def _program(self, scratch: Path) -> tuple[str, int | None]:
        """Run the program: the end of what it printed, and its exit code (None: time was up)."""
        command = [a.replace("{prompt}", ORDERS).replace("{folder}", str(scratch)) for a in self._arguments]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "aegis.meta.walled", self._wall(scratch).to_json(), *command,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            cwd=scratch, env=self._environment(scratch), start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        kept = asyncio.ensure_future(_tail(process.stdout))
        code: int | None = None
        try:
            code = await asyncio.wait_for(process.wait(), self.timeout_s)
        except TimeoutError:
            process.terminate()
        finally:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        try:
            output = await asyncio.wait_for(kept, GRACE_S)
        except TimeoutError:  # somebody outside its tree holds the pipe
            output = b""
        return output.decode(errors="replace"), code

    def _wall(self, scratch: Path) -> Wall:
        program = os.path.realpath(str(shutil.which(self._arguments[0])))
        read = (os.path.dirname(program), *map(os.path.expanduser, self.readable))
        return Wall(read, (str(scratch), *map(os.path.expanduser, self.writable)), self.wall != "none")

    def _environment(self, scratch: Path) -> dict[str, str]:
        named = {name: os.environ[name] for name in ("PATH", "LANG", *self.environment) if name in os.environ}
        return {"HOME": str(scratch / "home"), "TMPDIR": str(scratch / "tmp"), **named}

    def _record(self, asked: Asked, session: Session, problems: Sequence[str], any_left: bool) -> SessionRecord:
        spend = handed.usage(session.files)
        ended = []
        if session.exit_code is None:
            ended = [f"ended after {self.timeout_s:g} s"]
        elif session.exit_code:
            ended = [f"exit code {session.exit_code}"]
        return SessionRecord(
            round=asked.round,
            duty=asked.duty,
            name=asked.name,
            model=self._arguments[0],
            ending=Ending.ANSWERED if any_left else Ending.NO_ANSWER,
            problem="; ".join([*ended, *problems])[:2000],
            refused=len(problems),
            tokens=spend.tokens,
            usd=spend.usd,
            seconds=session.seconds,
            exit_code=session.exit_code,
        )


async def _tail(stream: asyncio.StreamReader) -> bytes:
    """The last `KEPT` bytes of a stream that is read to its end."""
    kept = b""
    while chunk := await stream.read(1 << 16):
        kept = (kept + chunk)[-KEPT:]
    return kept
