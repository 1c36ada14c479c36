"""Keys of every shape are taken out wherever they come in, and a replay of what is left is exact."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from loop_drive import ECHO, World, harness, run
from test_host import ASK, Shelf, host

from harnessx import Hook, ModelConfig, Task
from harnessx.canonical import json_line
from harnessx.errors import Failure, ModelFailure, ToolError
from harnessx.messages import Conversation, Message, ModelRequest, ModelResponse, ToolCall, Usage
from harnessx.models.scripted import Scripted
from harnessx.processors import SystemPrompt
from harnessx.redaction import REDACTED, SHAPES, Redactor, redact, redactor, secrets_of
from harnessx.runner.cassette import Cassette, RecordedWorld
from harnessx.tasks import ToolResult
from harnessx.trajectory import Trajectory

A = "Ab3dEf6hIj9lMn2pQr5tUv8xYz1BcD4fGh7jKl0nOp3rSt6vWx9zAb3dEf6hIj9lMn2pQr5tUv8"
KEYS = {
    "openai": f"sk-{A[:48]}",
    "openai project": f"sk-proj-{A[:20]}_{A[20:44]}-{A[44:60]}",
    "anthropic": f"sk-ant-api03-{A[:40]}-{A[40:60]}",
    "openrouter": f"sk-or-v1-{'0af3' * 16}",
    "slack": "xox" + "b-123456789012-abcdefABCDEF",
    "xai": f"xai-{A[:60]}",
    "perplexity": f"pplx-{A[:48]}",
    "nvidia": f"nvapi-{A[:60]}",
    "tavily": f"tvly-{A[:32]}",
    "gitlab": f"glpat-{A[:20]}",
    "pypi": f"pypi-{A[:64]}",
    "github": f"ghp_{A[:36]}",
    "github server": f"ghs_{A[:36]}",
    "github fine": f"github_pat_{A[:22]}_{A[:40]}",
    "hugging face": f"hf_{A[:34]}",
    "groq": f"gsk_{A[:52]}",
    "replicate": f"r8_{A[:37]}",
    "npm": f"npm_{A[:36]}",
    "stripe": "sk" + f"_live_{A[:24]}",
    "stripe test": "rk" + f"_test_{A[:24]}",
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "aws session": "ASIA" + "IOSFODNN7EXAMPLE",
    "google": f"AIza{A[:35]}",
    "google oauth": f"ya29.{A[:40]}",
    "sendgrid": f"SG.{A[:22]}.{A[:43]}",
    "jwt": f"eyJ{A[:20]}.eyJ{A[:30]}.{A[:43]}",
    "pem": f"-----BEGIN RSA PRIVATE KEY-----\n{A[:60]}\n{A[:60]}\n-----END RSA PRIVATE KEY-----",
}
WRAPPED = {
    "aws secret": ("aws_secret_access_key = ", A[:40], "\n"),
    "aws secret, exported": ("AWS_SECRET_ACCESS_KEY=", A[:40], " next"),
    "bearer": ("Authorization: Bearer ", A[:32], "\n"),
    "url": ("https://", "user:pa55word", "@example.org/path"),
    "database": ("postgres://", "app:5up3rs3cret", "@db:5432/x"),
}
PLANTED = {**{name: ("key: ", key, ".") for name, key in KEYS.items()}, **WRAPPED}
INNOCENT = [
    "You see a task-0007-of-many-things-to-do-today and a risk-averse-approach-to-everything-here.",
    "def sk_test_case(): return ghp_, hf_transformers, npm_install, 'AKIAxx', 'eyJ.eyJ', r8_",
    "https://example.org:8080/a@b and mail me@example.org, see http://x/y?z=1",
    "sha256:0af30af30af30af30af30af30af30af30af30af30af30af30af30af30af30af3",
    "f47ac10b-58cc-4372-a567-0e02b2c3d479 -----BEGIN CERTIFICATE----- Bearer of news",
    "a sk-short key, SG.b.c, ya29.x, AIzaShort, xoxo-, glpat-",
]


@pytest.fixture
def environment(monkeypatch):
    """A process whose environment holds a secret that has no shape."""
    monkeypatch.setenv("ACME_API_KEY", 'correct"horse battery'.replace(" ", "-"))
    monkeypatch.setenv("OTHER_TOKEN", "12345678")
    redactor.cache_clear()
    yield 'correct"horse-battery'
    monkeypatch.undo()
    redactor.cache_clear()


@pytest.mark.parametrize("name", PLANTED)
def test_a_key_of_every_shape_is_taken_out_and_nothing_else(name):
    before, key, after = PLANTED[name]
    text = f"{before}{key}{after}"
    assert redact(text) == f"{before}{REDACTED}{after}"
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("dump", [json.dumps, lambda v: json_line(v).decode()])
def test_it_is_taken_out_of_json_and_json_is_left(name, dump):
    for text in (f"\n{KEYS[name]}", f"\t{KEYS[name]}\n", f"\u00e9{KEYS[name]}", f'"{KEYS[name]}"'):
        clean = redact(dump({"a": [text], "b": 1}))
        read = json.loads(clean)
        assert read["b"] == 1
        assert read["a"][0] == text.replace(KEYS[name], REDACTED)


def test_every_shape_is_planted_here_by_a_key_with_its_mark():
    for shape in SHAPES:
        keys = [before + key + after for before, key, after in PLANTED.values()]
        held = [key for key in keys if shape.mark in key]
        assert held or shape.mark in ("gho_", "ghr_", "ghu_"), shape
        assert all(shape.character in key for key in held), "the character that is looked for first is in the mark"


@pytest.mark.parametrize("mark", ["eyJ", "sk-", "SG.", "://a:", "-----BEGIN PRIVATE KEY-----"])
def test_a_text_of_many_beginnings_is_read_once_and_not_from_each_of_them(mark):
    """What a worker sends is searched by the host, which does nothing else meanwhile."""
    for between in ("-", "_", "."):
        started = time.process_time()
        redact(f"{between}{mark}" * (100_000 // len(mark)))
        assert time.process_time() - started < 1.0


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_no_key_stays_as_it_is(text):
    assert redact(text) is text


@given(st.text() | st.lists(st.sampled_from([*INNOCENT, *(b + k + a for b, k, a in PLANTED.values())])).map("\n".join))
@example("sk-" + "a" * 20 + "sk-" + "b" * 20)
def test_redacting_twice_is_redacting_once(text):
    assert redact(redact(text)) == redact(text)


def test_values_of_variables_that_are_named_like_keys_are_secrets(environment):
    for spelt in (environment, json.dumps(environment), "https://x/?k=correct%22horse-battery"):
        assert environment not in redact(f"it is {spelt}!")
        assert REDACTED in redact(f"it is {spelt}!")
    assert redact("12345678") == "12345678"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("OPENAI_API_KEY", "no-shape-at-all", True),
        ("WANDB_API_KEY", "0af30af30af30af3", True),
        ("DB_PASSWORD", "hunter22!", True),
        ("MY_PAT", "abcDEFgh", True),
        ("ACME_TOKEN", "household", False),
        ("ACME_TOKEN", "short1", False),
        ("SESSION_KEY", "12345678", False),
        ("MAX_TOKENS", "100000000000", False),
        ("TOKENIZERS_PARALLELISM", "false-but-long", False),
        ("MONKEY", "see-no-evil-1", False),
        ("GOOGLE_CREDENTIALS", "/etc/hostname", False),
        ("PATH", "/usr/bin:/usr/local/bin", False),
    ],
)
def test_which_variables_hold_secrets(name, value, secret):
    assert list(secrets_of({name: value})) == ([value] if secret else [])


def test_values_are_cleaned_in_place_of_what_holds_them():
    clean = Redactor()
    key = KEYS["openai"]
    value = {"a": [1, {"b": f"x {key}"}], key: None, "c": ("d", 1.5)}
    assert clean.value(value) == {"a": [1, {"b": f"x {REDACTED}"}], REDACTED: None, "c": ("d", 1.5)}
    same = {"a": [1, {"b": "x"}], "c": "d"}
    assert clean.value(same) is same
    answer = ModelResponse("hello", (ToolCall("c", "t", {"x": 1}),), Usage(1, 1), token_ids=(1, 2))
    assert clean.response(answer) is answer
    call = ToolCall("c", "t", {}, raw=key)
    leaky = ModelResponse("", (call,), extra={"thinking": key}, token_ids=(1, 2), logprobs=(0.0,))
    found = clean.response(leaky)
    assert (found.tool_calls[0].raw, found.extra, found.token_ids, found.logprobs) == (
        REDACTED, {"thinking": REDACTED}, None, None,
    )  # fmt: skip


# --- at the seam --------------------------------------------------------------------------------------


class Leaky(World):
    """A world that says keys: when it begins, in results, in errors."""

    async def reset(self) -> str:
        return f"You find {KEYS['aws']}."

    async def step(self, call: ToolCall) -> ToolResult:
        self.calls.append(call)
        if call.name == "refuse":
            raise ToolError(f"bad key {KEYS['github']}")
        if call.name == "crash":
            raise ConnectionResetError(f"https://{WRAPPED['url'][1]}@host is gone")
        return ToolResult(f"the key is {KEYS['anthropic']}")


SAYS = {"tool": "echo", "arguments": {"text": [KEYS["google"]]}, "content": f"I use {KEYS['openai']}"}
REFUSE, CRASH = {"tool": "refuse", "arguments": {}}, {"tool": "crash", "arguments": {}}


def held(text: str) -> list[str]:
    """The secrets in a text."""
    return [name for name, (_, key, _) in PLANTED.items() if key in text or json.dumps(key)[1:-1] in text]


@pytest.mark.parametrize("script", [[SAYS, REFUSE, "done"], [SAYS, CRASH], [KEYS["openai"]]])
async def test_no_key_of_model_or_world_reaches_the_loop_or_the_record(script):
    seen: list[str] = []
    asked: list[str] = []

    class Listening(Scripted):
        async def complete(self, request, context):
            asked.append(repr([request.system, *request.messages]))
            return await super().complete(request, context)

    spy = harness("self.ctx.claims.setdefault('seen', []).append(str(event))\nyield event",
                  *(hook for hook in Hook if hook not in (Hook.STEP_END, Hook.TASK_END)))  # fmt: skip
    record = await run(spy, models=ModelConfig(Listening(script)), world=Leaky())
    seen += record.claims.get("seen", [])
    assert REDACTED in record.to_jsonl() + record.error
    for text in (*seen, *asked, record.to_jsonl(), record.error, record.answer):
        assert held(text) == []


async def test_errors_of_a_provider_lose_the_key_on_the_way():
    class Wrong(Scripted):
        async def complete(self, request, context):
            raise ModelFailure(f"Incorrect API key provided: {KEYS['openai project']}")

    one = host(Wrong())
    with pytest.raises(Failure) as caught:
        await one.complete(ASK, "main")
    assert str(caught.value) == f"model: Incorrect API key provided: {REDACTED}"
    assert one.failure is caught.value


async def test_what_the_harness_says_itself_is_clean_in_the_record():
    request = ModelRequest(f"Your key: {KEYS['groq']}", Conversation([Message("user", f"and {KEYS['npm']}")]))
    one = host()
    await one.complete(request, "main")
    one.finish()
    assert held(one.record.to_jsonl()) == []
    agent = ModelConfig(Scripted(["done"])).agentic(prompted(KEYS["groq"]))
    assert held((await agent.run(Task(f"Use {KEYS['aws']}."))).to_jsonl()) == []


def prompted(text: str):
    from harnessx import HarnessConfig

    return HarnessConfig([SystemPrompt(text=text)])


async def test_a_replay_of_what_was_redacted_asks_the_same_and_calls_no_model():
    shelf = Shelf()
    script = [SAYS, REFUSE, SAYS, "done"]
    first = await run(harness("yield event", Hook.BEFORE_MODEL), script, world=Leaky(), tape=shelf)
    assert all(held(repr(response)) == [] for response, _ in shelf.kept.values())

    class Silent(Scripted):
        async def complete(self, request, context):
            raise AssertionError("a replay asks nobody")

    models = ModelConfig(Silent(script, loop=True))
    again = await run(harness("yield event", Hook.BEFORE_MODEL), world=Leaky(), tape=shelf, models=models)
    assert (again.error, again.model_calls) == ("", first.model_calls)
    assert first.model_calls == 4
    steps = [Trajectory.from_jsonl(t.to_jsonl()).steps for t in (first, again)]
    keys = [[exchange.key for step in run_ for exchange in step.exchanges] for run_ in steps]
    assert keys[0] == keys[1]


async def test_a_recorded_world_agrees_with_its_redacted_recording_when_it_starts_again():
    kept: list[tuple[str, object]] = []
    cassette = Cassette("w", lambda scope, entry: kept.append((scope, entry)))
    tools = Leaky().tools
    one = RecordedWorld(Leaky, tools, cassette)
    assert held(await one.reset()) == []
    first = await one.step(ToolCall("a", "echo", {}))
    assert held(first.content) == []
    assert all(held(entry.body) == [] for _, entry in kept)
    stored = Cassette("w")
    stored.load(entry for _, entry in kept)
    two = RecordedWorld(Leaky, tools, stored)
    assert await two.reset() == await one.reset()
    assert await two.step(ToolCall("a", "echo", {})) == first
    assert held((await two.step(ToolCall("b", "echo", {"text": "new"}))).content) == []  # plays the prefix anew


async def test_a_clean_rollout_is_untouched():
    record = await run(harness("yield event", Hook.BEFORE_MODEL), [ECHO, "done"])
    assert REDACTED not in record.to_jsonl()
