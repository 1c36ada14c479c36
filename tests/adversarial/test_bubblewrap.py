"""Every attack behind ``bubblewrap``: nothing read, nothing written, nobody disturbed, and a reason that says so."""

from __future__ import annotations

import pytest

from adversarial.attack import Attack
from adversarial.contained import missing, play_all, problems
from adversarial.corpus import CORPUS

BACKEND = "bubblewrap"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    if lacking := missing(BACKEND):
        pytest.skip(lacking)
    return play_all(BACKEND, tmp_path_factory.mktemp(BACKEND))


@pytest.mark.parametrize("attack", CORPUS, ids=lambda attack: attack.name)
def test_an_attack_is_contained(attack: Attack, verdicts):
    assert problems(attack, verdicts[attack.name]) == []
