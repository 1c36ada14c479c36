import io
import json
import os
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from views_run import write_run

from aegis.record import Summary
from aegis.views.progress import Progress
from aegis.views.summary_table import summary_table
from aegis.views.tracking import Tracking, project


def test_away_from_a_terminal_lines_are_sparse_and_end_with_the_whole_stage():
    now, stream = [0.0], io.StringIO()
    with Progress(3, stream=stream, every=10, clock=lambda: now[0]) as progress:
        progress.stage(1, "rollouts")
        for done in range(1, 101):
            now[0] += 0.25
            progress.calls(done, 3 * done)
            progress.rollouts(done, 100, done // 2, 1000 * done, None)
        progress.note("C-R1-01 [red]shipped[/red]\nby the gate")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "[0.0 s] round 1 of 3 · rollouts"
    assert len(lines) == 5, "a stage, two in 25 s, the end, a note"
    assert "100/100 rollouts · 50 % passed" in lines[3]
    assert "cost unknown · 400 model calls, 75 % replayed" in lines[3]
    assert lines[4] == "[25 s] C-R1-01 [red]shipped[/red] by the gate"


def everything(terminal: int) -> str:
    """All that was written to a terminal whose other end is closed."""
    shown = b""
    with suppress(OSError):  # EIO: there is no more
        while more := os.read(terminal, 65536):
            shown += more
    os.close(terminal)
    return shown.decode()


def test_on_a_terminal_the_view_is_live_and_notes_are_printed_as_they_are():
    leader, follower = os.openpty()
    with open(follower, "w", encoding="utf-8") as stream, Progress(2, stream=stream) as progress:
        progress.stage(2, "gate")
        progress.rollouts(5, 20, 4, 1234, 0.5)
        progress.note("[bold]as it is")
    shown = everything(leader)
    assert "round 2 of 2 · gate" in shown
    assert "5/20" in shown
    assert "$0.50" in shown
    assert "[bold]as it is" in shown


def test_the_final_table_shows_every_split_with_its_interval_and_the_cost(tmp_path):
    path = write_run(tmp_path / "x" / "run")
    summary = Summary.from_json(json.loads((path / "summary.json").read_text()))
    screen = Console(file=io.StringIO(), width=80)
    screen.print(summary_table(summary))
    shown = screen.file.getvalue()
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    sealed = lines.index("sealed 52.5 % 72.5 % 72.5 % +20.0 40")
    assert lines[sealed + 1] == "37.5 … 67.5 59.5 … 85.5 59.5 … 85.5 +9.0 … +31.0"
    assert "4 of 21 edits shipped in 8 rounds" in shown
    assert "cost unknown" in shown
    assert "gate 32 s" in shown
    assert "tokens of an attempt, final over baseline: 1.00 on evolve, 1.00 on validation," in shown


def files(path: Path) -> set[Path]:
    return {p for p in path.rglob("*") if p.is_file()}


def test_tracking_writes_a_whole_offline_run_inside_the_run_folder_and_replaces_it(tmp_path, monkeypatch):
    run, home = write_run(tmp_path / "household" / "seed-0"), tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    before = files(run)
    for _ in range(2):
        assert project(run, Tracking(group="sweep-1")) == ""
    assert files(home) == set()
    assert {p.relative_to(run).parts[0] for p in files(run) - before} == {"wandb"}
    (record,) = run.glob("wandb/offline-run-*/run-*.wandb")
    written = record.read_bytes()
    for said in (
        b"evolve/pass_rate",
        b"sealed/final",
        b"harness-household",
        b"round-6",
        b"sweep-1",
        b"evolve/*",
    ):
        assert said in written


def test_tracking_that_fails_or_stalls_says_so_in_one_line(tmp_path):
    missing = project(tmp_path / "nothing", Tracking())
    assert missing.startswith("W&B tracking failed")
    assert "is not a run folder" in missing
    assert "longer than 0.01 s" in project(write_run(tmp_path / "x" / "run"), Tracking(timeout=0.01))
