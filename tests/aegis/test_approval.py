"""Edits that reach further wait for a person, and the answer stays; nothing of them runs before."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from evolve_drive import SMALL, candidates, command, edit, evolved, good_code, insert, lasting, run, script
from gate_drive import REMIND, candidate

from aegis import ablation
from aegis.approvals import FOLDER, Answer, Desk, Filed, Request, requests
from aegis.gate.approval import Approval, Risk
from aegis.gate.permitted import Consent, Permitted, reach, unmet
from harnessx.errors import UserError
from harnessx.harness import HarnessConfig, Slots
from harnessx.messages import ToolSchema
from harnessx.permissions import EVERYTHING, USUAL, Effect, Grant, Permissions

WIDER = {"op": "set_slot", "path": "permissions.network", "value": "grant"}
TOOL = """\
from dataclasses import dataclass

from harnessx.permissions import Effect
from harnessx.tools.base import Tool


@dataclass
class Fetch(Tool):
    name = "fetch"
    effects = frozenset({Effect.NETWORK})

    async def run(self, arguments, context):
        return "nothing"
"""
ADD_TOOL = (
    {"op": "set_asset", "path": "assets/fetch.py", "text": TOOL},
    {"op": "set_slot", "path": "tools.add", "value": [{"_target_": "assets/fetch.py:Fetch"}]},
)
WORLD = (ToolSchema("act", effects=USUAL), ToolSchema("shell", effects=frozenset({Effect.EXECUTE})))


class Shelf:
    """Writes into a folder, as a store does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "run.db").touch()

    def write_text(self, relative_path: str, text: str) -> None:
        (self.path / relative_path).parent.mkdir(exist_ok=True)
        (self.path / relative_path).write_text(text)


