"""What evolved code may ask of the network: requests and answers as values, and the user's rule on both.

Nothing here opens a connection. A request crosses to the host, which holds it against `WebRules`; only hosts that
the user named are asked, by `harnessx.runner.broker`.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from harnessx.canonical import digest_of
from harnessx.errors import FetchRefused

METHODS = ("GET", "HEAD", "POST")
MAX_URL = 8192
"""Characters."""
MAX_HEADERS = 32
"""Of a request; each of at most `MAX_URL` characters."""
_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_URL = re.compile(r"[\x21-\x5b\x5d-\x7e]+")
"""Printable ASCII without the backslash, which some read as a slash."""
_OURS = frozenset(
    """host connection content-length transfer-encoding te trailer upgrade expect keep-alive cookie
    proxy-authorization proxy-connection accept-encoding""".split()
)
"""Headers of a request that only the host writes."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """One request, as it crosses to the host."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def of(
        cls,
        url: str,
        method: str = "GET",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: str | bytes = b"",
    ) -> Fetch:
        """A request as code writes one: ``query`` is encoded and added to ``url``, a text ``body`` is UTF-8.

        Raises:
            TypeError: a part is of another kind.
        """
        given = headers or {}
        pairs = (*given.items(), *(query or {}).items())
        if not all(isinstance(text, str) for text in (url, method, *(part for pair in pairs for part in pair))):
            raise TypeError("url, method, query and headers are texts")
        if not isinstance(body, str | bytes):
            raise TypeError(f"a body is text or bytes, not {type(body).__name__}")
        if query:
            url += f"{'&' if '?' in url else '?'}{urlencode(query)}"
        return cls(url, method, dict(given), body.encode() if isinstance(body, str) else body)

    @property
    def digest(self) -> str:
        """Equal for equal requests: the order and the case of header names do not count."""
        headers = sorted((name.lower(), value) for name, value in self.headers.items())
        return digest_of([self.url, self.method, headers, self.body.hex()])

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON."""
        return {"url": self.url, "method": self.method, "headers": dict(self.headers), **body_to_json(self.body)}


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, whatever its status. Header names are lower case; ``via`` are the addresses that led to ``url``."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str = ""
    via: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The body as UTF-8; what is none is replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.body)

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON."""
        head = {"status": self.status, "headers": dict(self.headers), "url": self.url, "via": list(self.via)}
        return {**head, **body_to_json(self.body)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fetched:
        """Inverse of `to_json`."""
        return cls(data["status"], data["headers"], body_from_json(data), data["url"], tuple(data["via"]))


class Fetcher(Protocol):
    """How a processor or tool asks the network: through the host, which refuses all that is not allowed."""

    async def __call__(
        self,
        url: str,
        method: str = "GET",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: str | bytes = b"",
    ) -> Fetched: ...


async def no_network(
    url: str,
    method: str = "GET",
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: str | bytes = b"",
) -> Fetched:
    """The `Fetcher` of a place without a host to ask, such as a smoke test.

    Raises:
        FetchRefused: always.
    """
    raise FetchRefused("there is no network here")


def body_to_json(body: bytes) -> dict[str, str]:
    """A body as JSON text that can be searched for secrets as it stands, whatever its encoding."""
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"latin1": body.decode("latin-1")}


def body_from_json(data: Mapping[str, Any]) -> bytes:
    """Inverse of `body_to_json`.

    Raises:
        KeyError, AttributeError, UnicodeEncodeError: it is none.
    """
    found: bytes = data["text"].encode() if "text" in data else data["latin1"].encode("latin-1")
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address points: scheme, host (a name, or an IP address in its one spelling), port, path with query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_address(self) -> bool:
        """Whether the host is named by its IP address."""
        return _address(self.host) is not None

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return self.scheme, self.host, self.port


