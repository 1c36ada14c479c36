"""A worker runs anybody's code: it can neither harm the host, nor the others, nor blame the world."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from loop_drive import ECHO, Accept, World, run
from worker_drive import WALL, code, hostile, rollout

from harnessx.errors import Outcome, StopReason
from harnessx.harness import HarnessConfig, Limits, Slots
from harnessx.hooks import Hook
from harnessx.messages import ModelResponse
from harnessx.model_config import ModelConfig
from harnessx.models.scripted import Scripted
from harnessx.runner.isolation import Workers
from harnessx.tasks import ToolResult

START, BEFORE = Hook.TASK_START, Hook.BEFORE_MODEL
GOOD = code("yield event.remind('be kind')", BEFORE)


@pytest.fixture(scope="module")
def workers():
    crew = Workers(WALL, stall_s=60)
    yield crew
    crew.close()


# --- what it is given ---------------------------------------------------------------------------------


async def test_its_code_sees_no_environment_variable_and_no_open_file_of_the_host(workers, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    body = """
    import os
    self.ctx.claims["environ"] = dict(os.environ)
    import stat
    kinds = {"files": 0, "sockets": 0, "devices": set()}
    for fd in range(100):
        try:
            found = os.fstat(fd)
        except OSError:
            continue
        kinds["files"] += stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
        kinds["sockets"] += stat.S_ISSOCK(found.st_mode)
        if stat.S_ISCHR(found.st_mode):
            kinds["devices"].add(found.st_rdev)
    self.ctx.claims.update(files=kinds["files"], sockets=kinds["sockets"], devices=list(kinds["devices"]))
    yield event
    """
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        record = await rollout(workers, code(body, START))
    assert record.error == ""
    assert record.claims["environ"] == {}
    assert record.claims["files"] == 0
    assert record.claims["devices"] == [os.stat("/dev/null").st_rdev]
    assert record.claims["sockets"] == 3  # its own, and the pair with which asyncio wakes itself


async def test_its_folder_is_empty_its_own_and_gone_afterwards(workers):
    body = """
    import os, tempfile
    self.ctx.claims.update(cwd=os.getcwd(), found=os.listdir(), scratch=str(self.ctx.scratch()))
    open("left behind", "w").write("x")
    await asyncio.sleep(0.1)
    self.ctx.claims["there"] = os.listdir()
    yield event
    """
    records = await asyncio.gather(*(rollout(workers, code(body, START)) for _ in range(3)))
    assert {r.error for r in records} == {""}
    assert len({r.claims["cwd"] for r in records}) == 3
    for record in records:
        assert record.claims["found"] == []
        assert record.claims["scratch"].startswith(record.claims["cwd"])
        assert len(record.claims["there"]) == 2
        assert not Path(record.claims["cwd"]).exists()


async def test_its_module_is_run_by_itself_and_not_by_the_process_that_forks_it(workers):
    written = code("import sys\nmodule = sys.modules[type(self).__module__]\n"
                   "self.ctx.claims.update(ran=module.PID, own=module.os.getpid())\nyield event", START)  # fmt: skip
    assets = {path: f"import os\nPID = os.getpid()\n{source}" for path, source in written.assets.items()}
    noting = HarnessConfig(written.processors, written.slots, assets)
    records = [await rollout(workers, noting) for _ in range(2)]
    assert [r.claims["ran"] == r.claims["own"] for r in records] == [True, True]
    assert records[0].claims["ran"] != records[1].claims["ran"]


async def test_code_that_never_finishes_compiling_stalls_its_own_worker_alone():
    """A ``finally`` body is compiled twice: nested 30 deep, for ever. Parsing it takes no time."""
    nest = "\n".join(f"{' ' * i}try: pass\n{' ' * i}finally:" for i in range(30)) + f"\n{' ' * 30}pass\n"
    crew = Workers(WALL, stall_s=1.0)
    endless = HarnessConfig(GOOD.processors, GOOD.slots, {p: t + nest for p, t in GOOD.assets.items()})
    bad, good = await asyncio.gather(rollout(crew, endless), rollout(crew, GOOD))
    crew.close()
    assert good.passed
    assert (bad.outcome, "said nothing for 1 s" in bad.error) == (Outcome.HARNESS_ERROR, True)


async def test_an_asset_that_nothing_runs_may_be_no_python(workers):
    template = HarnessConfig(GOOD.processors, GOOD.slots, {**GOOD.assets, "assets/template.py": "{{ name }} %"})
    assert (await rollout(workers, template)).passed


async def test_a_harness_larger_than_any_socket_buffer_arrives(workers):
    large = HarnessConfig(GOOD.processors, GOOD.slots, {**GOOD.assets, "assets/large.txt": "x" * 3_000_000})
    assert (await rollout(workers, large)).passed


async def test_the_folder_of_a_killed_worker_is_gone_too():
    workers = Workers(WALL, stall_s=1.0)
    endless = code("open('left', 'w').close()\nwhile True: pass\nyield event", START)
    record = asyncio.ensure_future(rollout(workers, endless))
    while workers.zygote is None or not list(workers.zygote.home.glob("*/left")):
        await asyncio.sleep(0.02)
    assert (await record).outcome is Outcome.HARNESS_ERROR
    assert not list(workers.zygote.home.iterdir())
    workers.close()


async def test_its_randomness_and_its_sets_are_the_same_in_every_worker(workers):
    body = """
    import random
    self.ctx.claims.update(random=random.random(), own=self.ctx.rng.random(), set=list({"a", "b", "c", "d", "e"}))
    yield event
    """
    first = await rollout(workers, code(body, START), attempt=1)
    again = Workers(WALL)
    second = await rollout(again, code(body, START), attempt=1)
    third = await rollout(again, code(body, START), attempt=2)
    again.close()
    assert first.claims == second.claims
    assert first.claims["random"] != third.claims["random"]


SAME = {
    "a reminder": ("yield event.remind('be kind')", BEFORE),
    "a crash": ("raise RuntimeError('oh')\nyield event", BEFORE),
    "a broken contract": ("yield replace(event, step=7)", BEFORE),
    "no event": ("return\nyield event", Hook.STEP_START),
    "an interrupt": ("raise Interrupt('enough')\nyield event", Hook.AFTER_MODEL),
    "a split": ("yield event\nyield event", Hook.BEFORE_TOOL),
    "an invented limit": ("raise LimitReached(StopReason.COST_LIMIT)\nyield event", BEFORE),
    "an unknown role": ("await self.ctx.complete('judge', ModelRequest('', Conversation()))\nyield event", BEFORE),
    "an edited history": ("yield replace(event, messages=Conversation(event.messages[:1]))", Hook.STEP_START),
}


@pytest.mark.parametrize("name", SAME)
async def test_a_rollout_is_the_same_in_a_worker_as_beside_the_host(workers, name):
    body, hook = SAME[name]
    beside, below = await run(code(body, hook)), await rollout(workers, code(body, hook))
    assert below.to_jsonl() == beside.to_jsonl()


# --- what it does wrong -------------------------------------------------------------------------------

WRONG = {
    "ends the process": "import os; os._exit(0)",
    "kills the process": "import os; os.kill(os.getpid(), 9)",
    "raises SystemExit": "raise SystemExit",
    "raises KeyboardInterrupt": "raise KeyboardInterrupt",
    "recurses": "def f(): f()\nf()",
    "closes every handle": "import os; os.closerange(0, 200)",
    "blames the model": "raise Failure(Source.MODEL, 'the provider is down')",
    "blames the world": "raise Failure(Source.ENVIRONMENT, 'the world is gone')",
    "blames the sandbox": "raise Failure(Source.SANDBOX, 'no sandbox')",
    "claims a token limit": "raise LimitReached(StopReason.TOKEN_LIMIT)",
    "claims a wall limit": "raise LimitReached(StopReason.WALL_LIMIT)",
    "claims what is no JSON": "self.ctx.claims['x'] = {1, 2}",
    "claims what nothing can store": "self.ctx.claims['x'] = chr(0xD800)",
    "claims without end": "self.ctx.claims['x'] = self.ctx.claims",
    "fails with what nothing can store": "raise ValueError(chr(0xD800))",
}


@pytest.mark.parametrize("what", WRONG)
async def test_whatever_it_does_wrong_is_the_harness_error_of_this_rollout_alone(workers, what):
    bad, good = await asyncio.gather(
        rollout(workers, code(f"{WRONG[what]}\nyield event", BEFORE)), rollout(workers, GOOD)
    )
    assert (bad.outcome, bad.stop_reason, bad.reward) == (Outcome.HARNESS_ERROR, StopReason.ERROR, 0.0)
    assert bad.error
    assert good.passed
    assert bad.to_jsonl().encode()


async def test_an_interrupt_or_the_step_limit_still_reaches_the_verifier(workers):
    verifier = Accept()
    stopped = await rollout(workers, code("raise Interrupt('enough')\nyield event", BEFORE), verifier=verifier)
    limited = await rollout(
        workers, code("yield event", BEFORE, slots=Slots(limits=Limits(steps=2))), verifier=verifier, script=[ECHO]
    )
    assert (stopped.outcome, stopped.stop_reason) == (Outcome.PASSED, StopReason.INTERRUPTED)
    assert (limited.outcome, limited.stop_reason) == (Outcome.PASSED, StopReason.STEP_LIMIT)
    assert verifier.scored == 2


async def test_what_it_sets_on_the_standard_streams_no_other_rollout_sees(workers):
    body = """
    import fcntl, os
    self.ctx.claims["found"] = [fcntl.fcntl(s, fcntl.F_GETFL) for s in (0, 1, 2)]
    for s in (0, 1, 2):
        fcntl.fcntl(s, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK)
    yield event
    """
    first, second = [await rollout(workers, code(body, START)) for _ in range(2)]
    assert first.claims["found"] == second.claims["found"]


async def test_writing_without_end_to_the_standard_streams_hurts_nobody(workers):
    body = "import os, sys\nfor s in (1, 2): os.write(s, b'x' * 5_000_000)\nprint('x' * 1_000_000)\nyield event"
    assert (await rollout(workers, code(body, BEFORE))).passed


async def test_a_broken_contract_names_processor_hook_and_field(workers):
    record = await rollout(workers, code("yield replace(event, step=7)", BEFORE))
    assert "P broke the contract of before_model: step" in record.error


@pytest.mark.parametrize(
    "loop", ["while True: pass", "while True: await asyncio.sleep(0)", "await asyncio.Event().wait()"]
)
async def test_an_endless_loop_is_killed_alone(loop):
    workers = Workers(WALL, stall_s=2.0)
    started = time.monotonic()
    stuck, *others = await asyncio.gather(
        rollout(workers, code(f"{loop}\nyield event", BEFORE)), *(rollout(workers, GOOD) for _ in range(5))
    )
    workers.close()
    assert stuck.outcome is Outcome.HARNESS_ERROR
    assert "said nothing for 2 s" in stuck.error
    assert all(other.passed for other in others)
    assert time.monotonic() - started < 20


async def test_waiting_for_a_slow_host_is_no_stalling():
    class Slow(Scripted):
        async def complete(self, request, context) -> ModelResponse:
            await asyncio.sleep(2.0)
            return await super().complete(request, context)

    workers = Workers(WALL, stall_s=1.5)
    record = await rollout(workers, GOOD, models=ModelConfig(Slow(["done"])))
    workers.close()
    assert record.passed


# --- what only the host knows -------------------------------------------------------------------------


async def test_what_the_host_saw_break_is_the_worlds_fault_whatever_the_harness_says(workers):
    record = await rollout(workers, GOOD, script=[{"tool": "crash", "arguments": {}}])
    assert record.outcome is Outcome.INFRA_ERROR
    assert "the world is gone" in record.error


async def test_a_worker_that_goes_on_after_the_world_broke_cannot_hide_it(workers):
    attack = """
    await port.complete(ModelRequest("", Conversation(), ()), "main")
    for _ in range(2):
        try: await port.call(ToolCall("c", "crash", {}))
        except Failure: pass
        await port.complete(ModelRequest("", Conversation(), ()), "main")
    tell({"t": "end", "stop": "finished", "answer": "done", "claims": {}})
"""
    verifier = Accept()
    record = await rollout(workers, hostile(attack), verifier=verifier)
    assert record.outcome is Outcome.INFRA_ERROR
    assert verifier.scored == 0


async def test_a_spent_budget_is_the_hosts_fact(workers):
    endless = ModelConfig(Scripted([ECHO], loop=True))
    slots = Slots(limits=Limits(steps=50, tokens=30))
    record = await rollout(workers, code("yield event", BEFORE, slots=slots), models=endless)
    assert (record.outcome, record.stop_reason) == (Outcome.PASSED, StopReason.TOKEN_LIMIT)
    assert 30 <= record.usage.total_tokens < 50


async def test_a_text_of_the_world_that_nothing_can_store_is_the_worlds_fault(workers):
    class Mute(World):
        async def step(self, call) -> ToolResult:
            return ToolResult("\ud800")

    record = await rollout(workers, GOOD, Mute())
    assert record.outcome is Outcome.INFRA_ERROR
