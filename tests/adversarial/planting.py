"""Leaving code where the next Python finds it: bytecode, start-up modules, tests, modules that come first."""

from __future__ import annotations

from functools import partial

from adversarial.attack import Attack
from adversarial.sentinels import EXECUTED

_HEAD = """
def planted(who):
    return f"open({AT['folder'] + '/ran'!r}, 'a').write({who!r})\\n"

def compiled(source, target):
    import importlib.util, marshal, os
    path = importlib.util.cache_from_source(target)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
    with open(path, "wb") as file:
        file.write(head + marshal.dumps(compile(source, target, "exec")))
"""
_plant = partial(Attack, sentinel=EXECUTED, head=_HEAD)


def _file(name: str) -> str:
    return f"open(AT['project'] + '/{name}', 'w').write(planted('{name}'))"


ATTACKS = (
    _plant("bytecode of the verifier", """
        compiled(planted("bytecode") + "def passed(answer): return True", AT["project"] + "/verifier.py")
    """),
    _plant("bytecode of the host's own package", """
        compiled(planted("bytecode"), AT["package"] + "/sandbox/doctor.py")
    """, alone=True),
    _plant("sitecustomize.py", _file("sitecustomize.py")),
    _plant("a package in the place of the verifier", """
        import os
        os.mkdir(AT["project"] + "/verifier")
        open(AT["project"] + "/verifier/__init__.py", "w").write(planted("package"))
    """),
    _plant("conftest.py", _file("conftest.py")),
    _plant("a test that always passes", _file("test_more.py")),
    _plant("a module in the place of the library's", _file("platform.py")),
    _plant("settings of the tests", """
        open(AT["project"] + "/helper.py", "w").write(planted("helper"))
        open(AT["project"] + "/pytest.ini", "w").write("[pytest]\\naddopts = -p helper\\n")
    """),
    _plant("a line in the verifier", "open(AT['project'] + '/verifier.py', 'a').write(planted('verifier'))"),
)  # fmt: skip
