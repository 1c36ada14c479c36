"""Which model serves which role (M of paper §2), and what stands in when one fails.

A model reference is a LiteLLM string (``openai/gpt-5.4``), a mapping ``{_target_: dotted.path,
**params}``, or a `Model` instance.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from harnessx.canonical import digest_of
from harnessx.errors import ModelFailure, UserError
from harnessx.messages import ModelRequest, ModelResponse, Usage
from harnessx.models.base import CallContext, Model
from harnessx.models.patience import Patience
from harnessx.models.provider import Provider
from harnessx.spec import spec_of

if TYPE_CHECKING:
    from harnessx.agent import Agent
    from harnessx.harness import HarnessConfig

_LITELLM = "harnessx.models.litellm.LiteLLM"
_JUDGES = ("judge", "evaluator")
ModelRef: TypeAlias = "str | Mapping[str, Any] | Model"


def account_of(role: str) -> str:
    """Which account of a budget pays for the calls of a role of the task model."""
    return "judge" if role in _JUDGES else "task"


class ModelConfig:
    """Roles and their fallbacks. ``main`` is required; others default to it where a harness asks.

    Args:
        main: the model of the agent itself.
        fallback: role -> references tried in order when the role's model fails.
        sampling: provider parameters sent with every request (temperature, max_tokens, …).
        roles: further roles (judge, strong, evaluator, …).
    """

    def __init__(
        self,
        main: ModelRef,
        *,
        fallback: Mapping[str, Sequence[ModelRef]] | None = None,
        sampling: Mapping[str, Any] | None = None,
        **roles: ModelRef,
    ) -> None:
        self.roles: dict[str, ModelRef] = {"main": main, **roles}
        self.fallback = {role: tuple(refs) for role, refs in (fallback or {}).items()}
        self.sampling = dict(sampling or {})
        unknown = sorted(set(self.fallback) - set(self.roles))
        if unknown:
            raise UserError(f"fallback for unknown role {unknown[0]!r}; roles: {', '.join(self.roles)}")

    @property
    def deterministic(self) -> bool:
        """Whether every model, fallbacks included, declares (``deterministic = True``) that it answers the same
        request in the same `CallContext` the same, whenever it is asked.

        Raises:
            UserError: a target that does not exist.
        """
        refs = [*self.roles.values(), *(ref for refs in self.fallback.values() for ref in refs)]
        return all(map(_is_deterministic, refs))

    @property
    def price(self) -> tuple[float, float] | None:
        """Dollars of a prompt token and of a completion token of ``main``; None where they are not known.

        A program that runs here, and answers the same whenever it is asked, costs nothing unless it says so.
        """
        ref = self.roles["main"]
        unsaid = (0.0, 0.0) if _is_deterministic(ref) else None
        price: tuple[float, float] | None = getattr(build_model(ref), "price", unsaid)
        return price

    def agentic(self, harness: HarnessConfig) -> Agent:
        """A runnable agent: this model, that harness (``M.agentic(C)`` of the paper)."""
        from harnessx.agent import Agent

        return Agent(self, harness)

    def to_json(self) -> dict[str, Any]:
        """References in a form another process can build the same models from.

        Raises:
            UserError: a reference is a live object that cannot be written down.
        """
        return {
            "roles": {role: _written(ref) for role, ref in self.roles.items()},
            "fallback": {role: [_written(r) for r in refs] for role, refs in self.fallback.items()},
            "sampling": self.sampling,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Inverse of `to_json`."""
        roles = dict(data["roles"])
        return cls(roles.pop("main"), fallback=data["fallback"], sampling=data["sampling"], **roles)

    @property
    def digest(self) -> str:
        """Identity of all roles, fallbacks and sampling: part of every rollout key."""
        return digest_of(self.to_json())


def _is_deterministic(ref: ModelRef) -> bool:
    if isinstance(ref, str):
        return False
    if isinstance(ref, Mapping):
        module, _, name = str(ref.get("_target_", _LITELLM)).rpartition(".")
        try:
            return bool(getattr(getattr(importlib.import_module(module), name), "deterministic", False))
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(f"model target {ref['_target_']!r}: {error}") from error
    return bool(getattr(ref, "deterministic", False))


class Teller(Protocol):
    """Who is asked before money is spent."""

    async def reserve(self, account: str) -> int:
        """Wait for the right to one call, which is known by a number.

        Raises:
            CallRefused: the budget is spent.
        """
        ...

    def settle(self, ticket: int, usage: Usage | None) -> None:
        """The call is over, and took ``usage`` (None: nothing)."""
        ...


