"""The workspace of a rollout: its files, its commands, its checkpoints, and that nothing leads out of it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loop_drive import run

from harnessx.errors import Outcome, ToolError
from harnessx.harness import HarnessConfig, Slots
from harnessx.messages import ToolCall
from harnessx.permissions import Grant, Permissions
from harnessx.runner.workspace import FILE_TOOLS, Workspace
from harnessx.sandbox import BACKENDS
from harnessx.tools.snapshots import MAX_KEPT, Snapshots

WALLS = [b.name for b in BACKENDS if b.name in ("bubblewrap", "landlock") and not b.missing()]
EXECUTE = Permissions(execute=Grant.GRANT)


class Desk:
    """A workspace, and one way to call its tools."""

    def __init__(self, isolation: str = "", **options) -> None:
        self.space = Workspace(isolation, **options)

    async def __call__(self, tool: str, **arguments) -> str:
        """What the tool says, or why not."""
        try:
            return (await self.space.step(ToolCall("c", tool, arguments))).content
        except ToolError as error:
            return f"refused: {error}"


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    found = Desk(files={"src/a.py": "x = 1\ny = 2\n", "b.txt": "hello\n"})
    yield found
    await found.space.close()


@pytest.fixture(params=WALLS)
async def shell(request) -> AsyncIterator[Desk]:
    found = Desk(request.param)
    yield found
    await found.space.close()


async def test_files_are_read_written_listed_searched_and_edited(desk) -> None:
    assert await desk("read_file", path="src/a.py") == "1\tx = 1\n2\ty = 2"
    assert await desk("read_file", path="/workspace/src/a.py", start=2) == "2\ty = 2"
    assert await desk("read_file", path="src/a.py", lines=1) == "1\tx = 1\n[1 more lines]"
    assert await desk("write_file", path="new/c.py", content="z = x\n") == "new/c.py: 6 bytes written"
    assert (await desk("list_files")).splitlines() == ["b.txt\t6", "new/", "new/c.py\t6", "src/", "src/a.py\t12"]
    assert await desk("list_files", path="src") == "src/a.py\t12"
    found = await desk("search_files", text="X", suffix=".py", ignore_case=True)
    assert found == "new/c.py:1: z = x\nsrc/a.py:1: x = 1"
    assert await desk("edit_file", path="src/a.py", old="x = 1", new="x = 7") == "src/a.py: replaced"
    assert await desk("edit_file", path="src/a.py", old=" y  =  2", new="y = 8", fuzzy=True) == "src/a.py: replaced"
    assert (desk.space.root / "src/a.py").read_text() == "x = 7\ny = 8\n"


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("read_file", {"path": "../x"}, "leaves the workspace"),
        ("read_file", {"path": "/etc/passwd"}, "leaves the workspace"),
        ("read_file", {"path": "src/../../x"}, "leaves the workspace"),
        ("write_file", {"path": "a\0b", "content": ""}, "leaves the workspace"),
        ("write_file", {"path": "a/" * 40 + "b", "content": ""}, "is no path"),
        ("write_file", {"path": "big", "content": "x" * 1_000_001}, "more than 1,000,000 bytes"),
        ("read_file", {"path": "src"}, "is no file"),
        ("read_file", {"path": "none"}, "there is no none"),
        ("read_file", {"path": 7}, "'path' must be a text"),
        ("read_file", {"path": "b.txt", "start": 9}, "has 1 lines"),
        ("read_file", {"path": "b.txt", "start": True}, "'start' must be a number"),
        ("edit_file", {"path": "b.txt", "old": "h", "new": "j", "fuzzy": "yes"}, "'fuzzy' must be true or false"),
        ("write_file", {"path": "b.txt/c", "content": ""}, "over a link, or a file"),
        ("shell", {"command": "id"}, "has no tool shell"),
        ("_root", {}, "has no tool _root"),
        ("rollback", {"label": "none"}, "there is no checkpoint 'none'; there are: none"),
    ],
)
async def test_what_cannot_be_done_is_said(desk, tool, arguments, said) -> None:
    answer = await desk(tool, **arguments)
    assert answer.startswith("refused: ")
    assert said in answer


async def test_no_link_leads_out(desk, tmp_path) -> None:
    (tmp_path / "secret").write_text("swordfish")
    root = desk.space.root
    os.symlink(tmp_path / "secret", root / "file")
    os.symlink(tmp_path, root / "folder")
    os.mkfifo(root / "pipe")
    for path in ("file", "folder/secret", "pipe"):
        assert (await desk("read_file", path=path)).startswith("refused: "), path
        assert (await desk("write_file", path=path, content="spoilt")).startswith("refused: "), path
    assert (await desk("write_file", path="folder/new", content="x")).startswith("refused: ")
    assert "swordfish" not in await desk("search_files", text="sword")
    assert "folder@" in (await desk("list_files")).splitlines()
    assert (tmp_path / "secret").read_text() == "swordfish"
    assert os.listdir(tmp_path) == ["secret"]


@given(st.lists(st.sampled_from(["..", ".", "", "a", "/", "workspace", "b"]), max_size=6).map("/".join))
def test_no_path_names_anything_outside(path) -> None:
    from harnessx.tools.folder import _parts

    try:
        parts = _parts(path)
    except ToolError:
        return
    assert ".." not in parts
    assert not any("/" in part for part in parts)


async def test_a_checkpoint_brings_files_modes_and_links_back(desk) -> None:
    root = desk.space.root
    os.chmod(root / "src/a.py", 0o755)
    os.symlink("src/a.py", root / "link")
    assert (await desk("checkpoint", label="good")).startswith("checkpoint good: 2 files")
    await desk("write_file", path="src/a.py", content="broken")
    await desk("write_file", path="more/d", content="x")
    os.unlink(root / "b.txt")
    os.chmod(root / "more", 0o000)
    assert "what it was at checkpoint good" in await desk("rollback", label="good")
    assert (root / "src/a.py").read_text() == "x = 1\ny = 2\n"
    assert (root / "src/a.py").stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in root.iterdir()) == ["b.txt", "link", "src"]
    assert os.readlink(root / "link") == "src/a.py"


def test_contents_are_kept_once_and_checkpoints_are_bounded(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    kept = Snapshots(folder, tmp_path / "kept")
    for name in "abc":
        (folder / name).write_text("the same")
    for number in range(MAX_KEPT + 3):
        (folder / "n").write_text(str(number))
        kept.save(f"c{number}")
    assert len(os.listdir(tmp_path / "kept")) == 1 + MAX_KEPT
    assert kept.labels[0] == "c3"
    monkeypatch.setattr("harnessx.tools.snapshots.MAX_BYTES", 1000)
    (folder / "n").write_text("x" * 2000)
    with pytest.raises(ToolError, match="no room for a checkpoint"):
        kept.save("large")
    assert "large" not in kept.labels
    kept.restore("c4")
    assert (folder / "n").read_text() == "4"


async def test_a_command_works_on_the_files_of_the_workspace_and_says_how_it_ended(shell) -> None:
    await shell("write_file", path="in", content="b\na\n")
    assert await shell("shell", command="pwd; sort in > out; cat out") == "/workspace\na\nb"
    assert await shell("read_file", path="out") == "1\ta\n2\tb"
    assert await shell("shell", command="echo no >&2; exit 3") == "no\n\n[exit code 3]"
    assert await shell("shell", command="true") == "[no output]"
    said = await shell("shell", command="seq 1 9999999")
    assert said.startswith("1\n2\n")
    assert said.endswith("9999999")
    assert len(said) < 13_000


async def test_a_command_reaches_nothing_outside(shell, tmp_path, monkeypatch) -> None:
    (tmp_path / "secret").write_text("swordfish")
    monkeypatch.setenv("OPENAI_API_KEY", "swordfish")
    said = await shell(
        "shell",
        command=f"cat {tmp_path}/secret; env; cat /proc/1/environ; echo x > /usr/x; kill -9 {os.getpid()}; "
        "ls /root /home; ls /proc | grep -c '^[0-9]'; cat /dev/tcp; echo end",
    )
    assert said.endswith("end")
    assert "swordfish" not in said
    assert not os.path.exists("/usr/x")
    with socket.create_server(("127.0.0.1", 0)) as door:
        net = f"import socket; socket.create_connection(('127.0.0.1', {door.getsockname()[1]}), 2)"
        assert "Error" in await shell("shell", command=f'python3 -c "{net}"')


async def test_what_a_command_starts_ends_with_it_and_with_its_time(shell) -> None:
    mark = shell.space.root / "mark"
    assert await shell("shell", command="(setsid sh -c 'sleep 1; echo x > mark') & echo started") == "started"
    began = time.monotonic()
    said = await shell("shell", command="echo before; sleep 50", timeout_s=1)
    assert "took longer than 1 s, and was ended" in said
    assert said.startswith("before")
    assert time.monotonic() - began < 20
    assert not mark.exists()
    assert "'timeout_s' must be a number from 1 to 120" in await shell("shell", command="id", timeout_s=1000)


async def test_a_command_that_fills_the_disk_is_ended(shell, monkeypatch) -> None:
    monkeypatch.setattr("harnessx.sandbox.scratch.MAX_ENTRIES", 40)
    said = await shell("shell", command="i=0; while true; do i=$((i+1)); mkdir d$i; sleep 0.005; done", timeout_s=30)
    assert "made more than 40 files" in said
    assert (await shell("write_file", path="x", content="x")).startswith("refused: the workspace is full")


async def test_links_that_a_command_makes_lead_nowhere(shell) -> None:
    await shell("shell", command="ln -s /etc/passwd file; ln -s / folder; chmod 000 . 2>/dev/null")
    assert (await shell("read_file", path="file")).startswith("refused")
    assert (await shell("read_file", path="folder/etc/passwd")).startswith("refused")


async def test_a_harness_asks_for_a_workspace_by_its_slot_and_canonical_yaml_keeps_it() -> None:
    harness = HarnessConfig([], Slots(workspace="files"))
    assert HarnessConfig.from_yaml(harness.to_yaml()) == harness
    assert harness != HarnessConfig()
    script = [
        {"tool": "write_file", "arguments": {"path": "a", "content": "one\n"}},
        {"tool": "read_file", "arguments": {"path": "a"}},
        "over",
    ]
    record = await run(harness, script)
    assert [step.calls[0].content for step in record.steps[:2]] == ["a: 4 bytes written", "1\tone"]
    assert {tool.name for tool in FILE_TOOLS} >= {"read_file", "write_file", "edit_file", "checkpoint", "rollback"}
    plain = await run(HarnessConfig(), script)
    assert not plain.steps[0].calls


@pytest.mark.parametrize("granted", [True, False])
async def test_commands_need_the_permission_to_execute_of_both(granted) -> None:
    rule = EXECUTE if granted else Permissions()
    script = [{"tool": "shell", "arguments": {"command": "echo it ran"}}, "over"]
    options = {"granted": (EXECUTE & rule).granted(), "isolation": WALLS[0]}
    record = await run(HarnessConfig([], Slots(workspace="shell", permissions=rule)), script, **options)
    if granted:
        assert record.steps[0].calls[0].content == "it ran"
    else:
        assert record.outcome is Outcome.HARNESS_ERROR
        assert "shell: no permission to execute programs" in record.error


async def test_without_a_wall_no_command_runs_and_nobody_is_blamed() -> None:
    script = [{"tool": "shell", "arguments": {"command": "echo it ran"}}, "over"]
    harness = HarnessConfig([], Slots(workspace="shell", permissions=EXECUTE))
    record = await run(harness, script, granted=EXECUTE.granted())
    assert record.outcome is Outcome.INFRA_ERROR
    assert "isolation=inprocess has no wall for programs" in record.error
