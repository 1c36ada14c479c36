"""What each kind of provider is told, and what is made of its answers: OpenAI's, Anthropic's, Ollama's, plain text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_drive import Accept, World
from providers import Endpoint, endpoint

from harnessx import HarnessConfig, ModelConfig, Outcome
from harnessx.errors import ModelFailure, UserError
from harnessx.messages import Conversation, Message, ModelRequest, ToolCall, ToolSchema
from harnessx.model_config import Models, build_model
from harnessx.models import text_tools
from harnessx.models.base import CallContext
from harnessx.models.chat import ChatFormat
from harnessx.models.litellm import LiteLLM, _litellm
from harnessx.models.patience import Patience
from harnessx.processors import ToolCallRepair

QUICK = Patience(timeout_s=120, patience_s=120, base_s=0.01)
ECHO = (("echo", '{"text": "hello"}'),)
THOUGHT = {"type": "thinking", "thinking": "I say hello.", "signature": "sig-1"}
LOOK, ASK = ToolSchema("look", "Look."), ToolSchema("ask", "Ask.")


@pytest.fixture
def server(monkeypatch):
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "loopback")
    _litellm()
    with endpoint() as found:
        yield found


async def play(model: LiteLLM, harness: HarnessConfig | None = None) -> Any:
    agent = ModelConfig(model).agentic(harness or HarnessConfig())
    agent._models = Models(agent.model, QUICK)
    return await agent.run("Say hello.", World(), Accept())


async def test_anthropic_gets_its_thinking_back_verbatim_and_is_told_where_prefixes_end(server: Endpoint):
    server.served = "claude-sonnet-4-5-20250929"
    server.says("", ECHO, thinking=[THOUGHT], written=20)
    server.says("done", cached_percent=50)
    model = LiteLLM(
        "anthropic/claude-sonnet-4-5", server.base, {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    )
    record = await play(model)
    assert (record.answer, record.outcome) == ("done", Outcome.PASSED)
    assert server.paths == ["/v1/messages"] * 2
    first, second = server.seen
    assert THOUGHT in second["messages"][1]["content"]
    assert second["messages"][: len(first["messages"]) - 1] == first["messages"][:-1]
    marks = [block for block in second["messages"][-1]["content"] if "cache_control" in block]
    assert len(marks) == 1
    assert "cache_control" in second["tools"][-1]
    assert str(second).count("cache_control") <= 4
    assert (record.usage.prompt_tokens, record.usage.cached_tokens) == (server.books.prompt, server.books.cached)
    assert record.usage.completion_tokens == server.books.completion
    assert record.steps[0].exchanges[0].response.model == "claude-sonnet-4-5-20250929"


async def test_a_local_server_by_its_address_needs_no_key(server: Endpoint, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    for name in ("openai/llama.cpp-model", "hosted_vllm/Qwen/Qwen3"):
        server.says("done", message={"reasoning_content": "hm"})
        record = await play(LiteLLM(name, server.v1))
        assert record.answer == "done"
        assert record.usage.cost_usd is None
        assert record.steps[0].exchanges[0].response.extra["reasoning_content"] == "hm"


async def test_ollama_calls_tools_in_its_own_protocol(server: Endpoint):
    server.says("", ECHO)
    server.says("done")
    record = await play(LiteLLM("ollama_chat/qwen3", server.base))
    assert record.answer == "done"
    assert set(server.paths) == {"/api/chat"}
    assert record.usage.prompt_tokens == server.books.prompt
    assert record.usage.completion_tokens == server.books.completion


async def test_a_model_without_tools_calls_them_in_text(server: Endpoint):
    server.says('I will.\n<call tool="echo">\n{"text": "hello"}\n</call>')
    server.says('<call tool="ecko">\n{"text": "again",}\n</call>')
    server.says("done")
    record = await play(LiteLLM("openai/local", server.v1, tools="text"), HarnessConfig([ToolCallRepair()]))
    assert [call.call.arguments for call in record.steps[0].calls] == [{"text": "hello"}]
    assert [call.call.arguments for call in record.steps[1].calls] == [{"text": "again"}]
    assert record.answer == "done"
    assert all("tools" not in body for body in server.seen)
    assert '<call tool="NAME">' in server.seen[0]["messages"][0]["content"]
    roles = [message["role"] for message in server.seen[2]["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert "echo: hello" in server.seen[1]["messages"][-1]["content"]


async def test_an_endpoint_that_refuses_tools_is_told_of_with_the_remedy(server: Endpoint):
    server.fails(400, "registry.ollama.ai/library/phi does not support tools")
    request = ModelRequest("", Conversation([Message("user", "hi")]), (LOOK,))
    with pytest.raises(ModelFailure, match="set tools: text"):
        await LiteLLM("openai/phi", server.v1).complete(request, CallContext())


async def test_seeds_are_sent_where_they_are_taken_and_differ_by_attempt(server: Endpoint):
    server.loop = {"content": "hi", "calls": ()}
    request = ModelRequest("", Conversation([Message("user", "hi")]))
    model = LiteLLM("openai/gpt-4o-mini", server.v1)
    for attempt in (0, 0, 1):
        await model.complete(request, CallContext(attempt=attempt))
    await LiteLLM("openai/gpt-4o-mini", server.v1, seeded=False).complete(request, CallContext())
    seeds = [body.get("seed") for body in server.seen]
    assert seeds[0] == seeds[1] != seeds[2]
    assert seeds[3] is None


def test_what_nobody_serves_is_refused():
    with pytest.raises(UserError, match="auto, native, text"):
        build_model({"model": "openai/x", "tools": "json"})
    with pytest.raises(UserError, match="stream"):
        build_model({"model": "openai/x", "params": {"stream": True}})


def request_of(*messages: Message, tools: tuple[ToolSchema, ...] = (LOOK, ASK)) -> ModelRequest:
    return ModelRequest("Be brief.", Conversation([Message("user", "hi"), *messages]), tools)


def test_keys_follow_what_is_told_and_nothing_else():
    form = ChatFormat("openai/a")
    answer = Message("assistant", "well")
    plain, tagged = request_of(answer), request_of(Message("assistant", "well", extra={"fallback": "b"}))
    assert plain.digest() != tagged.digest()
    assert form.key(plain) == form.key(tagged) == form.key(request_of(answer, tools=(ASK, LOOK)))
    thought = {"model": "openai/a", "reasoning_content": "hm"}
    mine = request_of(Message("assistant", "well", extra=thought))
    other = request_of(Message("assistant", "well", extra={**thought, "model": "openai/b"}))
    assert form.key(mine) != form.key(plain) == form.key(other)
    assert ChatFormat("openai/a", in_text=True).key(plain) != form.key(plain) != ChatFormat("openai/b").key(plain)


@settings(deadline=None)
@given(st.lists(st.text("ab", max_size=3), max_size=6), st.integers(0, 6))
def test_keys_are_those_of_a_conversation_made_at_once(texts: list[str], cut: int):
    form = ChatFormat("openai/a")
    grown = Conversation([])
    for text in texts:
        grown = grown.append(Message("user", text))
        form.key(ModelRequest("", grown))
    grown.prefix(cut).append(Message("user", "aside"))
    fresh = Conversation([Message("user", text) for text in texts])
    assert form.key(ModelRequest("", grown)) == form.key(ModelRequest("", fresh))


ARGUMENTS = st.dictionaries(
    st.sampled_from("abc"), st.text('x<>"\n é', max_size=6) | st.integers() | st.booleans(), max_size=3
)
NAMES = st.sampled_from(["a", "look", "a_b"])


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, ARGUMENTS), min_size=1, max_size=3), st.sampled_from(["", "Well."]))
def test_what_is_written_as_text_reads_as_the_same_calls(calls, said):
    wanted = tuple(ToolCall("", name, arguments) for name, arguments in calls if "</call>" not in str(arguments))
    _, text = text_tools.told(Message("assistant", said, wanted))
    assert text_tools.read(text) == (said, wanted)


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ('<call tool="look">\n{"at": 1', '{"at": 1'),
        ('<call tool="look">\n[1]\n</call>', "[1]"),
        ('<call tool="look">at the lamp</call> and so on', "at the lamp"),
    ],
)
def test_a_call_that_is_not_well_formed_is_kept_as_it_came(text: str, raw: str):
    _, calls = text_tools.read(text)
    assert calls == (ToolCall("", "look", raw=raw),)


def test_text_without_a_call_is_an_answer():
    assert text_tools.read("I look <b>closely</b>.") == ("I look <b>closely</b>.", ())
