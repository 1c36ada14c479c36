"""The tools of a role: what it may read, and for the Evolver what it may write, check and try.

They run beside the host, and their reach is what they are made of: names of a `RunView`, a table of proposals, and
a number of rollouts. What a trajectory says is text to them, whatever it asks for.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aegis.candidate import Proposal
from aegis.manifest import Manifest
from aegis.meta.base import Brief
from aegis.meta.view import RunView
from aegis.meta.workbench import RUN, Checked, Workbench
from harnessx.errors import HarnessInvalid, ToolError, UserError
from harnessx.messages import ToolCall, ToolSchema
from harnessx.permissions import Effect
from harnessx.tasks import Task, ToolResult

PAGE = 12_000
"""Characters that a tool answers at most."""
MOST_HITS = 40
MOST_WRITTEN = 24
"""Candidates of one session."""


def _schema(
    called: str, description: str, effect: Effect, required: Sequence[str] = (), /, **properties: Any
) -> ToolSchema:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return ToolSchema(called, description, parameters, frozenset({effect}))


_TEXT, _WHOLE = {"type": "string"}, {"type": "integer"}
READING = (
    _schema("list_files", "Names of the texts in a folder; '' is the top.", Effect.READ, folder=_TEXT),
    _schema("read_file", "A text by its name, from a character on.", Effect.READ, ["name"], name=_TEXT, start=_WHOLE),
    _schema("search", "Lines that contain a text, in all texts of a folder; capitals do not matter.", Effect.READ,
            ["text"], text=_TEXT, folder=_TEXT),
)  # fmt: skip
WRITING = (
    _schema("write_candidate", "Write a candidate under a name of your own and have it checked at once: the gate's "
            "own checks, its smoke tests, and one evolve attempt.", Effect.WRITE, ["name", "manifest", "edit"],
            name=_TEXT, manifest={"type": "object"}, edit={"type": "array", "items": {"type": "object"}},
            smoke={"type": "object"}),
    _schema("check_candidate", "Check a candidate again.", Effect.READ, ["name"], name=_TEXT),
    _schema("try_candidate", "Play evolve tasks with a candidate, beside what the incumbent did there. Each task takes "
            "one of the few rollouts of this round.", Effect.READ, ["name", "tasks"], name=_TEXT,
            tasks={"type": "array", "items": _TEXT}),
)  # fmt: skip


class Reader:
    """The world of a role that reads. An `Environment`."""

    tools: tuple[ToolSchema, ...] = READING

    def __init__(self, view: RunView) -> None:
        self._view = view
        self.calls: Counter[str] = Counter()
        self.refused = 0
        self.broken: Exception | None = None
        """What ended more than a call: a spent budget, a runner that broke."""
        self._turn = asyncio.Lock()

    async def reset(self) -> str:
        """Nothing to observe."""
        return ""

    async def close(self) -> None:
        """Nothing to release."""

    async def step(self, call: ToolCall) -> ToolResult:
        """Run one call; calls made at once are run one after another, in the order of asking.

        Raises:
            ToolError: for what the role did wrong.
        """
        self.calls[call.name] += 1
        try:
            async with self._turn:
                return ToolResult(_page(await self._run(call.name, call.arguments)))
        except ToolError:
            self.refused += 1
            raise
        except Exception as error:
            self.broken = error
            raise

    async def _run(self, name: str, arguments: Mapping[str, Any]) -> str:
        match name:
            case "list_files":
                return self._list(_given(arguments, "folder", str, ""))
            case "read_file":
                return self._read(_given(arguments, "name", str), _given(arguments, "start", int, 0))
            case "search":
                return self._search(_given(arguments, "text", str), _given(arguments, "folder", str, ""))
        raise ToolError(f"there is no tool {name!r}; tools: {', '.join(tool.name for tool in self.tools)}")

    def _list(self, folder: str) -> str:
        shown = self._view.within(folder)
        if not shown:
            raise ToolError(f"there is nothing in {folder!r}; list_files without a folder shows the top")
        return "\n".join(shown)

    def _read(self, name: str, start: int) -> str:
        if name not in self._view:
            raise ToolError(f"there is no text {name!r}; list_files shows what there is")
        text = self._view[name]
        start = max(0, start)
        page = text[start : start + PAGE - 200]
        left = len(text) - start - len(page)
        return f"{page}\n[{left} characters follow: start={start + len(page)}]" if left > 0 else page

    def _search(self, text: str, folder: str) -> str:
        wanted = text.lower()
        if len(wanted) < 2:
            raise ToolError("give at least two characters to search for")
        hits: list[str] = []
        for name in self._view.under(folder):
            for number, line in enumerate(self._view[name].split("\n"), 1):
                if wanted in line.lower():
                    hits.append(f"{name}:{number}: {line[:200]}")
                    if len(hits) == MOST_HITS:
                        return "\n".join([*hits, "and more; search in a folder"])
        return "\n".join(hits) or "no line has it"


@dataclass(slots=True)
class Trials:
    """The rollouts that are left to proposers in a round."""

    left: int

    def take(self, count: int) -> None:
        """Use up some.

        Raises:
            ToolError: there are not as many.
        """
        if count > self.left:
            raise ToolError(f"{count} rollouts asked for, {self.left} are left in this round")
        self.left -= count


class Bench(Reader):
    """The world of the Evolver: it also writes candidates, and sees at once what the gate would say of them.

    ``written`` are its proposals by name, in the order of writing; ``checked`` what was found on the last writing.
    """

    tools = (*READING, *WRITING)

    def __init__(self, view: RunView, workbench: Workbench, brief: Brief, trials: Trials) -> None:
        super().__init__(view)
        self._workbench, self._brief, self._trials = workbench, brief, trials
        self.written: dict[str, Proposal] = {}
        self.checked: dict[str, Checked] = {}

    async def _run(self, name: str, arguments: Mapping[str, Any]) -> str:
        match name:
            case "write_candidate":
                return await self._write(arguments)
            case "check_candidate":
                return await self._check(self._known(_given(arguments, "name", str)))
            case "try_candidate":
                tasks = _given(arguments, "tasks", list)
                return await self._try(self._known(_given(arguments, "name", str)), tasks)
        return await super()._run(name, arguments)

    def supported(self, name: str) -> Proposal:
        """The proposal, with what running it has shown in its manifest."""
        proposal, seen = self.written[name], self.checked.get(name, Checked(()))
        evidence = (*proposal.manifest.capability_evidence, *seen.evidence)
        return replace(proposal, manifest=replace(proposal.manifest, capability_evidence=evidence))

    def _known(self, name: str) -> str:
        if name not in self.written:
            raise ToolError(f"no candidate is called {name!r}; written: {', '.join(self.written) or 'none'}")
        return name

    async def _write(self, arguments: Mapping[str, Any]) -> str:
        name = _given(arguments, "name", str).strip()
        if not name or len(name) > 60 or (name not in self.written and len(self.written) >= MOST_WRITTEN):
            raise ToolError(f"a candidate needs a short name, and there may be {MOST_WRITTEN} of them")
        try:
            self.written[name] = read_proposal(arguments, name)
        except (UserError, RecursionError) as error:
            raise ToolError(f"the candidate was not written: {error}") from error
        return f"written; {await self._check(name)}"

    async def _check(self, name: str) -> str:
        task = self._example(self.written[name].manifest)
        if task is not None and self._trials.left:
            self._trials.take(1)
        else:
            task = None
        seen = await self._workbench.check(self.written[name], self._brief, task)
        self.checked[name] = seen
        return f"{seen.text}\n{self._trials.left} rollouts are left"

    def _example(self, manifest: Manifest) -> Task | None:
        """A task that the candidate says it helps, else any that fails."""
        tasks = self._workbench.tasks
        named = [*manifest.predicted_impact.flips, *(t.task for t in self._brief.digest.failing)]
        return next((tasks[task] for task in named if task in tasks), None)

    async def _try(self, name: str, wanted: Sequence[Any]) -> str:
        tasks = self._workbench.tasks
        unknown = [str(task)[:80] for task in wanted if not isinstance(task, str) or task not in tasks]
        if unknown or not wanted:
            raise ToolError(f"no evolve task is called {', '.join(unknown) or 'nothing'}; the digest names them")
        if name not in self.checked or self.checked[name].findings:
            raise ToolError("only a candidate that passes its checks is tried")
        chosen = [tasks[task] for task in dict.fromkeys(wanted)]
        self._trials.take(len(chosen))
        try:
            tried = await self._workbench.try_out(self.written[name], self._brief, chosen)
        except HarnessInvalid as error:
            raise ToolError(str(error)) from error
        return f"{tried.text}\n{self._trials.left} rollouts are left"


def read_proposal(data: Mapping[str, Any], name: str) -> Proposal:
    """A proposal as a role writes it; its id is given later, by its place.

    What it says of itself that only running could show is dropped.

    Raises:
        UserError: it is none.
    """
    manifest = data.get("manifest")
    if not isinstance(manifest, Mapping):
        raise UserError("manifest must be an object")
    body = {"edit": data.get("edit"), "manifest": {"candidate_id": name, **manifest}, "smoke": data.get("smoke") or {}}
    proposal = Proposal.from_json(body)
    own = tuple(e for e in proposal.manifest.capability_evidence if e.type not in RUN)
    return replace(proposal, manifest=replace(proposal.manifest, capability_evidence=own))


def _given(arguments: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    value = arguments.get(name, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ToolError(f"{name} must be {'a list' if kind is list else 'text' if kind is str else 'a whole number'}, "
                        f"not {json.dumps(value, default=str)[:80]}")  # fmt: skip
    return value


def _page(text: str) -> str:
    return text if len(text) <= PAGE else f"{text[:PAGE]}\n[cut: {len(text) - PAGE} characters more]"
