"""The static policy on evolved source: every rule, each with a bad snippet and a good twin that does the same job."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

import harnessx.processors
from aegis.gate.policy import MOST_SAID, StaticPolicy
from aegis.gate.rules import NAMES, STANDARD, module_problem
from aegis.gate.source import MAX_SOURCE, SourceFinding, findings_in
from aegis.meta.catalog.source import COMPLETE_NAMES

LITERALS = ["task-0007"]

BAD = {
    # imports
    "import os": "import",
    "import os.path as p": "import",
    "from subprocess import run": "import",
    "import socket, json": "import",
    "from . import other": "import",
    "from json import *": "import",
    "import harnessx": "import",
    "import harnessx.hooks": "import",
    "from harnessx import ModelConfig": "import",
    "from harnessx.models import litellm": "import",
    "from harnessx import loop": "reflection",
    "from harnessx.runner.host import Host": "reflection",
    "def f():\n    import pickle": "import",
    "import concurrent.futures": "import",
    # a module that leads to another one
    "import random\nrandom._os.system('x')": "private",
    "import json\njson.codecs.open('x')": "import",
    "from json import codecs": "import",
    "import re\nre.enum.sys.modules": "import",
    "from collections import _sys": "private",
    "from harnessx.messages import hashlib": "import",
    "import json\nj = json\nj.codecs": "module",
    "import asyncio\nasyncio.create_subprocess_shell('x')": "import",
    "import asyncio\nasyncio.get_running_loop().add_reader": "import",
    "import asyncio\nasyncio.open_connection('x', 80)": "import",
    # text that is run or read as code
    "eval('1')": "dynamic",
    "e = eval": "dynamic",
    "x = [exec]": "dynamic",
    "def f(run=compile): pass": "dynamic",
    "__import__('os')": "dunder",
    "import operator\noperator.attrgetter('a.b')": "dynamic",
    "from typing import get_type_hints": "dynamic",
    "import string\nstring.Formatter().get_field": "dynamic",
    "'{0.__class__}'.format(1)": "dunder",
    "'{x[_y]}'.format(x={})": "dunder",
    "getattr(1, 'real')": "dynamic",
    "open('/etc/passwd')": "dynamic",
    # the interpreter's insides
    "().__class__.__bases__[0].__subclasses__()": "dunder",
    "int.mro()": "reflection",
    "x = __builtins__": "dunder",
    "x = (lambda: 0).f_globals": "reflection",
    "def g():\n    yield\ng().gi_frame": "reflection",
    "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    e.__traceback__.tb_frame": "reflection",
    "class A:\n    def __del__(self): pass": "dunder",
    "import sys\nsys.modules['json']": "import",
    "import gc\ngc.get_objects()": "import",
    "lambda event: event.messages._log": "private",
    # what others use too
    "from harnessx.processor import Processor\nProcessor.process = None": "patch",
    "import json\njson.dumps = str": "patch",
    "from dataclasses import field\ndel field.default": "patch",
    "from harnessx.hooks import Hook\nHook.names['x'] += 1": "patch",
    # one task, one attempt
    "lambda self: self.ctx.task_id[:2] == 'va'": "identity",
    "lambda self: self.ctx.attempt >= 1000": "identity",
    "lambda self: self.ctx.seed": "identity",
    "x = 'the answer of task-0007'": "task literal",
    "x = 'task' '-0007'": "task literal",
    "x = b'task-0007'": "task literal",
    "x = f'{1} of task-0007'": "task literal",
    # what a reader does not see
    "\u0435val = 1": "identifier",
    "\uff45val('1')": "identifier",
    "lambda o: o.\u017fecret": "identifier",
    "# -*- coding: utf-7 -*-\nx = 1": "encoding",
    "x = 'a\u202eb'": "invisible",
    "x = 1 # \u200b": "invisible",
    # form
    "def": "syntax",
    "x = " + "(" * 300 + "1" + ")" * 300: "syntax",
    "x = " + "-" * 60_000 + "1": "depth",
    "x = " + "1 + " * 15_000 + "1": "depth",
    "x" + ".a" * 3_000: "depth",
    "x = '" + "x" * MAX_SOURCE + "'": "size",
}

GOOD = [
    "import json, math, re\nx = json.dumps(math.floor(1.5)) + re.escape('.')",
    "import collections.abc\nx = collections.abc.Iterator",
    "from collections.abc import Iterator",
    "from json import dumps as say\nsay({})",
    "from harnessx import Hook, Processor",
    "from harnessx.hooks import BeforeModelEvent",
    "from harnessx.processors import CurrentState",
    "from harnessx.processors.calls import one_line",
    "from harnessx.tools.base import Tool",
    "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    await asyncio.wait_for(g(), 1)",
    "from operator import itemgetter\nx = itemgetter(0)",
    "import random\nx = random.Random(1).random()",
    "import re\npattern = re.compile('x')\npattern.search('y')",
    "lambda door: door.open()",
    "from dataclasses import dataclass\n@dataclass\nclass A:\n    input: str = ''\n    def f(self): return self.input",
    "dict(input=1, vars=2, json=3)",
    "class A:\n    def __init__(self): self._x = 1\n    def __len__(self): return self._x",
    "class A:\n    def f(self):\n        self._seen = {}\n        self._seen['a'] = 1",
    "x = '{0} and {x:>8} {{_}}'.format(1, x=2)",
    "x = f'{1:_} {2!r}'",
    "type(1) is int and isinstance(1, int) and hasattr(1, 'real')",
    "from dataclasses import replace\nlambda event: replace(event, content='x')",
    "from harnessx.hooks import Hook\nhooks = (Hook.BEFORE_MODEL,)",
    "lambda self: self.ctx.rng.random() + self.ctx.step",
    "def f(attempt):\n    return attempt + 1",
    "class A:\n    def f(self): self.attempt = 1",
    "x = 'the answer of a task'",
    "x = 'na\u00efve caf\u00e9 \u2713'",
    "x = 'a\\u202eb'",
    "# the coding of letters\nx = 1",
    "\n\n# -*- coding: late, so no declaration -*-",
    "x = [" + "1, " * 20_000 + "]",
    "x = " + "(" * 80 + "1" + ")" * 80,
    "if 1:\n" + "".join(f"{' ' * i}if {i}:\n" for i in range(1, 60)) + " " * 60 + "pass",
    COMPLETE_NAMES,
]


def rules(source: str) -> set[str]:
    return {found.rule for found in findings_in({"assets/x.py": source}, LITERALS)}


@pytest.mark.parametrize("source", BAD, ids=lambda s: repr(s[:40]))
def test_what_is_out_of_bounds_is_named_by_its_rule(source: str) -> None:
    assert BAD[source] in rules(source)


@pytest.mark.parametrize("source", GOOD, ids=lambda s: repr(s[:40]))
def test_what_a_processor_needs_is_let_through(source: str) -> None:
    assert findings_in({"assets/x.py": source}, LITERALS) == []


def test_the_table_has_both_kinds_in_number() -> None:
    assert len(BAD) >= 60
    assert len(GOOD) >= 30
    assert {"import", "reflection", "private", "module", "dynamic", "dunder", "patch", "identity", "task literal",
            "identifier", "encoding", "invisible", "syntax", "depth", "size"} == set(BAD.values())  # fmt: skip


def test_every_finding_is_listed_with_its_line_its_rule_and_a_remedy() -> None:
    source = "import os\nx = eval('1')\ny = x.__class__\nz = open('a'), x.f_back\n"
    found = findings_in({"assets/b.py": source, "assets/a.py": "import os"})
    assert [(f.path, f.line, f.rule) for f in found] == [
        ("assets/b.py", 1, "import"),
        ("assets/b.py", 2, "dynamic"),
        ("assets/b.py", 3, "dunder"),
        ("assets/b.py", 4, "dynamic"),
        ("assets/b.py", 4, "reflection"),
        ("assets/a.py", 1, "import"),
    ]
    assert all(f.remedy for f in found)
    assert str(found[0]) == (
        "assets/b.py:1: import: 'os' is not on the list of allowed modules; "
        "nothing starts a process or a thread; a coroutine may wait"
    )


async def test_a_reason_says_all_of_it_up_to_what_anyone_reads() -> None:
    from gate_drive import PASSES, with_code

    lines = [f"x{i} = eval('{i}')" for i in range(MOST_SAID + 7)]
    base = "from harnessx.processor import Processor\nclass X(Processor):\n    hooks = ()\n"
    for count, more in ((MOST_SAID, ""), (MOST_SAID + 7, "; and 7 more")):
        text = base.replace("()", "(Hook.BEFORE_MODEL,)") + "\n".join(lines[:count])
        finding = await StaticPolicy()(with_code(text, PASSES))
        assert finding is not None
        assert finding.reason.count("dynamic: eval()") == MOST_SAID
        assert finding.reason.endswith(more)


def test_a_look_alike_name_is_told_by_what_python_reads() -> None:
    (found,) = [f for f in findings_in({"x.py": "\uff45val('1')"}) if f.rule == "identifier"]
    assert "means 'eval'" in found.remedy


def test_every_built_in_that_runs_text_and_every_refused_module_is_refused() -> None:
    for name in NAMES:
        assert rules(f"x = {name}") & {"dynamic", "dunder"}, name
    for module in ("ctypes", "marshal", "importlib", "inspect", "codecs", "threading", "builtins", "typing_extensions"):
        assert module_problem(module) is not None
    assert all(module_problem(module) is None for module in STANDARD)


def test_built_in_processors_pass_but_for_those_that_write_files_or_read_python() -> None:
    """A transform of a built-in processor is a candidate like any other."""
    folder = Path(harnessx.processors.__file__).parent
    failing = {p.stem for p in folder.glob("*.py") if findings_in({p.name: p.read_text()})}
    assert failing == {"json_repair", "training"}


def test_a_finding_is_a_value() -> None:
    a, b = SourceFinding("a", 1, "x", "y"), SourceFinding("a", 2, "x", "y")
    assert sorted([b, a]) == [a, b]
    assert textwrap.shorten(str(a), 80) == "a:1: x: y"
