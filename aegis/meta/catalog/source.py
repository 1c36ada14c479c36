"""Levers that write code: libcst transforms of built-in processors, and tools and repairs derived from traces.

`guard` changes the control flow of a processor in a way none of its parameters can: it acts only while a
condition on the event holds. The result is a module of the harness's own, with a smoke test.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Sequence
from importlib import import_module

import libcst as cst

from aegis.manifest import Signature
from aegis.meta.catalog.lever import Lever, Scene, Variant
from aegis.record import Bucket
from aegis.stages.symptoms import Symptom
from harnessx.algebra import Edit, Insert, SetAsset, SetSlot
from harnessx.spec import Spec

S = Symptom

CONDITIONS = {
    "late": ("len(event.messages) > 16", "the history is long"),
    "stuck": (
        "len(event.messages) > 3 and event.messages[-1].text == event.messages[-3].text",
        "the last two results are the same",
    ),
    "early": ("event.step <= 5", "the first steps"),
}


class _Guard(cst.CSTTransformer):
    """Keeps one class of a module, renames it, and lets ``process`` act only under ``condition``."""

    def __init__(self, target: str, renamed: str, condition: str) -> None:
        super().__init__()
        self._target, self._renamed, self._condition = target, renamed, condition
        self._inside = False

    def visit_ClassDef(self, node: cst.ClassDef) -> bool:
        self._inside = node.name.value == self._target
        return self._inside

    def leave_ClassDef(
        self, original_node: cst.ClassDef, updated_node: cst.ClassDef
    ) -> cst.ClassDef | cst.RemovalSentinel:
        if original_node.name.value != self._target:
            return cst.RemoveFromParent()
        self._inside = False
        return updated_node.with_changes(name=cst.Name(self._renamed))

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> cst.FunctionDef:
        if not self._inside or original_node.name.value != "process":
            return updated_node
        guard = cst.parse_module(
            f"if isinstance(event, BeforeModelEvent) and not ({self._condition}):\n    yield event\n    return\n"
        ).body
        body = updated_node.body
        assert isinstance(body, cst.IndentedBlock)
        return updated_node.with_changes(body=body.with_changes(body=[*guard, *body.body]))


def guard(processor: str, renamed: str, condition: str) -> str:
    """The source of a built-in processor that acts only while ``condition`` (on ``event``) holds."""
    cls = getattr(import_module("harnessx.processors"), processor)
    module = inspect.getmodule(cls)
    assert module is not None
    tree = cst.parse_module(inspect.getsource(module))
    changed = tree.visit(_Guard(processor, renamed, condition))
    return changed.code


def _guarded(
    processor: str, params: dict[str, object], conditions: Sequence[str], cures: dict[Symptom, float]
) -> Lever:
    def variants(scene: Scene) -> list[Variant]:
        if any(traits.name.endswith(processor) for traits in scene.incumbent.traits):
            return []
        found = []
        for condition in conditions:
            test, words = CONDITIONS[condition]
            renamed = f"{condition.capitalize()}{processor}"
            path = f"assets/{condition}_{processor.lower()}.py"
            spec = Spec(f"{path}:{renamed}", params)
            found.append(
                Variant(
                    f"{processor} only while {words}",
                    Edit((SetAsset(path, guard(processor, renamed, test)), Insert(spec))),
                    f"Help that comes always costs attention always: this acts only while {words}.",
                    smoke={path: _GUARD_TEST.format(target=f"{path}:{renamed}", params=params)},
                    signature=Signature("processor_invocation", renamed),
                )
            )
        return found

    return Lever(f"guarded {processor}", Bucket.PROCESSOR, cures, variants)


_GUARD_TEST = """\
from harnessx.hooks import BeforeModelEvent
from harnessx.messages import Conversation, Message

def test_every_event_goes_on(build):
    part = build({target!r}, **{params!r})
    short = BeforeModelEvent(9, Conversation([Message("user", "a")]))
    same = [Message("assistant", "x"), Message("user", "b")] * 12
    for event in (short, BeforeModelEvent(1, Conversation(same))):
        out = list(part.process(event))
        assert len(out) == 1 and out[0].messages is event.messages
"""


COMPLETE_NAMES = '''\
"""Completes names in tool calls: a name without its number gets the number it was last shown with."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
import re

from harnessx.hooks import Hook, ModelResponseEvent, TaskStartEvent, ToolResultEvent
from harnessx.processor import Dimension, Processor


@dataclass
class CompleteNames(Processor):
    """Reads names with numbers from the task and the results; mends calls before they are made."""

    hooks = (Hook.TASK_START, Hook.AFTER_MODEL, Hook.AFTER_TOOL)
    group = "complete_names"
    dimension = Dimension.TOOLS
    _numbers: dict = field(default_factory=dict, init=False)

    def process(self, event) -> Iterator:
        if isinstance(event, ModelResponseEvent):
            calls = tuple(self._mended(call) for call in event.tool_calls)
            if calls != event.tool_calls:
                event = replace(event, tool_calls=calls)
        else:
            self._read(event.prompt if isinstance(event, TaskStartEvent) else event.content)
        yield event

    def _read(self, text: str) -> None:
        for name, number in re.findall(r"\\b([a-z]{3,}) (\\d+)\\b", text):
            self._numbers[name] = number

    def _mended(self, call):
        if len(call.arguments) != 1:
            return call
        ((key, text),) = call.arguments.items()
        if not isinstance(text, str):
            return call
        words = re.sub(r"\\b(the|an|a) ", "", text).split()
        mended = []
        for place, word in enumerate(words):
            mended.append(word)
            bare = place + 1 == len(words) or not words[place + 1].isdigit()
            if bare and word in self._numbers:
                mended.append(self._numbers[word])
        return replace(call, arguments={key: " ".join(mended)}) if " ".join(mended) != text else call
