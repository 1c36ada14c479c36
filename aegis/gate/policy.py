"""Check 3: static policy on evolved source and smoke tests. It gives good errors; the wall is elsewhere.

Every finding has the file, the line, the rule and what to do instead.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence

from aegis.candidate import Candidate
from aegis.gate.base import Finding
from harnessx.redaction import redact

MIN_LITERAL = 6
"""Characters; what is shorter is found in any text by chance."""
MOST_SAID = 50
"""Findings that a reason lists; a source that has more is not mended line by line."""


class StaticPolicy:
    """Import allow-list, no dynamic code, no dunder games, no reach into the loop, no task literals, no secrets.

    Task literals and secrets are looked for in the edit's texts too (prompts, parameters, descriptions). A harness
    with a secret would be another one once it is written down, where secrets are taken out.
    """

    name = "policy"

    def __init__(self, task_literals: Collection[str] = ()) -> None:
        self._literals = sorted({t for t in task_literals if len(t) >= MIN_LITERAL})

    async def __call__(self, candidate: Candidate) -> Finding | None:
        from aegis.gate.source import belongs, findings_in

        proposal = candidate.proposal
        tests = {f"smoke test of {path}": source for path, source in proposal.smoke.items()}
        findings = [str(f) for f in findings_in({**candidate.new_code, **tests}, self._literals)]
        if not findings:
            texts = _texts(proposal.edit.to_json())
            findings = [f"the edit: task literal: {belongs(t)}" for text in texts for t in self._literals if t in text]
        if redact(json.dumps(proposal.edit.to_json())) != json.dumps(proposal.edit.to_json()):
            findings.append("the edit: secret: it holds what looks like a key or password; leave it out")
        more = [f"and {len(findings) - MOST_SAID} more"] if len(findings) > MOST_SAID else []
        return Finding(self.name, "; ".join([*findings[:MOST_SAID], *more])) if findings else None


def _texts(value: object) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (str(key), *_texts(item))
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item)
