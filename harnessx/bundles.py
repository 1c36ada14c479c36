"""Named harnesses to start from. Each is a value; ``|`` composes any of them without a conflict."""

from __future__ import annotations

from harnessx.harness import HarnessConfig
from harnessx.processors import (
    ArgumentCoercion,
    Checklist,
    CurrentState,
    Instructions,
    LoopDetection,
    ParseRetry,
    RepeatedFailureGuard,
    RunningNotes,
    SecretRedaction,
    SelfVerification,
    SystemPrompt,
    ToolCallRepair,
    ToolPolicy,
    ToolResultCompression,
    ToolResultTruncation,
)


def minimal() -> HarnessConfig:
    """A role, a way of working, and nothing else."""
    return HarnessConfig(
        [
            SystemPrompt(
                "You are an agent that completes a task with the tools you are given. Take one step at a "
                "time: call a tool, read its result, decide what to do next. When the task is complete, "
                "answer without calling a tool, and give only what the task asks for."
            )
        ]
    )


def reliability() -> HarnessConfig:
    """What keeps any agent on its way: repair, retry, notes, and guards against going in circles."""
    return HarnessConfig(
        [
            SecretRedaction(),
            ToolCallRepair(),
            ArgumentCoercion(),
            ParseRetry(),
            RunningNotes(),
            LoopDetection(),
            RepeatedFailureGuard(),
        ]
    )


def coding() -> HarnessConfig:
    """For work in a repository: how to go about it, long outputs cut, destructive commands refused."""
    return HarnessConfig(
        [
            Instructions(
                "Read the code that matters before you change it. Reproduce the problem first. Make the "
                "smallest change that solves it, in the style of the code around it, and run the tests that "
                "cover it."
            ),
            ToolPolicy(deny=[r"\brm\s+-\w*[rf]\w*\s+/(?:\s|\*|\)|$)", r"\bgit\s+push\b", r"\bmkfs\b", r":\(\)\s*\{"]),
            ToolResultTruncation(max_chars=8000),
            Checklist(
                items=[
                    "Does the change solve the problem as it was stated?",
                    "Did you run the tests after your last edit, and do they pass?",
                    "Is everything you added only to look for the problem removed again?",
                ]
            ),
        ]
    )


def research() -> HarnessConfig:
    """For questions answered from many sources: the question kept in sight, evidence checked at the end."""
    return HarnessConfig(
        [
            Instructions(
                "Find out before you answer. Split the question into what must be known, look each thing up, "
                "and prefer the source closest to the fact. Where two sources differ, look for a third. "
                "Answer in exactly the form the question asks for."
            ),
            ToolResultCompression(),
            CurrentState(every=3, observation=False),
            SelfVerification(),
        ]
    )
