"""D8, D9, and all processors in the real loop."""

from __future__ import annotations

import pytest
from processor_drive import act, after_tool, answer, bound, one

from harnessx import HarnessConfig, Limits, ModelConfig, Slots, StopReason, processors
from harnessx.errors import Outcome, UserError
from harnessx.messages import ToolCall, ToolSchema
from harnessx.models.scripted import Scripted
from harnessx.permissions import USUAL
from harnessx.processors import (
    ArgumentCoercion,
    CurrentState,
    LoopDetection,
    Metrics,
    RepeatedFailureGuard,
    RunningNotes,
    SecretRedaction,
    SlidingWindow,
    SystemPrompt,
    ToolCallRepair,
    TrainingExport,
    export_dataset,
)
from harnessx.tasks import Score, ToolResult

KEYS = [
    "sk-proj-" + "a1B2" * 10,
    "sk-ant-api03-" + "x" * 40,
    "AIza" + "b" * 35,
    "AKIA" + "C" * 16,
    "ghp_" + "d" * 36,
    "github_pat_" + "e" * 30,
    "glpat-" + "f" * 20,
    "hf_" + "g" * 34,
    "xoxb-" + "1" * 12,
    "gsk_" + "h" * 44,
    "eyJ" + "i" * 12 + ".eyJ" + "j" * 12 + ".kk-_",
    "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----",
]


class Door:
    """A world with one door: it opens at the third push."""

    tools = (ToolSchema("act", "", {"properties": {"command": {"type": "string"}}, "required": ["command"]}, USUAL),)

    def __init__(self) -> None:
        self.pushes = 0

    async def reset(self) -> str:
        return ""

    async def step(self, call: ToolCall) -> ToolResult:
        self.pushes += call.arguments["command"] == "push"
        return ToolResult("Nothing happens." if self.pushes < 3 else "The door opens.", done=self.pushes >= 3)

    async def close(self) -> None:
        pass


class Opened:
    async def score(self, task, answer, environment, record):
        return Score(environment.pushes >= 3, float(environment.pushes >= 3))


@pytest.mark.parametrize("key", KEYS)
async def test_keys_never_stay_in_results_answers_or_calls(key):
    redaction = bound(SecretRedaction())
    assert (await one(redaction, after_tool(act("env"), f"KEY={key}\nok"))).content == "KEY=[redacted]\nok"
    call = ToolCall("c", "act", {"command": f"use {key}", "more": [{"k": key}]}, f"{{{key}")
    clean = await one(redaction, answer(f"It is {key}.", call))
    assert key not in clean.content
    (redacted,) = clean.tool_calls
    assert redacted.arguments == {"command": "use [redacted]", "more": [{"k": "[redacted]"}]}
    assert redacted.raw == "{[redacted]"


async def test_redaction_passes_ordinary_text_untouched():
    redaction = bound(SecretRedaction(patterns=[r"\bpin \d{4}\b"]))
    for event in (
        after_tool(act("x"), "task-force sk-8 and hf_hub"),
        answer("sk-learn", act("pip install sk-learn")),
    ):
        assert await one(redaction, event) is event
    assert (await one(redaction, after_tool(act("x"), "the pin 1234"))).content == "the [redacted]"


REQUIRED = {
    "Checklist": {"items": ["Is it open?"]},
    "EpisodicMemory": {"asset": "assets/m.jsonl"},
    "FewShot": {"examples": ["push, push"]},
    "Instructions": {"text": "Push."},
    "ModelRouter": {"rules": []},
    "SystemPrompt": {"text": "You open doors."},
    "TokenBudget": {"max_tokens": 9999},
    "ToolDisclosure": {"core": ["act"]},
}


async def rollout(harness, script, **kwargs):
    model = Scripted(script, loop=True)
    return (
        await ModelConfig(main=model)
        .agentic(harness)
        .run("Your task is to: open the door.", Door(), Opened(), **kwargs)
    )


