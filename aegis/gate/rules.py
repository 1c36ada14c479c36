"""What evolved source may import and name: the tables of the static policy."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

STANDARD = frozenset(
    """__future__ abc asyncio bisect collections collections.abc contextlib copy dataclasses datetime enum
    fractions functools heapq itertools json math operator random re statistics string textwrap typing
    unicodedata""".split()
)
OWN = frozenset(
    "canonical delegation errors hooks messages permissions processor processors redaction tasks tools.base web".split()
)
"""Modules of ``harnessx`` that a processor or a tool is written with. Those below ``processors`` too."""
ROOT = frozenset("Dimension Hook Order Outcome Processor Spec StopReason Task".split())
"""What may be imported from ``harnessx`` itself."""
LOOP_MODULES = frozenset("agent algebra contracts loop pipeline runner sandbox spec trajectory".split())

REFUSED = {
    **dict.fromkeys(("gc", "sys", "inspect", "types", "traceback", "weakref", "importlib", "builtins", "ast"),
                    "nothing looks into the interpreter; use events and self.ctx"),
    **dict.fromkeys(("os", "subprocess", "multiprocessing", "signal", "threading", "pty", "concurrent"),
                    "nothing starts a process or a thread; a coroutine may wait"),
    **dict.fromkeys(("socket", "ssl", "http", "urllib", "requests", "httpx", "aiohttp", "ftplib", "smtplib"),
                    "nothing opens a connection; a tool asks the world through context.call, and hosts that the user "
                    "allowed through context.fetch (a processor through self.ctx.fetch)"),
    **dict.fromkeys(("io", "pathlib", "shutil", "tempfile", "glob", "mmap", "sqlite3"),
                    "nothing touches files; self.ctx.asset reads assets, self.ctx.scratch() is a private folder"),
    **dict.fromkeys(("pickle", "marshal", "shelve", "codecs", "zipimport", "copyreg", "runpy", "code"),
                    "nothing turns data into code; write data as JSON"),
    **dict.fromkeys(("ctypes", "cffi", "numpy", "faulthandler", "resource"), "no native code"),
    **dict.fromkeys(("time", "uuid", "secrets"), "no clock, no chance of its own; use self.ctx.step and self.ctx.rng"),
}  # fmt: skip
"""Modules that are asked for most, and why not; any other that is not allowed is refused too."""

NAMES = {
    **dict.fromkeys(("eval", "exec", "compile", "__import__", "breakpoint"), "code is written out, not made"),
    **dict.fromkeys(("globals", "locals", "vars", "dir", "getattr", "setattr", "delattr", "memoryview", "help"),
                    "name what you mean: object.attribute"),
    **dict.fromkeys(("open", "input", "exit", "quit"), "a processor has no files, no terminal and no end of its own"),
}  # fmt: skip
"""Built-in names that are out of bounds, whether called or passed on."""

FRAMES = frozenset(
    """gi_frame gi_code gi_yieldfrom cr_frame cr_code cr_await cr_origin ag_frame ag_code ag_await f_back f_builtins
    f_code f_globals f_locals tb_frame tb_next co_code co_consts func_globals func_code mro""".split()
)
"""Attributes that lead into frames, code objects and the tree of classes."""

DUNDERS = frozenset(
    """__init__ __post_init__ __future__ __all__ __name__ __len__ __iter__ __next__ __aiter__ __anext__ __contains__
    __bool__ __call__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __hash__ __repr__ __str__ __add__ __or__ __and__
    __sub__ __mul__ __neg__ __getitem__ __enter__ __exit__ __aenter__ __aexit__ __slots__""".split()
)

ASYNCIO = frozenset(
    """CancelledError Event Future Lock Queue Semaphore TimeoutError as_completed create_task gather iscoroutine
    iscoroutinefunction run shield sleep timeout wait wait_for""".split()
)
"""What may be used of asyncio: waiting, not connections, processes or the event loop itself."""

LACKING = {
    "operator": frozenset({"attrgetter", "methodcaller"}),
    "string": frozenset({"Formatter"}),
    "typing": frozenset({"ForwardRef", "get_type_hints"}),
    "dataclasses": frozenset({"make_dataclass"}),
    "enum": frozenset({"global_enum"}),
    "random": frozenset({"SystemRandom"}),
    "functools": frozenset({"WRAPPER_ASSIGNMENTS"}),
}
"""Names of allowed modules that read attributes by text, run text, or draw chance that no seed fixes."""


def module_problem(name: str) -> tuple[str, str] | None:
    """(rule, remedy) where the module ``name`` may not be imported."""
    top, _, rest = name.partition(".")
    if top == "harnessx":
        if rest.split(".")[0] in LOOP_MODULES:
            return "reflection", f"{name} belongs to the loop; use events and self.ctx"
        if not rest:
            return None
        if rest not in OWN and not rest.startswith("processors."):
            return "import", f"{name} is not for processors; allowed: harnessx.{', harnessx.'.join(sorted(OWN))}"
        return None
    if name in STANDARD:
        return None
    return "import", f"{top!r} is not on the list of allowed modules; {REFUSED.get(top, 'write what you need of it')}"


def name_problem(module: str, name: str) -> tuple[str, str] | None:
    """(rule, remedy) where ``module.name`` may not be used, although ``module`` may."""
    if module == "harnessx":
        known = f"from harnessx itself only {', '.join(sorted(ROOT))}"
        return None if name in ROOT else module_problem(f"harnessx.{name}") or ("import", f"{known}; not {name}")
    if name.startswith("_"):
        return "private", f"{module}.{name} is that module's own"
    if module == "asyncio" and name not in ASYNCIO:
        return "import", f"asyncio.{name} is not for processors; they may {', '.join(sorted(ASYNCIO))}"
    if name in LACKING.get(module, ()):
        return "dynamic", f"{module}.{name} reads or runs text; write it out"
    full = f"{module}.{name}"
    if is_module(full) and module_problem(full) is not None:
        return "import", f"{full} leads to another module; import what is allowed by its own name"
    return None


@functools.cache
def is_module(full: str) -> bool:
    """Whether the name ``module.attribute`` of an allowed module is a module."""
    module, _, name = full.rpartition(".")
    try:
        return isinstance(getattr(importlib.import_module(module), name, None), ModuleType)
    except ImportError:
        return False
