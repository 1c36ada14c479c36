"""Levers made of built-in parts: processors, windows and sizes, tools offered and how they are described."""

from __future__ import annotations

from collections import Counter

from aegis.manifest import Signature
from aegis.meta.catalog.lever import Lever, Scene, Variant, built_in
from aegis.record import Bucket
from aegis.stages.symptoms import Symptom
from harnessx.algebra import Edit, SetParam, SetSlot

S = Symptom


def _describe(scene: Scene) -> list[Variant]:
    """Describe the most used tool by the forms of its calls that worked in the trajectories."""
    calls = [c for t in scene.trajectories for s in t.steps for c in s.calls if not c.is_error]
    used = Counter(c.call.name for c in calls if len(c.call.arguments) == 1)
    if not used:
        return []
    tool = used.most_common(1)[0][0]
    if tool in scene.incumbent.slots.tools.describe:
        return []
    forms = Counter(
        _form(str(next(iter(c.call.arguments.values())))) for c in calls if c.call.name == tool and c.call.arguments
    )
    common = [form for form, count in forms.most_common(9) if count > 2]
    text = f"Runs one command. Forms: {'; '.join(common)}."
    describe = {**scene.incumbent.slots.tools.describe, tool: text}
    return [
        Variant(
            f"describe {tool} by its forms",
            Edit((SetSlot("tools.describe", describe),)),
            "The description does not say what a call looks like.",
            signature=Signature("tool_call", tool),
        )
    ]


def _form(text: str) -> str:
    """A command with its names blanked: ``take mug 1 from shelf 2`` -> ``take (x) from (y)``."""
    words, names, out = text.split(), iter("xyz"), []
    i = 0
    while i < len(words):
        if i + 1 < len(words) and words[i + 1].isdigit():
            out.append(f"({next(names, 'w')})")
            i += 2
        else:
            out.append(words[i])
            i += 1
    return " ".join(out)


def _hide(scene: Scene) -> list[Variant]:
    """Offer all environment tools but one."""
    counts = Counter(c.call.name for t in scene.trajectories for s in t.steps for c in s.calls)
    if scene.incumbent.slots.tools.expose is not None or len(counts) < 2:
        return []
    variants = []
    for name in sorted(counts):
        rest = [n for n in sorted(counts) if n != name]
        edit = Edit((SetSlot("tools.expose", rest),))
        fix = "A tool that does not help costs steps and attention."
        variants.append(Variant(f"hide {name}", edit, fix, signature=Signature("tool_call", rest[0])))
    return variants


