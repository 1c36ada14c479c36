"""An HTTP client that stops reading an answer that does not end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from harnessx.models.patience import MAX_BYTES


class BoundedStream(httpx.AsyncByteStream):
    """A stream that breaks off after ``most`` bytes.

    Raises (when read):
        httpx.ReadError: there is more.
    """

    def __init__(self, stream: httpx.AsyncByteStream, most: int) -> None:
        self._stream, self._most = stream, most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > self._most:
                raise httpx.ReadError(f"the answer is longer than {self._most:,} bytes")
            yield chunk

    async def aclose(self) -> None:
        """Release the connection."""
        await self._stream.aclose()


def bounded_client(most: int = MAX_BYTES) -> httpx.AsyncClient:
    """A client none of whose answers is longer than ``most`` bytes on the wire."""

    async def bound(response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = BoundedStream(response.stream, most)

    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(event_hooks={"response": [bound]}, limits=limits, follow_redirects=True)
