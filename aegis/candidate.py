"""A candidate: an edit of the incumbent, the harness it makes, and what it claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from aegis.manifest import Manifest
from harnessx.algebra import Edit
from harnessx.errors import UserError
from harnessx.harness import HarnessConfig


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the Evolver hands over: an edit, a manifest, and smoke tests by asset path."""

    edit: Edit
    manifest: Manifest
    smoke: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: object) -> Proposal:
        """A proposal as a meta-agent writes it: ``{edit: […], manifest: {…}, smoke: {path: source}}``.

        Raises:
            UserError: it is none; the message says what is wrong with which part.
        """
        if not isinstance(data, Mapping) or not {"edit", "manifest"} <= set(data) <= {"edit", "manifest", "smoke"}:
            raise UserError("a proposal is an object with edit, manifest and, for new code, smoke")
        smoke = data.get("smoke", {})
        if not isinstance(smoke, Mapping) or not all(isinstance(t, str) for pair in smoke.items() for t in pair):
            raise UserError("smoke maps the paths of new code to the sources of their tests")
        return cls(Edit.from_json(data["edit"]), Manifest.from_json(data["manifest"]), dict(smoke))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposal that applies: ``harness`` is ``edit`` on ``parent``, canonical and well typed."""

    round: int
    proposal: Proposal
    parent: HarnessConfig
    harness: HarnessConfig

    @property
    def id(self) -> str:
        """C-R<round>-<nn>."""
        return self.proposal.manifest.candidate_id

    @property
    def manifest(self) -> Manifest:
        """What it claims."""
        return self.proposal.manifest

    @property
    def new_code(self) -> dict[str, str]:
        """Python assets it adds or changes, by path."""
        return {
            path: text
            for path, text in self.harness.assets.items()
            if path.endswith(".py") and self.parent.assets.get(path) != text
        }

    @classmethod
    def of(cls, proposal: Proposal, parent: HarnessConfig, round: int) -> Candidate:
        """Apply the proposal.

        Raises:
            HarnessInvalid: the edit does not apply, or its result is not well typed.
        """
        return cls(round, proposal, parent, proposal.edit.apply(parent))

    def rebased(self, parent: HarnessConfig) -> Candidate:
        """The same edit on another incumbent.

        Raises:
            HarnessInvalid: it does not apply there.
        """
        return replace(self, parent=parent, harness=self.proposal.edit.apply(parent))
