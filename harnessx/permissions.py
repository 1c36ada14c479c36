"""What tools do to the world, and who allows it.

A tool declares its effects. A call of it runs only if **every** rule grants **every** effect it declares: the
user's rule (``permissions=`` of a run), the harness's (``slots.permissions``) and the tool's own declaration.
What no rule speaks of is denied; so is a tool that does not say what it does, since it might do anything.
The host decides, where the call arrives; nothing that runs on the worker's side is asked.

``ask`` means that a person is asked before anything runs; until the answer is there, it is denied.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum


class Effect(StrEnum):
    """What a call can do."""

    READ = "read"
    """Looks at the state of the task's world."""
    WRITE = "write"
    """Changes the state of the task's world."""
    EXECUTE = "execute"
    """Runs programs that the agent wrote or chose."""
    NETWORK = "network"
    """Reaches machines beyond the task's world."""
    PAY = "pay"
    """Spends somebody's money, or orders what costs some."""


class Grant(StrEnum):
    """A rule's word on one effect."""

    DENY = "deny"
    ASK = "ask"
    GRANT = "grant"

    def __and__(self, other: Grant) -> Grant:
        order = tuple(Grant)
        return min(self, other, key=order.index)


EVERYTHING = frozenset(Effect)
REACHING = frozenset({Effect.EXECUTE, Effect.NETWORK, Effect.PAY})
"""Effects beyond the state of the task's own world: an edit that adds one waits for approval."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """One rule. The default is that of a harness or user who says nothing: the task's own world, no further."""

    read: Grant = Grant.GRANT
    write: Grant = Grant.GRANT
    execute: Grant = Grant.DENY
    network: Grant = Grant.DENY
    pay: Grant = Grant.DENY

    def __getitem__(self, effect: Effect) -> Grant:
        return Grant(getattr(self, effect.value))

    def __and__(self, other: Permissions) -> Permissions:
        """The stricter word of both on each effect."""
        return Permissions(*(self[effect] & other[effect] for effect in Effect))

    def granted(self, approved: Collection[Effect] = ()) -> frozenset[Effect]:
        """The effects that are granted, counting those asked for that a person approved."""
        return frozenset(e for e in Effect if self[e] is Grant.GRANT or (self[e] is Grant.ASK and e in approved))

    def wider(self, other: Permissions) -> frozenset[Effect]:
        """The effects on which this rule is more permissive than ``other``."""
        return frozenset(e for e in Effect if self[e] & other[e] is not self[e])

    def to_json(self) -> dict[str, str]:
        """Only what differs from the default."""
        return {f.name: Grant(getattr(self, f.name)).value for f in fields(self) if getattr(self, f.name) != f.default}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Permissions:
        """Inverse of `to_json`.

        Raises:
            ValueError: an unknown effect or word; says which are known.
        """
        words: dict[str, Grant] = {}
        for name, word in data.items():
            if name not in tuple(Effect):
                raise ValueError(f"unknown effect {name!r}; valid: {', '.join(Effect)}")
            if not isinstance(word, str) or word not in tuple(Grant):
                raise ValueError(f"{name}={word!r}; valid: {', '.join(Grant)}")
            words[name] = Grant(word)
        return cls(**words)


USUAL = Permissions().granted()
"""What is granted where nobody says anything."""


def effects_of(declared: Iterable[Effect] | None) -> frozenset[Effect]:
    """What a tool may do by its declaration; None, no declaration, stands for everything."""
    return EVERYTHING if declared is None else frozenset(declared)


def refusal(declared: Iterable[Effect] | None, granted: Collection[Effect]) -> str:
    """Why a call of a tool with these effects does not run; '' where it does."""
    lacking = [effect for effect in Effect if effect in effects_of(declared) and effect not in granted]
    if not lacking:
        return ""
    if declared is None:
        return f"the tool does not say what it does, and not everything is permitted ({', '.join(lacking)} is not)"
    return f"no permission to {' or '.join(map(_VERBS.__getitem__, lacking))}"


_VERBS = {
    Effect.READ: "read the world",
    Effect.WRITE: "change the world",
    Effect.EXECUTE: "execute programs",
    Effect.NETWORK: "use the network",
    Effect.PAY: "pay",
}
