"""What belongs to one task is found in an edit, however it is wrapped; what belongs to none is not."""

from __future__ import annotations

import base64
import codecs
import json
import zlib
from types import SimpleNamespace

import pytest
from evolve_drive import candidates, code, edit, evolved, insert, lasting, script
from hypothesis import given
from hypothesis import strategies as st

from aegis.gate.disguise import MOST, TooMuch, opaque, pieces, readings, squeeze
from aegis.gate.leak import Corpus, LeakScan
from aegis.gate.passages import Passages
from harnessx.algebra import Edit
from harnessx.harness import HarnessConfig
from harnessx.messages import ToolCall
from harnessx.tasks import Task
from harnessx.trajectory import Step, ToolExchange, Trajectory

PASSAGE = "The brass key to the boiler room hangs behind the third portrait on the left."
SHARED = "You are in a long corridor with many doors, and all of them are closed."
TASKS = {
    "evolve": [Task(f"{SHARED} Who lives at number {n}?", f"ev-{n:04d}") for n in range(3)],
    "validation": [Task("Name the river that the old mill of Hexworthy stood beside.", "va-0001")],
    "sealed": [Task("Which clerk signed the ledger on the ninth of May 1871?", "se-0001")],
}
ANSWERS = {"ev-0001": "Mrs 4711", "se-0001": "Bartholomew Quillfeather the younger of Little Snoring", "va-0001": "yes"}


def seen(task: str, *results: str, error: str = "") -> Trajectory:
    step = Step(1, [], [ToolExchange(ToolCall(str(i), "act"), text) for i, text in enumerate(results)])
    if error:
        step.calls.append(ToolExchange(ToolCall("e", "act"), error, is_error=True))
    return Trajectory(task, steps=[step])


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    made = Corpus(TASKS, lambda task: [ANSWERS[task.id]] if task.id in ANSWERS else [])
    rare = "The tool act was called without the argument that it needs, so nothing was done."
    made.observe([seen("ev-0001", PASSAGE, SHARED, error=rare), seen("ev-0002", SHARED), seen("ev-0000", SHARED)])
    return made


async def said(corpus: Corpus, *operations, parent: HarnessConfig | None = None, demonstrations: int = 1) -> str:
    parent = parent or HarnessConfig()
    harness = Edit.from_json(list(operations)).apply(parent)
    finding = await LeakScan(corpus, demonstrations)(SimpleNamespace(parent=parent, harness=harness))
    return "" if finding is None else finding.reason


def says(text: str):
    return insert("Instructions", text=text)


def source(expression: str):
    text = f"""\
from dataclasses import dataclass
from harnessx.hooks import Hook
from harnessx.processor import Processor


@dataclass
class X(Processor):
    hooks = (Hook.BEFORE_MODEL,)

    async def process(self, event):
        yield event.remind({expression})
"""
    return [{"op": "set_asset", "path": "assets/x.py", "text": text}, insert("assets/x.py:X")]


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


WRAPPED = {
    "plain": says(PASSAGE),
    "other case and punctuation": says(PASSAGE.upper().replace(" ", " - ")),
    "no spaces": says(squeeze(PASSAGE)),
    "letters apart": says(" ".join(PASSAGE)),
    "wide letters": says("".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in PASSAGE)),
    "invisible letters": says("\u200b".join(PASSAGE)),
    "eight words of it": says("Note: " + " ".join(PASSAGE.split()[3:12])),
    "reversed": says(PASSAGE[::-1]),
    "rot13": says(codecs.encode(PASSAGE, "rot13")),
    "base64": says(base64_of(PASSAGE)),
    "base64 of reversed": says(base64_of(PASSAGE[::-1])),
    "base64 in base64": says(base64_of(base64_of(PASSAGE))),
    "base32": says(base64.b32encode(PASSAGE.encode()).decode()),
    "hex": says(PASSAGE.encode().hex()),
    "zlib": says(base64.b64encode(zlib.compress(PASSAGE.encode())).decode()),
    "percent": says("".join(f"%{ord(c):02x}" for c in PASSAGE)),
    "tool description": {"op": "set_slot", "path": "tools.describe.act", "value": PASSAGE},
    "asset": {"op": "set_asset", "path": "assets/notes.md", "text": f"# Notes\n\n{PASSAGE}\n"},
    "list parameter": insert("Checklist", items=PASSAGE.split()),
    "two processors": [says(PASSAGE[:31]), says(PASSAGE[31:])],
}
CODED = {
    "concatenated": " + ".join(repr(PASSAGE[i : i + 5]) for i in range(0, len(PASSAGE), 5)),
    "joined": f"' '.join({PASSAGE.split()!r})",
    "joined backwards": f"' '.join({PASSAGE.split()[::-1]!r}[::-1])",
    "character codes": f"''.join(map(chr, {[ord(c) for c in PASSAGE]!r}))",
    "chr calls": "+".join(f"chr({ord(c)})" for c in PASSAGE),
    "bytes": repr(PASSAGE.encode()),
    "escaped": "'" + "".join(f"\\x{ord(c):02x}" for c in PASSAGE) + "'",
    "base64 in parts": "+".join(repr(base64_of(PASSAGE)[i : i + 7]) for i in range(0, 104, 7)),
    "f-string": 'f"' + PASSAGE.replace(" ", "{' '}") + '"',
}


@pytest.mark.parametrize("how", WRAPPED)
async def test_a_passage_of_one_task_is_found_in_every_text_of_an_edit(corpus, how):
    operations = WRAPPED[how]
    operations = operations if isinstance(operations, list) else [operations]
    assert "repeats 8 words or more that belong to ev-0001 alone" in await said(corpus, *operations)


