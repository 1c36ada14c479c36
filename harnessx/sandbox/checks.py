"""What evolved code must not be able to do, each as a program that does it.

A check runs behind the wall as a rollout would, and in an ordinary process as its control. It *reaches* its
sentinel, or an error stops it. Only what the control reaches and the walled process does not is enforced.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import platform
import resource
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Sentinels:
    """What the host has put up to be reached."""

    folder: str
    """Outside every wall; holds ``secret`` and what the checks try to spoil."""
    secret: str
    tcp: int
    udp: int
    host: int
    """A process of this user, with ``secret`` in its environment."""
    handle: int
    """A file that the host holds open."""
    sibling: int = 0
    neighbour: str = ""
    """The scratch of another rollout, which is process ``sibling``."""


class Refused(Exception):
    """What was tried had no effect, though nothing was raised."""


Attempt: TypeAlias = Callable[[Sentinels], int | None]
"""Returns when it has reached its sentinel; a number is that of a process to look for afterwards."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to try, and the layers of which any one keeps it out."""

    name: str
    layers: frozenset[str]
    attempt: Attempt


CHECKS: list[Check] = []


def _check(name: str, *layers: str) -> Callable[[Attempt], Attempt]:
    def register(attempt: Attempt) -> Attempt:
        CHECKS.append(Check(name, frozenset(layers), attempt))
        return attempt

    return register


def _call(name: str, *args: int | bytes | None) -> None:
    from harnessx.sandbox.kernel import syscall
    from harnessx.sandbox.syscalls import numbers

    syscall(numbers(platform.machine())[name], name, *args)


@_check("read a file outside", "tree", "landlock")
def read_file(at: Sentinels) -> None:
    if at.secret not in Path(at.folder, "secret").read_text():
        raise Refused("another file")


@_check("read a file outside through a relative path", "tree", "landlock")
def read_above(at: Sentinels) -> None:
    up = "../" * 30
    Path(up + at.folder.lstrip("/"), "secret").read_text()


@_check("list a folder outside", "tree", "landlock")
def list_folder(at: Sentinels) -> None:
    os.listdir(at.folder)


@_check("see whether a file outside exists", "tree")
def see_file(at: Sentinels) -> None:
    os.stat(f"{at.folder}/secret")


@_check("write a file outside", "tree", "landlock")
def write_file(at: Sentinels) -> None:
    Path(at.folder, "written").write_text("by a check")


@_check("empty a file outside by its name", "tree", "seccomp")
def truncate_file(at: Sentinels) -> None:
    os.truncate(f"{at.folder}/spoiled", 0)


@_check("change the rights of a file outside", "tree", "seccomp")
def change_mode(at: Sentinels) -> None:
    os.chmod(f"{at.folder}/spoiled", 0o777)


@_check("remove a file outside", "tree", "landlock")
def remove_file(at: Sentinels) -> None:
    os.unlink(f"{at.folder}/removed")


@_check("make a link to a file outside", "seccomp")
def make_link(at: Sentinels) -> None:
    os.symlink(f"{at.folder}/secret", "link")


@_check("read the scratch of another rollout", "landlock")
def read_neighbour(at: Sentinels) -> None:
    Path(at.neighbour, "secret").read_text()


@_check("find another rollout's scratch", "landlock")
def list_neighbours(at: Sentinels) -> None:
    os.listdir(os.path.dirname(at.neighbour))


@_check("read an environment variable of the host", "start")
def read_variable(at: Sentinels) -> None:
    if at.secret not in os.environ.values():
        raise Refused("it is not there")


@_check("use a handle of the host", "start")
def use_handle(at: Sentinels) -> None:
    if at.secret.encode() not in os.pread(at.handle, 1000, 0):
        raise Refused("another file")


@_check("read the environment of a host process", "tree", "landlock")
def read_environ(at: Sentinels) -> None:
    if at.secret.encode() not in Path(f"/proc/{at.host}/environ").read_bytes():
        raise Refused("another process")


@_check("see the processes of the host", "tree", "landlock")
def see_processes(at: Sentinels) -> None:
    if str(at.host) not in os.listdir("/proc"):
        raise Refused("it is not there")


