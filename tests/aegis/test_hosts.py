"""``sandbox.allow_hosts``: a setting of the run, known to the gate, and in every report when it is not empty."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from evolve_drive import SMALL, candidates, code, insert, rounds, run, script
from test_gate import candidate
from views_run import write_run

from aegis.gate.permitted import reach, unmet
from aegis.gate.policy import StaticPolicy
from aegis.gate.source import findings_in
from aegis.record import Summary
from aegis.settings import MOST_BYTES, web_rules
from aegis.store import RunStore
from aegis.views import report
from aegis.views.summary_table import gaps
from harnessx.errors import UserError
from harnessx.permissions import Grant, Permissions
from harnessx.runner.wire import MAX_FRAME, pack
from harnessx.web import Fetched, WebRules

LOOK = """\
from dataclasses import dataclass, replace

from harnessx.errors import FetchRefused
from harnessx.hooks import Hook
from harnessx.permissions import Effect
from harnessx.processor import Processor


@dataclass
class Procedures(Processor):
    hooks = (Hook.TASK_START,)
    effects = frozenset({Effect.NETWORK})
    url: str = ""

    async def process(self, event):
        advice = await self.ctx.fetch(self.url)
        yield replace(event, system_prompt=f"{event.system_prompt} {advice.text}")
"""
ADVICE = "Cool things with the fridge. To look at something in the light, hold it and use the desklamp."
SMOKE = "def test_it(build):\n    assert build('assets/look.py:Procedures', url='http://x.org/')\n"
GRANT = {"op": "set_slot", "path": "permissions.network", "value": "grant"}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked += 1  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", str(len(ADVICE)))
        self.end_headers()
        self.wfile.write(ADVICE.encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.asked = 0  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def of(server: HTTPServer) -> str:
    return f"127.0.0.1:{server.server_port}"


def looking(server: HTTPServer):
    """A proposal of code that asks the server, and lets itself."""
    proposal = code("look", LOOK, SMOKE)
    proposal["edit"][1] = insert("assets/look.py:Procedures", url=f"http://{of(server)}/")
    proposal["edit"] += [insert("CurrentState", observation=False), insert("SelfVerification"), GRANT]
    return proposal


# --- a whole run --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(server, tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts") / "run"
    script(path.with_suffix(".yaml"), {"propose": [looking(server)]})
    done = run(*arguments(path, of(server)))
    assert done.returncode == 0, done.stderr
    assert f"allowed to ask {of(server)} (sandbox.allow_hosts)" in " ".join(done.stdout.split())
    return path


def arguments(path: Path, host: str) -> tuple[str, ...]:
    allowed = ("permissions.network=grant", f"sandbox.allow_hosts=[{host}]")
    return (
        *SMALL,
        *allowed,
        "gate.calibration=0",
        "gate.canary=2",
        "rounds=1",
        f"meta.path={path}.yaml",
        f"run.dir={path}",
    )


def test_an_edit_that_asks_an_allowed_host_is_confirmed_like_any_other(folder, server):
    found = candidates(folder)["look"]
    assert (found["verdict"], found["diverged"] > 0) == ("ship", True), found["reason"]
    with RunStore.read(folder) as store:
        keys = [row[0] for row in store._db.execute("SELECT key FROM recording WHERE key LIKE 'fetch:%'")]
    assert 0 < len(keys) == server.asked  # each answer was asked for once, for all arms


def test_every_report_of_the_run_says_which_hosts_were_open(folder, server):
    sentence = f"allowed to ask {of(server)} (sandbox.allow_hosts)"
    for name in ("journal.md", "report.html"):
        assert sentence in (folder / name).read_text(), name
    assert json.loads((folder / "summary.json").read_text())["hosts"] == [of(server)]
    assert len(rounds(folder)) == 1


def test_a_resumed_run_may_not_open_others(folder):
    done = run(*arguments(folder, "example.org"), "run.resume=true")
    assert done.returncode == 2
    assert "sandbox.allow_hosts" in done.stderr
    assert done.stderr.count("\n") == 1


def test_evaluate_takes_it_too_and_says_so(folder, server):
    where = ("split=validation", "limit=1", "runner.lanes=1", f"harness={folder / 'best'}")
    allowed = ("permissions.network=grant", f"sandbox.allow_hosts=[{of(server)}]")
    said = json.loads(run(*where, *allowed, "json=true", module="aegis.evaluate").stdout)
    assert (said["allow_hosts"], said["missing"]) == ([of(server)], 0)
    assert f"allowed to ask {of(server)}" in run(*where, *allowed, module="aegis.evaluate").stdout
    closed = run(*where, module="aegis.evaluate")
    assert closed.returncode == 2
    assert (
        "its processor Procedures: no permission to use the network; that takes permissions.network=grant"
        in closed.stderr
    )


def test_a_run_without_open_hosts_says_nothing_of_them(tmp_path):
    folder = write_run(tmp_path / "run")
    report.write(folder)
    assert "allow_hosts" not in (folder / "report.html").read_text()
    summary = Summary.from_json(json.loads((folder / "summary.json").read_text()))
    assert not any("allow_hosts" in line for line in gaps(summary))
    assert any("a.org (sandbox.allow_hosts)" in line for line in gaps(replace(summary, hosts=("a.org",))))


# --- the setting --------------------------------------------------------------------------------------

SECTION = WebRules().to_json()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"allow_hosts": None}, "sandbox.allow_hosts=None must be a list of hosts"),
        ({"allow_hosts": "a.org"}, "sandbox.allow_hosts='a.org' must be a list of hosts"),
        ({"allow_hosts": [80]}, "must be a list of hosts"),
        ({"allow_hosts": ["*.example.org"]}, "sandbox.allow_hosts: *.example.org: no host name"),
        ({"allow_hosts": ["http://a.org"]}, "sandbox.allow_hosts: http://a.org: "),
        ({"allow_hosts": ["a.org/x"]}, "a host has no path"),
        ({"allow_hosts": ["localhost"]}, "localhost is no public name; give your own machine by its address"),
        ({"allow_hosts": ["localhost:80"]}, "localhost:80 is no public name"),
        ({"requests": 0}, "sandbox.requests=0 must be a whole number of at least 1"),
        ({"answer_bytes": True}, "sandbox.answer_bytes=True must be a whole number"),
        ({"answer_bytes": 1 << 30}, "sandbox.answer_bytes=1073741824 must be a number of at most 4194304"),
        ({"timeout_s": 0}, "sandbox.timeout_s=0 must be a number above 0"),
        ({"patience_s": "x"}, "sandbox.patience_s='x' must be a number above 0"),
        ({"hosts": []}, "no setting is called sandbox.hosts; valid: allow_hosts, "),
    ],
)
def test_a_rule_that_is_none_is_refused_by_its_name(changes, said):
    with pytest.raises(UserError) as caught:
        web_rules({**SECTION, **changes}, True)
    assert said in str(caught.value)


def test_the_longest_answer_that_can_be_allowed_fits_a_frame():
    worst = Fetched(200, {}, bytes(MOST_BYTES))
    assert len(pack({"t": "ok", "id": 1, "fetched": worst.to_json()})) < MAX_FRAME


def test_answers_that_are_not_kept_cannot_be_replayed_and_are_refused():
    with pytest.raises(UserError, match=r"runner\.persist=false"):
        web_rules({**SECTION, "allow_hosts": ["a.org"]}, False)
    assert web_rules(SECTION, False) == WebRules()
    assert web_rules({**SECTION, "allow_hosts": ["a.org", "[::1]:8080"]}, True).allow_hosts == ("a.org", "[::1]:8080")


# --- the gate -----------------------------------------------------------------------------------------

NAKED = LOOK.replace("    effects = frozenset({Effect.NETWORK})\n", "")
HELPER = NAKED.replace("await self.ctx.fetch(self.url)", "await asked(self.ctx, self.url)").replace(
    "\n\n@dataclass", "\n\nasync def asked(ctx, url):\n    return await ctx.fetch(url)\n\n\n@dataclass"
)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (LOOK, None),
        (NAKED, 15),
        (LOOK.replace("Effect.NETWORK", "Effect.READ"), 16),
        (HELPER, 10),
        (HELPER.replace("url: str", 'effects = (Effect.NETWORK,)\n    url: str'), None),
        (f"{NAKED}\n\nclass Other(Processor):\n    effects = frozenset({{Effect.NETWORK}})\n", 15),
        ("class Store:\n    def fetch(self):\n        return self.fetch", None),
    ],
)  # fmt: skip
def test_who_fetches_says_so_or_is_told_to_with_the_line(source, line):
    found = [f for f in findings_in({"a.py": source}) if f.rule == "network"]
    assert [f.line for f in found] == ([] if line is None else [line])
    assert all("effects = frozenset({Effect.NETWORK})" in f.remedy for f in found)


async def test_code_that_fetches_passes_the_policy_and_one_that_opens_sockets_is_told_of_it():
    assert await StaticPolicy()(candidate(*looking_edit())) is None
    (found,) = findings_in({"a.py": "import httpx\n"})
    assert "self.ctx.fetch" in found.remedy


def looking_edit():
    return ({"op": "set_asset", "path": "assets/look.py", "text": LOOK}, insert("assets/look.py:Procedures"))


def test_other_code_of_a_processor_that_reaches_is_reach_too():
    first = candidate(*looking_edit())
    assert reach(first, ())[0] == ("processor Procedures may network",)
    other = candidate({**looking_edit()[0], "text": LOOK.replace("advice.text", "advice.text[:9]")}, looking_edit()[1])
    assert reach(other.rebased(first.harness), ())[0] == ("processor Procedures may network",)
    assert reach(first.rebased(first.harness), ())[0] == ()


def test_what_no_rule_could_grant_is_said_of_processors_too():
    asking = Permissions(network=Grant.ASK)
    assert (
        "its processor Procedures: no permission to use the network"
        in unmet(candidate(*looking_edit()).harness, (), asking)[0]
    )
    assert unmet(candidate(*looking_edit(), GRANT).harness, (), asking) == []
