"""What each role is told when it is asked. What stands in its standing orders is in ``aegis/prompts``."""

from __future__ import annotations

import json
from collections.abc import Sequence

from aegis.candidate import Candidate, Proposal
from aegis.meta.answers import Finding, Question
from aegis.meta.base import Brief, Case, Survey
from aegis.meta.desk import PAGE
from aegis.meta.view import told, trace
from aegis.stages.evidence import evidence
from aegis.stages.symptoms import Symptom

TRACE_CHARS = 8_000
"""Of a trajectory that is shown before it is asked for."""


def judge(case: Case) -> str:
    """To the Digester: one failure."""
    record = case.record
    rows = [f"* {o.symptom}: {o.detail} (steps {', '.join(map(str, o.steps[:8]))})" for o in case.observations]
    rates = " ".join(f"{rate:.2f}" for rate in case.history) or "not played before"
    return "\n".join([
        f"# Task {record.task_id}, round {case.round}",
        "",
        f"pass rates by round: {rates}",
        f"components of the harness: {', '.join(case.components) or 'none'}",
        f"categories in use: {', '.join(Symptom)}",
        "",
        "## What was measured in the failing attempt", "", *rows, "",
        f"## The failing attempt (traces/{record.id}.md)", "",
        _cut(trace(record), TRACE_CHARS, f"read traces/{record.id}.md for the rest"),
    ])  # fmt: skip


def more_evidence(question: Question) -> str:
    """To the Digester: what the Critic wants to know."""
    where = f"Its attempts are in traces/{question.task}_a0.md and on."
    return f"# A question about task {question.task}\n\n{question.text}\n\n{where}"


def plan(survey: Survey) -> str:
    """To the Planner."""
    return f"{survey.landscape.to_markdown()}\n{evidence(survey.digest)}\n{told(survey.history)}"


def propose(brief: Brief, trials: int) -> str:
    """To the Evolver: a new batch."""
    return "\n".join([
        f"# Round {brief.round}: up to {brief.count} candidates, {trials} rollouts to check and try them with", "",
        brief.landscape.to_markdown(), "",
        *_harness(brief),
        evidence(brief.digest), told(brief.history),
    ])  # fmt: skip


def revise(proposal: Proposal, request: str, brief: Brief) -> str:
    """To the Evolver: one candidate that the Critic wants changed."""
    return "\n".join([
        f"# Round {brief.round}: the Critic asks for one revision of {proposal.manifest.candidate_id}", "",
        f"Asked for: {request}", "",
        "Write the revised candidate, whole, under a new name, and answer with that name alone; or decline with no_op.",
        "", "## The candidate", "", written(proposal), "",
        *_harness(brief),
    ])  # fmt: skip


def review(candidates: Sequence[Candidate], brief: Brief, answers: Sequence[tuple[Question, Sequence[Finding]]]) -> str:
    """To the Critic; with what it had asked for, where it had."""
    found = [
        "\n".join([f"* {q.task}: {q.text}", *(f"  * `{f.anchor}` {f.text}" for f in findings or ())]
                  + ([] if findings else ["  * nothing was found"]))
        for q, findings in answers
    ]  # fmt: skip
    return "\n".join([
        f"# Round {brief.round}: {len(candidates)} candidates", "",
        brief.landscape.to_markdown(), "",
        *(["## What you asked for", "", *found, ""] if answers else []),
        "## Candidates", "", *(f"{written(c.proposal)}\n" for c in candidates),
        *_harness(brief),
        evidence(brief.digest, 6_000), told(brief.history),
    ])  # fmt: skip


def written(proposal: Proposal) -> str:
    """A candidate as it is shown: its manifest and its edit."""
    edit = json.dumps(proposal.edit.to_json(), indent=1, ensure_ascii=False)
    return f"{proposal.manifest.to_markdown()}\n## Edit\n\n{_cut(edit, PAGE, 'the rest is longer than this page')}"


def _harness(brief: Brief) -> list[str]:
    shown = _cut(brief.incumbent.to_yaml(), PAGE, "read the file for the rest")
    return ["## The harness (harness/harness.yaml)", "", shown]


def _cut(text: str, most: int, rest: str) -> str:
    return text if len(text) <= most else f"{text[:most]}\n[cut: {rest}]"