@pytest.mark.parametrize("how", CODED)
async def test_a_passage_of_one_task_is_found_in_source_that_puts_it_together(corpus, how):
    assert "that belong to ev-0001 alone" in await said(corpus, *source(CODED[how]))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("At ev-0002 turn left.", "names ev-0002"),
        ("At EV 0002 turn left.", "names ev-0002"),
        ("20" + "00-ve is the code.", "names ev-0002"),
        ("Compare se-0001.", "names a task that is not for evolving"),
        ("which clerk signed THE LEDGER on the ninth of may, 1871", "prompt or the answer of a task that is not"),
        ("It is mrs. 4711.", "holds the prompt or the answer of ev-0001"),
        ("Bartholomew Quillfeather the Younger of Little Snoring", "of a task that is not for evolving"),
    ],
)
async def test_names_prompts_and_answers_of_every_split_are_found_and_hidden_ones_not_told(corpus, text, found):
    told = await said(corpus, says(text))
    assert found in told
    for secret in ("se-0001", "va-0001", "Quillfeather", "clerk", "Hexworthy"):
        assert secret not in told


@pytest.mark.parametrize(
    "text",
    [
        SHARED,
        "Search the nearest places first, and remember every door you have opened so far.",
        "The brass key hangs somewhere behind a portrait.",
        "Answer with yes or no.",
        "Level 0001 of rev 0002 is fine.",
        "The tool act was called without the argument that it needs, so nothing was done.",
    ],
)
async def test_what_tasks_share_and_what_anybody_would_say_passes(corpus, text):
    assert await said(corpus, says(text)) == ""


async def test_what_the_incumbent_holds_is_not_held_against_the_edit(corpus):
    parent = Edit.from_json([says(PASSAGE)]).apply(HarnessConfig())
    assert await said(corpus, says("Be calm."), parent=parent) == ""
    assert "ev-0002" in await said(corpus, says("See ev-0002."), parent=parent)


async def test_a_worked_example_may_show_one_evolve_task_but_not_name_it_and_not_another(corpus):
    def example(*texts: str):
        return insert("FewShot", examples=list(texts))

    assert await said(corpus, example(f"look -> {PASSAGE}")) == ""
    assert "ev-0001 alone" in await said(corpus, example(PASSAGE), demonstrations=0)
    assert "ev-0001 alone" in await said(corpus, example(PASSAGE), says(PASSAGE))
    assert "names ev-0001" in await said(corpus, example(f"ev-0001: {PASSAGE}"))
    assert "not for evolving" in await said(corpus, example(TASKS["sealed"][0].prompt))
    assert "ev-0000" in await said(corpus, example(PASSAGE, TASKS["evolve"][0].prompt))


async def test_data_that_nobody_can_read_is_refused(corpus):
    noise = base64.b64encode(bytes((i * i * 7 + i) % 251 for i in range(200))).decode()
    assert "data that nobody can read" in await said(corpus, says(noise))
    assert not opaque("a word " * 60)
    assert opaque(str(list(range(100))))


def test_too_much_to_read_is_refused():
    with pytest.raises(TooMuch, match="encoded text"):
        readings(["word " * (MOST // 4)])


@given(st.text(min_size=1, max_size=40), st.integers(0, 3))
def test_a_text_is_among_its_readings_and_so_are_its_parts_put_together(text, cut):
    assert text in readings([text])
    assert text in readings([text[:cut], text[cut:]])
    assert text[::-1] in readings([text])
    assert text in pieces(f"x = {text!r}")


def test_words_that_tasks_share_by_chance_make_no_passage_and_prose_needs_eight():
    """In a small world, a passage must be longer than what two tasks happen to share."""
    small, prose = Passages(), Passages()
    for task in range(40):
        same = " ".join(f"go to door {task // 2 + i}" for i in range(3))
        small.add("answer", str(task), f"{same} and then do number {task} of all the things there are")
        prose.add("answer", str(task), " ".join(f"word{task}x{i}" for i in range(30)))
    assert small.least("answer") > 8
    assert prose.least("answer") == 8
    eight = "".join(f"word7x{i}" for i in range(8))
    assert prose.of_one_task(eight) == {"7": {eight}}
    assert prose.of_one_task(eight[6:]) == {}


def test_the_scan_stands_at_the_gate_and_tells_no_stage_what_is_hidden(tmp_path):
    proposals = [
        edit("hidden", insert("Instructions", text="See va-0003 and se-0002.")),
        edit("disguised", insert("Instructions", text=base64_of("Start with ev-0003 today."))),
        code("assembled", PROCESSOR, "def test_it(build):\n    assert build\n"),
        edit("honest", insert("Instructions", text="Look into closed places too, and mind the numbers.")),
    ]
    folder = evolved(tmp_path / "run", script(tmp_path / "script.yaml", {"propose": proposals}),
                     "rounds=1", "gate.cap=12")  # fmt: skip
    records = candidates(folder)
    for title, flagged in (("hidden", True), ("disguised", False), ("assembled", False)):
        assert (records[title]["check"], records[title]["flagged"]) == ("leak", flagged)
    assert records["honest"]["check"] != "leak"
    assert "va-0003" not in json.dumps([r["reason"] for r in records.values()])
    decisions = b"".join(lasting(folder, ["journal.md", "R*/decision.md"]).values())
    assert b"va-0003" not in decisions
    assert b"se-0002" not in decisions


PROCESSOR = """\
from dataclasses import dataclass
from harnessx.hooks import Hook
from harnessx.processor import Processor


@dataclass
class X(Processor):
    hooks = (Hook.BEFORE_MODEL,)

    async def process(self, event):
        yield event.remind("e" + "v" + "-00" + "03")
"""
