"""D4, tools: which are offered, and calls that are nearly right made right."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harnessx.hooks import Event, Hook, ModelResponseEvent, StepStartEvent
from harnessx.messages import ToolCall, ToolSchema
from harnessx.processor import Context, Dimension, Order, Processor
from harnessx.processors.json_repair import find_object


@dataclass
class ToolFilter(Processor):
    """Offers the model a subset of the tools."""

    hooks = (Hook.STEP_START,)
    group = "tool_filter"
    order = Order.PRE
    dimension = Dimension.TOOLS

    allow: Sequence[str] = ()
    """The only tools to offer; empty: all."""
    deny: Sequence[str] = ()
    """Tools not to offer."""
    _offered: tuple[str, ...] = field(default=(), init=False, repr=False)
    _kept: tuple[str, ...] = field(default=(), init=False, repr=False)

    def process(self, event: StepStartEvent) -> Iterator[Event]:
        if event.tools != self._offered:
            self._offered = event.tools
            self._kept = tuple(
                name for name in event.tools if name not in self.deny and (not self.allow or name in self.allow)
            )
        yield event if self._kept == event.tools else replace(event, tools=self._kept)


@dataclass
class ToolCallRepair(Processor):
    """Mends calls by their form: misspelt tool names, arguments that are nearly JSON, calls left in the text.

    A name becomes the one offered tool that differs from it in case and punctuation only, or in at
    most ``max_distance`` letters; where two are as near, nothing is changed.
    """

    hooks = (Hook.STEP_START, Hook.AFTER_MODEL)
    group = "tool_repair"
    after = ("tool_filter",)
    dimension = Dimension.TOOLS

    max_distance: int = 2
    """Most letters to insert, delete or change in a name; less than half of it."""
    from_text: bool = True
    """Whether a JSON object ``{name, arguments}`` in the text of an answer without calls is a call."""
    _tools: tuple[str, ...] = field(default=(), init=False, repr=False)

    def process(self, event: StepStartEvent | ModelResponseEvent) -> Iterator[Event]:
        if isinstance(event, StepStartEvent):
            self._tools = event.tools
        elif event.tool_calls:
            calls = tuple(self._mended(call) for call in event.tool_calls)
            if any(new is not old for new, old in zip(calls, event.tool_calls, strict=True)):
                event = replace(event, tool_calls=calls)
        elif self.from_text and "{" in event.content:
            call = self._written_out(event)
            if call is not None:
                event = replace(event, tool_calls=(call,))
        yield event

    def _mended(self, call: ToolCall) -> ToolCall:
        if call.name not in self._tools:
            known = nearest(call.name, self._tools, self.max_distance)
            call = call if known is None else replace(call, name=known)
        if call.raw is not None:
            arguments = find_object(call.raw)
            if arguments is not None:
                call = replace(call, arguments=arguments, raw=None)
        return call

    def _written_out(self, event: ModelResponseEvent) -> ToolCall | None:
        found = find_object(event.content) or {}
        name, arguments = found.get("name"), found.get("arguments", found.get("parameters", {}))
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return None
        known = name if name in self._tools else nearest(name, self._tools, self.max_distance)
        return ToolCall(f"text_{event.step}", known, arguments) if known else None


@dataclass
class ArgumentCoercion(Processor):
    """Fits arguments to the tool's JSON Schema, where there is one way to do it.

    Wrapped arguments are unwrapped; a wrong key becomes the nearest property, or the one required
    property that is missing; text without any key becomes the one required string; values are turned
    into the declared type (``"3"`` to 3, 3 to ``"3"``, a single value to a list of it).
    """

    hooks = (Hook.AFTER_MODEL,)
    group = "argument_coercion"
    after = ("tool_repair",)
    dimension = Dimension.TOOLS

    _schemas: dict[str, ToolSchema] = field(default_factory=dict, init=False, repr=False)

    def bind(self, ctx: Context) -> None:
        super().bind(ctx)
        self._schemas = {schema.name: schema for schema in ctx.slots["tool_schemas"]}

    def process(self, event: ModelResponseEvent) -> Iterator[Event]:
        if event.tool_calls:
            calls = tuple(self._fitted(call) for call in event.tool_calls)
            if any(new is not old for new, old in zip(calls, event.tool_calls, strict=True)):
                event = replace(event, tool_calls=calls)
        yield event

    def _fitted(self, call: ToolCall) -> ToolCall:
        schema = self._schemas.get(call.name)
        if schema is None:
            return call
        properties: Mapping[str, Any] = schema.parameters.get("properties", {})
        required: Sequence[str] = schema.parameters.get("required", ())
        arguments = dict(call.arguments)
        if call.raw is not None:
            only = required[0] if len(required) == 1 else ""
            text = call.raw.strip().strip("\"'`").strip()
            if not text or text[0] in "{[" or properties.get(only, {}).get("type") != "string":
                return call
            return replace(call, arguments={only: text}, raw=None)
        arguments = _unwrapped(arguments, properties)
        arguments = _keyed(arguments, properties, required)
        arguments = {k: _typed(v, properties[k]) if k in properties else v for k, v in arguments.items()}
        return call if _same(arguments, call.arguments) else replace(call, arguments=arguments)


def _same(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Equality that tells 1 from 1.0 and from True."""
    return new == old and all(type(new[key]) is type(old[key]) for key in new)


