"""The corpus bites: where nothing stops them, the same attacks reach their sentinels. Else they would prove nothing."""

from __future__ import annotations

from collections import Counter

import pytest

from adversarial.arena import fight
from adversarial.attack import Attack, Bite
from adversarial.corpus import CORPUS, FAMILIES, HARMLESS
from adversarial.lax import LAX


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    return fight(CORPUS, "none", tmp_path_factory.mktemp("none"), bite=True)


@pytest.mark.parametrize("attack", CORPUS, ids=lambda attack: attack.name)
def test_an_attack_reaches_its_sentinel_where_nothing_stops_it(attack: Attack, verdicts):
    verdict = verdicts[attack.name]
    assert verdict.reached, f"{verdict.report.outcome}: {verdict.report.error}; {verdict.harm}"


def test_an_honest_rollout_reaches_none(tmp_path):
    """Else the sentinels would prove nothing."""
    found = fight([HARMLESS], "none", tmp_path)[HARMLESS.name]
    assert (found.reached, found.harm, found.report.after, found.report.outcome) == ("", "", "", "failed")


def test_the_corpus_is_as_large_as_promised_and_its_names_are_its_own():
    assert len(CORPUS) >= 80
    assert all(len(attacks) >= 8 for attacks in FAMILIES.values())
    assert [name for name, count in Counter(attack.name for attack in CORPUS).items() if count > 1] == []


def test_most_bite_with_no_wall_and_every_check_that_is_switched_off_is_one_an_attack_needs():
    assert Counter(attack.bite for attack in CORPUS)[Bite.UNWALLED] > len(CORPUS) / 2
    assert {attack.lax for attack in CORPUS if attack.bite is Bite.LAX} == set(LAX)
    assert not any(attack.lax for attack in CORPUS if attack.bite is not Bite.LAX)
