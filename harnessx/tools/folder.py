"""A folder that somebody else may have filled: files by relative paths, no link followed, nothing outside reached.

Each path is walked from the folder's own handle, one name at a time, so that it does not matter what a name was a
moment ago.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from harnessx.errors import ToolError
from harnessx.sandbox.base import CAPS
from harnessx.sandbox.program import WORKSPACE
from harnessx.sandbox.scratch import MAX_DEPTH, excess_of

MAX_FILE = 1_000_000
"""Bytes of a file that is read or written at once."""
MAX_LISTED = 500
"""Entries that are shown of a folder, and lines that a search shows."""
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = (errno.ELOOP, errno.ENOTDIR)


class Folder:
    """Reads and writes below ``root``.

    Raises (from every method):
        ToolError: the path leaves the folder, leads over a link, or is not what it should be.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> str:
        """The text of a file."""
        with self._parent(path) as (folder, name), _told(path):
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                os.close(handle)
                raise ToolError(f"{path} is no file")
            with open(handle, "rb") as file:
                data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise ToolError(f"{path} is longer than {MAX_FILE:,} bytes")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise ToolError(f"{path} is no text (UTF-8)") from None

    def write(self, path: str, text: str) -> int:
        """Make or replace a file, its folders included, at once or not at all; its size in bytes."""
        data = text.encode(errors="replace")
        if len(data) > MAX_FILE:
            raise ToolError(f"a file of more than {MAX_FILE:,} bytes")
        excess = excess_of(self.root, CAPS.disk_bytes - len(data))
        if excess:
            raise ToolError(f"the workspace is full: it {excess}")
        with self._parent(path, make=True) as (folder, name), _told(path):
            mode = self._mode(folder, name, path)
            fresh = f".{secrets.token_hex(8)}"
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=folder)
            try:
                with open(handle, "wb") as file:
                    file.write(data)
                os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                os.unlink(fresh, dir_fd=folder)
                raise
        return len(data)

    def entries(self, path: str = ".") -> Iterator[tuple[str, os.stat_result]]:
        """All that is below a folder, in order, with what it is."""
        with self._opened(path) as top:
            yield from _walk(top, "" if path in (".", "", WORKSPACE) else f"{'/'.join(_parts(path))}/", 0)

    def search(self, text: str, path: str = ".", *, suffix: str = "", ignore_case: bool = False) -> list[str]:
        """``path:line: …`` for each line that holds ``text``, of files whose name ends with ``suffix``."""
        wanted, found = text.casefold() if ignore_case else text, []
        for name, about in self.entries(path):
            if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_FILE or not name.endswith(suffix):
                continue
            with contextlib.suppress(ToolError):  # no text, or gone meanwhile
                for number, line in enumerate(self.read(name).splitlines(), 1):
                    if wanted in (line.casefold() if ignore_case else line):
                        found.append(f"{name}:{number}: {line.strip()[:200]}")
                        if len(found) > MAX_LISTED:
                            return found
        return found

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        """A handle of the folder ``path``."""
        parts = [] if path in (".", "", WORKSPACE) else _parts(path)
        with self._chain(parts, path) as folder:
            yield folder

    @contextlib.contextmanager
    def _parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """A handle of the folder that holds ``path``, and its name there."""
        *parts, name = _parts(path)
        with self._chain(parts, path, make=make) as folder:
            yield folder, name

    @contextlib.contextmanager
    def _chain(self, parts: list[str], path: str, *, make: bool = False) -> Iterator[int]:
        folder = os.open(self.root, _DIR)
        try:
            for part in parts:
                with _told(path):
                    if make:
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(part, 0o777, dir_fd=folder)
                    inner = os.open(part, _DIR, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    @staticmethod
    def _mode(folder: int, name: str, path: str) -> int:
        """The mode that a file is written with: the one it has."""
        try:
            about = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return 0o666
        if not stat.S_ISREG(about.st_mode):
            raise ToolError(f"{path} is no file")
        return stat.S_IMODE(about.st_mode) & 0o777


def _parts(path: str) -> list[str]:
    """The names of a path, which may begin with the workspace's own."""
    inside = path.removeprefix(f"{WORKSPACE}/")
    parts = [part for part in inside.split("/") if part not in ("", ".")]
    if inside.startswith("/") or ".." in parts or "\0" in path:
        raise ToolError(f"{path!r:.200} leaves the workspace; paths are relative to it")
    if not parts or len(parts) > MAX_DEPTH or any(len(part.encode(errors="replace")) > 255 for part in parts):
        raise ToolError(f"{path!r:.200} is no path of a file")
    return parts


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Errors of the system as what an agent is told; no path of the host's is in them."""
    try:
        yield
    except FileNotFoundError:
        raise ToolError(f"there is no {path}") from None
    except OSError as error:
        why = "it leads over a link, or a file" if error.errno in _LINKS else error.strerror
        raise ToolError(f"{path}: {why}") from None


def _walk(folder: int, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    for name in sorted(os.listdir(folder)):
        with contextlib.suppress(FileNotFoundError):
            about = os.stat(name, dir_fd=folder, follow_symlinks=False)
            yield prefix + name, about
            if stat.S_ISDIR(about.st_mode) and depth < MAX_DEPTH:
                inner = os.open(name, _DIR, dir_fd=folder)
                try:
                    yield from _walk(inner, f"{prefix}{name}/", depth + 1)
                finally:
                    os.close(inner)


def remove(folder: str) -> None:
    """Remove a folder, whatever its modes forbid."""
    os.chmod(folder, 0o700)
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            remove(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(folder)
