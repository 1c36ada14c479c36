"""The laws of `harnessx.algebra`, over random harnesses."""

from __future__ import annotations

import json

import pytest
from harness_strategies import ASSETS, harnesses, specs
from hypothesis import assume, given, settings

from harnessx.algebra import Edit, Insert, Remove, SetAsset, SetParam, SetSlot, compose, diff, insert, remove, replace
from harnessx.errors import HarnessInvalid
from harnessx.harness import HarnessConfig, Limits, Slots
from harnessx.hooks import Hook
from harnessx.processors.budget import StepBudgetReminder, TokenBudget
from harnessx.processors.control import LoopDetection
from harnessx.spec import Spec, spec_of, traits_of

laws = settings(max_examples=40, deadline=None)


def fits(harness: HarnessConfig, spec: Spec) -> bool:
    group = traits_of(spec, ASSETS).group
    return group is None or group not in {t.group for t in harness.traits}


@laws
@given(harnesses, specs)
def test_removing_what_was_inserted_gives_the_harness_back(harness: HarnessConfig, spec: Spec):
    assume(fits(harness, spec))
    more = insert(harness, traits_of(spec, ASSETS).hooks[0], spec)
    assert len(more.processors) == len(harness.processors) + 1
    assert remove(more, spec) == harness


@laws
@given(harnesses, specs)
def test_replacing_keeps_the_place_and_is_idempotent(harness: HarnessConfig, spec: Spec):
    assume(harness.inserted)
    place = len(harness.inserted) // 2
    rest = HarnessConfig((*harness.inserted[:place], *harness.inserted[place + 1 :]), harness.slots, harness.assets)
    assume(fits(rest, spec))
    old = harness.inserted[place]
    nth = [s.name for s in harness.inserted[: place + 1]].count(old.name)
    once = replace(harness, f"{old.name}#{nth}", spec)
    assert once.inserted[place] == spec
    assert [*once.inserted[:place], *once.inserted[place + 1 :]] == list(rest.inserted)
    nth = [s.name for s in once.inserted[: place + 1]].count(spec.name)
    assert replace(once, f"{spec.name}#{nth}", spec) == once


@laws
@given(harnesses, harnesses)
def test_a_diff_leads_from_one_harness_to_the_other(a: HarnessConfig, b: HarnessConfig):
    edit = diff(a, b)
    assert edit.apply(a) == b
    assert edit.apply(a).inserted == b.inserted
    assert Edit.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    assert len(diff(a, a)) == 0


@laws
@given(harnesses, harnesses)
def test_composing_is_idempotent_and_keeps_both_or_names_every_conflict(a: HarnessConfig, b: HarnessConfig):
    assert a | a == a
    mine = {t.group: s for s, t in zip(a.processors, a.traits, strict=True) if t.group}
    theirs = {t.group: s for s, t in zip(b.processors, b.traits, strict=True) if t.group}
    clash = {g for g in mine.keys() & theirs.keys() if mine[g] != theirs[g]}
    try:
        both = a | b
    except HarnessInvalid as error:
        named = str(error)
        clear = False
    else:
        named = ""
        clear = True
        assert set(both.processors) == {*a.processors, *b.processors}
        assert dict(both.assets) == {**a.assets, **b.assets}
        assert both | a == both
    assert not (clash and clear)
    assert all(f"group {g!r}" in named for g in clash)


def test_composing_lists_all_conflicts_in_one_error():
    a = HarnessConfig([StepBudgetReminder(limit=3), TokenBudget(5)], Slots(limits=Limits(3)), {"assets/a.md": "a"})
    b = HarnessConfig([StepBudgetReminder(limit=4), TokenBudget(6)], Slots(limits=Limits(4)), {"assets/a.md": "b"})
    with pytest.raises(HarnessInvalid) as caught:
        compose(a, b)
    assert [p.split(": ")[1].split()[0] for p in caught.value.problems] == ["group", "group", "slot", "asset"]


def test_a_diff_speaks_in_the_smallest_terms():
    a = HarnessConfig([StepBudgetReminder(limit=3), LoopDetection()])
    b = a.set_param("step_budget", limit=4).remove("loop").set_slot("limits.steps", 9)
    assert diff(a, b).operations == (
        SetParam("StepBudgetReminder", "limit", 4),
        Remove("LoopDetection"),
        SetSlot("limits.steps", 9),
    )


def test_an_edit_is_checked_as_a_whole():
    swap = Edit((Insert(spec_of(LoopDetection())), Remove("LoopDetection#1")))
    assert swap.apply(HarnessConfig([LoopDetection()])) == HarnessConfig([LoopDetection()])
    with pytest.raises(HarnessInvalid, match="group 'loop' admits one processor"):
        Edit(swap.operations[:1]).apply(HarnessConfig([LoopDetection()]))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda h: h.remove("memory"), "no processor is named 'memory'; there are: loop"),
        (lambda h: h.set_param("loop", speed=3), "unknown parameter 'speed'; valid: "),
        (lambda h: h.set_slot("limits.patience", 3), "unknown slots.limits key 'patience'; valid: steps"),
        (lambda h: h.set_slot("limits.steps", 0), "slots.limits.steps=0 must be a positive number"),
        (lambda h: h.insert(Hook.TASK_END, TokenBudget(3)), "TokenBudget does not serve task_end; it serves: "),
        (lambda h: h.insert(Hook.AFTER_TOOL, LoopDetection()), "group 'loop' admits one processor"),
        (lambda h: Edit((SetAsset("assets/no.md", None),)).apply(h), "no asset 'assets/no.md' to delete"),
        (lambda h: Edit((SetAsset("../out.md", "x"),)).apply(h), "must lie under 'assets/'"),
        (lambda h: Edit.from_json([{"op": "melt"}]), "unknown operation"),
        (lambda h: Edit.from_json([{"op": "remove", "who": "loop"}]), "operation 'remove'"),
    ],
)
def test_an_operation_that_makes_no_sense_says_what_would(edit, said: str):
    with pytest.raises(HarnessInvalid) as caught:
        edit(HarnessConfig([LoopDetection()]))
    assert said in str(caught.value)
