"""The built-in processors, one module per dimension of a harness (paper §2)."""

from harnessx.processors.audit import Auditor
from harnessx.processors.budget import CostGuard, StepBudgetReminder, TokenBudget
from harnessx.processors.compaction import Compaction
from harnessx.processors.context import (
    CurrentState,
    SlidingWindow,
    ToolResultCompression,
    ToolResultTruncation,
)
from harnessx.processors.control import LoopDetection, RepeatedFailureGuard
from harnessx.processors.disclosure import ToolDisclosure
from harnessx.processors.evaluation import Checklist, SelfVerification
from harnessx.processors.execution import ToolPolicy
from harnessx.processors.guardrails import InputGuard, OutputGuard
from harnessx.processors.long_term import LongTermMemory
from harnessx.processors.memory import EpisodicMemory, RunningNotes
from harnessx.processors.model_selection import ModelRouter
from harnessx.processors.observability import Metrics, SecretRedaction
from harnessx.processors.paging import ResultPages
from harnessx.processors.planning import Plan
from harnessx.processors.prompt import FewShot, Instructions, SystemPrompt
from harnessx.processors.retry import ParseRetry
from harnessx.processors.skills import Skills
from harnessx.processors.sub_agents import SubAgents
from harnessx.processors.takeover import ConversationRollback, Takeover
from harnessx.processors.tools import ArgumentCoercion, ToolCallRepair, ToolFilter
from harnessx.processors.training import TrainingExport, export_dataset

__all__ = [
    "ArgumentCoercion",
    "Auditor",
    "Checklist",
    "Compaction",
    "ConversationRollback",
    "CostGuard",
    "CurrentState",
    "EpisodicMemory",
    "FewShot",
    "InputGuard",
    "Instructions",
    "LongTermMemory",
    "LoopDetection",
    "Metrics",
    "ModelRouter",
    "OutputGuard",
    "ParseRetry",
    "Plan",
    "RepeatedFailureGuard",
    "ResultPages",
    "RunningNotes",
    "SecretRedaction",
    "SelfVerification",
    "Skills",
    "SlidingWindow",
    "StepBudgetReminder",
    "SubAgents",
    "SystemPrompt",
    "Takeover",
    "TokenBudget",
    "ToolCallRepair",
    "ToolDisclosure",
    "ToolFilter",
    "ToolPolicy",
    "ToolResultCompression",
    "ToolResultTruncation",
    "TrainingExport",
    "export_dataset",
]