def _unwrapped(arguments: dict[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    if len(arguments) == 1:
        key, value = next(iter(arguments.items()))
        if key in ("arguments", "parameters", "args", "kwargs") and key not in properties and isinstance(value, dict):
            return value
    return arguments


def _keyed(arguments: dict[str, Any], properties: Mapping[str, Any], required: Sequence[str]) -> dict[str, Any]:
    unknown = [key for key in arguments if key not in properties]
    if not unknown:
        return arguments
    free = [key for key in properties if key not in arguments]
    names: dict[str, str] = {}
    for key in unknown:
        near = nearest(key, free, 2)
        if near is not None and near not in names.values():
            names[key] = near
    missing = [key for key in required if key not in arguments and key not in names.values()]
    left = [key for key in unknown if key not in names]
    if len(missing) == len(left) == 1:
        names[left[0]] = missing[0]
    return {names.get(key, key): value for key, value in arguments.items()}


def _typed(value: Any, schema: Mapping[str, Any]) -> Any:
    """``value`` as the type that ``schema`` declares, or unchanged where it has no such reading."""
    match schema.get("type"):
        case "string" if not isinstance(value, str | None):
            return json.dumps(value, ensure_ascii=False)
        case "integer" | "number" | "boolean" | "object" as kind if isinstance(value, str):
            read = _read(value)
            return read if _is(read, kind) else value
        case "integer" if isinstance(value, float) and value.is_integer():
            return int(value)
        case "array" if not isinstance(value, list | None):
            read = _read(value) if isinstance(value, str) else value
            return read if isinstance(read, list) else [value]
    return value


def _read(text: str) -> Any:
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is(value: Any, kind: str) -> bool:
    if kind == "boolean" or isinstance(value, bool):
        return kind == "boolean" and isinstance(value, bool)
    return isinstance(value, {"integer": int, "number": int | float, "object": dict}[kind])


def nearest(name: str, valid: Sequence[str], max_distance: int) -> str | None:
    """The one of ``valid`` that ``name`` must mean, or None.

    Equal but for case and punctuation wins; else the least edit distance, at most ``max_distance``
    and less than half of the name, if only one is that near.
    """
    plain = _plain(name)
    same = [other for other in valid if _plain(other) == plain]
    if len(same) == 1:
        return same[0]
    ranked = sorted((edit_distance(plain, _plain(other)), other) for other in valid)
    if not ranked or ranked[0][0] > max_distance or 2 * ranked[0][0] >= len(plain):
        return None
    return ranked[0][1] if len(ranked) == 1 or ranked[1][0] > ranked[0][0] else None


def _plain(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's distance: letters to insert, delete or change. O(len(a) · len(b))."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
