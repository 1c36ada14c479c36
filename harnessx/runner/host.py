"""The host's side of one rollout: limits, response cache, environment, and the record.

Everything an outcome rests on is counted here, from what crosses the seam; the loop on the other
side may be anybody's code. `Host` is the `Port` the loop sees.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harnessx.delegation import Allowance, Lease
from harnessx.errors import (
    Failure,
    FetchRefused,
    Halt,
    HarnessxError,
    LimitReached,
    ModelFailure,
    Source,
    StopReason,
    ToolError,
    boundary,
)
from harnessx.harness import Limits
from harnessx.messages import Conversation, Message, Meter, ModelRequest, ModelResponse, Part, ToolCall, Usage
from harnessx.model_config import Models, account_of
from harnessx.models.base import CallContext, NoStopwatch, Stopwatch, Tape
from harnessx.models.spend import Spend, added
from harnessx.permissions import USUAL, Effect, refusal
from harnessx.redaction import redactor
from harnessx.runner.budget import Budget
from harnessx.runner.gateway import Gateway, Web
from harnessx.tasks import Environment, ToolResult
from harnessx.trajectory import Exchange, FetchExchange, Shorthand, Step, ToolExchange, Trajectory, encode
from harnessx.web import Fetch, Fetched

_MODEL, _WORLD, _NETWORK = boundary(Source.MODEL), boundary(Source.ENVIRONMENT), boundary(Source.NETWORK)
_LOST = (Source.ENVIRONMENT, Source.NETWORK, Source.SERVER, Source.SANDBOX)
_FILE = boundary(Source.SANDBOX, "the trajectory file")


@dataclass(frozen=True, slots=True)
class Recorder:
    """Where the record goes while it grows. ``keep`` also holds steps in memory for the verifier; ``seen`` is told
    of each event as it happens."""

    write: Callable[[bytes], object] | None = None
    keep: bool = True
    contents: bool = True
    seen: Callable[[Exchange | ToolExchange | FetchExchange], None] | None = None


class Host:
    """One rollout, seen from the trusted side.

    Args:
        origin: the rollout's key; a response this very rollout cached before it died counts as made.
        granted: what the user's and the harness's rules let tools do; a call that needs more does not run.
        web: the network, for what the harness's code fetches; ``closed`` says why it may not.
    """

    def __init__(
        self,
        record: Trajectory,
        models: Models,
        environment: Environment | None,
        limits: Limits,
        *,
        seed: int = 0,
        tape: Tape | None = None,
        origin: str = "",
        recorder: Recorder | None = None,
        granted: frozenset[Effect] = USUAL,
        web: Web | None = None,
        closed: str = "",
    ) -> None:
        self.record = record
        self.failure: Exception | None = None
        """What this side refused or broke with in the current step; only this may be an infra error.

        A world that broke stays broken, whatever the other side does next."""
        self.done = False
        self.watch: Stopwatch = NoStopwatch()
        self._models, self._environment = models, environment
        self._seed, self._tape, self._origin = seed, tape, origin
        self._recorder = recorder or Recorder()
        self._shorthand = Shorthand()
        self._step = Step(0)
        self._steps = 0
        self._budget = Budget(limits)
        self._used: dict[str, Meter] = {}
        self._paid: dict[str, Meter] = {}
        self._owed: set[str] = set()
        """Roles one of whose calls had no known price."""
        self._asked: Counter[tuple[str, str]] = Counter()
        self._previous: dict[str, Conversation] = {}
        self._system: dict[str, str] = {}
        self._contexts: dict[str, CallContext] = {}
        self._redactor = redactor()
        self.granted, self._refusals = granted, dict[str, str]()
        self._web, self._closed = web, closed
        self._gateway: Gateway | None = None
        if self._recorder.write is not None:
            self._recorder.write(encode(record.header()))

    def complete(self, request: ModelRequest, path: str) -> Coroutine[Any, Any, ModelResponse]:
        """Answer a request, within the limits and through the cache.

        A request of path ``main`` begins a step; ``main[k]`` are further parts of a split one. Both count
        as steps against the limit.

        Raises:
            LimitReached: steps, tokens or cost are spent.
            Failure: the provider failed, or nobody serves the role.
        """
        return self._in_turn(request, path) if path.startswith("sub[") else self._complete(request, path)

    async def _in_turn(self, request: ModelRequest, path: str) -> ModelResponse:
        try:
            turn = self._budget.turn(path)
        except HarnessxError as error:
            self._failed(error, path)
            raise
        async with turn:
            return await self._complete(request, path)

    async def _complete(self, request: ModelRequest, path: str) -> ModelResponse:
        try:
            if path == "main":
                self._budget.settle_all()
            self._budget.check(path)
            if path == "main":
                self._begin_step()
            response, key, replayed = await self._answer(request, path)
            self.record.model_calls += 1
            self.record.replayed_calls += replayed
            self._spend(request.role, path, response.usage, replayed=replayed)
            self._observe(request, path, response, key, replayed)
            return response
        except HarnessxError as error:
            self._failed(error, path)
            raise

    def _failed(self, error: HarnessxError, path: str) -> None:
        self._redactor.error(error)
        own = path.startswith("sub[") and isinstance(error, LimitReached)
        if not own:  # a sub-agent that has spent its part ends nobody else
            self.failure = self.failure or error
        if isinstance(error, Halt):
            self.record.halt = error

    async def spawn(self, asked: Sequence[Allowance]) -> list[Lease]:
        """Lend budgets to sub-agents, all or none. They last for this step, and their records lie in it.

        Raises:
            ToolError: nothing is left to lend, or there were too many.
        """
        lent = self._budget.carve(asked)
        self._mark(f"spawn{len(lent)}")
        self._step.subs += [record for _, record in lent]
        return [lease for lease, _ in lent]

    async def join(self, path: str, stop: StopReason) -> None:
        """A sub-agent has ended. Why, the other side says, unless this side knows better."""
        if stop is StopReason.ENVIRONMENT_DONE and not self.done:
            stop = StopReason.ERROR
        self._budget.settle(path, stop)

    async def call(self, call: ToolCall, path: str = "main") -> ToolResult:
        """Run an environment tool; what the agent did wrong comes back as an error result.

        ``path`` says whose call it is, and so where it is written down.

        Raises:
            ToolError: ``path`` is that of no sub-agent that runs.
            Failure: the environment broke.
        """
        if self._environment is None or self.done:
            return ToolResult("The episode is over." if self.done else "There is no environment.", True)
        if self.failure is not None and self.world_lost:
            raise self.failure
        step = self._place(path)
        self._mark(f"{call.name}{call.arguments}{call.raw or ''}")
        refused = self._refusals.get(call.name)
        if refused is None:
            refused = self._refused(call.name)
        if refused:
            self._called(step, ToolExchange(call, refused, is_error=True))
            return ToolResult(refused, is_error=True)
        try:
            with _WORLD:
                try:
                    result = await self._environment.step(call)
                except ToolError as error:
                    result = ToolResult(str(error), is_error=True)
                content = self._redactor(result.content)
                if content is not result.content:
                    result = replace(result, content=content)
                result.content.encode()  # what cannot be stored is found here, where it comes from
        except HarnessxError as error:
            self._redactor.error(error)
            self.failure = self.failure or error
            raise
        self.done = self.done or result.done
        self._called(step, ToolExchange(call, result.content, result.is_error))
        return result

    async def fetch(self, request: Fetch) -> Fetched:
        """Ask a host on the network for the harness's code. After one that did not answer the rollout is lost.

        Raises:
            FetchRefused: that is not allowed; the harness's own doing.
            NetworkFailure: a host that may be asked does not answer.
        """
        if self.failure is not None and self.world_lost:
            raise self.failure
        if self._gateway is None:
            context = CallContext(self._seed, self.record.task_id, self.record.attempt, "fetch", watch=self.watch)
            self._gateway = Gateway(self._web, self._closed, self._origin, context)

        def note(done: FetchExchange) -> None:
            self._mark(f"{request.method}{request.url}{zlib.crc32(request.body)}")
            self._step.fetches.append(done)
            if self._recorder.seen is not None:
                self._recorder.seen(done)

        try:
            with _NETWORK:
                try:
                    return await self._gateway.fetch(request, note)
                except FetchRefused as error:
                    refused = error
        except Failure as failure:
            if not self.world_lost:
                self.failure = failure
            raise
        raise refused

    def _refused(self, name: str) -> str:
        """Why a call of the tool does not run: the last word, whatever the other side offers or claims."""
        if not self._refusals:
            assert self._environment is not None
            tools = self._environment.tools
            known = ", ".join(tool.name for tool in tools) or "none"
            reasons = {tool.name: refusal(tool.effects, self.granted) for tool in tools}
            self._refusals = {tool: reason and f"The call did not run: {reason}." for tool, reason in reasons.items()}
            self._refusals[""] = f"The call did not run: the world has no tool of that name. Its tools: {known}."
        return self._refusals.get(name, self._refusals[""])

    @property
    def world_lost(self) -> bool:
        """Whether the environment broke, or what is beside it: a host on the network, a tool server, a wall."""
        return isinstance(self.failure, Failure) and self.failure.source in _LOST

    def finish(self) -> None:
        """Close the last step and settle the totals."""
        self._budget.settle_all()
        self._flush(last=True)
        self.record.usage = self._budget.spent.total
        self.record.roles = {role: used.total for role, used in self._used.items()}
        for role, paid in self._paid.items():
            usd = None if role in self._owed else paid.cost_usd or 0.0
            self.record.paid = added(self.record.paid, {account_of(role): Spend(paid.tokens, usd)})

    def write_ending(self) -> None:
        """The last line of the trajectory file."""
        if self._recorder.write is not None:
            self._recorder.write(encode(self.record.ending()))

    def _called(self, step: Step, done: ToolExchange) -> None:
        step.calls.append(done)
        if self._recorder.seen is not None:
            self._recorder.seen(done)

    def _spend(self, role: str, path: str, usage: Usage, *, replayed: bool = False, answered: bool = True) -> None:
        """Count what a call took; what was not replayed is paid for."""
        self._budget.count(path, usage, answered=answered)
        used = self._used.get(role)
        if used is None:
            used = self._used[role] = Meter()
        used.add(usage)
        if replayed:
            return
        paid = self._paid.get(role)
        if paid is None:
            paid = self._paid[role] = Meter()
        paid.add(usage)
        if usage.cost_usd is None and usage.total_tokens:
            self._owed.add(role)

    def _mark(self, event: str) -> None:
        self.record.trail.append(f"{zlib.crc32(event.encode(errors='replace')) & 0xFFFF:04x}")

    def _begin_step(self) -> None:
        before = self._step
        self._flush()
        if not self.world_lost:
            self.failure = None
        self._steps += 1
        self._step = Step(self._steps)
        if not before.exchanges and not before.calls:
            self._step.fetches, self._step.subs = before.fetches, before.subs

    def _flush(self, *, last: bool = False) -> None:
        step = self._step
        if not step.exchanges and not step.calls and not (last and (step.fetches or step.subs)):
            return
        if self._recorder.write is not None and self._recorder.contents:
            with _FILE:
                self._recorder.write(self._shorthand.line(step))
        if self._recorder.keep:
            self.record.steps.append(step)
        self._step = Step(0)

    async def _answer(self, request: ModelRequest, path: str) -> tuple[ModelResponse, str, bool]:
        if request.role not in self._models.roles:
            raise Failure(Source.PROCESSOR, f"no role {request.role!r}; roles: {', '.join(self._models.roles)}")
        context = self._contexts.get(path)
        if context is None:
            context = CallContext(self._seed, self.record.task_id, self.record.attempt, path, watch=self.watch)
            self._contexts[path] = context
        request = self._models.sampled(request)
        tape = self._tape
        if tape is None:
            place, answer = await self._ask(request, context)
            return self._models.read(request, place, answer), "", False
        questions = self._models.questions(request)
        n = self._asked[path, questions[0]]
        self._asked[path, questions[0]] += 1
        keys = [f"{path}:{question}:{n}" for question in questions]
        self._mark(keys[0])
        for place, key in enumerate(keys):
            cached = tape.get(key)
            if cached is not None:
                return self._models.read(request, place, cached[0]), key, cached[1] != self._origin
        if n:
            context = CallContext(self._seed, self.record.task_id, self.record.attempt, path, n, self.watch)
        place, answer = await self._ask(request, context)
        with _MODEL:
            tape.put(keys[place], self._origin, answer)
        return self._models.read(request, place, answer), keys[place], False

    async def _ask(self, request: ModelRequest, context: CallContext) -> tuple[int, ModelResponse]:
        with _MODEL:
            try:
                place, answer = await self._models.ask(request, context)
            except ModelFailure as failure:
                if failure.usage is not None:
                    self._spend(request.role, context.path, failure.usage, answered=False)
                raise
            return place, self._redactor.response(answer)

    def _observe(self, request: ModelRequest, path: str, response: ModelResponse, key: str, replayed: bool) -> None:
        messages = request.messages
        before = self._previous.get(path)
        kept = 0 if before is None else messages.shared_prefix(before)
        system = None
        if self._system.get(path) != request.system:
            self._system[path] = request.system
            system = self._redactor(request.system)
        self._previous[path] = messages
        sent = messages.after(kept)
        for message in sent:
            if message.role == "user" or message.role == "system":
                sent = tuple(map(self._recorded, sent))
                break
        exchange = Exchange(path, kept, sent, response, key, replayed, system)
        self._place(path, begin=True).exchanges.append(exchange)
        if self._recorder.seen is not None:
            self._recorder.seen(exchange)

    def _place(self, path: str, *, begin: bool = False) -> Step:
        """The step that an event of ``path`` belongs to; a request of a sub-agent itself begins one of its own."""
        if not path.startswith("sub["):
            return self._step
        sub = self._budget.place(path)
        if not sub.steps or (begin and path == sub.path):
            sub.steps.append(Step(len(sub.steps) + 1))
        return sub.steps[-1]

    def _recorded(self, message: Message) -> Message:
        """A message as it is written down: what the harness itself says has not passed this side before."""
        if message.role in ("assistant", "tool"):
            return message
        text = message.content
        if isinstance(text, str):
            content: str | tuple[Part, ...] = self._redactor(text)
        else:
            content = tuple(replace(part, text=self._redactor(part.text)) for part in text)
        return message if content == text else replace(message, content=content)
