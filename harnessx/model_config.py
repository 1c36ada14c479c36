"""Which model serves which role (M of paper §2), and what stands in when one fails.

A model reference is a LiteLLM string (``openai/gpt-5.4``), a mapping ``{_target_: dotted.path,
**params}``, or a `Model` instance.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from harnessx.canonical import digest_of
from harnessx.errors import ModelFailure, UserError
from harnessx.messages import ModelRequest, ModelResponse, Usage
from harnessx.models.base import Adapting, CallContext, Model
from harnessx.models.identity import Identity, Register
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

    An answer is kept by the caller under the key of the model that gave it, and read after that: so what a fallback
    answered never passes for an answer of the model it stood in for.

    Args:
        patience: with models behind a network, each of which takes at most ``ceiling`` calls at once.
        teller: asked before each call, told after it; a call is that of a role, whichever of its models answers.
        report: told who answered, each time it is somebody that this process has not heard of.
    """

    def __init__(
        self,
        config: ModelConfig,
        patience: Patience | None = None,
        ceiling: int = 64,
        teller: Teller | None = None,
        report: Callable[[Identity], None] | None = None,
    ) -> None:
        self._teller = teller
        self._report = report or Register().note
        self._known: set[Identity] = set()
        built: dict[str, _Link] = {}

        def get(ref: ModelRef) -> _Link:
            key = digest_of(_written(ref)) if isinstance(ref, str | Mapping) else str(id(ref))
            if key not in built:
                built[key] = _Link.of(build_model(ref), patience, ceiling)
            return built[key]

        self.roles = tuple(config.roles)
        self._sampling = config.sampling or None
        self._chains = {
            role: (get(ref), *(get(r) for r in config.fallback.get(role, ()))) for role, ref in config.roles.items()
        }

    def sampled(self, request: ModelRequest) -> ModelRequest:
        """The request with the parameters that all requests have, where it brings none."""
        if self._sampling is None or request.sampling is not None:
            return request
        return dataclasses.replace(request, sampling=self._sampling)

    def questions(self, request: ModelRequest) -> tuple[str, ...]:
        """What each model of the chain would be asked: ``<hash of the question>:<model>``, the first choice first."""
        return tuple(f"{link.key(request)}:{link.digest}" for link in self._chains[request.role])

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """`ask` and `read` in one."""
        request = self.sampled(request)
        place, answer = await self.ask(request, context)
        return self.read(request, place, answer)

    def ask(self, request: ModelRequest, context: CallContext) -> Coroutine[Any, Any, tuple[int, ModelResponse]]:
        """Answer by the role's model, else by its fallbacks: the place in the chain, and the answer as it came.

        Raises:
            ModelFailure: every model of the chain failed; the last failure, with what all of them cost.
            Halt: so will every later call.
        """
        return self._answer(request, context) if self._teller is None else self._told(self._teller, request, context)

    async def _told(self, teller: Teller, request: ModelRequest, context: CallContext) -> tuple[int, ModelResponse]:
        usage: Usage | None = None
        with context.watch.stopped():
            ticket = await teller.reserve(account_of(request.role))
        try:
            place, answer = await self._answer(request, context)
            usage = answer.usage
        except ModelFailure as failure:
            usage = failure.usage
            raise
        finally:
            teller.settle(ticket, usage)
        return place, answer

    def read(self, request: ModelRequest, place: int, answer: ModelResponse) -> ModelResponse:
        """What an answer says that was asked for now or is kept; a fallback's is tagged."""
        link = self._chains[request.role][place]
        if link.adapting is not None and answer.raw is not None:
            answer = link.adapting.read(request, answer)
        if place:
            answer = dataclasses.replace(answer, extra={**(answer.extra or {}), "fallback": link.model.name})
        return answer

    async def _answer(self, request: ModelRequest, context: CallContext) -> tuple[int, ModelResponse]:
        lost: list[ModelFailure] = []
        for place, link in enumerate(self._chains[request.role]):
            try:
                answer = await link.ask(request, context)
            except ModelFailure as failure:
                lost.append(failure)
                continue
            if link.remote:
                self._note(link, answer)
            return place, _with(answer, lost) if lost else answer
        last = lost[-1]
        spent = [failure.usage for failure in lost if failure.usage is not None]
        last.usage = sum(spent, Usage()) if spent else None
        raise last

    def _note(self, link: _Link, answer: ModelResponse) -> None:
        identity = Identity.of(link.model.name, answer, link.prices)
        if identity not in self._known:
            self._known.add(identity)
            self._report(identity)


def _with(answer: ModelResponse, lost: Sequence[ModelFailure]) -> ModelResponse:
    """The answer with what it cost to be refused before."""
    usage = sum((failure.usage for failure in lost if failure.usage is not None), answer.usage)
    return dataclasses.replace(answer, usage=usage)


@dataclasses.dataclass(frozen=True)
class _Link:
    """One model of a chain, and how it is asked."""

    model: Model
    digest: str
    ask: Callable[[ModelRequest, CallContext], Awaitable[ModelResponse]]
    adapting: Adapting | None
    remote: bool

    @classmethod
    def of(cls, model: Model, patience: Patience | None, ceiling: int) -> _Link:
        adapting = model if isinstance(model, Adapting) else None
        remote = bool(getattr(model, "remote", False))
        ask = model.ask if isinstance(model, Adapting) else model.complete
        if remote:
            ask = Provider(model, patience, ceiling).ask
        return cls(model, model.digest, ask, adapting, remote)

    def key(self, request: ModelRequest) -> str:
        return request.digest() if self.adapting is None else self.adapting.key(request)

    @functools.cached_property
    def prices(self) -> Mapping[str, float] | None:
        found: Mapping[str, float] | None = getattr(self.model, "price_list", None)
        return found


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
