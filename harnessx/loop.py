"""The run loop: Table 1 of the paper, line by line.

    task_start                      once
    step_start                      per step
      before_model -> model -> after_model
      before_tool  -> tool  -> after_tool      per call, results in call order
    step_end                        per step
    task_end                        once

The loop knows the world only through a `Port`: in one process that is the host itself, in a worker
it is the wire. Hooks without processors cost nothing; nothing ever rescans the history.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from harnessx.contracts import Scope
from harnessx.delegation import Assignment, Lease, Report
from harnessx.errors import (
    Failure,
    HarnessInvalid,
    Interrupt,
    LimitReached,
    Source,
    StopReason,
    ToolError,
    boundary,
)
from harnessx.harness import HarnessConfig
from harnessx.hooks import (
    BeforeModelEvent,
    Hook,
    ModelResponseEvent,
    StepEndEvent,
    StepStartEvent,
    TaskEndEvent,
    TaskStartEvent,
    ToolCallEvent,
    ToolResultEvent,
)
from harnessx.messages import Conversation, Message, Meter, ModelRequest, ModelResponse, ToolCall, ToolSchema, Usage
from harnessx.permissions import Effect
from harnessx.pipeline import MAX_PARTS, Pipeline
from harnessx.port import Ending as Ending
from harnessx.port import Episode as Episode
from harnessx.port import Port as Port
from harnessx.processor import Context, Processor
from harnessx.spawning import SubPort, Turns, episode_for, harness_for
from harnessx.spec import Spec, build
from harnessx.tasks import ToolResult
from harnessx.toolbox import Toolbox, undeclared
from harnessx.tools.base import Tool
from harnessx.web import Fetch, Fetched

_NOTHING = Usage()
_PATHS = ("main", *(f"main[{part}]" for part in range(1, MAX_PARTS)))
"""Who asks: the agent itself, and the further parts of a split request."""

T = TypeVar("T")


class RunLoop:
    """One rollout of one harness. Not reusable."""

    def __init__(
        self, harness: HarnessConfig, episode: Episode, port: Port, *, allow_assets: bool = False, role: str = "main"
    ) -> None:
        self._harness, self._episode, self._port, self._allow_assets = harness, episode, port, allow_assets
        self._limit = harness.slots.limits.steps
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        processors = [_built(spec, harness, allow_assets) for spec in harness.processors]
        self._tools = Toolbox.of(harness, episode.tools, processors, allow_assets=allow_assets)
        self._schemas = self._tools.schemas
        self._context = self._make_context(harness)
        self._reaching: Context | None = None
        self._bind(processors, harness)
        self._offered: tuple[str, ...] = tuple(self._schemas)
        self._offer: tuple[ToolSchema, ...] = tuple(self._schemas.values())
        self._role = role
        self._system = ""
        self._history = Conversation([Message("user", episode.prompt)])
        self._last_user: str | None = episode.prompt
        self._spent, self._step_usage = Meter(), _NOTHING
        self._spawning: asyncio.Lock | None = None
        self._done = False
        self._answer = ""

    def _make_context(self, harness: HarnessConfig) -> Context:
        episode = self._episode
        return Context(
            task_id=episode.task_id,
            prompt=episode.prompt,
            attempt=episode.attempt,
            seed=episode.randomness,
            complete=self._complete_for_processor,
            scratch=self._scratch_folder,
            asset=harness.assets.__getitem__,
            assets=tuple(harness.assets),
            roles=episode.roles,
            fetch=undeclared,
            spawn=self._spawn,
            slots={"tool_schemas": tuple(self._schemas.values()), "limits": harness.slots.limits},
        )

    def _context_for(self, effects: Collection[Effect]) -> Context:
        """The one context; a processor that declares the network has it too, with the way there."""
        if Effect.NETWORK not in effects:
            return self._context
        if self._reaching is None:
            assert self._context.rng  # made by now, it is the same for both
            self._reaching = replace(self._context, fetch=self._fetch)
            self._reaching.rng = self._context.rng
        return self._reaching

    def _bind(self, processors: Sequence[Processor], harness: HarnessConfig) -> None:
        """One instance of each processor, on every hook it serves."""
        at: dict[Hook, list[Processor]] = defaultdict(list)
        for processor, traits in zip(processors, harness.traits, strict=True):
            with boundary(Source.PROCESSOR, traits.name):
                processor.bind(self._context_for(traits.effects))
            for hook in traits.hooks:
                at[hook].append(processor)
        scope = Scope(self._schemas, self._episode.roles)

        def pipeline(hook: Hook) -> Any:
            """None where no processor serves the hook: then not even an event is made."""
            return Pipeline(hook, at[hook], scope) if at[hook] else None

        self._task_start: Pipeline[TaskStartEvent] | None = pipeline(Hook.TASK_START)
        self._step_start: Pipeline[StepStartEvent] | None = pipeline(Hook.STEP_START)
        self._before_model: Pipeline[BeforeModelEvent] | None = pipeline(Hook.BEFORE_MODEL)
        self._after_model: Pipeline[ModelResponseEvent] | None = pipeline(Hook.AFTER_MODEL)
        self._before_tool: Pipeline[ToolCallEvent] | None = pipeline(Hook.BEFORE_TOOL)
        self._after_tool: Pipeline[ToolResultEvent] | None = pipeline(Hook.AFTER_TOOL)
        self._step_end: Pipeline[StepEndEvent] | None = pipeline(Hook.STEP_END)
        self._task_end: Pipeline[TaskEndEvent] | None = pipeline(Hook.TASK_END)

    async def run(self) -> Ending:
        """Run to the end.

        Raises:
            ContractViolation: a processor broke its contract.
            Failure: something failed, attributed to its source.
        """
        step = 0
        try:
            try:
                stop = await self._begin()
                while stop is None:
                    if step == self._limit:
                        stop = StopReason.STEP_LIMIT
                    else:
                        step += 1
                        stop = await self._step(step)
            except Interrupt as halt:
                stop = halt.reason
            except LimitReached as limit:
                stop = limit.reason
            await self._end(step, stop)
        finally:
            if self._scratch is not None:
                self._scratch.cleanup()
        return Ending(stop, self._answer, self._context.claims)

    async def _begin(self) -> StopReason | None:
        if self._task_start:
            event = TaskStartEvent(self._episode.task_id, self._episode.prompt, "")
            events = await self._task_start.run(event)
            if not events:
                return StopReason.INTERCEPTED
            self._system = events[0].system_prompt
        return None

    async def _step(self, step: int) -> StopReason | None:
        self._context.step = step
        if self._reaching is not None:
            self._reaching.step = step
        self._step_usage = _NOTHING
        if self._step_start:
            begun = await self._step_start.run(StepStartEvent(step, self._history, self._offered, self._role))
            if not begun:
                return StopReason.INTERCEPTED
            self._prepare(begun[0])
        answer = await self._ask(step)
        stop = None
        if answer is not None:
            self._extend(answer.to_message())
            if answer.tool_calls:
                self._extend(*await _in_order([self._run_call(step, call) for call in answer.tool_calls]))
                stop = StopReason.ENVIRONMENT_DONE if self._done else None
            else:
                stop = StopReason.FINISHED
            self._answer = answer.content
        if self._step_end:
            await self._step_end.run(StepEndEvent(step, self._step_usage, self._history))
        return stop

    async def _end(self, step: int, stop: StopReason) -> None:
        """task_end. Nothing is left to halt: an interrupt or a spent budget here only ends the hook."""
        if self._task_end:
            usage = self._spent.total
            event = TaskEndEvent(self._episode.task_id, step, stop, self._answer, usage, self._history)
            with contextlib.suppress(Interrupt, LimitReached):
                await self._task_end.run(event)

    def _prepare(self, chosen: StepStartEvent) -> None:
        """Take over the history, the tools and the role that step_start chose."""
        self._role = chosen.role
        if chosen.messages is not self._history:
            self._history = chosen.messages
            self._last_user = next((m.text for m in reversed(self._history) if m.role == "user"), None)
        if chosen.tools != self._offered:
            self._offered = chosen.tools
            self._offer = tuple(self._schemas[name] for name in chosen.tools)

    async def _ask(self, step: int) -> ModelResponse | None:
        """before_model, the model, after_model. None when the request or the answer was intercepted."""
        events = [BeforeModelEvent(step, self._history, self._last_user)]
        if self._before_model:
            events = await self._before_model.run(events[0])
        asked = [self._complete(self._request(e), path) for e, path in zip(events, _PATHS)]  # noqa: B905
        answers = await _in_order(asked)
        if self._after_model:
            parts: list[ModelResponse] = []
            for answer in answers:
                event = ModelResponseEvent(step, answer, answer.content, answer.tool_calls)
                parts += [_answered(e) for e in await self._after_model.run(event)]
            answers = parts
        return _numbered(step, answers) if answers else None

    def _request(self, event: BeforeModelEvent) -> ModelRequest:
        messages = self._history
        if event.last_user is not None and event.last_user != self._last_user:
            messages = _with_last_user(messages, event.last_user)
        if event.appended is not None:
            messages = messages.with_tail(Message("user", event.appended))
        return ModelRequest(self._system, messages, self._offer, self._role)

    async def _run_call(self, step: int, call: ToolCall) -> Message:
        """before_tool, the tool, after_tool; what the model is told of the call."""
        if call.raw is not None:
            refusal = f"The arguments of {call.name} are not a JSON object: {call.raw[:200]}"
            return await self._result(step, call, [ToolResult(refusal, is_error=True)])
        events = [ToolCallEvent(step, call.id, call.name, call.arguments)]
        if self._before_tool:
            events = await self._before_tool.run(events[0])
            if not events:
                return await self._result(step, call, [ToolResult("The call was blocked and did not run.", True)])
        results = []
        for event in events:
            if not event.approved:
                reason = event.reason or "it was not approved"
                results.append(ToolResult(f"The call did not run: {reason}", is_error=True))
                continue
            arguments = event.arguments
            ready = call if arguments is call.arguments else replace(call, arguments=arguments)
            results.append(await self._run_tool(step, ready))
        return await self._result(step, call, results)

    async def _run_tool(self, step: int, call: ToolCall) -> ToolResult:
        try:
            own = self._tools.own.get(call.name)
            if own is not None:
                return await self._run_own(step, own, call)
            if call.name not in self._schemas:
                known = ", ".join(self._offered) or "none"
                return ToolResult(f"There is no tool named {call.name!r}. Tools: {known}.", is_error=True)
            result = await self._port.call(call)
        except ToolError as error:
            return ToolResult(str(error), is_error=True)
        self._done = self._done or result.done
        return result

    async def _run_own(self, step: int, tool: Tool, call: ToolCall) -> ToolResult:
        async def world(name: str, arguments: Mapping[str, Any]) -> ToolResult:
            result = await self._port.call(ToolCall(call.id, name, arguments))
            self._done = self._done or result.done
            return result

        return await self._tools.run(tool, call, world, step, self._fetch)

    async def _result(self, step: int, call: ToolCall, results: Sequence[ToolResult]) -> Message:
        texts = [result.content for result in results]
        if self._after_tool:
            texts = []
            for result in results:
                event = ToolResultEvent(step, call, result.content, result.is_error)
                shown = await self._after_tool.run(event)
                texts += [e.content for e in shown] or ["The result was withheld."]
        return Message("tool", texts[0] if len(texts) == 1 else "\n".join(texts), (), call.id)

    async def _fetch(self, url: str, method: str = "GET", **parts: Any) -> Fetched:
        """A `Fetcher`."""
        return await self._port.fetch(Fetch.of(url, method, **parts))

    async def _spawn(self, assignments: Sequence[Assignment]) -> list[Report]:
        """A `Spawner`. One batch after the other: two that meet would reach the world in an order of chance."""
        self._spawning = self._spawning or asyncio.Lock()
        async with self._spawning:
            leases = await self._port.spawn([assignment.allowance for assignment in assignments])
            turns = Turns(len(leases))
            pairs = enumerate(zip(assignments, leases, strict=True))
            return await _in_order([self._delegate(*pair, turns, index) for index, pair in pairs])

    async def _delegate(self, assignment: Assignment, lease: Lease, turns: Turns, index: int) -> Report:
        """One sub-agent, from its beginning to its end; what it spends is this step's."""
        harness = harness_for(self._harness, assignment, lease.granted)
        episode = episode_for(self._episode, assignment, lease.path)
        port = SubPort(self._port, lease.path, turns, index)
        sub = RunLoop(harness, episode, port, allow_assets=self._allow_assets, role=assignment.role)
        try:
            ending = await sub.run()
        finally:
            turns.leave(index)
            usage = sub._spent.total
            self._spent.add(usage)
            self._step_usage += usage
        await self._port.join(lease.path, ending.stop_reason)
        self._done = self._done or sub._done
        if ending.claims:
            self._context.claims[lease.path] = dict(ending.claims)
        return Report(lease.path, ending.answer, ending.stop_reason, sub._context.step, usage.total_tokens)

    async def _complete_for_processor(self, role: str, request: ModelRequest) -> ModelResponse:
        if role not in self._episode.roles:
            raise Failure(Source.PROCESSOR, f"no role {role!r}; roles: {', '.join(self._episode.roles)}")
        return await self._complete(replace(request, role=role), f"processor:{role}")

    async def _complete(self, request: ModelRequest, path: str) -> ModelResponse:
        answer = await self._port.complete(request, path)
        self._spent.add(answer.usage)
        used = self._step_usage
        self._step_usage = answer.usage if used is _NOTHING else used + answer.usage
        return answer

    def _extend(self, *messages: Message) -> None:
        self._history = self._history.append(*messages)

    def _scratch_folder(self) -> Path:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="rollout-")
        return Path(self._scratch.name)


