"""The host's errand to the network: it asks for evolved code, which has no way out of its own.

Only hosts that the user named are asked, each redirect is held to the same rule, and a name is resolved once: what
was checked is what is connected to, so that a name cannot mean one machine when it is looked at and another when it
is asked. A name that stands for any address that is not public is refused; a machine of one's own is allowed by its
address alone.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeAlias
from urllib.parse import urljoin

from harnessx.errors import FetchRefused, NetworkFailure
from harnessx.models.base import CallContext
from harnessx.models.patience import Patience
from harnessx.web import Fetch, Fetched, Place, WebRules, place_of

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name, for connections to a port."""
MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
BUSY = (429, 502, 503, 504)
"""Statuses of a host that may answer later."""
_PRIVATE_HEADERS = ("authorization", "cookie")
"""What a request does not take along to another host."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses that this machine's resolver gives.

    Raises:
        NetworkFailure: none.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NetworkFailure(f"{host}: {error.strerror or error}") from error
    return [str(row[4][0]) for row in found]


class Broker:
    """Asks hosts, by the user's rules, with patience."""

    def __init__(self, rules: WebRules, resolve: Resolve = resolve) -> None:
        self.rules, self._resolve = rules, resolve
        self._patience = Patience(rules.timeout_s, rules.patience_s, longest_s=10.0)

    async def fetch(self, request: Fetch, context: CallContext) -> Fetched:
        """The answer to ``request``, redirects followed; only the try that ends it counts against the wall time.

        Raises:
            FetchRefused: the request, a redirect, an address or the length of the answer is not allowed.
            NetworkFailure: the host does not answer, or is too busy to, for as long as patience lasts.
        """
        began, tries = time.monotonic(), 0
        with context.watch.stopped():
            while True:
                asked = time.monotonic()
                try:
                    fetched = await self._try(request)
                except NetworkFailure as failure:
                    tries += 1
                    wait = self._patience.wait(failure, tries, context)
                    if not failure.transient or time.monotonic() + wait - began > self._patience.patience_s:
                        raise
                    await asyncio.sleep(wait)
                except FetchRefused:
                    context.watch.charge(time.monotonic() - asked)
                    raise
                else:
                    context.watch.charge(time.monotonic() - asked)
                    return fetched

    async def _try(self, request: Fetch) -> Fetched:
        try:
            async with asyncio.timeout(self._patience.timeout_s):
                return await self._follow(request)
        except TimeoutError as error:
            raise NetworkFailure(f"{request.url}: no answer within {self._patience.timeout_s:g} s") from error

    async def _follow(self, request: Fetch) -> Fetched:
        via: list[str] = []
        while True:
            fetched = await self._ask(request)
            where = fetched.headers.get("location")
            if fetched.status not in REDIRECTS or where is None:
                return replace(fetched, via=tuple(via))
            if len(via) == MAX_REDIRECTS:
                raise FetchRefused(f"more than {MAX_REDIRECTS} redirects")
            via.append(request.url)
            request = _redirected(request, fetched.status, where)

    async def _ask(self, request: Fetch) -> Fetched:
        from harnessx.runner.connection import exchange

        place = place_of(request.url)
        self.rules.check(place)
        addresses = [place.host] if place.is_address else await self._resolved(place)
        fetched = await exchange(place, addresses, request, self.rules.answer_bytes)
        if fetched.status in BUSY:
            asked = fetched.headers.get("retry-after", "")
            later = float(asked) if asked.isascii() and asked.isdigit() else None
            raise NetworkFailure(f"{place.host}: status {fetched.status}", status=fetched.status, retry_after=later)
        return fetched

    async def _resolved(self, place: Place) -> Sequence[str]:
        """The addresses of a name, all of them public; names that mix are those that play tricks."""
        addresses = await self._resolve(place.host, place.port)
        if not addresses:
            raise NetworkFailure(f"{place.host}: no address")
        for address in addresses:
            if not is_public(address):
                raise FetchRefused(
                    f"{place.host} stands for {address}, which is not public; allow that address itself if it is meant"
                )
        return addresses


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open network's, and leads to no other that is not."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # with a scope, say
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inside = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inside is None and found in _NAT64:
            inside = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inside is not None and not is_public(str(inside)):
            return False
    return found.is_global and not found.is_multicast


def _redirected(request: Fetch, status: int, where: str) -> Fetch:
    """The request that a redirect asks for (RFC 9110, 15.4): 307 and 308 keep method and body."""
    try:
        url = urljoin(request.url, where)
    except ValueError as error:
        raise FetchRefused(f"a redirect to no address: {error}") from error
    old, new = place_of(request.url), place_of(url)
    headers = request.headers
    if new.origin != old.origin:
        headers = {name: value for name, value in headers.items() if name.lower() not in _PRIVATE_HEADERS}
    if status in (307, 308) or request.method == "HEAD":
        return replace(request, url=url, headers=headers)
    return Fetch(url, "GET", {name: value for name, value in headers.items() if name.lower() != "content-type"})
