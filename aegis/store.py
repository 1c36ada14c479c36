"""The run store: everything a run must not do twice, and the record of what it did.

One host process owns a run folder; others read it. What a run paid for (rollouts, responses,
environment results, meta-agent answers) is in ``run.db``, SQLite in WAL mode; what people read
(journal, decisions, audit trail) is in plain files. Every write is atomic: after a kill at any moment
the folder holds each write whole or not at all, and a resumed run replays to where it was.

Nothing is written that looks like a secret: every text passes `harnessx.redaction` here, whoever wrote it.

Durability: a killed process loses nothing that a call returned from. A power cut may lose the last
commits of ``run.db`` (synchronous=NORMAL; they are redone) but never an artifact or an audit line.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from aegis.audit import AuditTrail, sync_folder, whole_lines
from aegis.lock import RunLock
from harnessx.canonical import canonical_json
from harnessx.errors import UserError
from harnessx.models.spend import Spend
from harnessx.redaction import redact
from harnessx.runner.cassette import Entry

FORMAT = 1

_SCHEMA = f"""
BEGIN;
CREATE TABLE IF NOT EXISTS rollout (key TEXT PRIMARY KEY, body TEXT NOT NULL, trajectory BLOB);
CREATE TABLE IF NOT EXISTS recording (
    scope TEXT, key TEXT, origin TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (scope, key));
