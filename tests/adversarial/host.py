"""A host to be thrown away: plays attacks, with honest neighbours beside and after them, and says what it saw.

``python -m adversarial.host ORDER`` reads what to play from the file ORDER. Behind a wall they share one host
and one zygote. Where they bite, one that is ``alone`` or beside the host has a fork of this process to itself, and
so have those that need the same check switched off.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adversarial.attack import Attack, Bite
from adversarial.corpus import PLAYABLE
from adversarial.lax import LAX
from adversarial.sentinels import Report
from adversarial.smoked import smoked, victim
from adversarial.smoking import Smoking
from adversarial.world import HONEST, LOOK, MAX_SENT, USE, WAIT, Attentive, Exactly, Room, seen, story
from harnessx.harness import HarnessConfig
from harnessx.loop import Ending, Episode, RunLoop
from harnessx.model_config import ModelConfig, Models
from harnessx.runner import isolation
from harnessx.runner.host import Host
from harnessx.runner.isolation import Workers
from harnessx.runner.rollout import Execute, Rollout, run_rollout
from harnessx.sandbox.kernel import prctl
from harnessx.tasks import Task
from harnessx.trajectory import Trajectory

STALL_S = 1.0
"""After which the watchdog ends what is known to stall; for all others it waits a minute."""
LONG_S = 1.0
"""A rollout takes some hundredths of it: what has not ended by then does not end."""
PATIENCE_S = 120.0
AT_ONCE = 8
BOARD = ctypes.create_string_buffer(b"as it was", 16)
"""Memory of the host that an attack may try to change."""
_UNTOLD = {"a record that cannot be written", "more text than a rollout may send"}
"""Of these the record itself is not handed in."""
_PTRACER, _ANYBODY = 0x59616D61, 2**64 - 1


@dataclass(frozen=True, slots=True)
class Order:
    """What to play: attacks by name, what each is told, and where the reports go."""

    isolation: str
    bite: bool
    """As it bites: beside the host or with a check switched off, where the attack says so."""
    attacks: Sequence[str]
    told: Mapping[str, Mapping[str, Any]]
    secrets: Mapping[str, Mapping[str, str]]
    reports: str

    def write(self, attack: Attack, report: Report) -> None:
        """Hand in a report, whole or not at all."""
        path = Path(self.reports, f"{PLAYABLE.index(attack)}.json")
        path.with_suffix(".part").write_text(json.dumps(asdict(report)))
        path.with_suffix(".part").rename(path)


class Stage:
    """Where the rollouts of one process are played."""

    def __init__(self, order: Order, attack: Attack | None = None) -> None:
        self._order, self._signals = order, 0
        self._beside = order.bite and attack is not None and attack.bite is Bite.BESIDE
        self._crew = Workers(order.isolation, stall_s=PATIENCE_S)
        self._hasty = Workers(order.isolation, stall_s=STALL_S)
        self._quiet = ""
        self._handle = os.open(os.environ["HOST_FILE"], os.O_RDONLY)
        self._secret = ctypes.create_string_buffer(os.environ["HOST_API_KEY"].encode())
        signal.signal(signal.SIGUSR1, self._signalled)
        self._at_first = self._state()
        with contextlib.suppress(OSError):  # as on a machine where processes of one user may trace each other
            prctl(_PTRACER, _ANYBODY)

    async def play(self, attack: Attack) -> Report:
        """One attack, a neighbour that is there from before it begins until it is over, and a rollout after it."""
        if not self._quiet:
            self._quiet = story(await self._honest(HONEST))
            self._hasty.zygote = self._crew.zygote
        over = asyncio.Event()
        near = Room(over)
        beside = asyncio.ensure_future(self._honest(HONEST, near))
        await asyncio.wait({asyncio.ensure_future(near.arrived.wait()), beside}, return_when="FIRST_COMPLETED")
        plays = [asyncio.ensure_future(self._attacked(attack, index)) for index in range(1 + attack.meets)]
        _, unfinished = await asyncio.wait(plays, timeout=LONG_S if self._endless(attack) else PATIENCE_S)
        for _ in range(attack.plays - len(plays)):
            plays.append(asyncio.ensure_future(self._attacked(attack, len(plays))))
            await asyncio.wait(plays[-1:], timeout=PATIENCE_S)
        left = len(_processes(self._told(attack)["mark"])) if not unfinished else 0
        if unfinished:
            await self._cut_off(plays)
        over.set()
        records = [play.result() for play in plays if play.done() and not play.cancelled()]
        return self._report(attack, [r for r, _ in records], await self._differs(beside), bool(unfinished), left,
                            await self._differs(self._honest(HONEST)), [s for _, s in records])  # fmt: skip

    async def _cut_off(self, plays: Sequence[asyncio.Future[Any]]) -> None:
        for play in plays:
            play.cancel()
        await asyncio.gather(*plays, return_exceptions=True)

    def _endless(self, attack: Attack) -> bool:
        return self._order.bite and attack.stalls

    def _told(self, attack: Attack) -> dict[str, Any]:
        told = self._order.told[attack.name]
        return {**told, "victim": f"v{told['mark']}", "host": os.getpid(), "handle": self._handle,
                "board": ctypes.addressof(BOARD), "memory": ctypes.addressof(self._secret)}  # fmt: skip

    async def _attacked(self, attack: Attack, index: int) -> tuple[Trajectory, dict[str, Any]]:
        told, secrets = self._told(attack), self._order.secrets[attack.name]
        if isinstance(attack, Smoking):
            return await (victim(attack, told, self._order.isolation) if index else self._smoked(attack, told))
        word = secrets["word"] if index == 0 else told["words"][0]
        room, model = Room(asyncio.Event()), Attentive([USE if attack.tool else LOOK, "I do not know"], loop=True)
        task = Task(f"You are number {index}. The word is {word}.", f"sealed/{told['mark']}-{index}")
        crew = self._hasty if attack.stalls else self._crew
        record = await self._rollout(attack.harness(told), task, model, room, secrets["secret"], crew)
        return record, seen(record, room, model)

    async def _smoked(self, attack: Smoking, told: Mapping[str, Any]) -> tuple[Trajectory, dict[str, Any]]:
        async def replayed(harness: HarnessConfig) -> Trajectory:
            return await self._honest(harness)

        return await smoked(attack, told, self._order.isolation, replayed)

    async def _honest(self, harness: HarnessConfig, room: Room | None = None) -> Trajectory:
        if room is None:
            room = Room(asyncio.Event())
            room.over.set()
        task = Task(f"Take care of {os.environ['HOST_API_KEY'][::-1]}.", "honest")
        return await self._rollout(harness, task, Attentive([LOOK, WAIT, LOOK, "done"]), room, "done", self._crew)

    async def _rollout(
        self, harness: HarnessConfig, task: Task, model: Attentive, room: Room, answer: str, crew: Workers
    ) -> Trajectory:
        execute: Execute = _beside if self._beside else crew.execute
        models = Models(ModelConfig(model))
        return await run_rollout(Rollout(harness, task), models, room, Exactly(answer), execute=execute)

    async def _differs(self, honest: Any) -> str:
        """How an honest rollout is not what it is undisturbed."""
        try:
            record = await asyncio.wait_for(honest, PATIENCE_S)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  (an attack may have broken anything here)
            return f"{type(error).__name__}: {error}"
        if story(record) == self._quiet and record.passed:
            return ""
        return f"{record.outcome}: {record.error}" if record.error or not record.passed else "another trajectory"

    def _report(
        self, attack: Attack, records: Sequence[Trajectory], neighbour: str, unfinished: bool, left: int,
        after: str, seen: Sequence[Mapping[str, Any]],
    ) -> Report:  # fmt: skip
        found: dict[str, Any] = {}
        for one in seen:
            found |= one
        if self._state() != self._at_first:
            found["the host is not as it was"] = f"{self._state()}, not {self._at_first}"
        texts = [record.to_jsonl() for record in records if not found.keys() & _UNTOLD]
        first = records[0] if records else None
        passed = next((r.outcome.value for r in records if r.passed), first.outcome.value if first else "")
        errors = [record.error for record in records if record.error]
        why = first.stop_reason.value if first else ""
        return Report(texts, passed, "; ".join(errors), why, neighbour, after, left, unfinished, False, found)

    def _state(self) -> list[Any]:
        limit, heeds = resource.getrlimit(resource.RLIMIT_STACK), callable(signal.getsignal(signal.SIGUSR1))
        return [self._signals, heeds, limit, BOARD.value.decode(errors="replace")]

    def _signalled(self, *args: object) -> None:
        self._signals += 1

    def close(self) -> None:
        """End the zygote."""
        self._crew.close()


async def _beside(harness: HarnessConfig, episode: Episode, host: Host) -> Ending:
    return await RunLoop(harness, episode, host, allow_assets=True).run()


def _processes(mark: str) -> list[int]:
    """The processes that bear the mark a moment later; they are ended."""
    time.sleep(0.02)
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (entry / "comm").read_text() or mark.encode() in (entry / "cmdline").read_bytes():
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                found += [int(entry.name)] if state not in "ZX" else []
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


async def _batch(order: Order, attacks: Sequence[Attack], stage: Stage) -> None:
    some = asyncio.Semaphore(AT_ONCE)

    async def one(attack: Attack) -> None:
        async with some:
            order.write(attack, await stage.play(attack))

    ends = await asyncio.gather(one(attacks[0]), return_exceptions=True)  # first: it leaves the zygote warm
    ends += await asyncio.gather(*map(one, attacks[1:]), return_exceptions=True)
    for attack, end in zip(attacks, ends, strict=True):
        if end is not None:
            print(f"{attack.name}: {type(end).__name__}: {end}", flush=True)
    stage.close()


def _apart(order: Order, attacks: Sequence[Attack]) -> int:
    """Play ``attacks`` in a fork of this process."""
    child = os.fork()
    if child:
        return child
    try:
        if order.bite and attacks[0].bite is Bite.LAX:
            LAX[attacks[0].lax]()
        asyncio.run(_batch(order, attacks, Stage(order, attacks[0])))
    except BaseException as error:  # noqa: BLE001  (what an attack does to a host that is thrown away)
        print(f"{attacks[0].name}: {type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(0)


def main() -> None:
    """Entry point."""
    isolation.MAX_SENT = MAX_SENT
    order = Order(**json.loads(Path(sys.argv[1]).read_text()))
    attacks = [attack for attack in PLAYABLE if attack.name in order.attacks]
    groups: dict[str, list[Attack]] = {}
    for attack in attacks:
        apart = order.bite and (attack.alone or attack.bite is Bite.BESIDE)
        lax = attack.lax if order.bite else ""
        groups.setdefault(attack.name if apart else lax, []).append(attack)
    running = 0
    for group in groups.values():
        _apart(order, group)
        running += 1
        if running > 1:
            os.wait()
            running -= 1
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    main()
