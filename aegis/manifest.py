"""The change manifest: what an edit claims, in a form that can be checked and scored (paper §3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from aegis.record import Bucket, Prediction
from harnessx.canonical import canonical_json
from harnessx.errors import UserError

SIGNATURES = ("processor_invocation", "tool_call", "prompt_feature")
ACTIONS = ("add", "modify", "remove")


class ManifestInvalid(UserError):
    """A manifest that does not follow the schema. ``problems`` lists every finding."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why the change is within reach: a claim and the anchors (``t12_a0#step_5``) that bear it out."""

    type: str
    claim: str
    observed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of the bundle and what happens to it."""

    path: str
    action: str
    summary: str


@dataclass(frozen=True, slots=True)
class Signature:
    """How to see in a trajectory that the change acted."""

    type: str
    name: str
    expected_min_calls: int = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """Identity, bucket, evidence, prediction and argument of one candidate edit."""

    candidate_id: str
    title: str
    bucket: tuple[Bucket, ...]
    capability_evidence: tuple[Evidence, ...]
    file_changes: tuple[FileChange, ...]
    predicted_impact: Prediction
    attribution_signature: Signature
    failure_evidence: str
    root_cause: str
    targeted_fix: str
    risk_argument: str
    overlap: str = ""
    """Why touching a component that is already there is on purpose."""
    lever: str = ""
    """The proposer's name for the kind of edit; ships of one lever are audited together."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """The proposer's own bookkeeping; nobody else reads it."""

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON."""
        data = asdict(self)
        data["bucket"] = [b.value for b in self.bucket]
        return data

    @classmethod
    def from_json(cls, data: object) -> Manifest:
        """Inverse of `to_json`, strict.

        Raises:
            ManifestInvalid: missing or unknown fields, or values of the wrong kind; all of them.
        """
        if not isinstance(data, Mapping):
            raise ManifestInvalid([f"a manifest is an object, not {type(data).__name__}"])
        known = set(cls.__dataclass_fields__)
        optional = {"overlap", "lever", "meta"}
        problems = [f"unknown field {name!r}" for name in sorted(set(data) - known)]
        problems += [f"missing field {name!r}" for name in sorted(known - optional - set(data))]
        if problems:
            raise ManifestInvalid(problems)
        try:
            manifest = cls(
                **{
                    **data,
                    "bucket": tuple(Bucket(b) for b in _listed(data["bucket"])),
                    "capability_evidence": tuple(_evidence(e) for e in _listed(data["capability_evidence"])),
                    "file_changes": tuple(FileChange(**c) for c in _listed(data["file_changes"])),
                    "predicted_impact": _prediction(data["predicted_impact"]),
                    "attribution_signature": Signature(**data["attribution_signature"]),
                }
            )
            canonical_json(manifest.to_json())
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            raise ManifestInvalid([f"malformed manifest: {error}"]) from error
        problems = manifest.problems()
        if problems:
            raise ManifestInvalid(problems)
        return manifest

    def problems(self) -> list[str]:
        """What keeps the manifest from being complete; empty when it is."""
        found = self._ill_typed()
        if found:
            return found
        found = [
            f"{name} is empty"
            for name in ("candidate_id", "title", "failure_evidence", "root_cause", "targeted_fix",
                         "risk_argument")
            if not getattr(self, name).strip()
        ]  # fmt: skip
        if not self.bucket:
            found.append(f"bucket is empty; valid: {', '.join(Bucket)}")
        if not self.capability_evidence:
            found.append("capability_evidence is empty")
        if not self.file_changes:
            found.append("file_changes is empty")
        found += [f"file action {c.action!r}; valid: {', '.join(ACTIONS)}" for c in self.file_changes
                  if c.action not in ACTIONS]  # fmt: skip
        signature = self.attribution_signature
        if signature.type not in SIGNATURES or not signature.name:
            found.append(f"attribution_signature needs a name and a type of {', '.join(SIGNATURES)}")
        impact = self.predicted_impact
        if not impact.unlock and not impact.stabilize:
            found.append("predicted_impact names no task that will unlock or stabilize")
        return found

    def _ill_typed(self) -> list[str]:
        """Fields that hold something else than the text they should; nothing else can be said of them."""
        impact, signature = self.predicted_impact, self.attribution_signature
        texts: dict[str, Sequence[object]] = {
            name: (getattr(self, name),) for name in ("candidate_id", "title", "failure_evidence", "root_cause",
                                                      "targeted_fix", "risk_argument", "overlap", "lever")
        }  # fmt: skip
        texts["capability_evidence"] = [t for e in self.capability_evidence for t in (e.type, e.claim, *e.observed)]
        texts["file_changes"] = [t for c in self.file_changes for t in (c.path, c.action, c.summary)]
        texts["predicted_impact"] = [*impact.unlock, *impact.stabilize, *impact.at_risk]
        texts["attribution_signature"] = [signature.type, signature.name]
        found = [f"{name} must be text" for name, values in texts.items() if not all(map(_is_text, values))]
        if type(signature.expected_min_calls) is not int:
            found.append("attribution_signature.expected_min_calls must be a whole number")
        return found

    def anchors(self) -> tuple[str, ...]:
        """Every anchor the manifest leans on."""
        return tuple(anchor for evidence in self.capability_evidence for anchor in evidence.observed)

    def to_markdown(self) -> str:
        """The manifest as people read it."""
        impact = self.predicted_impact
        lines = [
            f"# {self.candidate_id}: {self.title}",
            "",
            f"* bucket: {', '.join(self.bucket)}",
            f"* lever: {self.lever or '—'}",
            f"* will unlock: {', '.join(impact.unlock) or '—'}",
            f"* will stabilize: {', '.join(impact.stabilize) or '—'}",
            f"* at risk: {', '.join(impact.at_risk) or '—'}",
            f"* seen by: {self.attribution_signature.type} `{self.attribution_signature.name}` "
            f"(at least {self.attribution_signature.expected_min_calls})",
            "",
            "## Failure evidence", "", self.failure_evidence, "",
            "## Root cause", "", self.root_cause, "",
            "## Fix", "", self.targeted_fix, "",
            "## Why tasks at risk will not break", "", self.risk_argument, "",
            "## Capability evidence", "",
            *(f"* {e.type}: {e.claim} ({', '.join(e.observed) or 'no anchor'})" for e in self.capability_evidence),
            "",
            "## Files", "",
            *(f"* `{c.path}` ({c.action}): {c.summary}" for c in self.file_changes),
        ]  # fmt: skip
        if self.overlap:
            lines += ["", "## Overlap", "", self.overlap]
        return "\n".join(lines) + "\n"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and (value.isascii() or value == value.encode(errors="replace").decode())


def _listed(values: object) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError(f"a list is expected, not {type(values).__name__}")
    return tuple(values)


def _evidence(data: Mapping[str, Any]) -> Evidence:
    return Evidence(data["type"], data["claim"], _listed(data.get("observed", ())))


def _prediction(data: Mapping[str, Any]) -> Prediction:
    return Prediction(**{name: _listed(tasks) for name, tasks in data.items()})
