"""Every attack behind ``landlock``: nothing read, nothing written, nobody disturbed, and a reason that says so."""

from __future__ import annotations

import pytest

from adversarial.attack import Attack
from adversarial.contained import WAIVER, missing, play_all, problems, waived
from adversarial.corpus import CORPUS

BACKEND = "landlock"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    if lacking := missing(BACKEND):
        say = pytest.skip if BACKEND in waived() else pytest.fail
        say(f"{lacking}; {WAIVER}={BACKEND} lets the tests pass without it")
    return play_all(BACKEND, tmp_path_factory.mktemp(BACKEND))


@pytest.mark.parametrize("attack", CORPUS, ids=lambda attack: attack.name)
def test_an_attack_is_contained(attack: Attack, verdicts):
    assert problems(attack, verdicts[attack.name]) == []
