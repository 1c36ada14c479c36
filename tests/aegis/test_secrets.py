"""A run in which everything spills keys leaves none behind, in no file, and can be resumed to the same."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import zlib
from pathlib import Path

import pytest
from evolve_drive import SMALL, candidates, code, command, edit, evolved, good_code, insert, lasting, run, script
from gate_drive import PASSES, candidate, source
from leaky_world import KEYS, PASSWORD, PLANTED, SHAPELESS

from aegis.gate.policy import StaticPolicy
from aegis.settings import no_secrets
from aegis.store import RunStore
from harnessx.errors import UserError
from harnessx.redaction import REDACTED, redactor
from harnessx.runner.cassette import Entry

LEAKY = (
    *SMALL,
    "benchmark._target_=leaky_world.LeakyHousehold",
    "task_model.main._target_=leaky_world.Blabbing",
    "tracking=wandb",
    "rounds=1",
    "gate.canaries=0",
)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file as it lies there, and what is compressed inside the database."""
    found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with sqlite3.connect(folder / "run.db") as db:
        rows = db.execute("SELECT key, trajectory FROM rollout WHERE trajectory IS NOT NULL").fetchall()
    return found | {f"trajectory {key}": zlib.decompress(packed) for key, packed in rows}


def secrets_in(files: dict[str, bytes]) -> list[tuple[str, str]]:
    return [(name, secret) for name, data in files.items() for secret in PLANTED if secret.encode() in data]


@pytest.fixture(scope="module")
def spilling(tmp_path_factory):
    """A finished run with W&B offline; its proposals hold keys as well."""
    folder = tmp_path_factory.mktemp("spilling")
    proposals = [
        good_code(),
        edit("keyed", insert("Instructions", text=f"Use {KEYS[0]}.")),
        code("coded", source(f"yield event.remind('{KEYS[1]}')"), PASSES, title=f"coded {KEYS[2]}"),
        edit(
            "argued", insert("Instructions", text="Be brief."), risk_argument=f"see https://me:{PASSWORD}@example.org"
        ),
    ]
    named = script(folder / "script.yaml", {"propose": proposals})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOUSE_API_KEY", SHAPELESS)
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        yield evolved(folder / "run", named, *LEAKY)


def test_no_file_of_the_run_or_of_wandb_holds_a_secret(spilling):
    files = contents(spilling)
    assert secrets_in(files) == []
    assert any(name.startswith("wandb/offline-run-") and name.endswith(".wandb") for name in files)
    assert any(name.startswith("trajectory ") for name in files)


def test_all_of_it_was_spilt_and_taken_out(spilling):
    """The test above can fail: placeholders stand wherever secrets would."""
    files = contents(spilling)
    marked = {name for name, data in files.items() if REDACTED.encode() in data}
    assert "run.db" in marked
    assert "R1/trajectories/evolve.jsonl" in marked
    assert any(name.endswith("/manifest.md") for name in marked)
    trajectories = files["R1/trajectories/evolve.jsonl"].decode()
    assert trajectories.count(REDACTED) > 20
    errors = [json.loads(line)["error"] for line in trajectories.splitlines() if '"outcome"' in line]
    assert any("Incorrect API key provided" in error and REDACTED in error for error in errors)
    assert any("ConnectionError: refused" in error and REDACTED in error for error in errors)


def test_an_edit_that_holds_a_key_is_rejected_and_says_so(spilling):
    records = candidates(spilling)
    assert records["keyed"]["check"] == records[f"coded {REDACTED}"]["check"] == "policy"
    assert "secret: it holds what looks like a key" in records["keyed"]["reason"]


def test_a_resumed_run_replays_what_was_redacted_to_the_same_files(spilling):
    before = lasting(spilling)
    for name in ("data/sealed.json", "summary.json"):
        (spilling / name).unlink()
    done = run(f"run.dir={spilling}", "run.resume=true", "tracking=none")
    assert done.returncode == 0, done.stderr
    assert lasting(spilling) == before
    summary = json.loads((spilling / "summary.json").read_text())
    assert summary["rollouts"] > 0
    assert secrets_in(contents(spilling)) == []


@pytest.mark.parametrize(
    "argument",
    [f"+key={KEYS[0]}", f"+task_model.params.api_key={KEYS[1]}", f"run.dir={KEYS[4]}",
     f"task_model.main=https://me:{PASSWORD}@example.org", f"key{{{KEYS[0]}"],
)  # fmt: skip
def test_an_argument_with_a_key_is_refused_unwritten_and_unsaid(tmp_path, argument):
    done = run(*SMALL, argument, cwd=tmp_path)
    assert done.returncode == 2
    assert "holds what looks like a key or password" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not [secret for secret in PLANTED if secret in done.stderr + done.stdout]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"a": {"b": [{"c": KEYS[0]}]}}, "a.b.c"),
        ({"task_model": {"params": {"api_key": "no-shape-at-all"}}}, "task_model.params.api_key"),
        ({"db": {"password": "open sesame"}}, "db.password"),
    ],
)
def test_settings_that_hold_a_key_are_refused_by_name(config, named):
    with pytest.raises(UserError, match=f"^{named} holds what looks like a key") as caught:
        no_secrets(config)
    assert KEYS[0] not in str(caught.value)


def test_settings_without_a_key_are_let_through():
    no_secrets({"api_key": "os.environ/OPENAI_API_KEY", "api_base": "http://localhost:8000", "key": "", "n": 100})


def test_a_harness_that_holds_a_key_is_refused(tmp_path):
    text = f"processors: [{{_target_: harnessx.processors.Instructions, text: 'use {KEYS[0]}'}}]\n"
    (tmp_path / "h.yaml").write_text(text)
    done = run("harness=h.yaml", module="aegis.evaluate", cwd=tmp_path)
    assert (done.returncode, KEYS[0] in done.stderr) == (2, False)
    assert "holds what looks like a key or password" in done.stderr


async def test_the_policy_lets_a_clean_edit_through_and_names_a_secret():
    assert await StaticPolicy()(candidate(insert("Instructions", text="Think."))) is None
    finding = await StaticPolicy()(candidate(insert("Instructions", text=f"Think of {KEYS[3]}.")))
    assert finding is not None
    assert "secret" in finding.reason


def test_every_way_into_the_store_is_redacted(tmp_path, monkeypatch):
    monkeypatch.setenv("HOUSE_API_KEY", SHAPELESS)
    redactor.cache_clear()
    text = " ".join((*KEYS, f"https://me:{PASSWORD}@example.org", SHAPELESS))
    body = json.dumps({"error": text})
    with RunStore.open(tmp_path / "run", {"x": text}, resume=False) as store:
        store.put_rollout("k", body, f"{text}\n")
        store.put_recordings({"s": [Entry("a", "", body)]})
        store.put_memo("m", body)
        store.write_text("a/b.md", text)
        store.audit({"event": text})
        assert store.memo("m") == json.dumps({"error": store.trajectory("k").strip()})
        assert secrets_in(contents(tmp_path / "run")) == []
    with RunStore.open(tmp_path / "run", {"x": text}, resume=True) as store:  # the same identity, redacted
        store.audit({"event": text})
    redactor.cache_clear()


def test_a_command_says_no_secret_that_a_file_holds(tmp_path):
    (tmp_path / "script.yaml").write_text(f"- {{{KEYS[0]}: 1}}\n")
    done = subprocess.run(
        command(*SMALL, f"meta.path={tmp_path / 'script.yaml'}", f"run.dir={tmp_path / 'run'}"),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert KEYS[0] not in done.stderr
    assert REDACTED in done.stderr
