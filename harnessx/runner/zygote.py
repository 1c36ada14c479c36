"""The host's end of a zygote: the process behind the wall that forks a worker for each rollout."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Final

from harnessx.errors import Failure, Source
from harnessx.harness import HarnessConfig
from harnessx.runner.folder import OwnFolder
from harnessx.runner.worker import NAME
from harnessx.sandbox.base import Sandbox
from harnessx.sandbox.leash import Leash
from harnessx.sandbox.scratch import furnish, place
from harnessx.sandbox.view import environment

START_S: Final = 30.0
"""How long a zygote may take to call, where it inherits no handle, and to make a worker."""
_END_S: Final = 1.0
"""How long the processes of a wall may take to follow the zygote whose end closed its sockets."""
_LOOK_S: Final = 0.01
_CREDENTIALS: Final = struct.Struct("iII")


class ZygoteLost(ConnectionError):
    """The zygote ended before it made a worker."""


class Zygote:
    """One zygote, its control socket, and the folder that holds what its workers write.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._folder = OwnFolder("harnessx-worker-", place())
        folder = os.path.realpath(self._folder.name)
        furnish(folder)
        self.home = Path(folder, "home")
        """Where its workers have their folders."""
        self._leash = Leash()
        if sandbox.inherits:
            self._control, theirs = socket.socketpair()
            with theirs:
                self._process = self._spawn(sandbox, folder, str(theirs.fileno()), theirs.fileno())
            return
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(path := f"{self.home}/control")
            door.listen(1)
            door.settimeout(START_S)
            self._process = self._spawn(sandbox, folder, path)
            try:
                self._control, _ = door.accept()
            except OSError:
                self._control = door
                self.close()
                raise
        self._control.setblocking(True)

    def _spawn(self, sandbox: Sandbox, folder: str, control: str, *fds: int) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                sandbox.command("harnessx.runner.worker", (control,), folder),
                env=environment(),
                cwd=self.home,
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                process_group=self._leash.group,  # a wall has processes of its own, and they are to end together
            )
        except OSError:
            self._leash.end()
            raise

    @property
    def pid(self) -> int:
        """Of the process that was started: the wall's, or the zygote itself where the wall has none."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is over, of itself or not. Its number stays taken until `close`, which ends what is left of it."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    async def fork(self, harness: HarnessConfig) -> tuple[socket.socket, int, Path]:
        """A new worker for ``harness``: the socket to it, its pid, its folder.

        Raises:
            ZygoteLost: the zygote has ended; another may be asked.
            Failure: it lives and makes no worker (source ``sandbox``).
        """
        loop = asyncio.get_running_loop()
        order = json.dumps(harness.to_json()).encode()
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            with theirs:
                socket.send_fds(self._control, [b"f"], [theirs.fileno()])
            async with asyncio.timeout(START_S):
                await loop.sock_sendall(ours, len(order).to_bytes(4, "big") + order)
                pid, name = await _introduced(ours)
        except TimeoutError as error:
            ours.close()
            self.close()  # the next rollout gets another
            raise Failure(Source.SANDBOX, f"no worker within {START_S:.0f} s") from error
        except OSError as error:
            ours.close()
            if await self._ends():
                raise ZygoteLost from error
            raise Failure(Source.SANDBOX, f"no worker could be made behind the wall: {error}") from error
        except BaseException:  # a cancelled wait: the worker sees its socket close, and ends
            ours.close()
            raise
        return ours, pid, self.home / name

    async def _ends(self) -> bool:
        """Whether it is over, or will be in a moment."""
        until = time.monotonic() + _END_S
        while not self.ended and time.monotonic() < until:
            await asyncio.sleep(_LOOK_S)
        return self.ended

    def close(self) -> None:
        """End it and its workers, however far it has come, and remove its folder. Twice is no error."""
        self._control.close()
        self._leash.end()
        self._process.wait()
        self._folder.cleanup()


async def _introduced(sock: socket.socket) -> tuple[int, str]:
    """The pid of the worker behind ``sock``, as the kernel knows it here, and the name of its folder.

    Raises:
        OSError: there is no worker.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, ready.set_result, None)
    try:
        await ready
    finally:
        loop.remove_reader(sock)
    name, attached, _, _ = sock.recvmsg(NAME, socket.CMSG_SPACE(_CREDENTIALS.size))
    if len(name) < NAME:
        raise ConnectionResetError("it ended while it was being made")
    pid, _, _ = next(_CREDENTIALS.unpack(data) for _, kind, data in attached if kind == socket.SCM_CREDENTIALS)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
    return pid, name.decode()
