"""A workspace: a folder of one rollout on the host, and the tools that work in it (an `Environment`).

A harness asks for one by ``slots.workspace``: ``files`` (read, write, list, search, edit, checkpoint, roll back) or
``shell`` (and commands, behind a wall of their own). A benchmark may use one as the world of a task, with files in
it; its verifier then finds them under ``root``. The folder is made when it is first needed, and dies with the rollout.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harnessx.errors import Failure, Source, ToolError, UserError
from harnessx.messages import ToolCall, ToolSchema
from harnessx.permissions import Effect
from harnessx.runner.folder import OwnFolder
from harnessx.sandbox.scratch import place
from harnessx.tasks import ToolResult
from harnessx.tools import shell
from harnessx.tools.edit import replaced
from harnessx.tools.folder import MAX_LISTED, Folder, remove
from harnessx.tools.snapshots import Snapshots

MAX_LINES = 2000
"""Of a file that are shown at once."""
MAX_SECONDS = 120
"""A command may ask for."""
_READ, _WRITE = frozenset({Effect.READ}), frozenset({Effect.READ, Effect.WRITE})
SHELL_EFFECTS = frozenset({Effect.READ, Effect.WRITE, Effect.EXECUTE})


def _tool(name: str, said: str, effects: frozenset[Effect], required: str = "", **properties: str) -> ToolSchema:
    """A schema whose properties are ``kind: what it means``."""
    described = {}
    for key, text in properties.items():
        kind, _, meaning = text.partition(": ")
        described[key] = {"type": kind, "description": meaning}
    schema = {"type": "object", "properties": described, "required": required.split()}
    return ToolSchema(name, said, schema, effects)


FILE_TOOLS = (
    _tool(
        "read_file", "Read a text file of the workspace, with line numbers.", _READ, "path",
        path="string: relative to the workspace", start="integer: first line, from 1", lines="integer: how many",
    ),
    _tool(
        "write_file", "Make or replace a text file of the workspace.", _WRITE, "path content",
        path="string: relative to the workspace", content="string: the whole text",
    ),
    _tool(
        "edit_file", "Replace the one passage of a file that reads as quoted.", _WRITE, "path old new",
        path="string: relative to the workspace", old="string: the passage, exactly, and enough of it to be unique",
        new="string: what stands there instead", fuzzy="boolean: match whole lines that differ in white space only",
    ),
    _tool("list_files", "List what is in a folder of the workspace, with sizes.", _READ, path="string: the folder"),
    _tool(
        "search_files", "Find the lines that hold a text in the files of the workspace.", _READ, "text",
        text="string: what to look for, as it is", path="string: the folder", suffix="string: of file names, as .py",
        ignore_case="boolean: whether capitals count as small letters",
    ),
    _tool(
        "checkpoint", "Keep the workspace as it is now under a label, to come back to.", _READ, "label",
        label="string: a short name",
    ),
    _tool(
        "rollback", "Make the workspace what it was at a checkpoint.", _WRITE, "label",
        label="string: of the checkpoint", reason="string: what was learnt, in a sentence",
    ),
)  # fmt: skip
SHELL_TOOL = _tool(
    "shell", "Run a command of /bin/sh in the workspace. Nothing of it goes on afterwards; there is no network.",
    SHELL_EFFECTS, "command", command="string: the script", timeout_s=f"integer: up to {MAX_SECONDS}",
)  # fmt: skip


class Workspace:
    """The folder and its tools.

    Args:
        isolation: a resolved name, for commands; '' offers none.
        files: what is there at the beginning, by path.
        timeout_s: of a command that does not say.
    """

    def __init__(self, isolation: str = "", files: Mapping[str, str] | None = None, timeout_s: float = 30.0) -> None:
        self._isolation, self._files, self._timeout_s = isolation, files or {}, timeout_s
        self._own: OwnFolder | None = None
        self._snapshots: Snapshots | None = None
        self.tools = (*FILE_TOOLS, SHELL_TOOL) if isolation else FILE_TOOLS

    @property
    def root(self) -> Path:
        """The folder, made now if it was not there."""
        if self._own is None:
            self._own = OwnFolder("harnessx-workspace-", place())
            home = Path(self._own.name).resolve()
            (home / "work").mkdir(0o700)
            (home / "root").mkdir(0o700)
            self._snapshots = Snapshots(home / "work", home / "kept")
            for path, text in self._files.items():
                Folder(home / "work").write(path, text)
        return Path(self._own.name).resolve() / "work"

    async def reset(self) -> str:
        """A workspace says nothing of itself."""
        return ""

    async def close(self) -> None:
        """Remove the folder. Twice is no error."""
        if self._own is not None:
            with contextlib.suppress(OSError):  # else the next one that is made removes it
                remove(str(self.root))
            self._own.cleanup()
        self._own = None

    async def step(self, call: ToolCall) -> ToolResult:
        """Run one of its tools.

        Raises:
            ToolError: for what the agent did wrong.
            Failure: a command cannot be walled in (source ``sandbox``).
        """
        given = Arguments(call.arguments)
        if call.name == "shell" and self._isolation:
            return await self._shell(given)
        work: Callable[[Arguments], str] | None = getattr(self, f"_{call.name}", None)
        if call.name not in {tool.name for tool in FILE_TOOLS} or work is None:
            raise ToolError(f"the workspace has no tool {call.name}")
        try:
            return ToolResult(work(given))
        except OSError as error:  # what a command has made of it
            raise ToolError(f"the workspace cannot be used so: {error.strerror}") from error

    async def _shell(self, given: Arguments) -> ToolResult:
        timeout_s = given.number("timeout_s", self._timeout_s, most=MAX_SECONDS)
        folder = self.root
        try:
            done = await shell.run(self._isolation, given.text("command"), folder, folder.parent / "root", timeout_s)
        except (OSError, UserError) as error:
            raise Failure(Source.SANDBOX, f"no wall for a command: {error}") from error
        end = f"\n[it {done.why}, and was ended]" if done.why else f"\n[exit code {done.code}]" if done.code else ""
        return ToolResult((done.output + end).strip() or "[no output]", bool(done.why or done.code))

    def _read_file(self, given: Arguments) -> str:
        path, start = given.text("path"), int(given.number("start", 1))
        lines = Folder(self.root).read(path).splitlines()
        count = int(given.number("lines", MAX_LINES, most=MAX_LINES))
        if start > max(len(lines), 1):
            raise ToolError(f"{path} has {len(lines)} lines")
        shown = [f"{number}\t{line}" for number, line in enumerate(lines[start - 1 : start - 1 + count], start)]
        left = len(lines) - (start - 1 + len(shown))
        return "\n".join(shown + ([f"[{left} more lines]"] if left > 0 else [])) or "[empty]"

    def _write_file(self, given: Arguments) -> str:
        path = given.text("path")
        return f"{path}: {Folder(self.root).write(path, given.text('content'))} bytes written"

    def _edit_file(self, given: Arguments) -> str:
        path, folder = given.text("path"), Folder(self.root)
        text = folder.read(path)
        fresh = replaced(text, given.text("old"), given.text("new"), fuzzy=given.flag("fuzzy"))
        folder.write(path, fresh)
        return f"{path}: replaced"

    def _list_files(self, given: Arguments) -> str:
        rows = []
        for path, about in Folder(self.root).entries(given.text("path", ".")):
            kind = "/" if stat.S_ISDIR(about.st_mode) else "@" if stat.S_ISLNK(about.st_mode) else f"\t{about.st_size}"
            rows.append(path + kind)
            if len(rows) > MAX_LISTED:
                break
        return _listed(rows) or "[nothing]"

    def _search_files(self, given: Arguments) -> str:
        where, suffix = given.text("path", "."), given.text("suffix", "")
        wanted, folder = given.text("text"), Folder(self.root)
        found = folder.search(wanted, where, suffix=suffix, ignore_case=given.flag("ignore_case"))
        return _listed(found) or "[no line holds it]"

    def _checkpoint(self, given: Arguments) -> str:
        _, label = self.root, given.text("label")[:100]
        assert self._snapshots is not None
        count = self._snapshots.save(label)
        return f"checkpoint {label}: {count} files; kept: {', '.join(self._snapshots.labels)}"

    def _rollback(self, given: Arguments) -> str:
        _, label = self.root, given.text("label")[:100]
        assert self._snapshots is not None
        self._snapshots.restore(label)
        return f"the workspace is what it was at checkpoint {label}"


def _listed(rows: list[str]) -> str:
    return "\n".join([*rows[:MAX_LISTED], *(["[and more]"] if len(rows) > MAX_LISTED else [])])


class Arguments:
    """A call's arguments, each of the kind that its tool wants."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def text(self, name: str, default: str | None = None) -> str:
        """A text.

        Raises:
            ToolError: missing, or of another kind.
        """
        value = self._given.get(name, default)
        if not isinstance(value, str):
            raise ToolError(f"{name!r} must be a text")
        return value

    def number(self, name: str, default: float, most: float = 1e9) -> float:
        """A number from 1 to ``most``.

        Raises:
            ToolError: it is none.
        """
        value = self._given.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= most:
            raise ToolError(f"{name!r} must be a number from 1 to {most:g}")
        return value

    def flag(self, name: str) -> bool:
        """True or false; false where it is left out.

        Raises:
            ToolError: it is neither.
        """
        value = self._given.get(name, False)
        if not isinstance(value, bool):
            raise ToolError(f"{name!r} must be true or false")
        return value
