"""One rollout's recordings in a file that is written as they come: what was paid for outlives a kill."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO

from harnessx.canonical import json_line
from harnessx.errors import UserError
from harnessx.runner.cassette import Cassette, Entry


class Recording:
    """Append-only JSONL, a scope's entry a line. A context manager; a torn last line is dropped.

    Raises:
        UserError: the file is none of these, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, list[Entry]] = {}
        self._file: BinaryIO | None = None

    def __enter__(self) -> Recording:
        try:
            kept = self._read()
            self._file = open(self._path, "ab")
            self._file.truncate(kept)
        except OSError as error:
            raise UserError(f"{self._path}: {error.strerror}") from error
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._file is not None
        self._file.close()

    def cassette(self, scope: str) -> Cassette:
        """The recordings of a scope, those of earlier sittings included; new ones are kept at once."""
        cassette = Cassette(scope, self.put)
        cassette.load(self._entries.get(scope, ()))
        return cassette

    def entries(self, scope: str) -> list[Entry]:
        """What earlier sittings recorded in a scope."""
        return list(self._entries.get(scope, ()))

    def put(self, scope: str, entry: Entry) -> None:
        """Keep one more."""
        assert self._file is not None
        self._file.write(json_line([scope, entry.key, entry.origin, entry.body]) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> int:
        """Take in the whole lines; how many bytes they are."""
        data = self._path.read_bytes() if self._path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                scope, key, origin, body = json.loads(line)
            except ValueError as error:
                raise UserError(f"{self._path}:{number} is no recording; give another out=") from error
            self._entries.setdefault(scope, []).append(Entry(key, origin, body))
        return len(whole)
