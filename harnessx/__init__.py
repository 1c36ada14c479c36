"""A harness is a value: typed processors on eight hooks, edited by an algebra, bound to any model."""

from harnessx.algebra import Edit, diff
from harnessx.errors import Outcome, StopReason
from harnessx.harness import HarnessConfig, Limits, Slots, ToolRegistry
from harnessx.hooks import Hook
from harnessx.model_config import ModelConfig
from harnessx.processor import Dimension, Order, Processor
from harnessx.spec import Spec
from harnessx.tasks import Task

__all__ = [
    "Dimension",
    "Edit",
    "HarnessConfig",
    "Hook",
    "Limits",
    "ModelConfig",
    "Order",
    "Outcome",
    "Processor",
    "Slots",
    "Spec",
    "StopReason",
    "Task",
    "ToolRegistry",
    "diff",
]
