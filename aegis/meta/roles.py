"""The four roles: each a harness of this project, a model, and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from aegis.settings import number, section_of, whole
from harnessx.errors import HarnessInvalid, UserError
from harnessx.harness import HarnessConfig
from harnessx.model_config import ModelConfig, ModelRef, build_model, check_reference

HARNESSES = Path(__file__).parents[2] / "configs/meta/llm"
PROMPTS = Path(__file__).parents[1] / "prompts"
REMINDER = "StepBudgetReminder"


class Role(StrEnum):
    """Who is asked (paper §3)."""

    DIGESTER = "digester"
    PLANNER = "planner"
    EVOLVER = "evolver"
    CRITIC = "critic"


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """``meta.roles.<role>``: limits are of one session; None is unlimited, and for ``model`` that of ``meta.model``.

    ``harness`` is a bundle folder or a YAML file in the place of ``configs/meta/llm/<role>.yaml``.
    """

    model: ModelRef | None
    harness: str | None
    steps: int
    tokens: int | None
    usd: float | None

    @classmethod
    def of(cls, role: str, section: object) -> RoleSettings:
        """Check and type a section.

        Raises:
            UserError: names the setting.
        """
        name = f"meta.roles.{role}"
        if not isinstance(section, Mapping):
            raise UserError(f"{name} must be a mapping of model, harness, steps, tokens and usd")
        found = section_of(cls, name, section)
        whole(f"{name}.steps", found.steps, 2)
        if found.tokens is not None:
            whole(f"{name}.tokens", found.tokens)
        if found.usd is not None:
            number(f"{name}.usd", found.usd, "above 0", lambda x: x > 0)
        check_model(f"{name}.model", found.model)
        if found.harness is not None and not isinstance(found.harness, str):
            raise UserError(f"{name}.harness={found.harness!r} must be a path, or null")
        return found


def check_model(name: str, ref: object) -> None:
    """Refuse what names no model.

    Raises:
        UserError: names the setting.
    """
    if ref is None or (isinstance(ref, str) and ref):
        return
    if not isinstance(ref, Mapping):
        raise UserError(f"{name}={ref!r} must be a model such as openai/gpt-5.4-mini")
    try:
        check_reference(ref)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def role_settings(roles: object) -> dict[Role, RoleSettings]:
    """All four sections.

    Raises:
        UserError: one is missing or unknown, or a value is out of range.
    """
    if not isinstance(roles, Mapping):
        raise UserError(f"meta.roles must be a mapping of {', '.join(Role)}")
    for name in roles:
        if name not in tuple(Role):
            raise UserError(f"no setting is called meta.roles.{name}; valid: {', '.join(Role)}")
    return {role: RoleSettings.of(role, roles.get(role)) for role in Role}


def role_harness(role: Role, settings: RoleSettings) -> HarnessConfig:
    """The harness of a role, within its limits. Time is not limited: a run taken up again has another.

    Raises:
        UserError: no such harness, one that is not well typed, or one with code of its own.
    """
    try:
        harness = _own(role) if settings.harness is None else HarnessConfig.load(settings.harness)
        limits: dict[str, Any] = {"steps": settings.steps, "tokens": settings.tokens, "cost_usd": settings.usd}
        for name, value in {**limits, "wall_s": None}.items():
            harness = harness.set_slot(f"limits.{name}", value)
        if any(traits.name == REMINDER for traits in harness.traits):
            harness = harness.set_param(REMINDER, limit=settings.steps)
    except HarnessInvalid as error:
        raise UserError(f"meta.roles.{role}.harness: {error}") from error
    if harness.has_code:
        raise UserError(f"meta.roles.{role}.harness={settings.harness} brings code of its own, which roles do not run")
    return harness


def _own(role: Role) -> HarnessConfig:
    """The harness of this project, with its prompts."""
    text = (HARNESSES / f"{role}.yaml").read_text(encoding="utf-8")
    prompts = {f"assets/{path.name}": path.read_text(encoding="utf-8") for path in sorted(PROMPTS.glob("*.md"))}
    used = {path: prompt for path, prompt in prompts.items() if path in text}
    return HarnessConfig.from_yaml(text, used)


def role_model(role: Role, settings: RoleSettings, shared: ModelRef | None, task_model: ModelConfig) -> ModelConfig:
    """The model of a role: its own, else the one all roles share, else the task model's.

    Raises:
        UserError: none of them is a language model.
    """
    ref = settings.model or shared
    if ref is not None:
        return ModelConfig(main=ref)
    if not getattr(build_model(task_model.roles["main"]), "remote", False):
        raise UserError(f"the {role} has no model: the task model is none that could evolve a harness; "
                        "set meta.model=provider/name")  # fmt: skip
    return ModelConfig(main=task_model.roles["main"], sampling=task_model.sampling)
