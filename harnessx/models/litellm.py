"""Every provider behind one call: a `Model` over LiteLLM.

LiteLLM takes seconds to import, so it is imported with the first request.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from harnessx.canonical import digest_of
from harnessx.errors import LimitReached, ModelFailure, StopReason
from harnessx.messages import Message, ModelRequest, ModelResponse, Part, ToolCall, Usage
from harnessx.models.base import CallContext

_LASTING = (400, 401, 403, 404, 405, 413, 422)
"""HTTP statuses that the same request meets again."""
_REPLAYED = ("reasoning_content", "thinking_blocks", "provider_specific_fields")
"""Fields of an answer that a provider wants back with the history."""


@dataclass
class LiteLLM:
    """A provider's model by its LiteLLM name, e.g. ``openai/gpt-5.4`` or ``hosted_vllm/Qwen/Qwen3.5-9B``.

    Args:
        api_base: address of the endpoint, where it is not the provider's own.
        params: further parameters of every request (``timeout``, ``reasoning_effort``, …).

    Keys are read from the provider's environment variable. Raises (from ``complete``):
        ModelFailure: the provider failed.
        LimitReached: the request is longer than the model's context window.
    """

    model: str
    api_base: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    remote: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The LiteLLM name."""
        return self.model

    @property
    def digest(self) -> str:
        """Hash of name, endpoint and parameters."""
        return digest_of([self.model, self.api_base, dict(self.params)])

    @property
    def price(self) -> tuple[float, float] | None:
        """Dollars of a prompt token and of a completion token, None where LiteLLM's table has none."""
        litellm = _litellm()
        try:
            costs = litellm.cost_per_token(model=self.model, prompt_tokens=1, completion_tokens=1)
        except Exception:  # noqa: BLE001  (LiteLLM raises plain Exception for a model without a price)
            return None
        return float(costs[0]), float(costs[1])

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """Ask the provider once: retries and caching are the caller's."""
        litellm = _litellm()
        litellm.aclient_session = _session()
        import openai  # LiteLLM raises OpenAI's errors, whoever the provider is

        arguments: dict[str, Any] = {"model": self.model, "messages": _messages(request), "max_retries": 0}
        if request.tools:
            arguments["tools"] = [{"type": "function", "function": tool.to_json()} for tool in request.tools]
            arguments["_skip_mcp_handler"] = True  # else LiteLLM wants the package mcp for any tool
        if self.api_base is not None:
            arguments["api_base"] = self.api_base
        arguments |= {**self.params, **(request.sampling or {})}
        try:
            answer = await litellm.acompletion(**arguments)
        except litellm.exceptions.ContextWindowExceededError as error:
            raise LimitReached(StopReason.TOKEN_LIMIT, f"{self.model}: the context window is full") from error
        except openai.OpenAIError as error:
            raise self._failure(error) from error
        try:
            return _response(litellm, answer, self.model)
        except (AttributeError, IndexError, TypeError) as error:
            raise ModelFailure(f"{self.model}: an answer without a choice or of another shape: {error}") from error

    def _failure(self, error: Exception) -> ModelFailure:
        said = _said(error)
        status = getattr(error, "status_code", None)
        lasting = status in _LASTING
        missing = _litellm().validate_environment(self.model)["missing_keys"]
        package = re.search(r"No module named '(\w+)", said)
        if missing:
            key = f"set {' and '.join(missing)} (any text, where the endpoint needs none)"
            said = key if package else f"{key}: {said}"
        elif package:
            said = f"LiteLLM serves this model only with the package {package[1]}; install it: pip install {package[1]}"
        elif "LLM Provider NOT provided" in said:
            status = None  # nobody was asked
            said = "no provider of LiteLLM by that name; a model is named provider/name, e.g. openai/gpt-5.4-mini"
        else:
            said = f"{type(error).__name__}: {said}"
        transient = not (lasting or missing or package)
        return ModelFailure(f"{self.model}: {said}", transient=transient, status=status, retry_after=_asked(error))


def _said(error: Exception) -> str:
    """The provider's own words, without the names of the errors LiteLLM wraps around them."""
    said = " ".join(str(error).split())
    return re.sub(r"^((litellm\.)?\w+(Error|Exception)(:| -) )+", "", said)[:500]


def _asked(error: Exception) -> float | None:
    """The seconds of a ``Retry-After`` header; a date there is no number of ours, and passed over."""
    headers = getattr(error, "litellm_response_headers", None) or {}
    try:
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, ValueError):
        return None


_sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()


def _session() -> Any:
    """The HTTP client of this event loop: it stops reading an answer that does not end.

    LiteLLM asks endpoints that speak OpenAI's protocol through it. Others answer through clients of its own,
    whose answers are measured only once they are whole.
    """
    from harnessx.models.http import bounded_client

    loop = asyncio.get_running_loop()
    if loop not in _sessions:
        _sessions[loop] = bounded_client()
    return _sessions[loop]


def _litellm() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it fetches prices while importing
    import litellm

    litellm.suppress_debug_info = True
    return litellm


def _messages(request: ModelRequest) -> list[dict[str, Any]]:
    system = [{"role": "system", "content": request.system}] if request.system else []
    return [*system, *map(_message, request.messages)]


def _message(message: Message) -> dict[str, Any]:
    content = message.content if isinstance(message.content, str) else [_part(p) for p in message.content]
    out: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        out["tool_calls"] = [call.to_chat() for call in message.tool_calls]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    return out | {k: v for k, v in (message.extra or {}).items() if k in _REPLAYED}


def _part(part: Part) -> dict[str, Any]:
    if part.kind != "text":
        raise ModelFailure(f"a message holds a {part.kind}, which cannot be sent yet", transient=False)
    return {"type": "text", "text": part.text}


def _response(litellm: Any, answer: Any, model: str) -> ModelResponse:
    choice = answer.choices[0]
    message = choice.message
    extra = {name: value for name in _REPLAYED if (value := getattr(message, name, None))}
    return ModelResponse(
        content=message.content or "",
        tool_calls=tuple(_call(call) for call in message.tool_calls or ()),
        usage=_usage(litellm, answer, model),
        model=answer.model or "",
        finish_reason=choice.finish_reason or "stop",
        extra=extra or None,
        fingerprint=getattr(answer, "system_fingerprint", None) or "",
    )


def _call(call: Any) -> ToolCall:
    """A tool call; arguments that are not a JSON object are kept as they came, in ``raw``."""
    ident, name, raw = call.id or "", call.function.name or "", call.function.arguments or "{}"
    try:
        arguments = json.loads(raw)
    except ValueError:
        arguments = None
    if isinstance(arguments, dict):
        return ToolCall(ident, name, arguments)
    return ToolCall(ident, name, raw=raw)


def _usage(litellm: Any, answer: Any, model: str) -> Usage:
    """Tokens as the provider counted them, money by LiteLLM's price table (None: not in it)."""
    usage = answer.usage
    details = getattr(usage, "prompt_tokens_details", None)
    try:
        cost: float | None = litellm.completion_cost(completion_response=answer, model=model)
    except Exception:  # noqa: BLE001  (LiteLLM raises plain Exception for a model without a price)
        cost = None
    return Usage(usage.prompt_tokens, usage.completion_tokens, getattr(details, "cached_tokens", None) or 0, cost)
