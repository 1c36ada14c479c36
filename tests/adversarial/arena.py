"""Plays attacks in throw-away places, and says of each whether its sentinel was reached."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import harnessx
from adversarial.attack import Attack
from adversarial.corpus import PLAYABLE
from adversarial.sentinels import EVERY, Report
from adversarial.site import Site

TIMEOUT_S = 1200


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one attack; ``reached`` says what was seen of its sentinel, ``harm`` of all others."""

    report: Report
    reached: str
    harm: str


def fight(attacks: Sequence[Attack], isolation: str, folder: Path, *, bite: bool = False) -> Mapping[str, Verdict]:
    """Play ``attacks`` under ``isolation``, as they bite if ``bite``, in the fresh ``folder``."""
    package = folder / "harnessx"
    shutil.copytree(Path(harnessx.__file__).parent, package)
    shutil.rmtree(package / "sandbox/__pycache__", ignore_errors=True)  # so that what is planted there is seen
    reports, output, file = folder / "reports", folder / "output", folder / "open"
    reports.mkdir()
    output.touch()
    shared = (secrets.token_hex(12), secrets.token_hex(12))
    file.write_text(shared[1])
    told = {"HOST_API_KEY": f"sk-{shared[0]}", "HOST_FILE": str(file), "PYTHONDONTWRITEBYTECODE": "1"}
    paths = [str(folder), str(Path(__file__).parents[1])]
    environment = {**os.environ, **told, "PYTHONPATH": os.pathsep.join(paths)}
    with contextlib.ExitStack() as stack:
        sites = {}
        for attack in attacks:
            site = Site(folder / f"site-{PLAYABLE.index(attack)}", package, output, (*shared, shared[0][::-1]))
            stack.callback(site.close)
            sites[attack.name] = site
        luck = int(subprocess.check_output([sys.executable, "-c", "print(hash('luck'))"], env={"PYTHONHASHSEED": "0"}))
        order = folder / "order.json"
        order.write_text(json.dumps({
            "isolation": isolation, "bite": bite, "attacks": list(sites), "reports": str(reports),
            "told": {name: {**site.told(), "luck": luck} for name, site in sites.items()},
            "secrets": {name: {"secret": site.secret, "word": site.word} for name, site in sites.items()},
        }))  # fmt: skip
        with output.open("wb") as out:
            subprocess.run([sys.executable, "-m", "adversarial.host", str(order)], env=environment, stdout=out,
                           stderr=out, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S, check=True, cwd=folder)  # fmt: skip
        return {attack.name: _verdict(attack, sites[attack.name], reports) for attack in attacks}


def _verdict(attack: Attack, site: Site, reports: Path) -> Verdict:
    path = reports / f"{PLAYABLE.index(attack)}.json"
    report = Report.from_json(path.read_text()) if path.exists() else Report(ended=True)
    others = [sentinel.look(site, report) for sentinel in EVERY if sentinel is not attack.sentinel]
    reached = attack.sentinel.look(site, report)  # last: what the next Python does leaves its own traces
    return Verdict(report, reached, "; ".join(filter(None, others)))
