"""LiteLLM against a real HTTP server on loopback that speaks the OpenAI chat protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from loop_drive import Accept, World
from misbehaving import FAULTS, OK, in_turn, misbehaving

from harnessx import HarnessConfig, ModelConfig, Outcome, StopReason
from harnessx.errors import ModelFailure
from harnessx.messages import Conversation, Message, ModelRequest, ToolCall, ToolSchema, Usage
from harnessx.models.base import CallContext
from harnessx.models.litellm import LiteLLM
from harnessx.models.patience import Patience
from harnessx.models.provider import Provider as Patient

ASK = ModelRequest("Be brief.", Conversation([Message("user", "hi")]))


class Provider(ThreadingHTTPServer):
    """Answers each request with the next reply: a status and a body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[tuple[int, dict]] = []
        self.seen: list[dict] = []

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def says(self, content=None, calls=(), usage=None, **message) -> None:
        tool_calls = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in calls]
        message |= {"role": "assistant", "content": content} | ({"tool_calls": tool_calls} if calls else {})
        self.replies.append((200, {
            "id": "x", "object": "chat.completion", "created": 1, "model": "served-1",
            "choices": [{"index": 0, "finish_reason": "tool_calls" if calls else "stop", "message": message}],
            "usage": usage or {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }))  # fmt: skip

    def fails(self, status: int, message: str, code: str = "") -> None:
        self.replies.append((status, {"error": {"message": message, "type": "x", "code": code}}))


class Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        self.server.seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        status, body = self.server.replies.pop(0)
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def provider(monkeypatch) -> Iterator[Provider]:
    monkeypatch.setenv("OPENAI_API_KEY", "loopback")
    server = Provider()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def model(provider: Provider, name: str = "openai/local", **params: object) -> LiteLLM:
    return LiteLLM(name, provider.base, params)


async def test_a_whole_conversation_crosses_and_the_answer_comes_back(provider: Provider):
    provider.says("A lamp.", reasoning_content="let me see")
    call = ToolCall("c1", "look", {"at": "lämp"})
    turn = Message("assistant", "", (call,), extra={"reasoning_content": "hm", "fallback": "x"})
    history = Conversation([Message("user", "Look."), turn, Message("tool", "a lamp", (), "c1")])
    request = ModelRequest("Be brief.", history, (ToolSchema("look", "Look at it."),), "main", {"temperature": 0.5})
    answer = await model(provider, max_tokens=9).complete(request, CallContext())
    (sent,) = provider.seen
    assert [m["role"] for m in sent["messages"]] == ["system", "user", "assistant", "tool"]
    assert sent["messages"][0]["content"] == "Be brief."
    function = sent["messages"][2]["tool_calls"][0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == ("look", {"at": "lämp"})
    assert sent["messages"][2]["reasoning_content"] == "hm"
    assert "fallback" not in sent["messages"][2]
    assert sent["messages"][3]["tool_call_id"] == "c1"
    assert sent["tools"][0]["function"]["name"] == "look"
    assert (sent["temperature"], sent["max_tokens"]) == (0.5, 9)
    assert (answer.content, answer.model, answer.finish_reason) == ("A lamp.", "served-1", "stop")
    assert answer.usage == Usage(7, 3, 0, None)
    assert answer.extra is not None
    assert answer.extra["reasoning_content"] == "let me see"


async def test_tool_calls_come_back_and_broken_arguments_as_they_came(provider: Provider):
    provider.says(calls=[("a", "look", '{"at": 1}'), ("b", "look", '{"at": '), ("c", "look", "[1]"), ("d", "look", "")])
    answer = await model(provider).complete(ASK, CallContext())
    assert answer.tool_calls == (
        ToolCall("a", "look", {"at": 1}),
        ToolCall("b", "look", {}, '{"at": '),
        ToolCall("c", "look", {}, "[1]"),
        ToolCall("d", "look"),
    )
    assert answer.finish_reason == "tool_calls"


async def test_cached_tokens_are_counted_and_known_prices_are_applied(provider: Provider):
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    provider.says("hi", usage=usage)
    provider.says("hi", usage=usage | {"prompt_tokens_details": {"cached_tokens": 900}})
    priced = model(provider, "openai/gpt-4o-mini")
    whole = (await priced.complete(ASK, CallContext())).usage
    cached = (await priced.complete(ASK, CallContext())).usage
    assert (whole.prompt_tokens, whole.completion_tokens, whole.cached_tokens) == (1000, 100, 0)
    assert cached.cached_tokens == 900
    assert whole.cost_usd is not None
    assert cached.cost_usd is not None
    assert 0 < cached.cost_usd < whole.cost_usd


FAILURES = [(400, False), (403, False), (404, False), (422, False), (429, True), (500, True), (503, True)]


@pytest.mark.parametrize(("status", "transient"), FAILURES)
async def test_a_failure_says_whether_to_try_again(provider: Provider, status: int, transient: bool):
    provider.fails(status, "no luck")
    with pytest.raises(ModelFailure, match="no luck") as caught:
        await LiteLLM("openai/local", provider.base).complete(ASK, CallContext())
    assert caught.value.transient is transient
    assert len(provider.seen) == 1


async def test_an_address_where_nobody_listens_is_worth_another_try(provider: Provider):
    dead = LiteLLM("openai/local", "http://127.0.0.1:9/v1")
    with pytest.raises(ModelFailure) as caught:
        await dead.complete(ASK, CallContext())
    assert caught.value.transient


async def test_a_missing_key_is_named(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelFailure, match="set OPENAI_API_KEY") as caught:
        await LiteLLM("openai/gpt-4o-mini").complete(ASK, CallContext())
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Incorrect API key provided: sk-1.", "AuthenticationError: Incorrect API key provided: sk-1."),
        ("No module named 'mcp'", "install it: pip install mcp"),
    ],
)
async def test_a_failure_is_told_in_the_words_that_help(provider: Provider, said: str, kept: str):
    provider.fails(401, said)
    with pytest.raises(ModelFailure) as caught:
        await model(provider).complete(ASK, CallContext())
    assert str(caught.value).startswith("model: openai/local: ")
    assert kept in str(caught.value)
    assert "litellm." not in str(caught.value)
    assert "Exception" not in str(caught.value)


