"""Whatever a meta-agent writes ends as a clean no-op, a rejection or a ship; never as an exception."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from fuzz_meta import CODE, H0, MANIFEST, OPERATIONS, cut, failures, fuzz_round, proposal, wounded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegis.candidate import Candidate, Proposal
from aegis.gate.source import findings_in
from aegis.manifest import Manifest
from aegis.record import Decision
from harnessx.algebra import Edit
from harnessx.errors import HarnessInvalid, UserError
from harnessx.harness import HarnessConfig

ROUNDS, CASES = 60, 500
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Files of a fuzzed round need not survive a power cut."""
randoms = st.integers(0, 2**64).map(random.Random)


def many(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(max_examples=count, deadline=None, database=None, derandomize=count < 5000,
                    suppress_health_check=list(HealthCheck))  # fmt: skip


def a_round(rng: random.Random) -> Counter[str]:
    """How one round of nonsense ended, and how its candidates did; the files must be whole."""
    failures()
    folder = Path(tempfile.mkdtemp(dir=MEMORY))
    try:
        this, meta = asyncio.run(fuzz_round(rng, folder))
        json.loads((folder / "R1/../curves.json").read_text())
        rows = [json.loads(line) for line in (folder / "data/candidates.jsonl").read_text().split("\n")[:-1]]
        for file in folder.rglob("R1/**/*.json"):
            json.loads(file.read_text())
        assert HarnessConfig.load(folder / "best") == this.successor
    finally:
        shutil.rmtree(folder)
    assert this.stop or this.report is not None
    ends = Counter(row["verdict"] for row in rows)
    assert set(ends) <= {d.value for d in Decision}
    return ends + Counter({"no-op": bool(this.stop), "unread": meta.unread, "read": meta.read,
                           **{f"by {row['check']}": 1 for row in rows}})  # fmt: skip


def said(error: Exception) -> None:
    """A refusal says something."""
    assert str(error).strip()


def entrances(rng: random.Random) -> None:
    """One answer of each kind, at the door where it comes in."""
    for read, raw in (
        (Proposal.from_json, proposal(rng)),
        (Edit.from_json, wounded([rng.choice(OPERATIONS)], rng)),
        (Manifest.from_json, wounded(MANIFEST, rng)),
        (HarnessConfig.from_json, wounded(H0.to_json(), rng)),
    ):
        try:
            found = read(raw)
        except UserError as error:
            said(error)
            continue
        if isinstance(found, Proposal):
            try:
                Candidate.of(found, H0, 1).harness.to_yaml().encode()
            except HarnessInvalid as error:
                said(error)
        elif isinstance(found, HarnessConfig):
            assert HarnessConfig.from_yaml(found.to_yaml(), found.assets).digest == found.digest
    try:
        HarnessConfig.from_yaml(cut(yaml.safe_dump(wounded(H0.to_json(), rng), allow_unicode=True), rng))
    except HarnessInvalid as error:
        said(error)
    text = CODE
    for _ in range(3):
        text = cut(text, rng)
    assert all(found.line >= 1 and found.remedy for found in findings_in({"assets/x.py": text}, ["ev-0000"]))


@many(ROUNDS)
@given(randoms)
def test_a_round_of_nonsense_ends_cleanly(rng):
    a_round(rng)


@many(CASES - ROUNDS)
@given(randoms)
def test_an_answer_is_read_or_refused_in_words(rng):
    entrances(rng)


def test_nonsense_meets_every_end():
    """The rounds above would prove little if all of them stopped at the door."""
    ends = sum((a_round(random.Random(f"end {seed}")) for seed in range(30)), Counter())
    assert {"ship", "reject", "no-op", "read", "unread", "by policy", "by critic", "by evolver"} <= set(+ends), ends


@pytest.mark.nightly
@many(10_000)
@given(randoms)
def test_nightly_a_round_of_nonsense_ends_cleanly(rng):
    a_round(rng)


@pytest.mark.nightly
@many(10_000)
@given(randoms)
def test_nightly_an_answer_is_read_or_refused_in_words(rng):
    entrances(rng)
