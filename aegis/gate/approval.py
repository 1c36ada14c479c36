"""Edits above the risk threshold need a person (paper §3); those that let tools do more, before they run at all."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from aegis.candidate import Candidate
from aegis.gate.base import Finding
from aegis.gate.permitted import Consent, about_edit, further, reach
from aegis.record import Bucket
from harnessx.algebra import Edit
from harnessx.harness import HarnessConfig


class Risk(IntEnum):
    """How much of the agent an edit can change."""

    PROMPT = 1
    CONFIG = 2
    TOOLS = 3
    CODE = 4
    REACH = 5
    """It widens permissions, or adds or changes a tool that executes, uses the network or pays."""


def risk(candidate: Candidate, consent: Consent | None = None) -> Risk:
    """What reaches beyond the task's world is the riskiest, then new code, tools, parameters, wording."""
    if reach(candidate, consent.tools if consent is not None else ())[0]:
        return Risk.REACH
    if candidate.new_code:
        return Risk.CODE
    buckets = set(candidate.manifest.bucket)
    if Bucket.TOOLS in buckets:
        return Risk.TOOLS
    return Risk.CONFIG if buckets & {Bucket.CONFIG, Bucket.PROCESSOR} else Risk.PROMPT


class Approval:
    """Above ``threshold`` an edit waits for the desk's answer.

    ``early`` asks only about edits that reach further, and before anything of them runs; the others are asked
    about when they would ship, with the evidence there to look at.
    """

    name = "approval"

    def __init__(self, consent: Consent, threshold: Risk, *, early: bool = False) -> None:
        self._consent, self._threshold, self._early = consent, threshold, early

    async def __call__(self, candidate: Candidate) -> Finding | None:
        found = risk(candidate, self._consent)
        if found <= self._threshold or (self._early and found is not Risk.REACH):
            return None
        said = f"risk {found.name.lower()} is above {self._threshold.name.lower()}"
        why, opened = reach(candidate, self._consent.tools)
        answer = await self._consent.ask(candidate, why or (said,))
        if not answer.allowed:
            return Finding(self.name, answer.said or "; ".join((said, *why)))
        self._consent.grant(opened)
        return None


async def reopen(consent: Consent, threshold: Risk, baseline: HarnessConfig, edits: Iterable[Edit]) -> None:
    """Grant again what was granted to a harness as it grew in its run: to ``baseline``, and to each shipped edit.

    Raises:
        UserError: ``baseline`` needs what is not permitted, or was not approved.
    """
    await consent.settle(baseline)
    harness = baseline
    for edit in edits:
        before, harness = harness, edit.apply(harness)
        why, opened = further(before, harness, consent.tools)
        if opened and threshold < Risk.REACH and (await consent.desk.ask(about_edit("", why, edit))).allowed:
            consent.grant(opened)