def reply(folder: Path, *arguments: str, timeout: float = 90) -> str:
    """Wait for the first request that waits, then run ``aegis.approve`` on it; its id."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        waiting = [row for row in requests(folder) if not row["verdict"]] if (folder / "run.db").exists() else []
        if waiting:
            assert run(str(folder), waiting[0]["id"], *arguments, module="aegis.approve").returncode == 0
            return waiting[0]["id"]
        time.sleep(0.05)
    raise AssertionError("nothing was asked")


# --- what has to be asked about -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operations", "reaches"),
    [
        ([REMIND], ()),
        ([WIDER], ("permissions.network: deny -> grant",)),
        ([{**WIDER, "value": "ask"}], ("permissions.network: deny -> ask",)),
        ([{"op": "set_slot", "path": "permissions.write", "value": "deny"}], ()),
        (ADD_TOOL, ("tool Fetch may network",)),
        ([*ADD_TOOL, WIDER], ("permissions.network: deny -> grant", "tool Fetch may network")),
    ],
)
def test_an_edit_reaches_further_by_rules_and_by_tools(operations, reaches):
    made = candidate(*operations)
    assert reach(made, WORLD)[0] == reaches


def test_to_offer_a_tool_of_the_world_that_executes_is_reach_and_to_hide_it_is_not():
    hide = {"op": "set_slot", "path": "tools.expose", "value": ["act"]}
    hidden = candidate(hide)
    assert reach(hidden, WORLD)[0] == ()
    shown = candidate({"op": "set_slot", "path": "tools.expose", "value": None}, REMIND)
    again = shown.rebased(hidden.harness)
    assert reach(again, WORLD) == (("tool shell may execute",), {Effect.EXECUTE})


def test_other_code_for_a_tool_that_reaches_is_reach_too():
    first = candidate(*ADD_TOOL)
    other = candidate({**ADD_TOOL[0], "text": TOOL.replace("nothing", "something")}, ADD_TOOL[1])
    assert reach(other.rebased(first.harness), ())[0] == ("tool Fetch may network",)
    assert reach(first.rebased(first.harness), ())[0] == ()


async def test_what_no_rule_could_grant_is_rejected_with_the_settings_it_takes():
    denied = await Permitted(Consent(Desk("auto")))(candidate(*ADD_TOOL))
    assert denied is not None
    assert "permissions.network=grant and slots.permissions.network: grant" in denied.reason
    asking = Consent(Desk("auto"), Permissions(network=Grant.ASK))
    assert await Permitted(asking)(candidate(*ADD_TOOL, WIDER)) is None


def test_where_nobody_is_asked_ask_is_no():
    own = candidate(*ADD_TOOL, WIDER).harness
    asking = Permissions(network=Grant.ASK)
    assert unmet(own, (), asking) == []
    assert "that takes permissions.network=grant" in unmet(own, (), asking, frozenset())[0]


def test_a_tool_that_says_nothing_is_unmet_unless_everything_is_granted():
    silent = (ToolSchema("act"),)
    assert "does not say what it does" in unmet(HarnessConfig(), silent, Permissions())[0]
    every = Permissions(*[Grant.GRANT] * 5)
    assert unmet(HarnessConfig((), Slots(permissions=every)), silent, every) == []


@pytest.mark.parametrize(("mode", "passes"), [("auto", True), ("deny", False), ("ask", False)])
async def test_reach_is_above_every_other_threshold_and_needs_somebody_to_ask(mode, passes):
    for threshold in (Risk.PROMPT, Risk.CODE):
        finding = await Approval(Consent(Desk(mode)), threshold, early=True)(candidate(WIDER))
        assert (finding is None) == passes
    assert await Approval(Consent(Desk("deny")), Risk.PROMPT, early=True)(candidate(REMIND)) is None
    assert await Approval(Consent(Desk("deny")), Risk.REACH)(candidate(WIDER)) is None


async def test_what_a_person_opens_is_granted_and_nothing_else():
    opened: set[Effect] = set()
    consent = Consent(Desk("auto"), Permissions(network=Grant.ASK), (), opened.update)
    assert await Approval(consent, Risk.CODE, early=True)(candidate(*ADD_TOOL, WIDER)) is None
    assert opened == {Effect.NETWORK}


async def test_the_first_harness_is_asked_about_before_anything_runs(tmp_path):
    shelf, opened = Shelf(tmp_path), set[Effect]()
    harness = HarnessConfig((), Slots(permissions=Permissions(execute=Grant.GRANT)))
    user = Permissions(execute=Grant.ASK)
    with pytest.raises(UserError, match=r"shell: no permission to execute programs; that takes permissions\.execute"):
        await Consent(Desk("auto"), Permissions(), WORLD).settle(harness)
    with pytest.raises(UserError, match="which was denied"):
        await Consent(Desk("deny"), user, WORLD).settle(harness)
    (tmp_path / FOLDER).mkdir()
    asked = Request("x", ("its tools may execute",), harness.digest)
    (tmp_path / FOLDER / f"{asked.id}.approve").touch()
    await Consent(Desk("ask", shelf), user, WORLD, opened.update).settle(harness)
    assert opened == {Effect.EXECUTE}
    plain = HarnessConfig((), Slots(permissions=Permissions()))
    await Consent(Desk("deny"), Permissions(), WORLD[:1]).settle(plain)
    assert user.granted(EVERYTHING) == USUAL | {Effect.EXECUTE}


# --- the desk -----------------------------------------------------------------------------------------


async def test_a_request_waits_for_an_answer_and_is_put_once(tmp_path):
    said: list[str] = []
    desk = Desk("ask", Shelf(tmp_path), said.append)
    request = Request("an edit", ("it reaches",), [1])
    thread = threading.Thread(target=reply, args=(tmp_path,))
    thread.start()
    answer = await desk.ask(request)
    thread.join()
    assert answer == Answer(True, "approved when asked (it reaches)")
    assert await desk.ask(Request("the same edit by another name", ("it reaches",), [1])) == answer
    assert await Desk("ask", Shelf(tmp_path)).ask(request) == answer  # another sitting
    assert len(said) == 1
    assert f"python -m aegis.approve {tmp_path} {request.id}" in said[0]


@pytest.mark.parametrize(("given", "allowed"), [(["approve"], True), (["deny"], False), (["approve", "deny"], False)])
async def test_files_beside_a_request_answer_it_and_no_wins(tmp_path, given, allowed):
    request = Request("an edit", ("it reaches",))
    shelf = Shelf(tmp_path)
    (tmp_path / FOLDER).mkdir()
    for word in given:
        (tmp_path / FOLDER / f"{request.id}.{word}").touch()
    assert (await Desk("ask", shelf).ask(request)).allowed is allowed


async def test_a_request_may_be_edited_and_what_is_no_answer_is_waited_out(tmp_path):
    request = Request("an edit", ("it reaches",))
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        file = tmp_path / FOLDER / f"{request.id}.json"
        rows = {1: "{", 2: json.dumps({"verdict": "perhaps"}), 3: json.dumps({"verdict": "deny"})}
        file.write_text(rows[looks])

    assert not (await Desk("ask", Shelf(tmp_path), check=look).ask(request)).allowed
    assert looks == 3


@pytest.mark.parametrize(("typed", "allowed"), [("yes\n", True), ("perhaps\nN\n", False)])
async def test_it_can_be_answered_where_the_run_was_started(tmp_path, monkeypatch, typed, allowed):
    said = []
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal, os.fdopen(ours, "w") as keyboard:
        monkeypatch.setattr(sys, "stdin", terminal)
        desk = Desk("ask", Shelf(tmp_path), lambda text: (said.append(text), keyboard.write(typed), keyboard.flush()))
        assert (await desk.ask(Request("an edit", ("it reaches",)))).allowed is allowed
    assert said[0].endswith("(or y or n here)")


async def test_a_terminal_that_is_closed_leaves_the_other_ways_to_answer(tmp_path, monkeypatch):
    request, end = Request("an edit", ("it reaches",)), "\x04"
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal, os.fdopen(ours, "w") as keyboard:
        monkeypatch.setattr(sys, "stdin", terminal)
        desk = Desk("ask", Shelf(tmp_path), lambda text: (keyboard.write(end), keyboard.flush()))
        asked = asyncio.create_task(desk.ask(request))
        await asyncio.sleep(0.3)
        (tmp_path / FOLDER / f"{request.id}.approve").touch()
        assert (await asked).allowed


def test_the_command_lists_answers_once_and_names_what_there_is(tmp_path):
    shelf = Shelf(tmp_path)
    assert run(str(tmp_path / "x"), module="aegis.approve").stderr.startswith("error: no run in")
    assert run(str(tmp_path), module="aegis.approve").stdout == "nothing was asked\n"
    shelf.write_text(f"{FOLDER}/ab.json", json.dumps({"id": "ab", "title": "t", "why": ["w"], "verdict": ""}))
    assert run(str(tmp_path), module="aegis.approve").stdout == "ab  waits    t: w\n"
    assert "no request cd; there are: ab" in run(str(tmp_path), "cd", module="aegis.approve").stderr
    assert "--deny needs" in run(str(tmp_path), "--deny", module="aegis.approve").stderr
    assert run(str(tmp_path), "ab", "--deny", module="aegis.approve").stdout == "ab: denied\n"
    twice = run(str(tmp_path), "ab", module="aegis.approve")
    assert (twice.returncode, twice.stderr) == (2, "error: ab was answered before: deny; an answer stays\n")


# --- a whole run --------------------------------------------------------------------------------------


def proposals() -> list[dict[str, object]]:
    good = good_code()
    good["edit"].append(WIDER)
    return [good, edit("unwanted", WIDER, insert("Instructions", text="Be brief."))]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A run that waits twice: one edit is approved, the other denied."""
    base = tmp_path_factory.mktemp("asked")
    folder = base / "run"
    answers = threading.Thread(target=lambda: (reply(folder), reply(folder, "--deny")))
    answers.start()
    evolved(folder, script(base / "s.yaml", {"propose": proposals()}), "rounds=1", "gate.approval=ask",
            "permissions.network=ask")  # fmt: skip
    answers.join()
    return folder


