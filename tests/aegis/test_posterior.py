"""What trying teaches: effects add up, harm is found out, and of a confirmation its verdict and e-value count."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import fmean, stdev

import pytest

from aegis.history import History, Tried
from aegis.meta.catalog.posterior import CONFIRMED_SD, DISCORDANT, LARGEST, LEVER_SD, VARIANT_SD, Effects
from aegis.record import Bucket, CandidateRecord, Decision
from aegis.statistics import Interval

PRIOR = LEVER_SD**2 + VARIANT_SD**2


def tried(*parts: str, net: int | None = None, verdict: Decision | None = None, e: float | None = None) -> Tried:
    """A candidate made of levers ``a:x``: lever a, variant x; stopped by a check, or confirmed with a ``verdict``."""
    levers, variants = zip(*(part.split(":") for part in parts), strict=True)
    decided = (Decision.REJECT, "screen") if verdict is None else (verdict, "confirmation")
    record = CandidateRecord("C", 1, (Bucket.PROMPT,), "; ".join(variants), "d", "p", *decided, "r", e_value=e)
    return Tried(record, " + ".join(levers), "d", net, 0 if net is None else 60)


def draws(past: list[Tried], part: str, count: int = 2000, hopes: dict[str, float] | None = None) -> list[float]:
    lever, variant = part.split(":")
    rng = random.Random(0)
    return [Effects(past, hopes or {}, rng).of(lever, variant) for _ in range(count)]


def test_before_anything_was_tried_a_draw_is_one_from_the_prior():
    drawn = draws([], "a:x", 10_000)
    assert fmean(drawn) == pytest.approx(0.0, abs=0.003)
    assert stdev(drawn) == pytest.approx(PRIOR**0.5, rel=0.05)


def test_one_reading_gives_the_textbook_posterior():
    """A normal mean with known variances: precision-weighted (Gelman et al., Bayesian Data Analysis, 2.5)."""
    drawn = draws([tried("a:x", net=5)], "a:x", 10_000)
    noise = DISCORDANT / 60
    assert fmean(drawn) == pytest.approx(5 / 60 * PRIOR / (PRIOR + noise), abs=0.002)
    assert stdev(drawn) == pytest.approx((PRIOR * noise / (PRIOR + noise)) ** 0.5, rel=0.05)


def test_a_hope_is_where_it_starts_and_verdicts_end_it():
    assert fmean(draws([], "a:x", hopes={"a": 0.04})) == pytest.approx(0.04, abs=0.003)
    assert fmean(draws([], "b:x", hopes={"a": 0.04})) == pytest.approx(0.0, abs=0.003)
    dashed = [tried("a:x", verdict=Decision.REJECT)] * 5
    assert fmean(draws(dashed, "a:x", hopes={"a": 0.04})) < 0.015


def test_a_harmful_part_of_three_packages_is_found_out_and_the_others_are_cleared():
    past = [tried("bad:x", f"good{i}:x", net=-37) for i in range(3)]
    past += [tried(f"good{i}:x", f"new{i}:x", net=0) for i in range(3)]
    blamed, cleared = fmean(draws(past, "bad:x")), fmean(draws(past, "good0:x"))
    assert blamed < -0.05
    assert blamed < cleared - 0.04


def test_what_is_known_of_a_lever_spreads_to_its_other_variants():
    past = [tried("a:x", verdict=Decision.SHIP, e=600.0)]
    assert fmean(draws(past, "a:x")) > fmean(draws(past, "a:y")) > 0.008 > fmean(draws(past, "b:y")) + 0.005


def test_undecided_is_not_nothing():
    """Ahead when its pairs ran out, or far behind."""
    ahead, behind = (fmean(draws([tried("a:x", verdict=Decision.UNDECIDED, e=e)], "a:x")) for e in (20.0, 0.2))
    assert ahead > 0.02 > 0.0 > behind


def test_what_the_deciding_draws_showed_is_not_told():
    """Another estimate, with the same verdict and e-value, changes nothing of what is tried next."""
    one = tried("a:x", verdict=Decision.UNDECIDED, e=2.0)
    showed = replace(one.record, difference=Interval(-0.05, -0.1, 0.0, 300), pairs=300, diverged=80)
    (told,) = History(tried=[replace(one, record=showed)]).told().tried
    assert told == one
    assert draws([told], "a:x", 50) == draws([replace(one, record=showed)], "a:x", 50)
    assert told.record.e_value == 2.0


def test_the_spread_of_a_verdict_is_that_of_a_reading():
    drawn = draws([tried("a:x", verdict=Decision.SHIP)], "a:x", 10_000)
    assert stdev(drawn) == pytest.approx((PRIOR * CONFIRMED_SD**2 / (PRIOR + CONFIRMED_SD**2)) ** 0.5, rel=0.05)


def test_a_broken_harness_says_no_more_than_that():
    broken, bad = draws([tried("a:x", net=-60)], "a:x"), draws([tried("a:x", net=round(-60 * LARGEST))], "a:x")
    assert broken == bad


def test_what_never_came_to_a_reading_teaches_nothing():
    assert draws([tried("a:x")], "a:x", 50) == draws([], "a:x", 50)


def test_the_same_past_and_seed_give_the_same_draw():
    past = [tried("a:x", "b:y", net=3), tried("b:z", net=-1)]
    assert draws(past, "b:y", 5) == draws(past, "b:y", 5)