'''

_NAMES_TEST = """\
from harnessx.hooks import ModelResponseEvent, ToolResultEvent
from harnessx.messages import ModelResponse, ToolCall

def test_a_number_is_completed(build):
    part = build("assets/complete_names.py:CompleteNames")
    call = ToolCall("c", "t", {"x": "take the mug from shelf 2"})
    list(part.process(ToolResultEvent(1, call, "you see a mug 3")))
    (out,) = part.process(ModelResponseEvent(2, ModelResponse(), "", (call,)))
    assert out.tool_calls[0].arguments == {"x": "take mug 3 from shelf 2"}
"""


def _complete_names(scene: Scene) -> list[Variant]:
    path = "assets/complete_names.py"
    if path in scene.incumbent.assets:
        return []
    edit = Edit((SetAsset(path, COMPLETE_NAMES), Insert(Spec(f"{path}:CompleteNames"))))
    fix = "A name without its number is completed from what was shown last."
    return [Variant("complete names in calls", edit, fix, smoke={path: _NAMES_TEST})]


def repeated_pairs(scene: Scene) -> list[tuple[str, str, str]]:
    """(tool, first, second): verbs that often follow each other on the same thing, most frequent first."""
    pairs: Counter[tuple[str, str, str]] = Counter()
    for record in scene.trajectories:
        previous = ("", "", "")
        for step in record.steps:
            for exchange in step.calls:
                text = str(next(iter(exchange.call.arguments.values()), ""))
                found = re.fullmatch(r"([a-z ]+?) ([a-z]+ \d+)", text)
                verb, thing = (found[1], found[2]) if found else ("", "")
                if verb and previous[0] == exchange.call.name and previous[2] == thing and previous[1] != verb:
                    pairs[exchange.call.name, previous[1], verb] += 1
                previous = (exchange.call.name, verb, thing)
    return [pair for pair, count in pairs.most_common(3) if count >= 5]


TOOL = '''\
"""Does two things that usually follow each other, in one call."""

from dataclasses import dataclass

from harnessx.tools.base import Tool


@dataclass
class {name}(Tool):
    """{first} a place, and {second} it where the result says that it can be done."""

    name = {tool_name!r}
    description = {description!r}
    parameters = {{"type": "object", "properties": {{"place": {{"type": "string"}}}}, "required": ["place"]}}

    async def run(self, arguments, context):
        place = str(arguments.get("place", ""))
        first = await context.call({tool!r}, {{{argument!r}: f"{first} {{place}}"}})
        if first.done or "closed" not in first.content:
            return first
        second = await context.call({tool!r}, {{{argument!r}: f"{second} {{place}}"}})
        return second if second.done else f"{{first.content}}\\n{{second.content}}"
'''

_TOOL_TEST = """\
async def test_it_is_described_and_built(build):
    tool = build({target!r})
    assert tool.schema().name == {tool_name!r} and tool.schema().description
"""


def _combined_tools(scene: Scene) -> list[Variant]:
    """A tool for two verbs that follow each other, derived from the trajectories."""
    variants = []
    for tool, first, second in repeated_pairs(scene):
        path = f"assets/{first.split()[0]}_and_{second.split()[0]}.py"
        if path in scene.incumbent.assets:
            continue
        calls = [c.call for t in scene.trajectories for s in t.steps for c in s.calls if c.call.name == tool]
        argument = next(iter(calls[0].arguments))
        name = f"{first.split()[0].capitalize()}And{second.split()[0].capitalize()}"
        tool_name = f"{first.split()[0]}_and_{second.split()[0]}"
        description = f"{first.capitalize()} a place and {second} it if it is closed."
        source = TOOL.format(name=name, first=first, second=second, tool=tool, argument=argument,
                             tool_name=tool_name, description=description)  # fmt: skip
        add = [*(s.to_json() for s in scene.incumbent.slots.tools.add), {"_target_": f"{path}:{name}"}]
        variants.append(
            Variant(
                f"a tool to {first} and {second}",
                Edit((SetAsset(path, source), SetSlot("tools.add", add))),
                "Two calls that always follow each other cost two steps where one would do.",
                smoke={path: _TOOL_TEST.format(target=f"{path}:{name}", tool_name=tool_name)},
                signature=Signature("tool_call", tool_name),
            )
        )
    return variants


LEVERS = (
    _guarded(
        "CurrentState", {"observation": False}, ("late", "stuck", "early"),
        {S.FORGETTING: 1.0, S.LONG_CONTEXT: 0.7, S.REPEATED_CALL: 0.4},
    ),
    _guarded("RunningNotes", {"max_items": 8}, ("late", "stuck"), {S.FORGETTING: 0.7, S.EXHAUSTED: 0.3}),
    _guarded("StepBudgetReminder", {"limit": 30}, ("stuck",), {S.REPEATED_CALL: 0.4, S.EXHAUSTED: 0.3}),
    Lever("complete names", Bucket.PROCESSOR, {S.MALFORMED_CALL: 0.9}, _complete_names),
    Lever("combined tool", Bucket.TOOLS, {S.EXHAUSTED: 0.9, S.FORGETTING: 0.4, S.LONG_CONTEXT: 0.3}, _combined_tools),
)  # fmt: skip