def mending():
    return [
        SystemPrompt("You open doors."),
        ToolCallRepair(),
        ArgumentCoercion(),
        RunningNotes(),
        CurrentState(),
        LoopDetection(),
        Metrics(),
        TrainingExport(),
    ]


async def test_a_malformed_call_reaches_the_world_and_metrics_and_training_row_reach_the_record():
    script = [{"tool": "Act", "raw": "{'command': 'push'"}, {"tool": "act", "arguments": {"cmd": "push"}}]
    record = await rollout(HarnessConfig(mending()), script)
    assert (record.outcome, record.error) == (Outcome.PASSED, "")
    metrics = record.claims["metrics"]
    assert metrics["tool_calls"] == {"act": 3}
    assert metrics["events"]["StepEndEvent"] == 3
    assert metrics["prompt_tokens"] == record.usage.prompt_tokens
    row = record.claims["training"]
    assert [m["role"] for m in row["messages"]] == ["system", "user", *["assistant", "tool"] * 3]
    last = record.steps[-1].exchanges[0].sent[-1].text
    assert last.splitlines() == [
        "Earlier in this task:",
        "push: Nothing happens.",
        "Your task is to: open the door.",
        "The last result was: Nothing happens.",
    ]


async def test_the_same_script_without_repair_never_opens_the_door():
    record = await rollout(
        HarnessConfig([], Slots(limits=Limits(steps=6))), [{"tool": "Act", "raw": "{'command': 'push'"}]
    )
    assert (record.outcome, record.stop_reason) == (Outcome.FAILED, StopReason.STEP_LIMIT)


async def test_a_refused_call_does_not_run():
    harness = HarnessConfig([RepeatedFailureGuard(max_failures=2)], Slots(limits=Limits(steps=5)))
    record = await rollout(harness, [{"tool": "act", "arguments": {"command": "push"}}])
    assert [len(step.calls) for step in record.steps] == [1, 1, 0, 0, 0]


async def test_all_processors_live_together_in_one_rollout():
    parts = [
        getattr(processors, name)(**REQUIRED.get(name, {}))
        for name in processors.__all__
        if name
        not in ("export_dataset", "CostGuard", "ResultPages", "Auditor")  # no price, one way to shorten, no judge
    ]
    harness = HarnessConfig(parts, Slots(limits=Limits(steps=30)), {"assets/m.jsonl": ""})
    assert HarnessConfig.from_yaml(harness.to_yaml(), harness.assets) == harness
    push = {"tool": "act", "arguments": {"command": "push"}}
    look = {"tool": "act", "arguments": {"command": "look"}}
    record = await rollout(harness, [push, look, push, look, "I give up."])
    assert (record.error, record.stop_reason) == ("", StopReason.FINISHED)


async def test_a_data_set_holds_what_the_agent_saw_and_said(tmp_path):
    from datasets import load_from_disk

    script = [{"tool": "act", "arguments": {"command": "push"}}]
    passed = await rollout(HarnessConfig([CurrentState(), SlidingWindow(max_messages=4)]), script)
    failed = await rollout(HarnessConfig(), ["I cannot."])
    rows = load_from_disk(str(export_dataset([passed, failed], tmp_path / "rl")))
    assert rows["reward"] == [1.0, 1.0, 1.0, 0.0]
    third = rows[2]
    assert [m["role"] for m in third["prompt"]] == ["user", "assistant", "tool", "user"]
    assert third["prompt"][-1]["content"].startswith("Your task is to: open the door.")
    assert third["completion"][0]["tool_calls"][0]["function"] == {
        "name": "act",
        "arguments": '{"command": "push"}',
    }
    assert len(load_from_disk(str(export_dataset([passed, failed], tmp_path / "sft", min_reward=1.0)))) == 3
    with pytest.raises(UserError, match="reward of at least 2"):
        export_dataset([passed, failed], tmp_path / "none", min_reward=2)
