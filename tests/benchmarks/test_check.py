"""`python -m benchmarks.check`: a benchmark is sound if its solutions win and doing nothing does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from benchmarks import check, registry
from harnessx.errors import Failure, Source, UserError
from harnessx.messages import ToolCall
from harnessx.tasks import Environment, Score, Task, ToolResult


class Door:
    """A world with one door."""

    tools = ()

    def __init__(self) -> None:
        self.open = False
        self.closed = 0

    async def reset(self) -> str:
        return ""

    async def step(self, call: ToolCall) -> ToolResult:
        self.open = True
        return ToolResult("The door opens.", done=True)

    async def close(self) -> None:
        self.closed += 1


class Doors:
    """Five doors. The task of each is to open it; with ``wrong``, what the name says is wrong."""

    name = "doors"
    digest = ""
    recorded = False
    tools = ()

    def __init__(self, seed: int = 0, wrong: str = "") -> None:
        self.wrong, self.verifier, self.made = wrong, self, []

    def tasks(self, split: str, limit: int) -> Sequence[Task]:
        return [Task("Open the door.", f"door-{i}") for i in range(5)][:limit] if split == "evolve" else []

    def environment(self, task: Task, attempt: int) -> Door:
        self.made.append(Door())
        return self.made[-1]

    async def oracle(self, task: Task, environment: Environment | None) -> str:
        if self.wrong == "world":
            raise Failure(Source.ENVIRONMENT, "the house burnt down")
        if (self.wrong, task.id) != ("oracle", "door-3"):
            await environment.step(ToolCall("1", "open"))
        return "done"

    async def score(self, task: Task, answer: str, environment: Environment | None, record: object) -> Score:
        assert isinstance(environment, Door)
        won = environment.open or (self.wrong, task.id) == ("verifier", "door-1")
        return Score(won, float(won))


class WrongOracle(Doors):
    def __init__(self, seed: int) -> None:
        super().__init__(seed, "oracle")


class WrongVerifier(Doors):
    def __init__(self, seed: int) -> None:
        super().__init__(seed, "verifier")


class WrongWorld(Doors):
    def __init__(self, seed: int) -> None:
        super().__init__(seed, "world")


@pytest.fixture
def doors(monkeypatch: pytest.MonkeyPatch):
    for target in (Doors, WrongOracle, WrongVerifier, WrongWorld):
        monkeypatch.setitem(registry.TARGETS, target.__name__, f"{__name__}.{target.__name__}")


def test_a_sound_benchmark_passes(doors, capsys):
    assert check.main(["Doors", "--limit", "4"]) == 0
    header, oracle, null = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["player", "wins", "steps"]
    assert oracle.split()[:3] == ["oracle", "4/4", "1.0"]
    assert null.split()[:3] == ["null", "0/4", "0.0"]


def test_a_lost_reference_solution_is_named(doors, capsys):
    assert check.main(["WrongOracle"]) == 1
    assert "the oracle lost: door-3" in capsys.readouterr().out


def test_a_verifier_that_doing_nothing_satisfies_is_unsound(doors, capsys):
    assert check.main(["WrongVerifier"]) == 1
    assert "doing nothing wins 1 of 5 tasks" in capsys.readouterr().out


def test_a_broken_world_is_one_line(doors, capsys):
    assert check.main(["WrongWorld"]) == 1
    assert capsys.readouterr().err == "environment: the house burnt down\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-benchmark"], "alfworld, household"),
        (["household", "--split", "everything"], "evolve, validation, sealed"),
        (["Doors", "--split", "sealed"], "no tasks in sealed"),
        (["Doors", "--limit", "0"], "--limit 0: at least 1 task is needed"),
        (["Doors", "--limit", "-3"], "--limit -3: at least 1 task is needed"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(doors, capsys, arguments, said):
    assert check.main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


async def test_every_environment_is_closed():
    doors = Doors()
    await check.check(doors, "evolve", 3)
    assert [door.closed for door in doors.made] == [1] * 6


def test_unknown_parameters_are_the_users_error():
    with pytest.raises(UserError, match=r"household.*colour"):
        registry.create("household", colour="red")


@pytest.mark.parametrize("name", ["household", "alfworld"])
def test_every_registered_name_can_be_created(name):
    assert registry.create(name, seed=3).name == name


def test_the_embedded_world_is_sound():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.check", "household", "--split", "sealed", "--limit", "30"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "30/30" in run.stdout