@_check("signal a process of the host", "seccomp")
def signal_host(at: Sentinels) -> None:
    os.kill(at.host, signal.SIGCONT)


@_check("signal another rollout", "seccomp")
def signal_sibling(at: Sentinels) -> None:
    os.kill(at.sibling, signal.SIGCONT)


@_check("signal everybody", "seccomp")
def signal_all(at: Sentinels) -> None:
    os.kill(-1, 0)


@_check("have its files signal another process", "seccomp")
def signal_by_file(at: Sentinels) -> None:
    import fcntl

    one, _ = socket.socketpair()
    fcntl.fcntl(one, fcntl.F_SETOWN, at.sibling)


@_check("trace a process", "seccomp")
def trace(at: Sentinels) -> None:
    _call("ptrace", 0, 0, 0, 0)


@_check("change the limits of another process", "seccomp")
def limit_other(at: Sentinels) -> None:
    now = resource.prlimit(at.sibling, resource.RLIMIT_CORE)
    resource.prlimit(at.sibling, resource.RLIMIT_CORE, now)


@_check("raise its own limits", "seccomp")
def raise_limits(at: Sentinels) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@_check("connect to a TCP port", "seccomp")
def connect_tcp(at: Sentinels) -> None:
    socket.create_connection(("127.0.0.1", at.tcp), 2).close()


@_check("open a TCP port", "seccomp")
def open_port(at: Sentinels) -> None:
    with socket.create_server(("127.0.0.1", 0)):
        pass


@_check("send a UDP packet", "seccomp")
def send_udp(at: Sentinels) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"from a check", ("127.0.0.1", at.udp))


@_check("connect to a unix socket", "seccomp")
def connect_unix(at: Sentinels) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{at.folder}/socket")


@_check("connect to an abstract unix socket", "seccomp")
def connect_abstract(at: Sentinels) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"\0{at.secret}")


@_check("talk to the kernel by netlink", "seccomp")
def open_netlink(at: Sentinels) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


@_check("resolve a name", "tree", "landlock")
def resolve(at: Sentinels) -> None:
    if Path("/etc/hosts").read_text():
        socket.getaddrinfo("localhost", 80)


@_check("start a process", "seccomp")
def start_process(at: Sentinels) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


@_check("leave a daemon behind", "seccomp")
def leave_daemon(at: Sentinels) -> int:
    told, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(tell, str(os.getpid()).encode())
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.alarm(20)
            while True:
                signal.pause()
        os._exit(0)
    return int(os.read(told, 20))


@_check("run a program", "seccomp")
def run_program(at: Sentinels) -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


@_check("start a thread", "seccomp")
def start_thread(at: Sentinels) -> None:
    thread = threading.Thread(target=len, args=("",))
    thread.start()
    thread.join()


@_check("take 4 GB of memory", "seccomp")
def take_memory(at: Sentinels) -> None:
    mmap.mmap(-1, 4 << 30).close()


@_check("write a file of 256 MB", "seccomp")
def write_much(at: Sentinels) -> None:
    with open("much", "wb") as file:
        file.truncate(256 << 20)
    os.unlink("much")


@_check("open 500 files", "seccomp")
def open_many(at: Sentinels) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(open(os.devnull))


@_check("hold memory without a name", "seccomp")
def hold_memory(at: Sentinels) -> None:
    os.close(os.memfd_create("check"))


@_check("make a namespace", "seccomp")
def make_namespace(at: Sentinels) -> None:
    _call("unshare", 0x10000000)


@_check("submit calls by io_uring", "seccomp")
def use_io_uring(at: Sentinels) -> None:
    _call("io_uring_setup", 1, bytes(120))


@_check("use the kernel's key rings", "seccomp")
def use_keys(at: Sentinels) -> None:
    _call("keyctl", 0, -3, 1)


@_check("switch off what kills it with its parent", "seccomp")
def outlive(at: Sentinels) -> None:
    from harnessx.sandbox.kernel import PR_SET_PDEATHSIG, prctl

    prctl(PR_SET_PDEATHSIG, 0)
