"""Tool calls in plain text, for models whose provider knows no tools.

The grammar, which the system prompt states:

    call   = '<call tool="' name '">' JSON object '</call>'
    result = '<result>' text '</result>'

An answer is text with any number of calls in it. It is read strictly: what stands between the marks of a call is a
JSON object, or it is kept as it came (``ToolCall.raw``), for the harness's own repair or for the model to be told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from harnessx.messages import Message, ToolCall, ToolSchema

_CALL = re.compile(r'<call tool="([^"\n]*)">(.*?)(?:</call>|(?=<call tool=")|\Z)', re.DOTALL)
_WHOLE = "</call>"
_RULES = """You can use tools. To call one, write

<call tool="NAME">
{"argument": "value"}
</call>

with the name of the tool and its arguments as one JSON object, {} where it takes none. Several calls may follow each
other; then stop writing: their results come in the same order, each between <result> and </result>. An answer
without a call is your final answer.

The tools, with the JSON Schema of their arguments:"""


def instructions(tools: Sequence[ToolSchema]) -> str:
    """What a system prompt says of ``tools``; '' where there are none."""
    if not tools:
        return ""
    lines = [f"{tool.name}: {tool.description}\n{_json(dict(tool.parameters))}" for tool in tools]
    return "\n\n".join([_RULES, *lines])


def told(message: Message) -> tuple[str, str]:
    """Role and text of a message, for who knows of no tools."""
    if message.role == "tool":
        return "user", f"<result>\n{message.text}\n</result>"
    return message.role, "\n".join(filter(None, [message.text, *map(_written, message.tool_calls)]))


def read(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    """The text of an answer without its calls, and the calls. A call without its end is kept in ``raw``."""
    calls = tuple(_call(found) for found in _CALL.finditer(text))
    return (_CALL.sub("", text).strip(), calls) if calls else (text, ())


def _call(found: re.Match[str]) -> ToolCall:
    name, body = found[1], found[2].strip()
    if found[0].endswith(_WHOLE):
        try:
            arguments = json.loads(body)
        except ValueError:
            arguments = None
        if isinstance(arguments, dict):
            return ToolCall("", name, arguments)
    return ToolCall("", name, raw=body)


def _written(call: ToolCall) -> str:
    body = _json(dict(call.arguments)) if call.raw is None else call.raw
    return f'<call tool="{call.name}">\n{body}\n</call>'


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