CREATE TABLE IF NOT EXISTS memo (key TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS paid (account TEXT PRIMARY KEY, tokens INTEGER NOT NULL, usd REAL);
CREATE TABLE IF NOT EXISTS identity (one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL);
PRAGMA user_version = {FORMAT};
COMMIT;
"""


class RunReader:
    """A run folder, read only. Safe beside the process that owns it; use as a context manager."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path, self._db = path, db

    @property
    def identity(self) -> dict[str, Any]:
        """The identity the run was opened with."""
        body = self._one("SELECT body FROM identity", ())
        return {} if body is None else dict(json.loads(body))

    def rollout(self, key: str) -> str | None:
        """The JSON text of a finished rollout, or None."""
        return self._one("SELECT body FROM rollout WHERE key = ?", (key,))

    def rollouts(self) -> Iterator[tuple[str, str]]:
        """Every (key, JSON text) in the order in which they were stored."""
        yield from self._db.execute("SELECT key, body FROM rollout ORDER BY rowid")

    def trajectory(self, key: str) -> str | None:
        """The trajectory (JSONL) of a rollout, or None where it was not kept."""
        row = self._db.execute("SELECT trajectory FROM rollout WHERE key = ?", (key,)).fetchone()
        return None if row is None or row[0] is None else zlib.decompress(row[0]).decode()

    def recordings(self, scope: str) -> list[Entry]:
        """What was recorded in a scope (responses or environment results), oldest entry first."""
        rows = self._db.execute("SELECT key, origin, body FROM recording WHERE scope = ? ORDER BY rowid", (scope,))
        return [Entry(*row) for row in rows]

    def memo(self, key: str) -> str | None:
        """A meta-agent's answer, or None."""
        return self._one("SELECT body FROM memo WHERE key = ?", (key,))

    def paid(self) -> dict[str, Spend]:
        """What was paid under a budget by all sittings, by account."""
        return {account: Spend(tokens, usd) for account, tokens, usd in self._db.execute("SELECT * FROM paid")}

    def audit_entries(self) -> list[dict[str, Any]]:
        """The audit trail, oldest first, without a line that is still being written."""
        return [json.loads(line) for line in whole_lines(self.path / "audit.jsonl")]

    def close(self) -> None:
        """Release the database. Idempotent."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _one(self, sql: str, parameters: Sequence[str]) -> str | None:
        row = self._db.execute(sql, parameters).fetchone()
        return None if row is None else str(row[0])


class RunStore(RunReader):
    """A run folder and the right to write it. Get one from `open`; belongs to one thread.

    Writes are first-wins: what is stored under a key stays. Recordings alone are replaced: one that comes again
    was made anew, because the first was out of date (STATISTICS rule 14), and a resumed run replays what this one
    went on with. Each ``put_*`` is one commit (about 40 µs, and 10 µs an entry when many go together).
    """

    def __init__(self, path: Path, db: sqlite3.Connection, lock: RunLock, trail: AuditTrail) -> None:
        super().__init__(path, db)
        self._lock, self._trail = lock, trail

    @classmethod
    def open(cls, path: Path, identity: Mapping[str, object], *, resume: bool) -> RunStore:
        """Begin a run in ``path``, or resume the one there if ``resume``.

        ``identity`` is the resolved config minus what may change between sittings (rounds, budgets,
        concurrency, tracking). Resuming where nothing began begins.

        Raises:
            UserError: the folder cannot be written, another process owns it, it holds a run and
                ``resume`` is false, or a run of another identity.
        """
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            with ExitStack() as undo:
                lock = RunLock(path / "run.lock")
                undo.callback(lock.release)
                db = _connect(path / "run.db")
                undo.callback(db.close)
                _claim(path, db, identity, resume)
                store = cls(path, db, lock, AuditTrail(path / "audit.jsonl"))
                undo.pop_all()
                return store
        except OSError as error:
            raise UserError(f"cannot write the run folder {path}: {error.strerror}; set another run.dir") from error

    @staticmethod
    def read(path: Path) -> RunReader:
        """The run in ``path``, without owning it: also while it runs, also from a read-only disk.

        Raises:
            UserError: there is no run in ``path``.
        """
        path = Path(path)
        file = path / "run.db"
        no_run = UserError(f"no run in {path}: it holds no run.db; give a folder that aegis.evolve wrote")
        if not file.is_file():
            raise no_run
        # SQLite wants to create the WAL index beside the file; where it cannot and no WAL was left
        # behind, nobody writes either, and the file alone is the whole database.
        frozen = not os.access(path, os.W_OK) and not file.with_name("run.db-wal").exists()
        mode = "immutable=1" if frozen else "mode=ro"
        try:
            db = sqlite3.connect(f"file:{quote(str(file.absolute()))}?{mode}", uri=True, timeout=10)
            begun = _format(file, db) == FORMAT
        except sqlite3.Error as error:
            raise _unreadable(file, error) from error
        if not begun:
            raise no_run
        return RunReader(path, db)

    def put_rollout(self, key: str, body: str, trajectory: str | None = None) -> None:
        """Store a finished rollout; its trajectory, where one is given, is kept compressed."""
        packed = None if trajectory is None else zlib.compress(redact(trajectory).encode(), 1)
        self._write((_PUT_ROLLOUT, [(key, redact(body), packed)]))

    def forget(self, keys: Sequence[str], scope: str) -> None:
        """Drop rollouts, and what was recorded in a scope: a pair that has to be started anew."""
        drop = "DELETE FROM rollout WHERE key = ?", [(key,) for key in keys]
        self._write(drop, ("DELETE FROM recording WHERE scope = ?", [(scope,)]))

    def put_recordings(self, scopes: Mapping[str, Iterable[Entry]]) -> None:
        """Record responses and environment results (scope -> entries), in one commit."""
        rows = [(scope, e.key, e.origin, redact(e.body)) for scope, entries in scopes.items() for e in entries]
        self._write((_PUT_RECORDING, rows))

    def put_memo(self, key: str, body: str) -> None:
        """Record a meta-agent's answer. What counts from then on is what `memo` returns."""
        self._write((_PUT_MEMO, [(key, redact(body))]))

    def put_paid(self, account: str, spend: Spend) -> None:
        """Add a payment, which no resumed run makes again."""
        self._write((_PUT_PAID, [(account, spend.tokens, spend.usd)]))

    def write_text(self, relative_path: str, text: str) -> None:
        """Replace one artifact file, creating parent folders. Readers see the old or the new one.

        Raises:
            ValueError: the path leaves the run folder.
            UserError: the disk refuses.
        """
        target = self.path / relative_path
        if not target.resolve().is_relative_to(self.path.resolve()):
            raise ValueError(f"{relative_path} is not inside the run folder")
        # One owner, one thread: a single scratch name suffices, and a kill leaves at most that one.
        scratch = self.path / ".writing"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(scratch, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                file.write(redact(text))
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, target)
            sync_folder(target.parent)
        except OSError as error:
            raise UserError(f"cannot write {target}: {error.strerror}") from error

    def audit(self, entry: Mapping[str, object]) -> None:
        """Append to the audit trail; on a resumed run, first replay what is there.

        The i-th call of a run is its i-th line. A resumed run makes the same calls again, and each
        must say what its line says, so entries hold nothing that differs between sittings (no times).

        Raises:
            UserError: the entry is not the one recorded at this place.
        """
        self._trail.add(redact(canonical_json(entry)))

    def close(self) -> None:
        """Release the database, then the folder. Idempotent."""
        super().close()
        self._trail.close()
        self._lock.release()

    def _write(self, *statements: tuple[str, Sequence[tuple[object, ...]]]) -> None:
        """All statements in one transaction."""
        try:
            with self._db:
                for sql, rows in statements:
                    self._db.executemany(sql, rows)
        except sqlite3.OperationalError as error:
            raise UserError(f"cannot write {self.path / 'run.db'}: {error}") from error


_PUT_ROLLOUT = """INSERT INTO rollout (key, body, trajectory) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET trajectory = excluded.trajectory WHERE trajectory IS NULL"""
_PUT_MEMO = "INSERT OR IGNORE INTO memo (key, body) VALUES (?, ?)"
_PUT_PAID = """INSERT INTO paid VALUES (?, ?, ?) ON CONFLICT (account) DO UPDATE
    SET tokens = tokens + excluded.tokens, usd = usd + excluded.usd"""
_PUT_RECORDING = """INSERT INTO recording (scope, key, origin, body) VALUES (?, ?, ?, ?)
    ON CONFLICT (scope, key) DO UPDATE SET origin = excluded.origin, body = excluded.body"""


def _connect(file: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(file, timeout=10)
        _format(file, db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_SCHEMA)
    except sqlite3.Error as error:
        raise _unreadable(file, error) from error
    return db


def _format(file: Path, db: sqlite3.Connection) -> int:
    """The format of a run.db, 0 where nothing was written yet. Raises UserError for another one."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version not in (0, FORMAT):
        raise UserError(f"{file} has format {version}, this version reads {FORMAT}: use the one that wrote it")
    return version


def _unreadable(file: Path, error: sqlite3.Error) -> UserError:
    return UserError(f"cannot open {file}: {error}; restore it or set another run.dir")


def _claim(path: Path, db: sqlite3.Connection, identity: Mapping[str, object], resume: bool) -> None:
    """Write the identity of a new run, or check the one that is there."""
    clean = redact(canonical_json(identity))
    row = db.execute("SELECT body FROM identity").fetchone()
    if row is None:  # new, or killed before its identity was stored: nothing was paid for yet
        with db:
            db.execute("INSERT INTO identity VALUES (1, ?)", (clean,))
        return
    if not resume:
        raise UserError(f"{path} already holds a run: set run.resume=true to go on, or another run.dir")
    refuse_another(path, json.loads(row[0]), json.loads(clean))


def refuse_another(path: Path, recorded: Mapping[str, object], identity: Mapping[str, object]) -> None:
    """Refuse to go on in ``path``, whose run was ``recorded`` with an identity, under another one.

    Raises:
        UserError: names the first setting that differs, with both values.
    """
    difference = first_difference(recorded, json.loads(canonical_json(identity)))
    if difference is not None:
        key, then, now = difference
        raise UserError(
            f"cannot resume {path}: {key} was {then} and is now {now}; change it back or set another run.dir"
        )


def first_difference(then: Any, now: Any, where: str = "") -> tuple[str, str, str] | None:
    """(dotted key, value then, value now) of the first key, in order, whose values differ."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted(then.keys() | now.keys()):
            inner = f"{where}.{key}" if where else key
            if key not in then or key not in now:
                old, new = (canonical_json(side[key]) if key in side else "absent" for side in (then, now))
                return inner, old, new
            difference = first_difference(then[key], now[key], inner)
            if difference is not None:
                return difference
        return None
    old, new = canonical_json(then), canonical_json(now)
    return None if old == new else (where, old, new)
