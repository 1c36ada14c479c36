"""A lever: one kind of edit, which failures it might cure, and how it looks on a given harness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aegis.manifest import FileChange, Signature
from aegis.record import Bucket
from aegis.stages.digester import TaskDigest
from aegis.stages.symptoms import Symptom
from harnessx.algebra import Edit, Insert, SetAsset
from harnessx.harness import HarnessConfig
from harnessx.spec import Spec
from harnessx.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Scene:
    """What a lever may look at: the incumbent, the failing tasks it is aimed at, all trajectories."""

    incumbent: HarnessConfig
    tasks: Sequence[TaskDigest]
    trajectories: Sequence[Trajectory]

    def goal_words(self) -> Counter[str]:
        """How many of the aimed-at tasks have each word in their goal."""
        return Counter(word for task in self.tasks for word in task.goal)


@dataclass(frozen=True, slots=True)
class Variant:
    """One concrete edit of a lever. ``touches`` says why it may touch a component that is there."""

    title: str
    edit: Edit
    fix: str
    touches: str = "it adds to what is there and takes nothing away"
    smoke: Mapping[str, str] = field(default_factory=dict)
    signature: Signature = field(default_factory=lambda: Signature("processor_invocation", "harness"))

    def file_changes(self, incumbent: HarnessConfig) -> tuple[FileChange, ...]:
        """The files the edit changes."""
        changes = [FileChange("harness.yaml", "modify", self.title)]
        for operation in self.edit.operations:
            if isinstance(operation, SetAsset):
                known = operation.path in incumbent.assets
                action = "remove" if operation.text is None else "modify" if known else "add"
                changes.append(FileChange(operation.path, action, self.title))
        return tuple(changes)


@dataclass(frozen=True, slots=True)
class Lever:
    """``cures`` gives, per symptom, how likely the lever is to help (0 to 1)."""

    name: str
    bucket: Bucket
    cures: Mapping[Symptom, float]
    variants: Callable[[Scene], Sequence[Variant]]


def insertion(name: str, /, **params: object) -> Edit:
    """Insert a built-in processor."""
    return Edit((Insert(Spec(f"harnessx.processors.{name}", params)),))


def built_in(
    name: str,
    bucket: Bucket,
    cures: Mapping[Symptom, float],
    processor: str,
    fix: str,
    choices: Sequence[Mapping[str, object]] = ({},),
) -> Lever:
    """A lever that inserts a built-in processor, with one of several parameter sets."""

    def variants(scene: Scene) -> list[Variant]:
        if any(traits.name == processor for traits in scene.incumbent.traits):
            return []
        return [
            Variant(
                f"{processor}({', '.join(f'{k}={v!r}' for k, v in params.items())})",
                insertion(processor, **params),
                fix,
                signature=Signature("processor_invocation", processor),
            )
            for params in choices
        ]

    return Lever(name, bucket, cures, variants)
