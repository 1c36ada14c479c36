"""The system call filter, run by a small interpreter of BPF: what no list names is not let through."""

from __future__ import annotations

import errno
import platform
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harnessx.sandbox import seccomp
from harnessx.sandbox.syscalls import numbers

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW = 0x7FFF0000
PID = 4711


def run(program: bytes, number: int, arch: int, args: tuple[int, ...] = ()) -> int:
    """What the filter answers to a call: `ALLOW`, or the number of the error."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *(*args, 0, 0, 0, 0, 0, 0)[:6])
    code = [struct.unpack_from("=HBBI", program, 8 * i) for i in range(len(program) // 8)]
    place = value = 0
    while True:
        kind, then, otherwise, k = code[place]
        place += 1
        match kind:
            case 0x20:
                (value,) = struct.unpack_from("<I", data, k)
            case 0x54:
                value &= k
            case 0x15:
                place += then if value == k else otherwise
            case 0x35:
                place += then if value >= k else otherwise
            case 0x06:
                return k if k == ALLOW else k & 0xFFFF
            case _:
                raise AssertionError(f"instruction {kind:#x}")


@pytest.fixture(params=MACHINES)
def machine(request, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: request.param)
    seccomp._lost.cache_clear()
    yield request.param
    seccomp._lost.cache_clear()


def answers(machine: str, name: str, *args: int) -> int:
    """What a rollout, and so both filters, answers to a call by name."""
    number, arch = numbers(machine)[name], MACHINES[machine]
    each = [run(p, number, arch, args) for p in (seccomp.zygote_program(), seccomp.rollout_program(PID))]
    return max((answer for answer in each if answer != ALLOW), default=ALLOW)


def test_only_what_is_listed_passes(machine):
    zygote, known = seccomp.zygote_program(), numbers(machine)
    names = {number: name for name, number in known.items()}
    listed = {*seccomp.ALLOWED, *seccomp.FORKING, *seccomp._HARMLESS}
    for number in range(600):
        passes = run(zygote, number, MACHINES[machine]) == ALLOW
        assert not passes or names.get(number) in listed, names.get(number, number)
    assert all(run(zygote, known[n], MACHINES[machine]) == errno.EPERM for n in seccomp.REFUSED
               if n in known and n not in listed)  # fmt: skip


@given(number=st.integers(0, 2**32 - 1), arch=st.integers(0, 2**32 - 1))
def test_a_call_of_another_processor_or_number_space_is_refused(number, arch):
    if platform.machine() not in MACHINES:
        pytest.skip("no filter for this processor")
    own = arch == MACHINES[platform.machine()]
    assert own or run(seccomp.zygote_program(), number, arch) == errno.EPERM
    assert run(seccomp.zygote_program(), number | 0x40000000, MACHINES[platform.machine()]) == errno.EPERM


@pytest.mark.parametrize(
    ("call", "passes"),
    {
        ("kill", PID, 9): True,
        ("kill", 1, 9): False,
        ("kill", 2**32 - 1, 9): False,
        ("tgkill", PID, PID, 9): True,
        ("tgkill", PID + 1, PID, 9): False,
        ("prlimit64", 0, 7, 0, 1): True,
        ("prlimit64", 0, 7, 2**33, 0): False,
        ("prlimit64", PID + 1, 7, 0, 1): False,
        ("sendto", 3, 1, 1, 0, 0): True,
        ("sendto", 3, 1, 1, 0, 2**32): False,
        ("socketpair", 1, 1 | 0x80000): True,
        ("socketpair", 1, 2): False,
        ("socketpair", 16, 1): False,
        ("openat", 0, 1, 0x80000): True,
        ("openat", 0, 1, 0x241): True,
        ("openat", 0, 1, 0x200): False,
        ("fcntl", 3, 4): True,
        ("fcntl", 3, 5): False,
        ("fcntl", 3, 6): False,
        ("fcntl", 3, 37): False,
        ("flock", 3, 2): False,
        ("futex", 0, 0x80): True,
        ("futex", 0, 0x189): True,
        ("futex", 0, 1): False,
        ("madvise", 0, 4096, 4): True,
        ("madvise", 0, 4096, 21): False,
        ("mincore", 0, 4096): False,
        ("fadvise64", 3, 0, 4096, 4): False,
        ("statfs", 0): False,
        ("sysinfo", 0): False,
        ("fcntl", 3, 8): False,
        ("ioctl", 3, 0x5421): True,
        ("ioctl", 3, 0x5412): False,
        ("prctl", 15): True,
        ("prctl", 1): False,
        ("clone", 0x01200011): False,
        ("setsid",): False,
        ("recvmsg", 3): False,
        ("read", 3): True,
    }.items(),
    ids=str,
)
def test_a_rollout_may_do_to_itself_what_it_may_not_do_to_others(machine, call, passes):
    assert (answers(machine, *call) == ALLOW) is passes


def test_a_zygote_may_fork_and_may_make_no_namespace(machine):
    program, clone = seccomp.zygote_program(), numbers(machine)["clone"]
    assert run(program, clone, MACHINES[machine], (0x01200011,)) == ALLOW
    for namespace in (0x80, 0x20000, 0x2000000, 0x10000000, 0x20000000, 0x40000000):
        assert run(program, clone, MACHINES[machine], (0x11 | namespace,)) == errno.EPERM


def test_a_processor_without_a_table_has_no_wall_instead_of_a_wrong_one(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="no seccomp filter for riscv64"):
        seccomp.zygote_program()


@pytest.mark.parametrize("machine", MACHINES)
def test_no_number_stands_for_two_calls(machine):
    known = numbers(machine)
    assert len(set(known.values())) == len(known)
