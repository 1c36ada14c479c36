"""``python -m harnessx.run``: a task, watched; what was stopped goes on, and nothing is paid for twice."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from providers import Endpoint, endpoint

from harnessx import run as command
from harnessx.messages import Usage
from harnessx.trajectory import Trajectory

HOUSEHOLD = ("model=benchmarks.bounded.Bounded", "benchmark=benchmarks.household.Household", "task=evolve/2")


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "loopback")
    with endpoint() as found:
        yield found


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    return line


def test_a_chat_is_answered_and_watched(capsys: pytest.CaptureFixture[str], somewhere: Path):
    arguments = ("model=scripted", "model.script=['391']", "task=What is 17 * 23?", "out=a")
    assert command.main(arguments) == 0
    said = capsys.readouterr()
    assert said.out == "391\n"
    assert "What is 17 * 23?" in said.err
    assert "says 391" in said.err
    record = Trajectory.from_jsonl((somewhere / "a/trajectory.jsonl").read_text())
    assert (record.answer, record.model_calls) == ("391", 1)
    assert command.main((*arguments, "--resume")) == 0
    assert "over already" in capsys.readouterr().err


def test_a_world_and_its_verifier_come_by_name(capsys: pytest.CaptureFixture[str]):
    code = command.main((*HOUSEHOLD, "out=a"))
    said = capsys.readouterr().err
    assert code == (0 if "passed (" in said else 1)
    assert "calls act" in said or "calls " in said
    assert "gives " in said


def test_what_was_stopped_goes_on_and_pays_nothing_twice(
    server: Endpoint, capsys: pytest.CaptureFixture[str], somewhere: Path
):
    harness = somewhere / "h.yaml"
    harness.write_text(
        "processors:\n- _target_: harnessx.processors.ParseRetry\n  final_markers: [done]\n  max_retries: 9\n"
    )
    server.says("first")
    server.says("second")
    server.fails(400, "the provider minds")
    ask = (f"harness={harness}", "model=openai/gpt-4o-mini", f"model.api_base={server.v1}", "task=Go.", "out=a")
    assert command.main(ask) == 1
    assert len(server.seen) == 3
    server.says("third, done")
    assert command.main(("--resume", "out=a")) == 0
    assert capsys.readouterr().out.endswith("third, done\n")
    assert len(server.seen) == 4
    record = Trajectory.from_jsonl((somewhere / "a/trajectory.jsonl").read_text())
    assert (record.model_calls, record.replayed_calls) == (3, 0)
    usage: Usage = record.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (server.books.prompt, server.books.completion)


def test_a_change_of_who_answers_is_noticed_across_sittings(server: Endpoint, capsys: pytest.CaptureFixture[str]):
    ask = ("model=openai/gpt-4o-mini", f"model.api_base={server.v1}", "task=Go.", "out=a")
    server.says("", (("look", "{}"),))
    server.fails(400)
    assert command.main(ask) == 1
    assert "gpt-4o-mini changed" not in capsys.readouterr().err
    server.served = "served-2"
    server.says("done")
    assert command.main((*ask, "--resume")) == 0
    assert "openai/gpt-4o-mini changed: served-2 answers now, served-1 before" in capsys.readouterr().err


def test_a_torn_recording_is_dropped(somewhere: Path, capsys: pytest.CaptureFixture[str]):
    (somewhere / "a").mkdir()
    (somewhere / "a/recording.jsonl").write_text('["answers","k","run","{}"]\n["answers","k2"')
    with command.Recording(somewhere / "a/recording.jsonl") as recording:
        assert [entry.key for entry in recording.entries("answers")] == ["k"]
    assert (somewhere / "a/recording.jsonl").read_text().count("\n") == 1
    (somewhere / "a/recording.jsonl").write_text("nonsense\n")
    line = refused(capsys, "model=scripted", "model.script=['x']", "task=Go.", "out=a")
    assert "is no recording" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "model is not set; set model=openai/gpt-5.4-mini"),
        (("model=scripted",), "task is not set"),
        (("model=gpt", "task=x"), "model=gpt: neither provider/name nor the dotted path of a class"),
        (("model=no.such.Thing", "task=x"), "no.such.Thing"),
        (("model=scripted", "task=x", "harness=nothing"), "bundles: "),
        (("model=scripted", "task=x", "colour=red"), "cannot read 'colour=red'"),
        (("model=scripted", "task=x", "seed=-1"), "seed=-1 must be a whole number"),
        (("model=scripted", "task=x", "benchmark=benchmarks.household.Household"), "e.g. task=evolve/0"),
        (("model=openai/x", "model.tools=json", "task=x"), "valid: auto, native, text"),
        (("--resume",), "takes the folder of the run"),
        (("--resume", "out=nowhere"), "holds no run to go on with"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_one_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str):
    line = refused(capsys, *arguments)
    assert line.startswith("error: ")
    assert said in line


def test_the_offline_commands_of_the_readme_run_as_written(capsys: pytest.CaptureFixture[str]):
    readme = (Path(command.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    written = [shlex.split(line) for line in readme.splitlines() if line.startswith("python -m harnessx.run ")]
    offline = [words[3:] for words in written if not any(word.startswith("model=openai/") for word in words)]
    assert [command.main(words) for words in offline] == [0, 0]
    assert "passed (environment_done)" in (said := capsys.readouterr().err)
    assert "over already" in said


def test_a_run_of_other_settings_is_left_alone(capsys: pytest.CaptureFixture[str]):
    ask = ("model=scripted", "model.script=['x']", "out=a")
    assert command.main((*ask, "task=Go.")) == 0
    assert "add --resume" in refused(capsys, *ask, "task=Go.")
    assert "other settings" in refused(capsys, *ask, "task=Stay.")


def test_the_command_runs_without_loading_what_it_does_not_use(somewhere: Path):
    code = (
        "import sys; from harnessx import run; "
        "code = run.main(['model=scripted', 'model.script=[aye]', 'task=Go.', 'out=a']); "
        "import json; print(json.dumps([code, 'litellm' in sys.modules, 'aegis' in sys.modules]))"
    )
    root = Path(command.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0, False, False]
