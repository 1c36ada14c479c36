"""Prompt levers: sentences added to the instructions. Many teach nothing, some teach the wrong thing."""

from __future__ import annotations

from collections.abc import Sequence

from aegis.manifest import Signature
from aegis.meta.catalog.lever import Lever, Scene, Variant, insertion
from aegis.record import Bucket
from aegis.stages.symptoms import Symptom

# What a goal may ask to be done to a thing, the words that ask for it, and where one might do it. The
# places are guesses of a layman: the first is not always right.
TRANSFORMATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "clean": (("clean",), ("sinkbasin", "bathtubbasin")),
    "heat": (("heat", "hot"), ("microwave", "stoveburner")),
    "cool": (("cool", "cold"), ("fridge", "sinkbasin")),
    "look at": (("examine", "look", "light"), ("desklamp", "floorlamp")),
}

SEARCH_ORDERS = (
    "Look on open surfaces such as countertops, tables and shelves first, and in closed places last.",
    "Search drawers and cabinets before anything else.",
    "Look in the fridge first.",
)
ADVICE = {
    "one at a time": "Carry one object at a time: bring the first where it belongs before you take the second.",
    "persist": "Keep going until the goal is reached; do not give up early.",
    "give up repeats": "When a command changes nothing, do not repeat it; try something else.",
    "call a tool": "Always answer with a call of a tool; a command in plain text does nothing.",
    "exact names": "Write every name exactly as it was shown, with its number.",
    "reason": "Think about what you know and what you still need before every step.",
    "be brief": "Be brief.",
}
CODE_OF_CONDUCT = (
    "Work carefully and in good order. Plan ahead and keep the whole of the plan in mind. Take note of what each "
    "result tells you and change the plan when it must change. Prefer certainty to speed. Remember that every step "
    "has a price. Do nothing twice without a reason. Be polite, be patient, and be precise in all that you write."
)


def _add(title: str, text: str, fix: str) -> Variant:
    return Variant(
        f"instruct: {title}",
        insertion("Instructions", text=text),
        fix,
        "it adds a section below the system prompt, which stays as it is",
        signature=Signature("prompt_feature", title),
    )


def _said(scene: Scene, text: str) -> bool:
    return any(text in str(spec.params.get("text", "")) for spec in scene.incumbent.processors)


def procedure(verb: str, place: str) -> str:
    """How something is done, in one sentence."""
    if verb == "look at":
        return f"To look at something in the light, hold it, go to the {place} and use the {place}."
    return f"To {verb} something, hold it, go to the {place} and {verb} it with the {place}."


def _procedures(scene: Scene) -> list[Variant]:
    """Procedures for what the goals of the failing tasks ask for most; one verb, or two together."""
    words = scene.goal_words()
    asked = {verb: sum(words[w] for w in asking) for verb, (asking, _) in TRANSFORMATIONS.items()}
    verbs = [v for v in sorted(asked, key=lambda v: (-asked[v], v)) if asked[v]]
    choices: list[tuple[tuple[str, str], ...]] = []
    for verb in verbs:
        choices += [((verb, place),) for place in TRANSFORMATIONS[verb][1]]
    firsts = [(verb, TRANSFORMATIONS[verb][1][0]) for verb in verbs]
    choices += [(a, b) for i, a in enumerate(firsts) for b in firsts[i + 1 :]]
    variants = []
    for choice in choices:
        text = " ".join(procedure(verb, place) for verb, place in choice)
        if not any(_said(scene, procedure(*one)) for one in choice):
            title = " and ".join(f"{verb} with the {place}" for verb, place in choice)
            variants.append(_add(title, text, "The goal asks for something the agent was never told how to do."))
    return variants


def _orders(scene: Scene) -> list[Variant]:
    return [
        _add(f"search order {i + 1}", text, "A better order of search finds things in fewer steps.")
        for i, text in enumerate(SEARCH_ORDERS)
        if not _said(scene, text)
    ]


def _advice(*titles: str) -> Lever:
    def variants(scene: Scene) -> list[Variant]:
        texts = [(t, ADVICE[t]) for t in titles if not _said(scene, ADVICE[t])]
        return [_add(title, text, "The agent was not told so.") for title, text in texts]

    return Lever(f"advice: {titles[0]}", Bucket.PROMPT, _ADVISED[titles[0]], variants)


_ADVISED: dict[str, dict[Symptom, float]] = {
    "one at a time": {Symptom.STOPPED_EARLY: 0.3, Symptom.EXHAUSTED: 0.6, Symptom.UNADDRESSED_GOAL: 0.2},
    "persist": {Symptom.STOPPED_EARLY: 0.6},
    "give up repeats": {Symptom.REPEATED_CALL: 0.7, Symptom.FORGETTING: 0.3},
    "call a tool": {Symptom.STOPPED_EARLY: 0.5, Symptom.MALFORMED_CALL: 0.2},
    "exact names": {Symptom.MALFORMED_CALL: 0.5},
    "reason": {Symptom.EXHAUSTED: 0.3, Symptom.UNADDRESSED_GOAL: 0.2},
}


def _conduct(scene: Scene) -> list[Variant]:
    if _said(scene, CODE_OF_CONDUCT):
        return []
    return [_add("code of conduct", CODE_OF_CONDUCT, "General guidance may steady the agent.")]


def _examples(scene: Scene) -> Sequence[Variant]:
    """A few-shot example made of the shortest success in the trajectories."""
    solved = [t for t in scene.trajectories if t.passed and t.steps and t.steps[0].exchanges]
    if not solved or any(traits.name == "FewShot" for traits in scene.incumbent.traits):
        return []
    best = min(solved, key=lambda t: (len(t.steps), t.task_id, t.attempt))
    lines = [
        " ".join(map(str, call.call.arguments.values())) + " -> " + call.content for s in best.steps for call in s.calls
    ]
    edit = insertion("FewShot", examples=["\n".join(lines)[:1500]])
    return [Variant("few-shot: the shortest success", edit, "An example shows what words do not.")]


LEVERS = (
    Lever(
        "procedures",
        Bucket.PROMPT,
        {Symptom.UNADDRESSED_GOAL: 1.0, Symptom.EXHAUSTED: 0.4, Symptom.STOPPED_EARLY: 0.2},
        _procedures,
    ),
    Lever("search order", Bucket.PROMPT, {Symptom.EXHAUSTED: 0.8, Symptom.FORGETTING: 0.3}, _orders),
    _advice("one at a time"),
    _advice("persist"),
    _advice("give up repeats"),
    _advice("call a tool"),
    _advice("exact names"),
    _advice("reason", "be brief"),
    Lever("code of conduct", Bucket.PROMPT, {Symptom.EXHAUSTED: 0.2, Symptom.MALFORMED_CALL: 0.1}, _conduct),
    Lever("few-shot", Bucket.PROMPT, {Symptom.MALFORMED_CALL: 0.3, Symptom.EXHAUSTED: 0.3}, _examples),
)
