"""What may be seen from behind the wall: Python, its libraries, harnessx, and nothing else of this machine."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PLUGINS = "harnessx.components"
"""The group of entry points by which other packages bring components."""
PACKAGES = ("harnessx", "orjson")
"""What a worker imports besides the standard library."""
SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_SITES = ("site-packages", "dist-packages")
"""Folders in the standard library's that are not part of it."""


@dataclass(frozen=True, slots=True)
class View:
    """Paths to read whole (``packages`` among them), folders to list, and where Python looks for packages."""

    read: tuple[str, ...]
    listed: tuple[str, ...]
    packages: tuple[str, ...]
    python_path: tuple[str, ...]


@cache
def view() -> View:
    """What this machine's Python needs, registered plugins included."""
    import sysconfig

    library = sysconfig.get_paths()["stdlib"]
    plugins = _plugins()
    packages = (*map(_folder, PACKAGES), *plugins)
    listed = {str(Path(path).parent) for path in plugins}  # where Python looks for what names them
    read = [path for path in SYSTEM if os.path.exists(path)]
    read += [python(), *_libpython()]
    if any(path.startswith(f"{library}/") for path in packages):  # no virtual environment: all packages lie there
        read += sorted(entry.path for entry in os.scandir(library) if entry.name not in _SITES)
        listed.add(library)
    else:
        read.append(library)
    parents = tuple(dict.fromkeys(str(Path(path).parent) for path in packages))
    return View(_outermost([*read, *packages]), tuple(sorted(listed)), packages, parents)


def python() -> str:
    """The interpreter itself, not the link of a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def start(module: str, *args: str) -> list[str]:
    """How a worker's Python is started: without site, user packages, current folder or bytecode of its own."""
    return [python(), "-S", "-P", "-s", "-B", "-m", module, *args]


def environment() -> dict[str, str]:
    """All that a worker is told of the host. One hash seed: sets have the same order in every worker."""
    return {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(view().python_path)}


def _libpython() -> list[str]:
    import sysconfig

    folder, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    path = os.path.join(str(folder), str(name))
    return [path] if os.path.isfile(path) else []


def _folder(package: str) -> str:
    import importlib.util

    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ImportError(f"{package} cannot be found, though it is installed with harnessx")
    path = Path(found.origin)
    return str(path.parent if found.submodule_search_locations else path)


def _plugins() -> list[str]:
    """The packages behind the entry points of `PLUGINS`, and what names them."""
    from importlib.metadata import entry_points

    found = []
    for entry in entry_points(group=PLUGINS):
        found.append(_folder(entry.module.partition(".")[0]))
        files = (entry.dist.files or []) if entry.dist is not None else []
        found += [str(Path(str(file.locate())).parent) for file in files if file.name == "entry_points.txt"]
    return found


def _outermost(paths: list[str]) -> tuple[str, ...]:
    """Without what lies below another of them."""
    kept = [p for p in dict.fromkeys(paths) if not any(p != q and p.startswith(q + "/") for q in paths)]
    return tuple(kept)
