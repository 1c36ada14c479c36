"""One rollout's way to the network: what it may ask, what was answered before, and what is written down of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from harnessx.errors import FetchRefused, NetworkFailure
from harnessx.models.base import CallContext
from harnessx.redaction import Redactor, redactor
from harnessx.runner.broker import Broker
from harnessx.runner.cassette import Cassette, Freshness
from harnessx.trajectory import FetchExchange
from harnessx.web import MAX_URL, Fetch, Fetched, WebRules, check_request, place_of


class FetchTape:
    """What hosts answered in one (split, benchmark, task, attempt), refusals for what they answered included.

    Args:
        strict: nothing is replayed that is older than the window of ``freshness``.
    """

    def __init__(self, cassette: Cassette, freshness: Freshness | None = None, *, strict: bool = False) -> None:
        self._cassette, self._strict = cassette, strict
        self._freshness = freshness or Freshness()

    def get(self, key: str) -> tuple[Fetched | FetchRefused, str] | None:
        """What came of it, and the rollout that first asked; or None."""
        entry = self._cassette.read(key)
        if entry is None:
            return None
        row = json.loads(entry.body)
        if self._strict and self._freshness.outdated(row["at"]):
            return None
        return FetchRefused(row["refused"]) if "refused" in row else Fetched.from_json(row), entry.origin

    def put(self, key: str, origin: str, found: Fetched | FetchRefused) -> None:
        """Keep what came of it, in the place of what was outdated."""
        row = {"refused": str(found)} if isinstance(found, FetchRefused) else found.to_json()
        self._cassette.write(key, origin, {**row, "at": round(self._freshness.clock(), 3)}, anew=self._strict)


@dataclass(frozen=True, slots=True)
class Web:
    """What a lane gives a rollout: who asks, and what was answered before."""

    broker: Broker
    tape: FetchTape


class Gateway:
    """Every request of a rollout to the network passes here.

    Args:
        web: None: this runner asks nobody.
        closed: why this harness may ask nobody; '' where it may.
        origin: the rollout's key.
        context: whose waiting times and patience these are.
    """

    def __init__(self, web: Web | None, closed: str, origin: str, context: CallContext) -> None:
        self._web, self._origin, self._context = web, origin, context
        self._closed = closed or ("this runner asks no hosts" if web is None else "")
        self._rules = web.broker.rules if web is not None else WebRules()
        self._asked: Counter[str] = Counter()
        self._count = 0
        self._redactor = redactor()

    async def fetch(self, request: Fetch, note: Callable[[FetchExchange], None]) -> Fetched:
        """Ask, or replay. ``note`` takes the record of the request, which is filled in once there is an answer.

        Past the limit the first request is noted, and says so of all that follow: these leave no trace of their own.

        Raises:
            FetchRefused, NetworkFailure: as `Broker.fetch`.
        """
        self._count += 1
        done = FetchExchange(request.method[:100], self._redactor(request.url[:MAX_URL]))
        if self._count <= self._rules.requests + 1:
            note(done)
        try:
            self._check(request)
            fetched, done.replayed = await self._answer(request)
        except (FetchRefused, NetworkFailure) as error:
            self._redactor.error(error)
            done.error = str(error)
            raise
        done.status, done.size, done.error, done.via = fetched.status, len(fetched.body), "", fetched.via
        return fetched

    def _check(self, request: Fetch) -> None:
        """Refuse what need not be asked to be refused."""
        if self._closed:
            raise FetchRefused(f"the request was not made: {self._closed}")
        if self._count > self._rules.requests:
            most = f"more than {self._rules.requests} requests (sandbox.requests)"
            raise FetchRefused(f"{most}; this one and all that follow were not made")
        if len(request.body) > self._rules.answer_bytes:
            raise FetchRefused(f"a body of more than {self._rules.answer_bytes:,} bytes (sandbox.answer_bytes)")
        check_request(request)
        self._rules.check(place_of(request.url))

    async def _answer(self, request: Fetch) -> tuple[Fetched, bool]:
        """The answer, and whether it was replayed."""
        assert self._web is not None
        digest = request.digest
        n = self._asked[digest]
        self._asked[digest] += 1
        key = f"fetch:{digest}:{n}"
        known = self._web.tape.get(key)
        found, origin = known if known is not None else (await self._ask(request, n), self._origin)
        if known is None:
            self._web.tape.put(key, self._origin, found)
        if isinstance(found, FetchRefused):
            raise found
        return found, origin != self._origin

    async def _ask(self, request: Fetch, n: int) -> Fetched | FetchRefused:
        assert self._web is not None
        try:
            return cleaned(await self._web.broker.fetch(request, replace(self._context, n=n)), self._redactor)
        except FetchRefused as refused:
            self._redactor.error(refused)
            return refused


def cleaned(fetched: Fetched, redact: Redactor) -> Fetched:
    """An answer without secrets, before anybody sees it or writes it down."""
    encoding = "utf-8"
    try:
        text = fetched.body.decode(encoding)
    except UnicodeDecodeError:
        encoding = "latin-1"
        text = fetched.body.decode(encoding)
    return Fetched(
        fetched.status,
        redact.value(fetched.headers),
        redact(text).encode(encoding),
        redact(fetched.url),
        redact.value(fetched.via),
    )
