"""Components by name: what may be named, what is read without being run."""

from __future__ import annotations

import pytest
from harness_strategies import ASSETS, SMALL

from harnessx.errors import HarnessInvalid
from harnessx.hooks import Hook
from harnessx.processor import Order
from harnessx.processors.budget import StepBudgetReminder, TokenBudget
from harnessx.spec import Spec, build, spec_of, traits_of


def test_a_spec_is_the_class_and_what_differs_from_its_defaults():
    assert spec_of(StepBudgetReminder(limit=20)).params == {}
    assert dict(spec_of(StepBudgetReminder(limit=7)).params) == {"limit": 7}
    assert dict(spec_of(TokenBudget(9)).params) == {"max_tokens": 9}
    assert build(spec_of(StepBudgetReminder(limit=7)), {}, allow_assets=False) == StepBudgetReminder(limit=7)


def test_specs_are_equal_when_target_and_parameters_are():
    a, b = Spec("harnessx.X", {"a": 1, "b": [2]}), Spec("harnessx.X", {"b": [2], "a": 1})
    assert (a, hash(a)) == (b, hash(b))
    assert a != a.with_params(b=[3])
    assert Spec.from_json(a.to_json()) == a


def test_the_traits_of_an_asset_are_read_and_the_asset_is_not_run():
    bomb = SMALL + "\nraise SystemExit('run')\n"
    traits = traits_of(Spec("assets/small.py:Last"), {"assets/small.py": bomb})
    assert (traits.hooks, traits.group, traits.order) == ((Hook.BEFORE_MODEL, Hook.STEP_END), "last", Order.POST)
    assert (traits.parameters, traits.required) == (("text",), ())


def test_an_asset_is_built_only_where_it_may_be():
    spec = Spec("assets/small.py:First", {"text": "b"})
    assert build(spec, ASSETS, allow_assets=True).text == "b"
    with pytest.raises(HarnessInvalid, match="runs only in a worker process"):
        build(spec, ASSETS, allow_assets=False)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("os.system", "foreign target 'os.system': a harness may name targets under 'harnessx.'"),
        ("harnessx_evil.X", "foreign target"),
        ("harnessx.processors.budget.Nothing", "unknown target"),
        ("harnessx.nowhere.X", "unknown target"),
        ("harnessx.messages.canonical_json", "is not a component"),
        ("assets/other.py:P", "no asset 'assets/other.py'; the harness has ['assets/small.py']"),
        ("assets/small.py:Nobody", "defines no class 'Nobody' (it defines ['First', 'Last', 'Follower'])"),
    ],
)
def test_a_target_that_may_not_or_cannot_be_named_is_refused(target: str, said: str):
    with pytest.raises(HarnessInvalid) as caught:
        traits_of(Spec(target), ASSETS)
    assert said in str(caught.value)


def test_class_attributes_of_an_asset_must_be_literals():
    clever = SMALL.replace('group = "last"', 'group = "la" + "st"')
    with pytest.raises(HarnessInvalid, match=r"assets/small.py:\d+: Last.group must be a literal"):
        traits_of(Spec("assets/small.py:Last"), {"assets/small.py": clever})


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"])
def test_parameters_are_json(value: object):
    with pytest.raises(HarnessInvalid, match="parameters must be JSON values"):
        Spec("harnessx.X", {"a": value})


def test_a_bad_parameter_value_names_the_component():
    with pytest.raises(HarnessInvalid, match="StepBudgetReminder: 'limit' and 'every' must be at least 1"):
        build(Spec("harnessx.processors.budget.StepBudgetReminder", {"limit": 0}), {}, allow_assets=False)
