"""Random well-typed harnesses, of real processors and of small ones that travel as assets."""

from __future__ import annotations

from hypothesis import strategies as st

from harnessx.harness import HarnessConfig, Limits, Slots, ToolRegistry
from harnessx.processors import Compaction, Plan, ResultPages, SubAgents, ToolDisclosure
from harnessx.processors.budget import StepBudgetReminder, TokenBudget
from harnessx.processors.context import SlidingWindow, ToolResultCompression, ToolResultTruncation
from harnessx.processors.control import LoopDetection
from harnessx.processors.memory import RunningNotes
from harnessx.processors.prompt import SystemPrompt
from harnessx.spec import Spec, spec_of, traits_of

SMALL = '''"""Small processors."""
from dataclasses import dataclass
from harnessx.hooks import Hook
from harnessx.processor import Order, Processor

@dataclass
class First(Processor):
    """Comes first."""
    hooks = (Hook.BEFORE_MODEL,)
    order = Order.PRE
    text: str = "a"
    async def process(self, event):
        yield event

@dataclass
class Last(First):
    hooks = (Hook.BEFORE_MODEL, Hook.STEP_END)
    order = Order.POST
    group = "last"
    text: str = "a"

@dataclass
class Follower(First):
    hooks = (Hook.BEFORE_MODEL,)
    order = Order.PRE
    after = ("last", "loop")
    text: str = "a"
'''
ASSETS = {"assets/small.py": SMALL}

numbers = st.integers(1, 50)
texts = st.text(max_size=8) | st.sampled_from(["a\r\nb\n", "a\x85b", " \u2028", "#: - '", "yes", "1e3"])
specs = st.one_of(
    st.builds(lambda n: spec_of(StepBudgetReminder(limit=n)), numbers),
    st.builds(lambda n: spec_of(TokenBudget(max_tokens=n)), numbers),
    st.builds(lambda n: spec_of(ToolResultTruncation(max_chars=n)), numbers),
    st.builds(lambda n: spec_of(RunningNotes(max_items=n)), numbers),
    st.builds(lambda t: spec_of(SystemPrompt(text=f"Be {t}")), texts),
    st.just(spec_of(LoopDetection())),
    st.builds(lambda n: spec_of(Compaction(max_tokens=100 * n, target_tokens=50 * n, summary_tokens=n)), numbers),
    st.builds(lambda n, t: spec_of(SubAgents(steps=n, tokens=n, prompt=t)), numbers, texts),
    st.builds(lambda n, t: spec_of(ToolDisclosure(core=[t], max_chars=n)), numbers, texts),
    st.builds(lambda n: spec_of(ResultPages(page_chars=n + 1)), numbers),
    st.builds(lambda n: spec_of(Plan(every=n)), numbers),
    st.just(spec_of(SlidingWindow())),
    st.just(spec_of(ToolResultCompression())),
    st.builds(
        lambda name, text: Spec(f"assets/small.py:{name}", {"text": text} if text else {}),
        st.sampled_from(["First", "Last", "Follower"]),
        texts,
    ),
)
slots = st.builds(
    Slots,
    st.builds(
        ToolRegistry,
        st.none() | st.lists(st.sampled_from("abc"), unique=True).map(tuple),
        st.dictionaries(st.sampled_from("abc"), texts, max_size=2),
    ),
    st.builds(Limits, numbers, st.none() | numbers, st.none() | st.floats(0.1, 9), st.none() | st.just(60.0)),
    st.sampled_from(["full", "summary"]),
)
prompts = st.dictionaries(st.sampled_from(["assets/a.md", "assets/b.md"]), texts)


def well_typed(processors: list[Spec], its_slots: Slots, assets: dict[str, str]) -> HarnessConfig:
    """A harness of as many of ``processors`` as go together."""
    groups = [traits_of(spec, ASSETS).group for spec in processors]
    kept = [spec for i, spec in enumerate(processors) if groups[i] is None or groups[i] not in groups[:i]]
    return HarnessConfig(kept, its_slots, {**ASSETS, **assets})


harnesses = st.builds(well_typed, st.lists(specs, max_size=6), slots, prompts)
