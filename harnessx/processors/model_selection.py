"""D1, model selection: which model serves a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harnessx.hooks import Event, Hook, StepStartEvent, ToolResultEvent
from harnessx.processor import Dimension, Processor
from harnessx.processors.calls import FAILURES, contains

_RULE_KEYS = {"role", "from_step", "failures"}


@dataclass
class ModelRouter(Processor):
    """Chooses the model role of each step: that of the first rule that holds, else ``default``.

    A rule is ``{role, from_step, failures}``: it holds from that step on, while at least that many
    tool calls in a row have failed (0 where not given). ``{role: strong, failures: 3}`` brings the
    strong model in after three failures, and lets it go at the next success.

    Raises:
        ValueError: a rule without ``role``, or with an unknown key.
    """

    hooks = (Hook.STEP_START, Hook.AFTER_TOOL)
    group = "model_router"
    dimension = Dimension.MODEL_SELECTION

    rules: Sequence[Mapping[str, str | int]]
    """The rules, first match wins."""
    default: str = "main"
    """The role where no rule holds."""
    failures: Sequence[str] = FAILURES
    """Texts (lower case) in a result that count as failures, besides error results."""
    _rules: list[tuple[int, int, str]] = field(init=False, repr=False)
    _failures: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self._rules = []
        for rule in self.rules:
            if "role" not in rule or not rule.keys() <= _RULE_KEYS:
                raise ValueError(f"a rule has 'role' and perhaps 'from_step', 'failures'; not {dict(rule)}")
            self._rules.append((int(rule.get("from_step", 0)), int(rule.get("failures", 0)), str(rule["role"])))

    def process(self, event: StepStartEvent | ToolResultEvent) -> Iterator[Event]:
        if isinstance(event, ToolResultEvent):
            failed = event.is_error or contains(event.content, self.failures)
            self._failures = self._failures + 1 if failed else 0
        else:
            role = self._role(event.step)
            if role != event.role:
                event = replace(event, role=role)
        yield event

    def _role(self, step: int) -> str:
        for from_step, failures, role in self._rules:
            if step >= from_step and self._failures >= failures:
                return role
        return self.default