def _built(spec: Spec, harness: HarnessConfig, allow_assets: bool) -> Processor:
    processor = build(spec, harness.assets, allow_assets=allow_assets)
    if not isinstance(processor, Processor):
        raise HarnessInvalid(f"{spec.target} is not a Processor")
    return processor


def _answered(event: ModelResponseEvent) -> ModelResponse:
    answer = event.response
    if event.content is answer.content and event.tool_calls is answer.tool_calls:
        return answer
    return replace(answer, content=event.content, tool_calls=event.tool_calls)


def _numbered(step: int, parts: list[ModelResponse]) -> ModelResponse:
    """The parts of a split answer as one; calls without an id get one made of step and place."""
    merged = parts[0]
    if len(parts) > 1:
        calls = tuple(call for part in parts for call in part.tool_calls)
        merged = replace(merged, content="\n".join(p.content for p in parts), tool_calls=calls)
    ids = {call.id for call in merged.tool_calls}
    if len(ids) == len(merged.tool_calls) and "" not in ids:
        return merged
    calls = tuple(replace(call, id=f"call_{step}_{i}") for i, call in enumerate(merged.tool_calls))
    return replace(merged, tool_calls=calls)


def _with_last_user(messages: Conversation, content: str) -> Conversation:
    """A copy whose last user message says ``content``; messages before it keep their storage."""
    place = max(i for i, m in enumerate(messages) if m.role == "user")
    changed = replace(messages[place], content=content)
    return Conversation([*messages[:place], changed, *messages[place + 1 :]])


async def _in_order(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all concurrently; results in order. The first failure cancels the rest."""
    if len(work) == 1:  # without the cost of a task
        return [await work[0]]
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