class Models:
    """The live models of a `ModelConfig`: routes a request to its role and falls back on failure.

    Args:
        patience: with models behind a network, each of which takes at most ``ceiling`` calls at once.
        teller: asked before each call, told after it; a call is that of a role, whichever of its models answers.
    """

    def __init__(
        self, config: ModelConfig, patience: Patience | None = None, ceiling: int = 64, teller: Teller | None = None
    ) -> None:
        self._teller = teller
        built: dict[str, Model] = {}

        def get(ref: ModelRef) -> Model:
            key = digest_of(_written(ref)) if isinstance(ref, str | Mapping) else str(id(ref))
            if key not in built:
                model = build_model(ref)
                remote = getattr(model, "remote", False)
                built[key] = Provider(model, patience, ceiling) if remote else model
            return built[key]

        self.roles = tuple(config.roles)
        self._sampling = config.sampling or None
        self._chains = {
            role: (get(ref), *(get(r) for r in config.fallback.get(role, ()))) for role, ref in config.roles.items()
        }
        self._digests = {role: ",".join(m.digest for m in chain) for role, chain in self._chains.items()}

    def digest(self, role: str) -> str:
        """Identity of the chain that serves ``role``."""
        return self._digests[role]

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """Answer by the role's model, else by its fallbacks; a fallback's answer is tagged.

        Raises:
            ModelFailure: every model of the chain failed; the last failure.
            Halt: so will every later call.
        """
        if self._teller is None:
            return await self._answer(request, context)
        return await self._paid(self._teller, request, context)

    async def _paid(self, teller: Teller, request: ModelRequest, context: CallContext) -> ModelResponse:
        usage: Usage | None = None
        with context.watch.stopped():
            ticket = await teller.reserve(account_of(request.role))
        try:
            answer = await self._answer(request, context)
            usage = answer.usage
        finally:
            teller.settle(ticket, usage)
        return answer

    async def _answer(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        if self._sampling is not None and request.sampling is None:
            request = dataclasses.replace(request, sampling=self._sampling)
        first, *others = self._chains[request.role]
        if not others:
            return await first.complete(request, context)
        try:
            return await first.complete(request, context)
        except ModelFailure as failure:
            last = failure
        for model in others:
            try:
                answer = await model.complete(request, context)
            except ModelFailure as failure:
                last = failure
                continue
            return dataclasses.replace(answer, extra={**(answer.extra or {}), "fallback": model.name})
        raise last


def build_model(ref: ModelRef) -> Model:
    """The live model behind a reference.

    Raises:
        UserError: a target that does not exist or does not take these parameters.
    """
    if isinstance(ref, str):
        from harnessx.models.litellm import LiteLLM

        return LiteLLM(ref)
    if not isinstance(ref, Mapping):
        return ref
    target, factory = _factory(ref)
    try:
        return factory(**_params(ref))
    except ValueError as error:
        raise UserError(f"model target {target!r}: {error}") from error
    except TypeError as error:
        raise UserError(f"model {target}: {error}") from error


def check_reference(ref: ModelRef) -> None:
    """Refuse a reference to what is no model, without making one.

    Raises:
        UserError: a target that does not exist, is no model, or does not take these parameters.
    """
    if not isinstance(ref, Mapping):
        return
    target, factory = _factory(ref)
    try:
        inspect.signature(factory).bind(**_params(ref))
    except TypeError as error:
        raise UserError(f"model {target}: {error}") from error


def _factory(ref: Mapping[str, Any]) -> tuple[str, type[Model]]:
    target = str(ref.get("_target_", "harnessx.models.litellm.LiteLLM"))
    module, _, name = target.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"model target {target!r}: {error}") from error
    if not (isinstance(factory, type) and callable(getattr(factory, "complete", None))):
        raise UserError(f"model target {target!r} is no model: it has to be a class with a method complete")
    return target, factory


def _params(ref: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in ref.items() if k != "_target_"}


def _written(ref: ModelRef) -> str | dict[str, Any]:
    if isinstance(ref, str):
        return ref
    if isinstance(ref, Mapping):
        return dict(ref)
    if dataclasses.is_dataclass(ref):
        return spec_of(ref).to_json()
    raise UserError(f"the model {ref!r} cannot be written down; give a string or a {{_target_: …}} mapping")