def _resize(scene: Scene) -> list[Variant]:
    """Double or halve a whole-number parameter of a processor that is there."""
    variants = []
    for spec in scene.incumbent.processors:
        for name, value in spec.params.items():
            if isinstance(value, int) and not isinstance(value, bool) and value > 1:
                for factor, new in (("double", value * 2), ("halve", value // 2)):
                    edit = Edit((SetParam(spec.name, name, new),))
                    fix = "Another size may fit better."
                    touches = f"it only changes {name}"
                    variants.append(Variant(f"{factor} {spec.name}.{name}", edit, fix, touches))
    return variants


def _more_steps(scene: Scene) -> list[Variant]:
    steps = scene.incumbent.slots.limits.steps
    edit = Edit((SetSlot("limits.steps", steps * 2),))
    return [Variant(f"allow {steps * 2} steps", edit, "The agent runs out of steps.")]


LEVERS = (
    built_in(
        "tool call repair", Bucket.PROCESSOR, {S.MALFORMED_CALL: 1.0},
        "ToolCallRepair", "Calls that are nearly right are mended instead of lost.", ({}, {"from_text": True}),
    ),
    built_in(
        "argument coercion", Bucket.PROCESSOR, {S.MALFORMED_CALL: 0.8},
        "ArgumentCoercion", "Arguments under a wrong name or of a wrong type are put right.",
    ),
    built_in(
        "parse retry", Bucket.PROCESSOR, {S.STOPPED_EARLY: 1.0, S.MALFORMED_CALL: 0.3},
        "ParseRetry", "An answer that meant to call a tool is asked for again instead of ending the run.",
        ({"final_markers": ["done", "finished", "complete"]}, {"max_retries": 4}),
    ),
    built_in(
        "self-verification", Bucket.PROCESSOR, {S.STOPPED_EARLY: 1.0, S.UNADDRESSED_GOAL: 0.3},
        "SelfVerification", "A claim to be finished is checked against the task before it is accepted.",
        ({}, {"max_checks": 2}),
    ),
    built_in(
        "checklist", Bucket.PROCESSOR, {S.STOPPED_EARLY: 0.5, S.UNADDRESSED_GOAL: 0.4},
        "Checklist", "A list of what must hold keeps the end in view.",
        ({"items": ["Is every part of the task done?", "Did the last command work?"]},),
    ),
    built_in(
        "goal reminder", Bucket.PROCESSOR, {S.FORGETTING: 1.0, S.LONG_CONTEXT: 0.6, S.STOPPED_EARLY: 0.4},
        "CurrentState", "The goal stays in view however long the history grows.",
        ({"observation": False}, {}, {"observation": False, "every": 3}),
    ),
    built_in(
        "running notes", Bucket.PROCESSOR, {S.FORGETTING: 0.9, S.EXHAUSTED: 0.3},
        "RunningNotes", "What was found is kept in a few lines.", ({"max_items": 8}, {"max_items": 20}),
    ),
    built_in(
        "loop detection", Bucket.PROCESSOR, {S.REPEATED_CALL: 1.0, S.FORGETTING: 0.4},
        "LoopDetection", "A loop is named and broken.", ({}, {"repeats": 2}),
    ),
    built_in(
        "repeated failure guard", Bucket.PROCESSOR, {S.REPEATED_CALL: 0.8, S.MALFORMED_CALL: 0.2},
        "RepeatedFailureGuard", "A call that keeps failing is refused with the reason.",
    ),
    built_in(
        "step budget reminder", Bucket.PROCESSOR, {S.EXHAUSTED: 0.6, S.LONG_CONTEXT: 0.2},
        "StepBudgetReminder", "The agent sees how many steps are left.",
        ({"limit": 30}, {"limit": 30, "from_step": 20}),
    ),
    built_in(
        "result compression", Bucket.CONFIG, {S.LONG_CONTEXT: 0.7, S.FORGETTING: 0.3},
        "ToolResultCompression", "What a result says twice is said once.",
    ),
    built_in(
        "result truncation", Bucket.CONFIG, {S.LONG_CONTEXT: 0.8, S.FORGETTING: 0.3},
        "ToolResultTruncation", "Long results crowd out the rest.", tuple({"max_chars": n} for n in (120, 300, 800)),
    ),
    built_in(
        "sliding window", Bucket.CONFIG, {S.LONG_CONTEXT: 0.8, S.FORGETTING: 0.6},
        "SlidingWindow", "The task stays in view while the middle of the history goes.",
        ({"max_messages": 40, "block": 8}, {"max_messages": 20}, {"max_messages": 8}, {"max_messages": 60}),
    ),
    Lever("tool description", Bucket.TOOLS, {S.MALFORMED_CALL: 0.8, S.UNADDRESSED_GOAL: 0.3}, _describe),
    Lever("hide a tool", Bucket.TOOLS, {S.LONG_CONTEXT: 0.7, S.EXHAUSTED: 0.5, S.FORGETTING: 0.3}, _hide),
    Lever("resize", Bucket.CONFIG, {S.LONG_CONTEXT: 0.4, S.STOPPED_EARLY: 0.3, S.FORGETTING: 0.3}, _resize),
    Lever("more steps", Bucket.CONFIG, {S.EXHAUSTED: 0.5}, _more_steps),
)  # fmt: skip
