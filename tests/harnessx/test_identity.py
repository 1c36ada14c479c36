"""Who answers to a model's name is known for good; a change of it, or of its price, is said once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runner_world import MemoryShelf

from harnessx import ModelConfig
from harnessx.messages import ModelResponse, Usage
from harnessx.models.identity import Identity, Register
from harnessx.models.scripted import Scripted
from harnessx.runner.pool import Pool, PoolConfig

PRICES = (("input_cost_per_token", 1e-6), ("output_cost_per_token", 2e-6))
ONE = Identity("openai/a", "a-2026-01", "fp-1", PRICES)
names = st.sampled_from(["", "a", "b"])
identities = st.builds(
    Identity,
    names,
    names,
    names,
    st.none() | st.lists(st.tuples(names, st.sampled_from([0.0, 0.5])), max_size=2).map(tuple),
)


def news(*identities: Identity, known: tuple[Identity, ...] = ()) -> list[str]:
    said: list[str] = []
    register = Register(said.append, known)
    for identity in identities:
        register.note(identity)
    return said


@given(identities)
def test_an_identity_survives_json(identity: Identity):
    assert Identity.from_json(identity.to_json()) == identity


@given(st.lists(identities, max_size=5))
def test_nothing_is_said_twice_however_often_somebody_answers(seen: list[Identity]):
    assert news(*seen, *seen) == news(*seen)
    assert news(*seen, known=tuple(seen)) == []


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (ONE, []),
        (replace(ONE, model="openai/b"), []),
        (replace(ONE, served="a-2026-09"), ["openai/a changed: a-2026-09 answers now, a-2026-01 before"]),
        (
            replace(ONE, fingerprint="fp-2"),
            ["openai/a changed: a-2026-01 answers from the system fp-2, from fp-1 before"],
        ),
        (
            replace(ONE, prices=(("input_cost_per_token", 3e-6),)),
            ["openai/a: its price changed; what was paid before stays as it was counted"],
        ),
        (replace(ONE, prices=None), ["openai/a: no price is known; its tokens are counted, and no dollars"]),
    ],
)
def test_what_changed_is_said(now: Identity, said: list[str]):
    assert news(ONE, now) == said == news(now, known=(ONE,))


def test_a_model_that_gives_its_price_itself_is_no_riddle():
    answer = ModelResponse("x", usage=Usage(1, 1, 0, 0.0), model="m")
    assert news(Identity.of("own", answer, None)) == []
    assert len(news(Identity.of("own", replace(answer, usage=Usage(1, 1)), None))) == 1


def test_a_pool_remembers_who_answered_in_earlier_sittings(tmp_path: Path):
    rooms = {"_target_": "runner_world.Rooms", "log": str(tmp_path / "log")}
    config, shelf, said = PoolConfig(rooms, ModelConfig(Scripted(["x"]))), MemoryShelf(), list[str]()
    for now, line in ((ONE, []), (replace(ONE, served="other"), ["openai/a changed: other answers now"])):
        pool = Pool(config, shelf)
        pool.say = said.append
        for _ in range(2):
            assert pool.on_frame({"t": "served", "identity": now.to_json()}) is None
        assert [text.partition(",")[0] for text in said] == line
        assert pool.served[-1] == now