async def test_a_model_without_a_provider_is_told_how_models_are_named():
    with pytest.raises(ModelFailure, match="a model is named provider/name") as caught:
        await LiteLLM("foo/bar").complete(ASK, CallContext())
    assert not caught.value.transient


async def test_an_agent_works_over_http(provider: Provider):
    provider.says(calls=[("a", "echo", '{"text": "hello"}')])
    provider.says("done")
    agent = ModelConfig(model(provider)).agentic(HarnessConfig())
    record = await agent.run("Say hello.", World(), Accept())
    assert (record.answer, record.outcome) == ("done", Outcome.PASSED)
    assert provider.seen[1]["messages"][-1]["content"] == "echo: hello"


async def test_a_full_context_window_is_a_limit_of_the_rollout(provider: Provider):
    provider.fails(400, "This model's maximum context length is 8 tokens.", "context_length_exceeded")
    record = await ModelConfig(model(provider)).agentic(HarnessConfig()).run("x", World(), Accept())
    assert (record.stop_reason, record.outcome) == (StopReason.TOKEN_LIMIT, Outcome.PASSED)


async def test_every_fault_of_a_provider_is_borne_with(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "loopback")
    with misbehaving(in_turn(FAULTS)) as server:
        patience = Patience(timeout_s=1.5, base_s=0.01)
        answer = await Patient(LiteLLM("openai/local", server.base), patience).complete(ASK, CallContext())
    assert answer.content == "done"
    assert [request.kind for request in server.seen] == [*FAULTS, OK]
