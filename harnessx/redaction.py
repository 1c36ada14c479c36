"""Secrets are taken out where they come in, and once more where anything is written.

Two kinds are known: texts in the shape of a provider's key (`SHAPES`), and the values of environment variables
whose names say that they hold one (`secrets_of`). What gets through: a key without a shape that no variable holds,
and one that was encoded, split or spelt.

**A replay stays exact** because the host redacts answers, results, first observations and errors before the loop
sees them. Loop, record and cache then hold the same text, so that what is stored asks, when it is replayed, what
was asked before; the placeholder is one word for all secrets, for the same reason: it does not change when a key is
rotated between two sittings. The price: a task that is about a key-shaped text cannot be solved, and two keys in one
text are told apart no more. Redacting twice is redacting once, so the store may do it again.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harnessx.messages import ModelResponse, ToolCall

REDACTED = "[redacted]"
SHORTEST = 8
"""Characters of a variable's value that is looked for."""

_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt])|(?<=\\u[0-9a-fA-F]{4}))"
"""Where a key may begin: also behind an escape, so that JSON text can be searched as it is."""
_START_OF_ALL = _START.replace("[A-Za-z0-9]", "[A-Za-z0-9_-]", 1)
"""Where a text of parts may begin whose first may be of any length: not within what that part may hold, or ``-eyJ``
many times over would be read to its end from each, for hours, by whoever redacts."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of key: a character and a text that stand in every one, looked for first, and its pattern."""

    character: str
    mark: str
    pattern: str


