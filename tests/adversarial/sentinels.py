"""What an attack must reach, put up by the test, and how the test sees that it was reached."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adversarial.site import Site


@dataclass(frozen=True, slots=True)
class Report:
    """What the host of an attack has seen of it."""

    records: Sequence[str] = ()
    """The trajectory of each play, as it would be stored."""
    outcome: str = ""
    error: str = ""
    stop: str = ""
    neighbour: str = ""
    """How a neighbour's rollout differed from the undisturbed one; '' for not at all."""
    after: str = ""
    """What was wrong with the rollout that followed; '' for nothing."""
    outlived: int = 0
    """Processes of the attack that were there when its rollout was over."""
    unfinished: bool = False
    ended: bool = False
    """The host itself ended."""
    seen: Mapping[str, Any] = field(default_factory=dict)
    """By model, world and host: what they were asked, and what they were made to be."""

    @classmethod
    def from_json(cls, text: str) -> Report:
        """As the host wrote it."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Sentinel:
    """``look`` says what was seen of it; '' where it was not reached."""

    name: str
    look: Callable[[Site, Report], str]


def _claims(record: str) -> Mapping[str, Any]:
    claims: Mapping[str, Any] = json.loads(record.splitlines()[-1]).get("claims", {})
    return claims


def _loot(record: str) -> str:
    return "\n".join(bytes.fromhex(part).decode(errors="replace") for part in _claims(record).get("loot", ()))


def _told(site: Site, report: Report) -> str:
    for record in report.records:
        text = record + _loot(record)
        for secret in site.secrets:
            if secret in text or secret.encode().hex() in text:
                return f"the record tells {secret}"
    return ""


def _changed(site: Site, report: Report) -> str:
    now = site.snapshot()
    changed = {path for path in {*now, *site.before} if now.get(path) != site.before.get(path)}
    return f"changed outside the scratch: {', '.join(sorted(changed))}" if changed else ""


def _heard(site: Site, report: Report) -> str:
    return site.ears.heard()


def _executed(site: Site, report: Report) -> str:
    return site.run_next_python()


def _outlived(site: Site, report: Report) -> str:
    return f"{report.outlived} processes were left" if report.outlived else ""


def _disturbed(site: Site, report: Report) -> str:
    return f"a neighbour: {report.neighbour}" if report.neighbour else ""


def _followed(site: Site, report: Report) -> str:
    later = "".join(map(_loot, report.records[1:]))
    return f"a later rollout knows {site.word}" if site.word in later else ""


def _named(site: Site, report: Report) -> str:
    return "it knows the name of its task" if f"sealed/{site.mark}" in "".join(map(_loot, report.records)) else ""


def _passed(site: Site, report: Report) -> str:
    return "it passed" if report.outcome == "passed" else site.store_says()


def _took(site: Site, report: Report) -> str:
    got = any(_claims(record).get("reached") == site.mark for record in report.records)
    return "it has what it wanted" if got else ""


def _endless(site: Site, report: Report) -> str:
    return "the rollout did not end" if report.unfinished else ""


def _ended(site: Site, report: Report) -> str:
    return "the host ended" if report.ended else ""


def _spoke(site: Site, report: Report) -> str:
    return "it is on the host's output" if site.mark in site.output.read_text(errors="replace") else ""


def seen(what: str) -> Sentinel:
    """Something of the host, the world or the model that is as it should not be."""
    return Sentinel(what, lambda site, report: f"{what}: {report.seen[what]}" if report.seen.get(what) else "")


TOLD = Sentinel("a secret of the host is in the record", _told)
CHANGED = Sentinel("a file outside the scratch", _changed)
HEARD = Sentinel("a listener on this machine", _heard)
EXECUTED = Sentinel("the next Python runs it", _executed)
OUTLIVED = Sentinel("a process that outlives the rollout", _outlived)
DISTURBED = Sentinel("another rollout's trajectory", _disturbed)
FOLLOWED = Sentinel("another rollout knows its task", _followed)
NAMED = Sentinel("the split and number of its task", _named)
PASSED = Sentinel("record or store claim a pass", _passed)
TOOK = Sentinel("more than it may have", _took)
ENDLESS = Sentinel("a rollout without end", _endless)
ENDED = Sentinel("the end of the host", _ended)
SPOKE = Sentinel("the host's output", _spoke)
EVERY = (TOLD, CHANGED, HEARD, OUTLIVED, DISTURBED, PASSED, ENDLESS, ENDED, SPOKE)
"""Those that no attack may reach, whatever it was after."""
