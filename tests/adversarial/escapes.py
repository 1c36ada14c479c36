"""Getting hold of what it may not name: to read the answers without saying ``open``, by every way round."""

from __future__ import annotations

from functools import partial

from adversarial.attack import REFUSED, Attack
from adversarial.sentinels import CHANGED, TOLD, TOOK

_reach = partial(Attack, sentinel=TOLD)

ATTACKS = (
    _reach("look-alike letters", "self.take(ｏｐｅｎ(AT['answers']).read())"),
    _reach("an import in look-alike letters", "import ｉｏ as 𝔦𝔬; self.take(𝔦𝔬.open(AT['answers']).read())"),
    _reach("sys.modules", "import sys; self.take(sys.modules['io'].open(AT['answers']).read())"),
    _reach("a name found by the garbage collector", """
        import gc
        for names in gc.get_referents(type(self).process):
            if isinstance(names, dict) and "open" in names:
                self.take(names["open"](AT["answers"]).read())
    """),
    _reach("the frame of its caller", """
        import sys
        frame = sys._getframe()
        while frame.f_back:
            frame = frame.f_back
        self.take(frame.f_builtins["open"](AT["answers"]).read())
    """),
    _reach("the frame of a generator", "lazy = (1 for _ in ())\n"
           "self.take(lazy.gi_frame.f_builtins['open'](AT['answers']).read())"),
    _reach("the frame of an exception", """
        try:
            raise KeyError
        except KeyError as error:
            builtins = error.__traceback__.tb_frame.f_builtins
        self.take(builtins["open"](AT["answers"]).read())
    """),
    _reach("the tree of classes", """
        kind = next(c for c in ().__class__.__base__.__subclasses__() if c.__name__ == "_wrap_close")
        names = kind.__init__.__globals__
        self.take(names["fdopen"](names["open"](AT["answers"], 0)).read())
    """),
    _reach("the builtins by their item", "self.take(__builtins__['open'](AT['answers']).read())"),
    _reach("a format that walks attributes", """
        import string
        found, _ = string.Formatter().get_field("0.process.__globals__[__builtins__]", (type(self),), {})
        self.take(found["open"](AT["answers"]).read())
    """),
    _reach("an attribute by its path", """
        import operator
        self.take(operator.attrgetter("process.__builtins__")(type(self))["open"](AT["answers"]).read())
    """),
    _reach("a hint that is evaluated", """
        import typing
        class Hinted:
            field: "grab(open(path).read()) or int"
        typing.get_type_hints(Hinted, {"grab": self.take, "path": AT["answers"]})
    """),
    _reach("code in another alphabet", """
        import codecs
        text = codecs.decode("frys.gnxr(bcra(NG['nafjref']).ernq())", "rot13")
        exec(text, {"self": self, "AT": AT})
    """),
    _reach("the codecs of the library", "import codecs; self.take(codecs.open(AT['answers'], 'r', 'utf-8').read())"),
    _reach("a pickle", r"""
        import pickle
        self.take(pickle.loads(b"cio\nopen\n(V" + AT["answers"].encode() + b"\ntR.").read())
    """),
    _reach("a marshalled function", """
        import marshal, types
        code = marshal.loads(marshal.dumps(compile("open(path).read()", "x", "eval")))
        self.take(types.FunctionType(code, {"path": AT["answers"]})())
    """),
    _reach("a module by a name in pieces", """
        import importlib
        self.take(importlib.import_module("".join(["i", "o"])).open(AT["answers"]).read())
    """),
    _reach("the C library", """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        handle = libc.open(AT["answers"].encode(), 0)
        if handle < 0:
            raise OSError(ctypes.get_errno(), "open")
        text = ctypes.create_string_buffer(1000)
        libc.read(handle, text, 1000)
        self.take(text.value)
    """, ends=REFUSED + "|Errno (2|13)"),
    _reach("a system call of its own", """
        import ctypes, os, struct
        libc = ctypes.CDLL(None, use_errno=True)
        how = struct.pack("QQQ", 0, 0, 0)
        handle = libc.syscall(437, -100, AT["answers"].encode(), how, len(how))
        if handle < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.take(os.read(handle, 1000))
    """),
    _reach("a program of the system", "import subprocess; self.take(subprocess.check_output(['cat', AT['answers']]))"),
    _reach("a program by the event loop", """
        process = await asyncio.create_subprocess_exec("cat", AT["answers"], stdout=asyncio.subprocess.PIPE)
        self.take((await process.communicate())[0])
    """),
    _reach("a program by the shell", """
        import os
        with os.popen("cat " + AT["answers"]) as pipe:
            self.take(pipe.read())
    """),
    Attack("a program in its own place", """
        import os
        os.execv("/bin/sh", ["sh", "-c", "touch " + AT["drop"] + "/there"])
    """, CHANGED),
    Attack("a program that has no file", """
        import os
        handle = os.memfd_create("program", 0)
        os.write(handle, b"#!/bin/sh\\ntouch " + AT["drop"].encode() + b"/there\\n")
        child = os.posix_spawn(f"/proc/self/fd/{handle}", ["program"], {"PATH": "/bin:/usr/bin"})
        os.waitpid(child, 0)
    """, CHANGED),
    Attack("a namespace of its own", """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x10000000):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.reach()
    """, TOOK),
)  # fmt: skip