SHAPES = (
    Shape("-", "sk-", rf"{_START}sk-[A-Za-z0-9_-]{{20,}}"),  # OpenAI, Anthropic, OpenRouter, DeepSeek, Langfuse
    Shape("-", "xox", rf"{_START}xox[abeoprs]-[A-Za-z0-9-]{{10,}}"),  # Slack
    Shape("-", "xai-", rf"{_START}xai-[A-Za-z0-9]{{20,}}"),
    Shape("-", "pplx-", rf"{_START}pplx-[A-Za-z0-9]{{20,}}"),  # Perplexity
    Shape("-", "nvapi-", rf"{_START}nvapi-[A-Za-z0-9_-]{{20,}}"),
    Shape("-", "tvly-", rf"{_START}tvly-[A-Za-z0-9-]{{16,}}"),  # Tavily
    Shape("-", "glpat-", rf"{_START}glpat-[A-Za-z0-9_-]{{20,}}"),  # GitLab
    Shape("-", "pypi-", rf"{_START}pypi-[A-Za-z0-9_-]{{50,}}"),
    Shape("-", "PRIVATE KEY-", r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----[^\"]*?(?:-----END [A-Z ]+-----|(?=\")|\Z)"),
    *(Shape("_", f"gh{kind}_", rf"{_START}gh{kind}_[A-Za-z0-9]{{36,}}") for kind in "oprsu"),  # GitHub, classic
    Shape("_", "github_pat_", rf"{_START}github_pat_[A-Za-z0-9_]{{22,}}"),
    Shape("_", "hf_", rf"{_START}hf_[A-Za-z0-9]{{30,}}"),  # Hugging Face
    Shape("_", "gsk_", rf"{_START}gsk_[A-Za-z0-9]{{40,}}"),  # Groq
    Shape("_", "r8_", rf"{_START}r8_[A-Za-z0-9]{{30,}}"),  # Replicate
    Shape("_", "npm_", rf"{_START}npm_[A-Za-z0-9]{{36}}"),
    Shape("_", "k_live_", rf"{_START}[prs]k_live_[A-Za-z0-9]{{16,}}"),  # Stripe
    Shape("_", "k_test_", rf"{_START}[prs]k_test_[A-Za-z0-9]{{16,}}"),
    Shape("_", "ecret_access_key", r"(?<=ecret_access_key)([\"'\s:=]{1,8})[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"),  # AWS
    Shape("_", "ECRET_ACCESS_KEY", r"(?<=ECRET_ACCESS_KEY)([\"'\s:=]{1,8})[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"),
    Shape("I", "AKIA", rf"{_START}AKIA[A-Z0-9]{{16}}(?![A-Z0-9])"),  # AWS, lasting
    Shape("I", "ASIA", rf"{_START}ASIA[A-Z0-9]{{16}}(?![A-Z0-9])"),  # AWS, temporary
    Shape("I", "AIza", rf"{_START}AIza[A-Za-z0-9_-]{{35}}"),  # Google
    Shape("9", "ya29.", rf"{_START}ya29\.[A-Za-z0-9_-]{{20,}}"),  # Google, OAuth
    Shape("G", "SG.", rf"{_START}SG\.[A-Za-z0-9_-]{{22}}\.[A-Za-z0-9_-]{{43}}"),  # SendGrid
    Shape("J", "eyJ", rf"{_START_OF_ALL}eyJ[A-Za-z0-9_-]{{10,}}\.eyJ[A-Za-z0-9_-]{{10,}}\.[A-Za-z0-9_-]+"),  # RFC 7519
    Shape("B", "Bearer ", r"(?<=Bearer )[A-Za-z0-9._~+/=-]{16,}"),  # RFC 6750
    Shape("@", "://", r"(?<=://)[^\s/@:\"'\\]*:[^\s/@\"'\\]+(?=@)"),  # RFC 3986, 3.2.1
)

_NAME = re.compile(r"(?:^|_)(?:API_?KEY|KEY|SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|PAT|CREDENTIALS?)(?:_|$)", re.I)


class Redactor:
    """Replaces secrets in texts by `REDACTED`. Text without any costs a few searches for single characters.

    Args:
        values: secrets without a shape.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        spellings = {form for value in values for form in (value, json.dumps(value)[1:-1], quote(value, safe=""))}
        self._values = tuple(sorted(spellings, key=lambda value: (-len(value), value)))
        gates: dict[str, tuple[str, ...]] = {}
        for shape in SHAPES:
            gates[shape.character] = (*gates.get(shape.character, ()), shape.mark)
        self._gates = (*gates.items(), *((value, ("",)) for value in self._values))
        patterns = [*map(re.escape, self._values), *(shape.pattern for shape in SHAPES)]
        self._pattern = re.compile("|".join(patterns))

    def __call__(self, text: str) -> str:
        """``text`` without secrets; the same object where there are none."""
        for character, marks in self._gates:
            if character in text:
                for mark in marks:
                    if mark in text:
                        return self._pattern.sub(_masked, text)
        return text

    def value(self, value: Any) -> Any:
        """A JSON value without secrets, keys included; the same object where there are none."""
        match value:
            case str():
                return self(value)
            case Mapping():
                pairs = [(self(str(key)), self.value(item)) for key, item in value.items()]
                same = all(k == key and new is old for (k, new), (key, old) in zip(pairs, value.items(), strict=True))
                return value if same else dict(pairs)
            case list() | tuple():
                items = [self.value(item) for item in value]
                same = all(new is old for new, old in zip(items, value, strict=True))
                return value if same else type(value)(items)
        return value

    def response(self, answer: ModelResponse) -> ModelResponse:
        """A model's answer without secrets; token ids of a text that had some are dropped, since they spell them."""
        if self._plain(answer):
            return answer
        content = self(answer.content)
        calls = answer.tool_calls and tuple(map(self._call, answer.tool_calls))
        extra, raw = answer.extra and self.value(answer.extra), answer.raw and self.value(answer.raw)
        same = content is answer.content and extra is answer.extra and raw is answer.raw
        if same and all(new is old for new, old in zip(calls, answer.tool_calls, strict=True)):
            return answer
        return replace(answer, content=content, tool_calls=calls, extra=extra, raw=raw, token_ids=None, logprobs=None)

    def error(self, error: BaseException) -> None:
        """Take secrets out of what an error says."""
        error.args = tuple(self(part) if isinstance(part, str) else part for part in error.args)

    def _plain(self, answer: ModelResponse) -> bool:
        """Whether all its texts, read as one, hold no secret; False where there are others than those at hand."""
        if answer.extra or answer.raw:
            return False
        texts = [answer.content]
        for call in answer.tool_calls:
            texts.append(call.name)
            if call.raw is not None:
                texts.append(call.raw)
            for key, value in call.arguments.items():
                texts.append(key)
                kind = type(value)
                if kind is str:
                    texts.append(value)
                elif kind is not int and kind is not float and kind is not bool:
                    return False
        if len(texts) == 1:
            return self(answer.content) is answer.content
        together = "\n".join(texts)
        return self(together) is together

    def _call(self, call: ToolCall) -> ToolCall:
        name, arguments = self(call.name), self.value(call.arguments)
        raw = None if call.raw is None else self(call.raw)
        if name is call.name and arguments is call.arguments and raw is call.raw:
            return call
        return replace(call, name=name, arguments=arguments, raw=raw)


def _masked(found: re.Match[str]) -> str:
    return f"{found[found.lastindex]}{REDACTED}" if found.lastindex else REDACTED


def secrets_of(environment: Mapping[str, str]) -> Sequence[str]:
    """The values of the variables that are named like keys, as far as they can be one.

    Left out: paths, what is shorter than `SHORTEST`, and plain words and numbers of less than twice that, which
    stand in any text.
    """
    return [value for name, value in environment.items() if _NAME.search(name) and _is_secret(value)]


def _is_secret(value: str) -> bool:
    if len(value) < SHORTEST or any(map(str.isspace, value)):
        return False
    if len(value) < 2 * SHORTEST and (value.isdigit() or (value.isalpha() and value in (value.lower(), value.upper()))):
        return False
    return not (value.startswith(("/", "~")) and Path(value).expanduser().exists())


@functools.cache
def redactor() -> Redactor:
    """The redactor of this process: its environment is read once."""
    return Redactor(secrets_of(os.environ))


def redact(text: str) -> str:
    """``text`` without secrets, those of this process's environment included."""
    return redactor()(text)
