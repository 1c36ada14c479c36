"""Memory across tasks: what is learnt, from what, how it fades, and that an edit brings it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.meta.catalog import Catalog
from aegis.meta.catalog.learnt import LEVERS, lessons
from aegis.meta.catalog.lever import Scene
from harnessx.harness import HarnessConfig
from harnessx.messages import ToolCall
from harnessx.processors import LongTermMemory
from harnessx.processors.long_term import Lesson, merged
from harnessx.trajectory import Step, ToolExchange, Trajectory

LESSON = 'Where "take" fails, "open" first has helped.'
ROWS = st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 9), st.integers(1, 9))).map(
    lambda rows: [Lesson(text, *row) for text, row in rows.items()]
)


def played(task: str, *calls: tuple[str, str]) -> Trajectory:
    done = [ToolExchange(ToolCall("c", "act", {"command": command}), said) for command, said in calls]
    return Trajectory(task, steps=[Step(1, calls=done)])


def mended(task: str, thing: str) -> Trajectory:
    fails, opens = (f"take {thing}", "Nothing happens."), (f"open {thing} box", "It is open.")
    return played(task, fails, opens, (f"take {thing}", "You take it."))


def test_a_lesson_shows_in_several_tasks_and_names_none_of_their_things() -> None:
    assert lessons([mended("t1", "mug 3"), mended("t1", "cup 9"), mended("t2", "pan 1")], 1) == ()
    (lesson,) = lessons([mended(f"t{i}", f"thing {i}") for i in range(4)], 1)
    assert lesson == Lesson(LESSON, 1, 4)


def test_what_failed_again_or_was_never_tried_again_teaches_nothing() -> None:
    fails = ("take mug", "Nothing happens.")
    useless = [played(f"t{i}", fails, ("open box", "It is open."), fails) for i in range(9)]
    assert lessons(useless, 1) == ()


def test_an_edit_adds_a_memory_and_another_renews_it() -> None:
    (lever,) = LEVERS
    scene = Scene(HarnessConfig(), (), [mended(f"t{i}", "mug") for i in range(3)])
    (variant,) = lever.variants(scene)
    once = variant.edit.apply(HarnessConfig())
    assert HarnessConfig.from_yaml(once.to_yaml()) == once
    (memory,) = once.processors
    assert memory.params == {"entries": [{"text": LESSON, "merge": 1, "tasks": 3}], "now": 1}
    assert not lever.variants(Scene(once, (), scene.trajectories)), "no news"
    news = [played(f"t{i}", ("go east", "error: dark"), ("light lamp", "ok"), ("go east", "ok")) for i in range(5)]
    (variant,) = lever.variants(Scene(once, (), news))
    (memory,) = variant.edit.apply(once).processors
    assert [row["merge"] for row in memory.params["entries"]] == [2, 1]


def test_the_default_catalog_has_no_such_lever() -> None:
    (lever,) = LEVERS
    assert lever not in Catalog().shelf
    assert Catalog(memory=True).shelf.count(lever) == 1
    assert Catalog(memory=True).undirected().shelf.count(lever) == 1


@given(ROWS, ROWS, st.integers(9, 20))
def test_a_merge_does_not_depend_on_order_and_forgets_what_is_light(known, fresh, now) -> None:
    settings = {"half_life": 2.0, "least": 1.0, "most": 2}
    found = merged(known, fresh, now, **settings)
    assert found == merged(known[::-1], fresh[::-1], now, **settings)
    assert len(found) <= 2
    assert all(row.weight(now, 2.0) >= 1.0 for row in found)
    light = [row for row in known if row.weight(now, 2.0) < 1.0 and row.text not in {f.text for f in fresh}]
    assert not {row.text for row in light} & {row.text for row in found}


@pytest.mark.parametrize(
    "row",
    [{}, {"text": "a", "merge": 1}, {"text": "a", "merge": "1", "tasks": 1}, {"text": "a", "merge": 1, "tasks": 0},
     {"text": "a", "merge": True, "tasks": 1}],
)  # fmt: skip
def test_an_entry_that_is_none_is_refused(row) -> None:
    with pytest.raises(ValueError, match="an entry"):
        LongTermMemory(entries=[row])
