"""The README's examples run, its commands exist, and what it lists is there."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)
    for line in block.splitlines()
]
HYDRA = [
    command
    for command in COMMANDS
    if command[:2] == ["python", "-m"] and command[2] in ("aegis.evolve", "aegis.evaluate")
]


def run(*command: str) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_agent_of_the_readme_plays_to_a_verdict() -> None:
    agent, _, _ = EXAMPLES
    assert len(agent.splitlines()) <= 20
    said = run("-c", agent).splitlines()
    assert said[-1].startswith(("passed (", "failed ("))
    assert any(line.startswith("1. ") for line in said)


def test_the_algebra_of_the_readme_holds() -> None:
    _, algebra, _ = EXAMPLES
    assert algebra.count("assert") >= 4
    run("-c", algebra)


def test_the_code_of_the_readme_asks_the_host_that_its_command_opens(tmp_path: Path) -> None:
    *_, notes = EXAMPLES
    (written,) = re.findall(r"^```yaml\n(.*?)^```", README, re.M | re.S)
    (command,) = [c for c in HYDRA if any("allow_hosts" in part for part in c)]
    serve = shlex.split(next(line for line in README.splitlines() if "http.server" in line), comments=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    bundle = tmp_path / "my_bundle"
    (bundle / "assets").mkdir(parents=True)
    (bundle / "assets/notes.py").write_text(notes)
    (bundle / "harness.yaml").write_text(written.replace("8000", port))
    log = tmp_path / "log"
    with log.open("w") as file:
        order = [sys.executable, "-u", *(part.replace("8000", port) for part in serve[1:])]
        server = subprocess.Popen(order, cwd=ROOT, stdout=file, stderr=file)
    try:
        while "Serving HTTP" not in log.read_text():
            assert server.poll() is None
            time.sleep(0.02)
        said = run(*(part.replace("8000", port).replace("my_bundle", str(bundle)) for part in command[1:]))
    finally:
        server.kill()
        server.wait()
    assert f"allowed to ask 127.0.0.1:{port}" in said
    assert log.read_text().count('"GET /?goal=') == 4


def test_every_command_of_the_readme_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert len(COMMANDS) >= 10
    for program, *arguments in COMMANDS:
        if program == "make":
            assert re.search(rf"^{arguments[0]}:", makefile, re.M)
        elif arguments[0] == "-m":
            assert find_spec(arguments[1]) is not None
        else:
            assert (ROOT / arguments[0]).is_file()


@pytest.mark.parametrize("command", HYDRA, ids=" ".join)
def test_every_setting_of_the_readme_is_known(command: list[str]) -> None:
    from hydra import compose, initialize_config_dir

    name = command[2].removeprefix("aegis.")
    sweep = command[3] == "-m"
    overrides = [re.sub(r",.*", "", part) for part in command[4:]] if sweep else command[3:]
    assert overrides
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        compose(name, overrides)


def test_the_benchmark_check_of_the_readme_finds_it_sound() -> None:
    (command,) = [c for c in COMMANDS if c[:3] == ["python", "-m", "benchmarks.check"]]
    assert "oracle" in run(*command[1:])


def test_every_choice_of_a_group_is_listed() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, re.M))
    groups = {folder.name for folder in (ROOT / "configs").iterdir() if list(folder.glob("*.yaml"))}
    assert groups <= rows.keys()
    for group in groups:
        choices = {path.stem for path in (ROOT / "configs" / group).glob("*.yaml")}
        assert choices <= set(re.findall(r"`(\w+)`", rows[group])), group


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
