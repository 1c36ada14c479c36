"""D2, context assembly at task_start: what the system prompt says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harnessx.hooks import Event, Hook, TaskStartEvent
from harnessx.processor import Context, Dimension, Order, Processor


def _one_of(text: str, asset: str) -> None:
    if bool(text) == bool(asset):
        raise ValueError("give either 'text' or 'asset'")


def _text(text: str, asset: str, ctx: Context) -> str:
    return text or ctx.asset(asset)


def _joined(*sections: str) -> str:
    return "\n\n".join(section for section in (s.strip() for s in sections) if section)


@dataclass
class SystemPrompt(Processor):
    """The system prompt, before whatever other processors add to it.

    Raises:
        ValueError: neither or both of ``text`` and ``asset``.
    """

    hooks = (Hook.TASK_START,)
    group = "system_prompt"
    order = Order.PRE
    dimension = Dimension.CONTEXT

    text: str = ""
    """The prompt itself."""
    asset: str = ""
    """Or the path of an asset that holds it."""

    def __post_init__(self) -> None:
        _one_of(self.text, self.asset)

    def process(self, event: TaskStartEvent) -> Iterator[Event]:
        prompt = _joined(_text(self.text, self.asset, self.ctx), event.system_prompt)
        yield replace(event, system_prompt=prompt)


@dataclass
class Instructions(Processor):
    """A section at the end of the system prompt. A harness may hold several.

    Raises:
        ValueError: neither or both of ``text`` and ``asset``.
    """

    hooks = (Hook.TASK_START,)
    dimension = Dimension.CONTEXT

    text: str = ""
    """The section itself."""
    asset: str = ""
    """Or the path of an asset that holds it."""

    def __post_init__(self) -> None:
        _one_of(self.text, self.asset)

    def process(self, event: TaskStartEvent) -> Iterator[Event]:
        section = _text(self.text, self.asset, self.ctx)
        yield replace(event, system_prompt=_joined(event.system_prompt, section))


@dataclass
class FewShot(Processor):
    """Worked examples at the end of the system prompt."""

    hooks = (Hook.TASK_START,)
    group = "few_shot"
    order = Order.POST
    dimension = Dimension.CONTEXT

    examples: Sequence[str]
    """The examples, each a text."""

    def process(self, event: TaskStartEvent) -> Iterator[Event]:
        numbered = [f"Example {number}\n{text}" for number, text in enumerate(self.examples, 1)]
        yield replace(event, system_prompt=_joined(event.system_prompt, *numbered)) if numbered else event