def place_of(url: str) -> Place:
    """Where ``url`` points.

    Raises:
        FetchRefused: it is no plain http or https address, or one that two readers could read differently.
    """
    if len(url) > MAX_URL:
        raise FetchRefused(f"an address of more than {MAX_URL} characters")
    if not _URL.fullmatch(url):
        raise FetchRefused("an address is written in ASCII, without blanks or backslashes; pass query= to encode them")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise FetchRefused(f"no address: {error}") from error
    if parts.scheme not in _PORTS:
        raise FetchRefused(f"only http and https addresses can be asked, not {parts.scheme or 'one without a scheme'}")
    if "@" in parts.netloc:
        raise FetchRefused("an address holds no user or password")
    host = _spelt(host)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(parts.scheme, host, _PORTS[parts.scheme] if port is None else port, path)


def _spelt(host: str) -> str:
    """A host in its one spelling.

    Raises:
        FetchRefused: neither a name nor an IP address.
    """
    host = host.lower()
    address = _address(host)
    if address is not None:
        return str(address)
    labels = host.split(".")
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        raise FetchRefused(f"no host name or IP address: {host!r:.300}")
    return host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host) if "%" not in host else None
    except ValueError:
        return None


def check_request(request: Fetch) -> None:
    """Refuse what is no request, or says what only the host may say.

    Raises:
        FetchRefused: method or headers.
    """
    if request.method not in METHODS:
        raise FetchRefused(f"{request.method!r:.100} is no method that can be asked; {', '.join(METHODS)} are")
    if request.body and request.method != "POST":
        raise FetchRefused("only POST has a body")
    if len(request.headers) > MAX_HEADERS:
        raise FetchRefused(f"more than {MAX_HEADERS} headers")
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
            raise FetchRefused(f"the header {name!r:.100} is not for a harness to set")
        if not _VALUE.fullmatch(value) or len(value) > MAX_URL:
            raise FetchRefused(f"the header {name} is not a line of ASCII of at most {MAX_URL} characters")


@dataclass(frozen=True, slots=True)
class WebRules:
    """The user's rule: which hosts evolved code may reach, and how much of it. By default none.

    ``allow_hosts`` are exact names or IP addresses; one without a port stands for the port of the scheme (80, 443).
    ``requests`` bounds those of one rollout, replayed and refused ones too; ``answer_bytes`` the body of an answer,
    and of a request. ``timeout_s`` ends one try, redirects included, ``patience_s`` all of them.
    """

    allow_hosts: tuple[str, ...] = ()
    requests: int = 20
    answer_bytes: int = 1_000_000
    timeout_s: float = 30.0
    patience_s: float = 60.0

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON."""
        return {**asdict(self), "allow_hosts": list(self.allow_hosts)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WebRules:
        """Inverse of `to_json`."""
        return cls(**{**data, "allow_hosts": tuple(data["allow_hosts"])})

    def check(self, place: Place) -> None:
        """Refuse a place that was not allowed.

        Raises:
            FetchRefused: names the setting.
        """
        usual = _PORTS[place.scheme]
        allowed = [host_of(entry) for entry in self.allow_hosts]
        if not any(host == place.host and place.port == (usual if port is None else port) for host, port in allowed):
            known = ", ".join(self.allow_hosts) or "none"
            named = place.host if place.port == usual else f"{place.host}:{place.port}"
            raise FetchRefused(f"{named} is not an allowed host (sandbox.allow_hosts: {known})")


def host_of(entry: str) -> tuple[str, int | None]:
    """Host and port of an entry of ``allow_hosts``.

    Raises:
        ValueError: it is no exact host, with or without a port; says what is wrong.
    """
    try:
        place = place_of(f"http://{entry}")
    except FetchRefused as refused:
        raise ValueError(str(refused)) from refused
    rest = entry.rsplit("]", 1)[-1] if entry.startswith("[") else entry
    _, colon, port = rest.partition(":")
    if place.path != "/" or "#" in entry or entry.endswith(("/", "?")):
        raise ValueError("a host has no path; give its name alone, such as api.example.org or 127.0.0.1:8080")
    if colon and not port.isdigit():
        raise ValueError("the port is no number")
    return place.host, place.port if colon else None
