"""Levers of parts that are made for language models: plans, summaries, pages, skills, sub-agents, audits, guards.

They are no part of the usual catalog: a further lever changes every draw of a search. ``meta.levers=all`` takes
them in. What each does to the bounded player is in ``results/modern_effects.csv``.
"""

from __future__ import annotations

from aegis.manifest import Signature
from aegis.meta.catalog.lever import Lever, Scene, Variant, built_in
from aegis.record import Bucket
from aegis.stages.symptoms import Symptom
from harnessx.algebra import Edit, Insert, SetAsset
from harnessx.spec import Spec

S = Symptom
_SKILL = "assets/skills/orderly-work/SKILL.md"
_ORDERLY = """---
name: orderly-work
description: How to go about a task of several parts without losing one of them.
---
List what the task asks for, part by part. Do the first part to its end before you begin the second. After each
action compare what you were told with what you expected; where they differ, find out why before you go on. Before
you end, go through the list once more.
"""


def _skills(scene: Scene) -> list[Variant]:
    """A first skill, of general use: what is learnt about tasks comes later, by edits of the folder."""
    if any(traits.name == "Skills" for traits in scene.incumbent.traits) or _SKILL in scene.incumbent.assets:
        return []
    edit = Edit((SetAsset(_SKILL, _ORDERLY), Insert(Spec("harnessx.processors.Skills"))))
    fix = "How to work is written down, and read where it is needed."
    return [Variant("a folder of skills", edit, fix, signature=Signature("tool_call", "skill"))]


def _disclosure(scene: Scene) -> list[Variant]:
    """Offer the tool that is used most, and the others on demand."""
    calls = [c.call.name for t in scene.trajectories for s in t.steps for c in s.calls]
    names = sorted(set(calls), key=lambda name: (-calls.count(name), name))
    if len(names) < 2 or any(traits.name == "ToolDisclosure" for traits in scene.incumbent.traits):
        return []
    edit = Edit((Insert(Spec("harnessx.processors.ToolDisclosure", {"core": names[:1]})),))
    fix = "Tools that are seldom needed take attention from those that are."
    return [Variant(f"offer {names[0]}, and the rest on demand", edit, fix, signature=Signature("tool_call", names[0]))]


LEVERS = (
    built_in(
        "compaction", Bucket.CONFIG, {S.LONG_CONTEXT: 0.8, S.FORGETTING: 0.6},
        "Compaction", "What is old is summarised before it crowds out the rest.",
        tuple(
            {"max_tokens": most, "target_tokens": most // 2, "summary_tokens": most // 5} for most in (400, 800, 1600)
        ),
    ),
    built_in(
        "result pages", Bucket.CONFIG, {S.LONG_CONTEXT: 0.6, S.FORGETTING: 0.2},
        "ResultPages", "A long result is read as far as it is needed.", tuple({"page_chars": n} for n in (200, 800)),
    ),
    built_in(
        "plan", Bucket.PROCESSOR, {S.UNADDRESSED_GOAL: 0.4, S.STOPPED_EARLY: 0.3, S.FORGETTING: 0.3},
        "Plan", "A plan that stays in view loses no part of the task.", ({}, {"ask_first": True}),
    ),
    built_in(
        "sub-agents", Bucket.TOOLS, {S.LONG_CONTEXT: 0.3, S.EXHAUSTED: 0.2},
        "SubAgents", "What can be done apart does not fill the main context.", ({}, {"guidance": ""}),
    ),
    built_in(
        "input guard", Bucket.PROCESSOR, {S.UNADDRESSED_GOAL: 0.1},
        "InputGuard", "A result that gives orders does not lead away from the task.",
    ),
    Lever("skills", Bucket.TOOLS, {S.UNADDRESSED_GOAL: 0.3, S.STOPPED_EARLY: 0.2}, _skills),
    Lever("tool disclosure", Bucket.TOOLS, {S.LONG_CONTEXT: 0.4}, _disclosure),
)  # fmt: skip
"""The auditor and the output guard are not among them: the first needs a judge, the second rules that a person sets."""
