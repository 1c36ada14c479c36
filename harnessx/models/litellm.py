"""Every provider behind one call: a `Model` over LiteLLM.

LiteLLM takes seconds to import, so it is imported with the first request.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import os
import re
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from harnessx.canonical import digest_of
from harnessx.errors import LimitReached, ModelFailure, StopReason
from harnessx.messages import ModelRequest, ModelResponse, ToolCall, Usage
from harnessx.models import text_tools
from harnessx.models.base import CallContext
from harnessx.models.chat import REPLAYED, ChatFormat
from harnessx.models.prices import Prices, knows_tools

_LASTING = (400, 401, 403, 404, 405, 413, 422)
"""HTTP statuses that the same request meets again."""
TOOLS = ("auto", "native", "text")
_NO_KEY = "none"
"""What an endpoint of one's own is told that wants some key and no particular one."""


@dataclass
class LiteLLM:
    """A provider's model by its LiteLLM name, e.g. ``openai/gpt-5.4`` or ``hosted_vllm/Qwen/Qwen3.5-9B``.

    Args:
        api_base: address of the endpoint, where it is not the provider's own: vLLM, Ollama, llama.cpp, …
        params: further parameters of every request (``timeout``, ``reasoning_effort``, …).
        tools: how tools are offered: ``native``, as ``text`` (`harnessx.models.text_tools`) to models that know none,
            or ``auto``: as text where LiteLLM's table says that the model knows none.
        seeded: whether each request carries a seed of its own, where the provider takes one.

    Keys are read from the provider's environment variable. Raises (from ``ask`` and ``complete``):
        ModelFailure: the provider failed.
        LimitReached: the request is longer than the model's context window.
    """

    model: str
    api_base: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    tools: str = "auto"
    seeded: bool = True
    remote: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.tools not in TOOLS:
            raise ValueError(f"tools={self.tools!r}; valid: {', '.join(TOOLS)}")
        if self.params.get("stream"):
            raise ValueError("params.stream: nobody waits for half an answer here; leave it out")

    @property
    def name(self) -> str:
        """The LiteLLM name."""
        return self.model

    @property
    def digest(self) -> str:
        """Hash of name, endpoint and parameters."""
        return digest_of([self.model, self.api_base, dict(self.params), self.tools, self.seeded])

    @property
    def price(self) -> tuple[float, float] | None:
        """Dollars of a prompt token and of a completion token, None where LiteLLM's table has none."""
        return self._prices.rates

    @property
    def price_list(self) -> Mapping[str, float] | None:
        """All that the table says of its prices, None where it has none."""
        return self._prices.row

    @functools.cached_property
    def _prices(self) -> Prices:
        return Prices(_litellm(), self.model)

    @functools.cached_property
    def _form(self) -> ChatFormat:
        in_text = self.tools == "text" or (self.tools == "auto" and not knows_tools(_litellm(), self.model))
        return ChatFormat(self.model, in_text, marked="claude" in self.model.lower())

    @functools.cached_property
    def _takes_seeds(self) -> bool:
        return self.seeded and "seed" in (_litellm().get_supported_openai_params(self.model) or ())

    def key(self, request: ModelRequest) -> str:
        """Hash of what the provider is told."""
        return self._form.key(request)

    async def complete(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """Ask, and read the answer."""
        return self.read(request, await self.ask(request, context))

    async def ask(self, request: ModelRequest, context: CallContext) -> ModelResponse:
        """Ask the provider once: retries and caching are the caller's."""
        litellm = _litellm()
        litellm.aclient_session = _session()
        import openai  # LiteLLM raises OpenAI's errors, whoever the provider is

        try:
            answer = await litellm.acompletion(**self._arguments(request, context))
        except litellm.exceptions.ContextWindowExceededError as error:
            raise LimitReached(StopReason.TOKEN_LIMIT, f"{self.model}: the context window is full") from error
        except openai.OpenAIError as error:
            raise self._failure(error) from error
        try:
            return self._kept(answer)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            said = f"{self.model}: an answer without a choice or of another shape: {error}"
            raise ModelFailure(said, usage=self._usage(answer)) from error

    def read(self, request: ModelRequest, answer: ModelResponse) -> ModelResponse:
        """Content, calls and reasoning of a kept answer."""
        assert answer.raw is not None
        choice = answer.raw["choices"][0]
        message = choice["message"]
        content, calls = message.get("content") or "", tuple(map(_call, message.get("tool_calls") or ()))
        if self._form.in_text and request.tools and not calls:
            content, calls = text_tools.read(content)
        replayed = {name: value for name in REPLAYED if (value := message.get(name))}
        ids, logprobs = _tokens(choice)
        return ModelResponse(
            content=content,
            tool_calls=calls,
            usage=answer.usage,
            model=answer.model,
            finish_reason=choice.get("finish_reason") or "stop",
            extra={"model": self.model, **replayed} if replayed else None,
            token_ids=ids,
            logprobs=logprobs,
            fingerprint=answer.fingerprint,
        )

    def _arguments(self, request: ModelRequest, context: CallContext) -> dict[str, Any]:
        arguments: dict[str, Any] = {"model": self.model, "messages": self._form.messages(request), "max_retries": 0}
        if tools := self._form.tools(request.tools):
            arguments["tools"] = tools
            arguments["_skip_mcp_handler"] = True  # else LiteLLM wants the package mcp for any tool
        if self._takes_seeds:
            arguments["seed"] = seed_of(context)
        if self.api_base is not None:
            arguments["api_base"] = self.api_base
            if self._lacking():
                arguments["api_key"] = _NO_KEY
        return arguments | {**self.params, **(request.sampling or {})}

    def _lacking(self) -> list[str]:
        """The variables that LiteLLM would read a key from, and that are not set."""
        missing: list[str] = _litellm().validate_environment(self.model)["missing_keys"]
        return missing

    def _kept(self, answer: Any) -> ModelResponse:
        """The answer as it is kept, if it has the shape of one."""
        raw = answer.model_dump(mode="json", exclude_none=True)
        _ = raw["choices"][0]["message"]
        return ModelResponse(
            usage=self._usage(answer) or Usage(),
            model=raw.get("model", ""),
            fingerprint=raw.get("system_fingerprint", ""),
            raw=raw,
        )

    def _usage(self, answer: Any) -> Usage | None:
        """Tokens as the provider counted them, and their price. None: it did not count."""
        usage = getattr(answer, "usage", None)
        if usage is None:
            return None
        cached = getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", None) or 0
        return Usage(usage.prompt_tokens, usage.completion_tokens, cached, self._prices.of(answer))

    def _failure(self, error: Exception) -> ModelFailure:
        said = _said(error)
        status = getattr(error, "status_code", None)
        lasting = status in _LASTING
        missing = [] if self.api_base is not None else self._lacking()
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
            said = f"{type(error).__name__}: {said}{self._hint(said)}"
        transient = not (lasting or missing or package)
        return ModelFailure(f"{self.model}: {said}", transient=transient, status=status, retry_after=_asked(error))

    def _hint(self, said: str) -> str:
        """What to do about a model that takes no tools."""
        refused = re.search(r"not support (?:\w+ )?(?:tool|function)|enable-auto-tool-choice", said, re.IGNORECASE)
        return "; set tools: text for this model" if refused and not self._form.in_text else ""


def seed_of(context: CallContext) -> int:
    """The seed of a call, 31 bits: another for each attempt and each repetition, the same for whoever asks there."""
    origin = f"{context.seed}/{context.task_id}/{context.attempt}/{context.path}/{context.n}"
    return int.from_bytes(hashlib.blake2b(origin.encode(errors="replace"), digest_size=4).digest(), "big") >> 1


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


def _call(call: Mapping[str, Any]) -> ToolCall:
    """A tool call; arguments that are not a JSON object are kept as they came, in ``raw``."""
    function = call.get("function") or {}
    ident, name, raw = call.get("id") or "", function.get("name") or "", function.get("arguments") or "{}"
    try:
        arguments = json.loads(raw)
    except ValueError:
        arguments = None
    if isinstance(arguments, dict):
        return ToolCall(ident, name, arguments)
    return ToolCall(ident, name, raw=raw)


def _tokens(choice: Mapping[str, Any]) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None]:
    """Token ids and log-probabilities of an answer, where the provider gives them."""
    ids = choice.get("token_ids") or (choice.get("provider_specific_fields") or {}).get("token_ids")
    rows = (choice.get("logprobs") or {}).get("content")
    return tuple(ids) if ids else None, tuple(row["logprob"] for row in rows) if rows else None