def test_an_approved_edit_ships_a_denied_one_never_ran_and_the_journal_says_who_decided(asked):
    records = candidates(asked)
    assert records["procedures"]["verdict"] == "ship"
    assert records["procedures"]["approval"] == "approved when asked (permissions.network: deny -> grant)"
    assert (records["unwanted"]["verdict"], records["unwanted"]["check"]) == ("reject", "approval")
    assert records["unwanted"]["costs"] is None  # not even screened
    journal = (asked / "journal.md").read_text()
    assert "approved when asked (permissions.network: deny -> grant)" in journal
    assert "**reject** by approval: denied when asked" in journal
    assert HarnessConfig.load(asked / "best").slots.permissions.network is Grant.GRANT


def test_a_resumed_run_asks_nobody_and_comes_out_the_same(asked, tmp_path):
    before = lasting(asked)
    (asked / "data/sealed.json").unlink()
    (asked / "summary.json").unlink()
    done = run(f"run.dir={asked}", "run.resume=true", "tracking=none")
    assert done.returncode == 0, done.stderr
    assert "waiting for approval" not in done.stderr
    assert lasting(asked) == before


async def opened_by(folder: Path, monkeypatch) -> set[Effect]:
    """What an ablation of the run in ``folder`` grants its arms besides what the rules grant."""
    found: list[set[Effect]] = []

    async def stop(bench, evaluator, watch):
        found.append(bench.pool.approved)
        raise UserError("that is all")

    monkeypatch.setattr(ablation, "_examine", stop)
    with pytest.raises(UserError, match="that is all"):
        await ablation.ablate(folder, [])
    return found[0]


async def test_an_ablation_lets_the_final_harness_do_what_was_approved_in_its_run(asked, tmp_path, monkeypatch):
    assert await opened_by(asked, monkeypatch) == {Effect.NETWORK}
    shutil.copytree(asked, tmp_path / "run")
    for file in (tmp_path / "run" / FOLDER).glob("*.approve"):
        file.with_suffix(".deny").touch()
    assert await opened_by(tmp_path / "run", monkeypatch) == set()


async def test_what_a_finished_run_was_not_asked_is_a_no(tmp_path):
    request, folder = Request("an edit", ("it reaches",)), tmp_path / FOLDER
    folder.mkdir()
    assert not (await Filed("ask", tmp_path).ask(request)).allowed
    (folder / f"{request.id}.approve").touch()
    assert (await Filed("ask", tmp_path).ask(request)).allowed
    assert not (await Filed("deny", tmp_path).ask(request)).allowed
    assert (await Filed("auto", tmp_path / "nothing").ask(request)).allowed


def test_ctrl_c_ends_the_waiting(tmp_path):
    named = script(tmp_path / "s.yaml", {"propose": proposals()})
    with subprocess.Popen(
        command(*SMALL, named, f"run.dir={tmp_path / 'run'}", "rounds=1", "gate.approval=ask"),
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if "waiting for approval" in line:
                break
        os.kill(process.pid, signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert "to go on" in said
