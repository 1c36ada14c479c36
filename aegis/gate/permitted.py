"""Check: what the tools of a candidate declare to do is permitted; and how much further an edit reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aegis.approvals import Answer, Asked, Request
from aegis.candidate import Candidate
from aegis.gate.base import Finding
from aegis.routing import RoutedPool, System
from harnessx.algebra import Edit
from harnessx.errors import UserError
from harnessx.harness import HarnessConfig
from harnessx.messages import ToolSchema
from harnessx.permissions import EVERYTHING, REACHING, Effect, Permissions, effects_of, refusal
from harnessx.runner.pool import Pool


@dataclass(frozen=True, slots=True)
class Consent:
    """Who permits what: the user's rule, the world's tools, and the desk where a person is asked.

    ``grant`` is told which effects a person's word has opened, where a rule says ``ask``.
    """

    desk: Asked
    user: Permissions = field(default_factory=Permissions)
    tools: Sequence[ToolSchema] = ()
    grant: Callable[[frozenset[Effect]], None] = lambda effects: None
    _said: dict[str, str] = field(default_factory=dict)

    async def settle(self, baseline: HarnessConfig) -> None:
        """Ask for what the first harness's tools need and a rule leaves to a person; before anything runs.

        Raises:
            UserError: it needs what is not permitted, or what the person denies.
        """
        problems = unmet(baseline, self.tools, self.user)
        if problems:
            raise UserError(f"the harness to start from: {'; '.join(problems)}")
        rule = self.user & baseline.slots.permissions
        needed = frozenset[Effect]().union(*_declared(baseline, self.tools).values()) - rule.granted()
        if needed:
            why = tuple(f"its tools may {effect}" for effect in Effect if effect in needed)
            answer = await self.desk.ask(Request("the harness to start from", why, baseline.digest))
            if not answer.allowed:
                raise UserError(f"the harness to start from needs {', '.join(sorted(needed))}, which was denied")
            self.grant(needed)

    async def ask(self, candidate: Candidate, why: Sequence[str]) -> Answer:
        """A person's word on an edit; by its content, so that it holds on whatever incumbent it lands."""
        title = f"{candidate.id}, {candidate.manifest.title}"
        answer = await self.desk.ask(about_edit(title, why, candidate.proposal.edit))
        self._said[candidate.id] = answer.said
        return answer

    def said(self, candidate: Candidate) -> str:
        """What a person said of the candidate; '' where nobody was asked."""
        return self._said.get(candidate.id, "")


def about_edit(title: str, why: Sequence[str], edit: Edit) -> Request:
    """What is asked about an edit."""
    return Request(title, tuple(why), edit.to_json())


class Permitted:
    """Nothing that the candidate offers needs more than the user's and its own rule could ever grant."""

    name = "permissions"

    def __init__(self, consent: Consent) -> None:
        self._consent = consent

    async def __call__(self, candidate: Candidate) -> Finding | None:
        problems = unmet(candidate.harness, self._consent.tools, self._consent.user)
        return Finding(self.name, "; ".join(problems)) if problems else None


def check_permitted(system: System, pool: Pool) -> None:
    """Refuse what is to be scored and offers tools that are not permitted; nobody is asked here, so ask means no.

    Raises:
        UserError: names tool, effect and setting.
    """
    for harness in system.variants if isinstance(system, RoutedPool) else (system,):
        problems = unmet(harness, pool.benchmark.tools, pool.config.permissions, frozenset())
        if problems:
            raise UserError("; ".join(problems))


def unmet(
    harness: HarnessConfig, tools: Sequence[ToolSchema], user: Permissions, said: frozenset[Effect] = EVERYTHING
) -> list[str]:
    """What the offered tools declare and is not granted, with the remedy; ``said`` is what a person allows if asked."""
    both = (user & harness.slots.permissions).granted(said)
    silent = {tool.name for tool in tools if tool.effects is None}
    processors = {traits.name for traits in harness.traits}
    problems = []
    for name, effects in _declared(harness, tools).items():
        reason = refusal(None if name in silent else effects, both)
        if reason:
            lacking = [e for e in Effect if e in effects and e not in both]
            by_user = [f"permissions.{e}=grant" for e in lacking if e not in user.granted(said)]
            own = harness.slots.permissions.granted(said)
            by_harness = [f"slots.permissions.{e}: grant" for e in lacking if e not in own]
            remedy = " and ".join([*by_user, *by_harness])
            kind = "processor" if name in processors else "tool"
            problems.append(f"its {kind} {name}: {reason}; that takes {remedy}, or a harness that does not offer it")
    return problems


def reach(candidate: Candidate, tools: Sequence[ToolSchema]) -> tuple[tuple[str, ...], frozenset[Effect]]:
    """In which ways an edit lets tools do more than before, and the effects that this opens."""
    return further(candidate.parent, candidate.harness, tools)


def further(
    before: HarnessConfig, after: HarnessConfig, tools: Sequence[ToolSchema]
) -> tuple[tuple[str, ...], frozenset[Effect]]:
    """`reach` of what made ``after`` out of ``before``."""
    rule, old = after.slots.permissions, before.slots.permissions
    opened = rule.wider(old)
    why = [f"permissions.{e}: {old[e]} -> {rule[e]}" for e in Effect if e in opened]
    had, code = _declared(before, tools), _code(before)
    processors = {traits.name for traits in after.traits}
    for name, effects in _declared(after, tools).items():
        far = effects & REACHING
        if far and (not far <= had.get(name, frozenset()) or _code(after).get(name) != code.get(name)):
            kind = "processor" if name in processors else "tool"
            why.append(f"{kind} {name} may {', '.join(sorted(far))}")
            opened |= far
    return tuple(why), opened


def _declared(harness: HarnessConfig, tools: Sequence[ToolSchema]) -> dict[str, frozenset[Effect]]:
    """Effects by name of every tool the harness offers: the world's that it exposes, its own, and its processors."""
    expose = harness.slots.tools.expose
    world = {tool.name: effects_of(tool.effects) for tool in tools if expose is None or tool.name in expose}
    return {**world, **harness.own_effects}


def _code(harness: HarnessConfig) -> Mapping[str, object]:
    """What the harness's own parts are made of, by name: all its code, since one module may import another."""
    sources = [text for path, text in harness.assets.items() if path.endswith(".py")]
    parts = (*harness.processors, *harness.slots.tools.add)
    return {spec.name: (spec, sources if spec.is_asset else ()) for spec in parts}
