"""One HTTP exchange with addresses that were checked before: no proxy, no cookie, no redirect, nothing kept open."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore

from harnessx.errors import FetchRefused, NetworkFailure
from harnessx.web import Fetch, Fetched, Place

_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError)


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to the addresses it was made with, whatever the name stands for by now."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """The first address that takes the connection."""
        *others, last = self._addresses
        for address in others:
            try:
                return await self._backend.connect_tcp(address, port, timeout)
            except httpcore.ConnectError:
                continue
        return await self._backend.connect_tcp(last, port, timeout)


async def exchange(place: Place, addresses: Sequence[str], request: Fetch, most: int) -> Fetched:
    """Ask the host of ``place``, at one of ``addresses``; the answer's body has at most ``most`` bytes.

    Raises:
        FetchRefused: the body is longer.
        NetworkFailure: nobody answered, or not in HTTP.
    """
    named = f"[{place.host}]" if ":" in place.host else place.host
    given = {name.lower(): value for name, value in request.headers.items()}
    headers = {
        "user-agent": "harnessx",
        "accept": "*/*",
        **given,
        "host": named if place.port == {"http": 80, "https": 443}[place.scheme] else f"{named}:{place.port}",
        "accept-encoding": "identity",
        "connection": "close",
    }
    url = httpcore.URL(scheme=place.scheme, host=place.host, port=place.port, target=place.path)
    content = request.body if request.method == "POST" else None
    trust = _trust() if place.scheme == "https" else None
    try:
        async with (
            httpcore.AsyncConnectionPool(trust, network_backend=_Pinned(addresses)) as pool,
            pool.stream(request.method, url, headers=list(headers.items()), content=content) as response,
        ):
            body = await _bounded(response, most)
            return Fetched(response.status, _headers(response), body, request.url)
    except _ERRORS as error:
        lasting = isinstance(error.__context__, ssl.SSLCertVerificationError)
        said = str(error) or type(error).__name__
        raise NetworkFailure(f"{named}:{place.port}: {said}", transient=not lasting) from error


async def _bounded(response: httpcore.Response, most: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > most:
            raise FetchRefused(f"the answer is longer than {most:,} bytes (sandbox.answer_bytes)")
    return bytes(body)


def _headers(response: httpcore.Response) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw, value in response.headers:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


@functools.cache
def _trust() -> ssl.SSLContext:
    """Who may vouch for a host: the usual authorities."""
    return httpcore.default_ssl_context()
