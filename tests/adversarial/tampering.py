"""Changing who runs, judges or records it: by objects, frames and modules of its process, or by what it claims."""

from __future__ import annotations

from functools import partial

from adversarial.attack import QUIET, Attack, Bite
from adversarial.sentinels import DISTURBED, ENDED, FOLLOWED, PASSED, seen

_beside = partial(Attack, bite=Bite.BESIDE)
_FIND = """
def the(kind):
    import gc
    for found in gc.get_objects():
        if type(found).__name__ == kind:
            return found
    raise LookupError(f"no {kind} here")
"""

ATTACKS = (
    _beside("replace the verifier's judgement", """
        async def kind(*args):
            from harnessx.tasks import Score
            return Score(True, 1.0)
        type(the("Exactly")).score = kind
    """, PASSED, head=_FIND, ends="no Exactly here"),
    _beside("read the answer in the verifier", """
        import sys
        answer = next(o.answer for o in __import__("gc").get_objects() if type(o).__name__ == "Exactly"
                      and o.answer != "done")
        sys.modules["harnessx.loop"].RunLoop._end = tell(answer)
    """, PASSED, head="""
        def tell(answer):
            async def end(self, step, stop):
                self._answer = answer
            return end
    """, ends="StopIteration|coroutine raised|generator raised"),
    _beside("forge the record by its object", """
        import gc
        found = 0
        for record in gc.get_objects():
            if type(record).__name__ == "Host":
                found += 1
                record.done = True
        if not found:
            raise LookupError("no host here")
    """, seen("an ending that did not happen"), ends="no host here"),
    _beside("find the host in the frames above", """
        import sys
        frame, found = sys._getframe(), None
        while frame is not None and not hasattr(found, "record"):
            frame, found = frame.f_back, frame.f_locals.get("host")
        if not hasattr(found, "record"):
            raise LookupError("no host above")
        found.done = True
    """, seen("an ending that did not happen"), ends="no host above"),
    _beside("patch how rollouts end", """
        import sys
        module = sys.modules.get("harnessx.runner.rollout")
        if module is None:
            raise LookupError("no such module here")
        from harnessx.errors import StopReason
        module._stop_reason = lambda ending, host: StopReason.ENVIRONMENT_DONE
    """, seen("an ending that did not happen"), ends="no such module here"),
    _beside("patch the loop of its neighbours", """
        from harnessx.loop import RunLoop
        from harnessx.errors import StopReason
        async def lazy(self, step):
            return StopReason.FINISHED
        RunLoop._step = lazy
    """, DISTURBED, ends=QUIET),
    _beside("patch the processors of its neighbours", """
        import gc
        for kind in Processor.__subclasses__():
            if kind.__name__ == "Honest":
                kind.process = quiet
    """, DISTURBED, head="""
        async def quiet(self, event):
            yield event
    """, ends=QUIET),
    _beside("patch what an event may say", """
        from harnessx import hooks
        hooks.BeforeModelEvent.remind = lambda self, text: self
    """, DISTURBED, ends=QUIET),
    _beside("patch the events' chance", """
        import random
        random.Random.random = lambda self: 0.5
    """, DISTURBED, ends=QUIET),
    _beside("patch the files of its neighbours", """
        import pathlib
        pathlib.Path.read_text = lambda self, *args: "nothing"
    """, DISTURBED, ends=QUIET),
    _beside("cancel what its neighbours wait for", """
        for task in asyncio.all_tasks():
            if task.get_coro().__name__ == "_honest":
                task.cancel()
        await asyncio.sleep(0.05)
    """, DISTURBED, ends=QUIET),
    _beside("stop the event loop of the host", """
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.05)
    """, ENDED, ends="Event loop stopped|the worker ended|RuntimeError"),
    _beside("end the process of the host", "import os; os._exit(3)", ENDED, ends="the worker ended before"),
    _beside("crash the interpreter", "import ctypes; ctypes.string_at(0)", ENDED, ends="the worker ended before"),
    _beside("close the handles of the host", "import os; os.closerange(0, 200)", ENDED, ends="the worker|Bad file"),
    _beside("go somewhere else with the host", "import os; os.makedirs('deep'); os.chdir('deep')\n"
            "await asyncio.sleep(0.05)", DISTURBED, ends=QUIET),
    _beside("handle the signals of the host", "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
            seen("the host is not as it was"), ends=QUIET),
    _beside("lower the limits of the host", """
        import resource
        _, hard = resource.getrlimit(resource.RLIMIT_STACK)
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, hard))
    """, seen("the host is not as it was")),
    _beside("leave a word in the builtins", """
        import builtins
        self.take(getattr(builtins, "left", ""))
        builtins.left = self.ctx.prompt
    """, FOLLOWED, ends=QUIET, plays=2),
    _beside("leave a word in a module", """
        import json
        self.take(getattr(json, "left", ""))
        json.left = self.ctx.prompt
    """, FOLLOWED, ends=QUIET, plays=2),
    _beside("leave a word in the environment", """
        import os
        self.take(os.environ.get("LEFT", ""))
        os.environ["LEFT"] = self.ctx.prompt
    """, FOLLOWED, ends=QUIET, plays=2),
)  # fmt: skip
