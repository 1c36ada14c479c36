"""The error model, whole.

**A bad rollout is data, not a crash.** Whatever goes wrong while an agent works ends as a pair
(`Outcome`, `StopReason`) in the record, never as an exception that reaches the researcher's loop.

Outcome says who is to be believed about the result:

========================  ======================================================================
``passed`` / ``failed``   the verifier scored the rollout, whatever ended it (limits included)
``harness_error``         the harness broke: a crashing processor, a broken contract, a worker that
                          talks nonsense or stalls. Scores 0: a harness may not crash for free.
``infra_error``           the world broke: provider, environment, sandbox, verifier, a host on the network,
                          a tool server. Missing, retried, and never evidence against a harness.
========================  ======================================================================

Classification happens where foreign code is called: user code raises plain Python errors, and
`boundary` (at processors and the harness's own tools, a ``try`` to the same end) attributes them to the
`Source` that was running. Some errors cross a boundary unchanged because they already carry their
meaning: `Interrupt` (a processor halts the loop on purpose), `LimitReached` (a budget is spent), and
those that name what broke: `Failure`, `ContractViolation` and `HarnessInvalid`. Only what the host
itself raised can make a rollout an ``infra_error``. A `Halt` ends more than its rollout: no model can be
asked any more, for the provider is down (`Outage`) or the budget is spent (`BudgetSpent`), so the rollouts it
cuts off are stored nowhere, and run when the run goes on.

`UserError` is for people at a terminal: one line that says what was wrong, where it came from and
what to do. Command-line entry points print it and exit with code 2.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harnessx.messages import Usage


class Outcome(StrEnum):
    """Who decided the result of a rollout, and how."""

    PASSED = "passed"
    FAILED = "failed"
    HARNESS_ERROR = "harness_error"
    INFRA_ERROR = "infra_error"
    UNSCORED = "unscored"
    """No verifier was given: nothing is claimed."""


class StopReason(StrEnum):
    """What ended the run loop. Independent of the outcome: a limited rollout is still verified."""

    FINISHED = "finished"
    """The model answered without calling a tool."""
    ENVIRONMENT_DONE = "environment_done"
    """The environment declared the episode over."""
    STEP_LIMIT = "step_limit"
    TOKEN_LIMIT = "token_limit"
    COST_LIMIT = "cost_limit"
    WALL_LIMIT = "wall_limit"
    INTERRUPTED = "interrupted"
    """A processor raised `Interrupt`."""
    INTERCEPTED = "intercepted"
    """A processor intercepted task_start or step_start."""
    STUCK = "stuck"
    """The agent went in circles, and nobody took over."""
    ERROR = "error"


class Source(StrEnum):
    """Which part was running when something failed."""

    MODEL = "model"
    TOOL = "tool"
    PROCESSOR = "processor"
    ENVIRONMENT = "environment"
    SANDBOX = "sandbox"
    VERIFIER = "verifier"
    NETWORK = "network"
    """A host that evolved code was allowed to ask."""
    SERVER = "server"
    """A tool server that the user configured."""
    WORKER = "worker"

    @property
    def outcome(self) -> Outcome:
        """The outcome of a rollout that this source broke."""
        if self in (Source.PROCESSOR, Source.TOOL, Source.WORKER):
            return Outcome.HARNESS_ERROR
        return Outcome.INFRA_ERROR


class HarnessxError(Exception):
    """Base of every error this package raises on purpose."""


class UserError(HarnessxError):
    """Wrong input from a person: one line, with the remedy. Exit code 2 at the command line."""


class Outage(UserError):
    """Nothing can be run: the run ends with the cause, and can go on once that is seen to."""


class BudgetSpent(UserError):
    """Rollouts were not run, or not to their end, for the budget is spent."""


class HarnessInvalid(UserError):
    """A harness that is not well typed. ``problems`` lists every finding, not only the first."""

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(self.problems))


class ContractViolation(HarnessxError):
    """A processor did at a hook what the hook's contract does not allow."""

    def __init__(self, processor: str, hook: str, field: str, detail: str = "") -> None:
        self.processor, self.hook, self.field, self.detail = processor, hook, field, detail
        super().__init__(f"{processor} broke the contract of {hook}: {field}" + (f" ({detail})" if detail else ""))


class Interrupt(HarnessxError):
    """Raised by a processor to halt the loop on purpose (the fifth processor outcome)."""

    def __init__(self, detail: str = "", reason: StopReason = StopReason.INTERRUPTED) -> None:
        self.reason = reason
        super().__init__(detail or reason.value)


class LimitReached(HarnessxError):
    """A budget of the rollout is spent. The rollout is verified all the same."""

    def __init__(self, reason: StopReason, detail: str = "") -> None:
        self.reason = reason
        super().__init__(detail or reason.value)


class ToolError(HarnessxError):
    """A tool could not do what the model asked: the model gets the message as an error result."""


class FetchRefused(ToolError):
    """A request to the network that the host does not make, or whose answer it does not pass on, with the reason.

    It is of the harness's doing: in a tool the model gets it as an error result, in a processor it is a harness error.
    """


class Failure(HarnessxError):
    """A classified failure: which `Source` broke, and therefore which `Outcome` the rollout has."""

    def __init__(self, source: Source, message: str) -> None:
        self.source = source
        super().__init__(f"{source}: {message}")

    @property
    def outcome(self) -> Outcome:
        """The outcome this failure gives the rollout."""
        return self.source.outcome


class WorkerLost(Failure):
    """A worker was gone without a word: killed from outside, or by the code in it."""

    def __init__(self) -> None:
        super().__init__(Source.WORKER, "the worker ended before its rollout did")


class RemoteFailure(Failure):
    """Somebody behind a network failed. ``transient`` failures are worth a retry and are never cached.

    ``status`` is that of the HTTP answer, where there was one; ``retry_after`` the seconds it asks to wait.
    """

    def __init__(
        self, source: Source, message: str, transient: bool, status: int | None, retry_after: float | None
    ) -> None:
        self.transient, self.status, self.retry_after = transient, status, retry_after
        super().__init__(source, message)


class ModelFailure(RemoteFailure):
    """The provider failed. ``usage`` is what that cost all the same, None for nothing that is known."""

    def __init__(
        self,
        message: str,
        *,
        transient: bool = True,
        status: int | None = None,
        retry_after: float | None = None,
        usage: Usage | None = None,
    ) -> None:
        self.usage = usage
        super().__init__(Source.MODEL, message, transient, status, retry_after)


class NetworkFailure(RemoteFailure):
    """A host that evolved code may ask did not answer."""

    def __init__(
        self, message: str, *, transient: bool = True, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(Source.NETWORK, message, transient, status, retry_after)


class Halt(ModelFailure):
    """No model may or can be asked any more: the run ends, and what it cuts off is no data. ``reason`` is one line."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason, transient=False)


class ProviderDown(Halt):
    """A provider answers nobody: patience with it is over."""


class CallRefused(Halt):
    """A call was not made, for the budget of its account is spent."""


class boundary:
    """Attribute whatever is raised inside to ``source``.

    Errors that carry their own meaning pass unchanged; anything else becomes a `Failure`.

    Raises:
        Failure: for any other error raised by the guarded code.
    """

    __slots__ = ("_name", "_source")
    _MEANT = (Failure, ContractViolation, HarnessInvalid, Interrupt, LimitReached)

    def __init__(self, source: Source, name: str = "") -> None:
        self._source, self._name = source, name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, self._MEANT):
            where = f"{self._name}: " if self._name else ""
            raise Failure(self._source, f"{where}{type(error).__name__}: {error}") from error
