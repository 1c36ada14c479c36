"""TextWorld computes the same things over and over; this remembers them. No result changes.

`install` puts a memory at four seams of TextWorld, in the process that plays (never in the caller's):

* the translation of a PDDL problem to SAS, done four times per game (0.06-0.7 s each), is done once and
  kept on disk. Two of the four serve the planner behind ``policy_commands``, which is never asked for;
* each rule of the text grammar and each query is parsed once, not at every derivation (dozens a step);
* a derivation's context is copied one level deep: the values in it are never changed.
"""

from __future__ import annotations

import copy
import json
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import SimpleNamespace
from typing import Any

from harnessx.canonical import digest_of

Translation = tuple[Any, str]
"""What TextWorld reads of a task (types, objects, initial facts, actions), and its SAS text."""


def install(folder: Path) -> None:
    """Patch TextWorld in this process; translations are kept in ``folder``."""
    import fast_downward  # type: ignore[import-untyped]
    from textworld.envs.pddl import logic, textgen
    from textworld.logic import Rule

    parse_symbols = lru_cache(maxsize=None)(textgen._parse_and_convert)

    def parse_text(text: str, rule_name: str, trace: bool = False) -> Any:
        return copy.deepcopy(parse_symbols(text, rule_name=rule_name))  # derivations write on symbols

    def copy_context(context: dict[str, Any]) -> dict[str, Any]:
        return {**context, "variables": dict(context["variables"]), "mapping": dict(context["mapping"])}

    textgen._parse_and_convert = parse_text
    textgen.copy_context = copy_context
    logic._parse_and_convert = lru_cache(maxsize=4)(logic._parse_and_convert)
    Rule.parse_conjunctive_query = lru_cache(maxsize=None)(Rule.parse_conjunctive_query)
    fast_downward.pddl2sas = remembered(fast_downward.pddl2sas, folder)


def remembered(translate: Callable[[str, str], Translation], folder: Path) -> Callable[..., Translation]:
    """``translate`` with one file per (translator, domain, problem) in ``folder``."""
    translator = version("fast-downward-textworld")

    @lru_cache(maxsize=1)
    def pddl2sas(domain: str, problem: str) -> Translation:
        path = folder / digest_of([translator, domain, problem])
        try:
            return _unpack(path.read_bytes())
        except (FileNotFoundError, zlib.error, ValueError, KeyError):  # not there, or damaged: made anew
            packed = _pack(*translate(domain, problem))
        with suppress(OSError):  # a cache that cannot be written costs time and nothing else
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=folder, delete=False) as file:
                file.write(packed)
            os.replace(file.name, path)
        return _unpack(packed)

    return lambda domain, problem, verbose=False, optimize=False: pddl2sas(domain, problem)


def _pack(task: Any, sas: str) -> bytes:
    content = {
        "types": [[t.name, t.supertype_names] for t in task.types],
        "objects": [[o.name, o.type_name] for o in task.objects],
        "init": [[f.predicate, list(f.args)] for f in task.init if hasattr(f, "predicate")],
        "actions": [[a.name, [[p.name, p.type_name] for p in a.parameters]] for a in task.actions],
        "sas": sas,
    }
    return zlib.compress(json.dumps(content).encode())


def _unpack(packed: bytes) -> Translation:
    from fast_downward.translate.pddl import Atom  # type: ignore[import-untyped]

    content = json.loads(zlib.decompress(packed))
    task = SimpleNamespace(
        types=[SimpleNamespace(name=name, supertype_names=above) for name, above in content["types"]],
        objects=[SimpleNamespace(name=name, type_name=type_) for name, type_ in content["objects"]],
        init=[Atom(predicate, args) for predicate, args in content["init"]],
        actions=[
            SimpleNamespace(name=name, parameters=[SimpleNamespace(name=n, type_name=t) for n, t in takes])
            for name, takes in content["actions"]
        ],
    )
    return task, content["sas"]
