"""What a person sees of a rollout while it runs: each answer, call and result as it comes."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import TextIO

from harnessx.messages import Message, Usage
from harnessx.redaction import redact
from harnessx.trajectory import Exchange, FetchExchange, ToolExchange

WIDTH = 400
"""Characters of a text that are shown."""


class Trace:
    """Prints what crosses the seam. With colours where the stream is a terminal and rich is there."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._asked = 0
        self._shown: set[str] = set()
        self._rich = self._stream.isatty() and importlib.util.find_spec("rich") is not None

    def __call__(self, event: Exchange | ToolExchange | FetchExchange) -> None:
        """Show one event."""
        match event:
            case Exchange():
                self._exchange(event)
            case ToolExchange():
                self._shown.add(event.call.id)
                self._result(event.content, event.is_error)
            case FetchExchange():
                self.line(f"  fetches {event.method} {event.url}", "magenta")

    def line(self, text: str, style: str = "") -> None:
        """One line, whatever is in ``text``."""
        text = redact(" ".join(text.split()) if not text.startswith(" ") else f"  {' '.join(text.split())}")
        if self._rich:
            from rich.console import Console
            from rich.text import Text

            Console(file=self._stream, highlight=False).print(Text(text, style))
        else:
            print(text, file=self._stream, flush=True)

    def _exchange(self, exchange: Exchange) -> None:
        for message in exchange.sent:
            self._told(message)
        self._asked += 1
        answer = exchange.response
        who = f"{answer.model}{' as fallback' if (answer.extra or {}).get('fallback') else ''}"
        again = ", recorded before" if exchange.replayed else ""
        path = "" if exchange.path == "main" else f" {exchange.path}"
        self.line(f"{self._asked}.{path} {who}: {told(answer.usage)}{again}", "bold")
        if answer.content.strip():
            self.line(f"  says {_short(answer.content)}", "cyan")
        for call in answer.tool_calls:
            arguments = call.raw if call.raw is not None else json.dumps(dict(call.arguments), ensure_ascii=False)
            self.line(f"  calls {call.name} {_short(arguments)}", "green")

    def _told(self, message: Message) -> None:
        """What the harness's own tools said, which no environment was asked for."""
        if message.role == "tool" and message.tool_call_id not in self._shown:
            self._shown.add(message.tool_call_id or "")
            self._result(message.text, False)

    def _result(self, content: str, is_error: bool) -> None:
        self.line(f"  {'fails' if is_error else 'gives'} {_short(content)}", "red" if is_error else "")


def told(usage: Usage) -> str:
    """Tokens and dollars, in words."""
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    price = "" if usage.cost_usd is None else f", ${usage.cost_usd:.4f}"
    return f"{usage.prompt_tokens:,}{cached} + {usage.completion_tokens:,} tokens{price}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else f"{line[:WIDTH]}… ({len(text):,} characters)"
