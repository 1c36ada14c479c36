"""D2, context assembly: a long tool result is shown page by page, as far as the model asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harnessx.errors import ToolError
from harnessx.hooks import Event, Hook, ToolResultEvent
from harnessx.processor import Dimension, Order, Processor
from harnessx.tools.base import Tool, ToolContext


def pages_of(text: str, size: int) -> list[str]:
    """``text`` in pieces of at most ``size`` characters, cut behind a line where one ends in their second half.

    The pieces joined are ``text``.
    """
    pages, start = [], 0
    while len(text) - start > size:
        line = text.rfind("\n", start + size // 2, start + size)
        end = start + size if line < 0 else line + 1
        pages.append(text[start:end])
        start = end
    return [*pages, text[start:]]


@dataclass
class ResultPages(Processor):
    """Shows the first page of a long tool result; the tool ``read_page`` brings the others.

    Pages live with the rollout. Results are kept until all together exceed ``max_kept``: then the oldest go, and a
    request for one of them says so. `ToolResultCompression` comes first, where both are there.
    """

    hooks = (Hook.AFTER_TOOL,)
    group = "truncation"
    order = Order.POST
    after = ("compression",)
    dimension = Dimension.CONTEXT

    page_chars: int = 4000
    """Longest page, in characters, without the line that names it."""
    max_kept: int = 400_000
    """Characters of all results kept."""
    _kept: dict[int, list[str]] = field(default_factory=dict, init=False, repr=False)
    _size: int = field(default=0, init=False, repr=False)
    _count: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 2 <= self.page_chars <= self.max_kept:
            raise ValueError("'page_chars' must be at least 2, and at most 'max_kept'")

    def brings(self) -> Sequence[Tool]:
        return (ReadPage(self),)

    def process(self, event: ToolResultEvent) -> Iterator[Event]:
        if len(event.content) > self.page_chars and event.call.name != ReadPage.name:
            self._keep(event.content)
            event = replace(event, content=self.page(self._count, 1))
        yield event

    def page(self, result: int, number: int) -> str:
        """A page of a kept result, under the line that names it.

        Raises:
            ToolError: no such result or page; says what there is.
        """
        pages = self._kept.get(result)
        if pages is None:
            kept = f"{min(self._kept)} to {max(self._kept)} are" if self._kept else "none is"
            raise ToolError(f"result {result} is not kept any more" if 0 < result <= self._count else
                            f"there is no result {result}; {kept} kept")  # fmt: skip
        if not 1 <= number <= len(pages):
            raise ToolError(f"result {result} has pages 1 to {len(pages)}")
        rest = f"; read_page(result={result}, page={number + 1}) shows the next" if number < len(pages) else ""
        return f"[page {number} of {len(pages)} of result {result}{rest}]\n{pages[number - 1]}"

    def _keep(self, text: str) -> None:
        text = text[: self.max_kept]
        self._count += 1
        self._kept[self._count] = pages_of(text, self.page_chars)
        self._size += len(text)
        while self._size > self.max_kept:
            oldest = self._kept.pop(min(self._kept))
            self._size -= sum(map(len, oldest))


@dataclass
class ReadPage(Tool):
    """``read_page``, for the model."""

    name = "read_page"
    description = "Show another page of a long result, by the numbers that its first line gives."
    parameters = {
        "type": "object",
        "properties": {"result": {"type": "integer"}, "page": {"type": "integer"}},
        "required": ["result", "page"],
    }

    owner: ResultPages

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        result, page = arguments.get("result"), arguments.get("page")
        if type(result) is not int or type(page) is not int:
            raise ToolError("'result' and 'page' must be whole numbers")
        return self.owner.page(result, page)
