"""Check 2: the edited harness is canonical, well typed and another one than the incumbent."""

from __future__ import annotations

from aegis.candidate import Candidate
from aegis.gate.base import Finding
from harnessx.errors import HarnessInvalid
from harnessx.harness import HarnessConfig


class Canonical:
    """The harness survives its own serialization, follows from its edit, and differs from its parent."""

    name = "canonical"

    async def __call__(self, candidate: Candidate) -> Finding | None:
        harness = candidate.harness
        try:
            again = HarnessConfig.from_yaml(harness.to_yaml(), harness.assets)
            applied = candidate.proposal.edit.apply(candidate.parent)
        except HarnessInvalid as error:
            return Finding(self.name, str(error))
        if again != harness or applied != harness:
            return Finding(self.name, "the harness is not what its edit and its YAML say")
        if harness == candidate.parent:
            return Finding(self.name, "the edit changes nothing: the incumbent's digest is the same")
        return None
