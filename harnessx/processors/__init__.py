"""The built-in processors, one module per dimension of a harness (paper §2)."""

from harnessx.processors.budget import CostGuard, StepBudgetReminder, TokenBudget
from harnessx.processors.context import (
    CurrentState,
    SlidingWindow,
    ToolResultCompression,
    ToolResultTruncation,
)
from harnessx.processors.control import LoopDetection, RepeatedFailureGuard
from harnessx.processors.evaluation import Checklist, SelfVerification
from harnessx.processors.execution import ToolPolicy
from harnessx.processors.long_term import LongTermMemory
from harnessx.processors.memory import EpisodicMemory, RunningNotes
from harnessx.processors.model_selection import ModelRouter
from harnessx.processors.observability import Metrics, SecretRedaction
from harnessx.processors.prompt import FewShot, Instructions, SystemPrompt
from harnessx.processors.retry import ParseRetry
from harnessx.processors.takeover import ConversationRollback, Takeover
from harnessx.processors.tools import ArgumentCoercion, ToolCallRepair, ToolFilter
from harnessx.processors.training import TrainingExport, export_dataset

__all__ = [
    "ArgumentCoercion",
    "Checklist",
    "ConversationRollback",
    "CostGuard",
    "CurrentState",
    "EpisodicMemory",
    "FewShot",
    "Instructions",
    "LongTermMemory",
    "LoopDetection",
    "Metrics",
    "ModelRouter",
    "ParseRetry",
    "RepeatedFailureGuard",
    "RunningNotes",
    "SecretRedaction",
    "SelfVerification",
    "SlidingWindow",
    "StepBudgetReminder",
    "SystemPrompt",
    "Takeover",
    "TokenBudget",
    "ToolCallRepair",
    "ToolFilter",
    "ToolPolicy",
    "ToolResultCompression",
    "ToolResultTruncation",
    "TrainingExport",
    "export_dataset",
]
