"""The audit trail of a run: append-only, and the proof that a resumed run is the same run."""

from __future__ import annotations

import fcntl
import io
import json
import os
from pathlib import Path

from harnessx.errors import UserError


def whole_lines(file: Path) -> list[bytes]:
    """The complete lines of an append-only JSONL file. What a kill or a power cut tore is no line."""
    if not file.exists():
        return []
    lines = file.read_bytes().split(b"\n")[:-1]
    try:
        json.loads(lines[-1] if lines else b"0")
    except ValueError:
        return lines[:-1]
    return lines


def sync_folder(folder: Path) -> None:
    """Make a rename or a new file in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(file: Path, line: str) -> None:
    """Add ``line`` to an append-only file that several processes may share; it is on disk when this returns.

    What a kill or a power cut tore of an earlier line is cut off.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "ab", buffering=0) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.truncate(_size(whole_lines(file)))
            _write(stream, line.encode() + b"\n")
        sync_folder(file.parent)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error


def _size(lines: list[bytes]) -> int:
    return sum(len(line) + 1 for line in lines)


def _write(stream: io.FileIO, data: bytes) -> None:
    """All of ``data``, on disk."""
    rest = data
    while rest:
        rest = rest[stream.write(rest) :]
    os.fsync(stream.fileno())


class AuditTrail:
    """``audit.jsonl``: replayed first, then appended to, each line on disk before `add` returns."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._recorded = whole_lines(file)
        self._calls = 0
        self._stream = open(file, "ab", buffering=0)  # noqa: SIM115 - lives as long as the store
        self._size = _size(self._recorded)
        self._stream.truncate(self._size)
        sync_folder(file.parent)

    def add(self, line: str) -> None:
        """The next call of the run: replay it if it is recorded, else append it."""
        line = line.encode(errors="backslashreplace").decode()  # JSON's own escape for what no encoding holds
        if self._calls < len(self._recorded):
            recorded = self._recorded[self._calls].decode()
            if recorded != line:
                raise UserError(
                    f"the run folder is not a continuation of this run: {self._file} line {self._calls + 1} "
                    f"is {recorded}, this run says {line}; start over in another run.dir"
                )
        else:
            self._append(line.encode() + b"\n")
        self._calls += 1

    def close(self) -> None:
        """Release the file. Idempotent."""
        self._stream.close()

    def _append(self, data: bytes) -> None:
        try:
            _write(self._stream, data)
        except OSError as error:
            self._stream.truncate(self._size)
            raise UserError(f"cannot write {self._file}: {error.strerror}") from error
        self._size += len(data)
