"""A harness is a value: canonical, hashable, and the same on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from harness_strategies import ASSETS, SMALL, harnesses
from hypothesis import given, settings

from harnessx.errors import HarnessInvalid
from harnessx.harness import HarnessConfig
from harnessx.processors.budget import StepBudgetReminder
from harnessx.processors.control import LoopDetection
from harnessx.spec import Spec

FIRST, LAST, FOLLOWER = (Spec(f"assets/small.py:{name}") for name in ("First", "Last", "Follower"))
laws = settings(max_examples=40, deadline=None)


@laws
@given(harnesses)
def test_a_harness_survives_json_and_yaml(harness: HarnessConfig):
    for again in (
        HarnessConfig.from_json(json.loads(json.dumps(harness.to_json()))),
        HarnessConfig.from_yaml(harness.to_yaml(), harness.assets),
    ):
        assert again == harness
        assert hash(again) == hash(harness)
        assert again.to_yaml() == harness.to_yaml()


@settings(max_examples=10, deadline=None)
@given(harnesses)
def test_a_harness_survives_a_bundle_wherever_it_lies(tmp_path_factory, harness: HarnessConfig):
    folder = tmp_path_factory.mktemp("bundle")
    loaded = HarnessConfig.load(harness.save(folder / "one"))
    assert (loaded, loaded.digest) == (harness, harness.digest)
    assert HarnessConfig.load(loaded.save(folder / "deep" / "two") / "harness.yaml") == harness


@laws
@given(harnesses)
def test_the_order_is_canonical(harness: HarnessConfig):
    """Nobody runs before a group it comes after; apart from that: by order, then by insertion."""
    traits = harness.traits
    groups = [t.group for t in traits]
    for place, t in enumerate(traits):
        assert not set(t.after) - {t.group} & set(groups[place + 1 :])
    free = [t for t in traits if not set(t.after) & set(groups)]
    assert [t.order for t in free] == sorted(t.order for t in free)
    kinds = {spec: t.order for spec, t in zip(harness.processors, traits, strict=True)}
    for order in (0, 1, 2):

        def of_kind(specs):
            return [s for s in specs if kinds[s] == order and not any(s == f for f in waiting)]  # noqa: B023

        waiting = [s for s, t in zip(harness.processors, traits, strict=True) if t.after]
        assert of_kind(harness.processors) == of_kind(harness.inserted)


def test_insertion_breaks_ties_and_after_overrules_order():
    harness = HarnessConfig([FOLLOWER, LAST, StepBudgetReminder(), LoopDetection(), FIRST], None, ASSETS)
    names = [spec.name for spec in harness.processors]
    assert names == ["First", "StepBudgetReminder", "LoopDetection", "Last", "Follower"]
    assert [spec.name for spec in harness.at("step_end")] == ["Last"]


def test_an_after_that_goes_in_a_circle_is_refused():
    circle = SMALL.replace('group = "last"', 'group = "last"\n    after = ("first",)').replace(
        "order = Order.PRE\n    text", 'order = Order.PRE\n    group = "first"\n    after = ("last",)\n    text', 1
    )
    with pytest.raises(HarnessInvalid, match="'after' is cyclic among First, Last"):
        HarnessConfig([FIRST, LAST], None, {"assets/small.py": circle})


def of(source: str) -> str:
    return HarnessConfig([FIRST], None, {"assets/small.py": source}).digest


def test_formatting_and_comments_are_not_behaviour_and_docstrings_are():
    assert of(SMALL) == of(SMALL.replace("yield event", "yield (event)  # on it goes\n")) == of(f"# new\n\n{SMALL}")
    assert of(SMALL) != of(SMALL.replace("Comes first.", "Comes second."))
    assert of(SMALL) != of(SMALL.replace('"a"', '"b"', 1))


def test_key_order_and_spelled_out_defaults_of_slots_are_not_behaviour():
    data = HarnessConfig([Spec("harnessx.processors.budget.StepBudgetReminder", {"limit": 3, "every": 2})]).to_json()
    turned = json.loads(json.dumps(data))
    turned["processors"][0] = dict(reversed(turned["processors"][0].items()))
    turned["slots"] = {"tracer": "full", "limits": {"steps": 50}}
    turned = dict(reversed(turned.items()))
    assert HarnessConfig.from_json(turned) == HarnessConfig.from_json(data)
    assert HarnessConfig.from_yaml(yaml.safe_dump(turned), {}) == HarnessConfig.from_json(data)


def test_texts_count_as_they_are():
    one, two = (HarnessConfig((), None, {"assets/a.md": text}) for text in ("a", "a\n"))
    assert one != two


def test_a_harness_that_is_not_well_typed_is_refused_with_every_problem():
    with pytest.raises(HarnessInvalid) as caught:
        HarnessConfig.from_yaml(
            "processors:\n"
            "- _target_: harnessx.processors.budget.StepBudgetReminder\n  speed: 9\n"
            "- _target_: harnessx.processors.budget.TokenBudget\n"
            "- _target_: os.system\n"
            "slots: {tracer: loud, limits: {steps: -1}}\n"
        )
    said = str(caught.value)
    for part in (
        "StepBudgetReminder: unknown parameter 'speed'; valid: limit, every, from_step",
        "TokenBudget: parameter 'max_tokens' is required",
        "foreign target 'os.system'",
        "slots.tracer='loud'; valid: full, summary",
        "slots.limits.steps=-1 must be a positive number",
    ):
        assert part in said
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("processors: [", "not YAML"),
        ("- just a list", "a harness is a mapping"),
        ("processors: {a: 1}", "'processors' is a list"),
        ("processors: [loop]", "a component is written {_target_: dotted.path"),
        ("processors: []\nmodel: x", "unknown harness key 'model'; valid: format, processors, slots, assets"),
        ("format: 99\nprocessors: []", "harness format 99; this version reads format 1"),
        ("slots: {budget: 3}", "unknown slot 'budget'; valid: tools, limits, tracer"),
        ("processors: [{_target_: harnessx.processors.budget.StepBudgetReminder, limit: &a [*a]}]", "nested"),
    ],
)
def test_a_file_that_is_no_harness_is_refused_by_name(tmp_path: Path, text: str, said: str):
    (tmp_path / "harness.yaml").write_text(text)
    with pytest.raises(HarnessInvalid) as caught:
        HarnessConfig.load(tmp_path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "harness.yaml"))


def test_a_missing_bundle_is_a_user_error(tmp_path: Path):
    with pytest.raises(HarnessInvalid, match="cannot be read as a harness bundle"):
        HarnessConfig.load(tmp_path / "nowhere")
