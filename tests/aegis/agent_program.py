"""A coding agent for tests, with the standard library alone: what it does depends on the round it reads in TASK.md.

Round 1 does its work. Round 2 goes where it should not and leaves garbage. Round 3 hangs, with a child that has left
its process group. Any later one fails.
"""

import json
import os
import re
import sys
import time
from pathlib import Path

OUTSIDE = Path(sys.argv[1])
TASK = Path("TASK.md").read_text()
ROUND = int(re.search(r"# Round (\d+)", TASK)[1])
MANIFEST = json.loads(Path(sys.argv[2]).read_text())


def work(name: str) -> Path:
    """A candidate that says what it is about, with an anchor that it has read."""
    trace = sorted(Path("run/traces").iterdir())[0].read_text()
    anchor = re.search(r"^## (\S+)", trace, re.M)[1]
    folder = Path("candidates", name)
    folder.mkdir(parents=True)
    evidence = [{"type": "trace", "claim": "seen", "observed": [anchor]}]
    manifest = {**MANIFEST["manifest"], "title": name, "capability_evidence": evidence}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "edit.json").write_text(json.dumps(MANIFEST["edit"]))
    for path, text in MANIFEST["files"].items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    Path("usage.json").write_text(json.dumps({"tokens": 1234, "usd": 0.25}))
    return folder


def trespass() -> None:
    """Read and write what is not its own; each attempt says how it went."""
    others = (Path("/", "root", ".bashrc"), Path("/proc/1/environ"), Path(f"/proc/{os.getppid()}/environ"))
    for path in (OUTSIDE / "run.db", OUTSIDE / "config.yaml", *others):
        try:
            path.read_bytes()
            print(f"read {path}")
        except OSError:
            print("kept out")
    for path in (OUTSIDE / "best/harness.yaml", OUTSIDE.parent / "planted", Path("/tmp/planted")):
        try:
            path.write_text("x")
            print(f"wrote {path}")
        except OSError:
            print("kept out")
    print(f"variables: {sorted(os.environ)}")


def litter() -> None:
    """Candidates that are none."""
    base = Path("candidates")
    work("a-fine")
    (base / "a-fine/assets").mkdir(exist_ok=True)
    os.symlink(OUTSIDE / "run.db", base / "a-fine/assets/link.md")
    for name, manifest, edit in (
        ("garbage", "{", "[]"),
        ("wrong", "[1]", "{}"),
        ("deep", "{}", "[" * 5000),
        (
            "gate",
            json.dumps(MANIFEST["manifest"]),
            json.dumps([{"op": "set_asset", "path": "../aegis/gate/gate.py", "text": "x"}]),
        ),
    ):
        (base / name).mkdir()
        (base / name / "manifest.json").write_text(manifest)
        (base / name / "edit.json").write_text(edit)
    (base / "only").mkdir()
    (base / "only/manifest.json").write_bytes(b"\xff\xfe")
    os.mkfifo(base / "only/edit.json")
    os.symlink("/etc", base / "system")
    with open(base / "large", "wb") as file:
        file.truncate(32 << 20)
    Path("usage.json").write_text('{"tokens": -5, "usd": "NaN"}')


def hang() -> None:
    """Never end, and leave a child behind that nobody waits for."""
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        print(f"child {os.getpid()}", flush=True)
        time.sleep(600)
    print("x" * 200_000, flush=True)
    time.sleep(0.2)
    print("still here", flush=True)
    time.sleep(600)


match ROUND:
    case 1:
        work("procedures")
        print("done")
    case 2:
        trespass()
        litter()
    case 3:
        hang()
    case _:
        sys.exit(3)
