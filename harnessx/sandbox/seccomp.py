"""Which system calls are left (seccomp(2)): a list of allowed ones, assembled into BPF here.

An allow-list, because a new kernel brings new calls. What is on none of the lists is answered as on a
kernel that lacks it (ENOSYS), so that libraries fall back; what a program may well try, and must not, is
refused (EPERM). Assembled by hand and not by libseccomp, which is a system library that PyPI does not have.

A rollout is one process of one thread: it can neither fork nor execute, so there is nothing to outlive it
and no bomb to count. It keeps the one socket it was given; it can make no other but a pair of its own.

Rollouts may not tell each other of their tasks, so what one of them can set and another see is refused too: locks
on files, the pages that lie in memory, the room that is left. What can be told by timing is not.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from functools import cache
from typing import TypeAlias

from harnessx.sandbox.kernel import PR_SET_SECCOMP, SECCOMP_MODE_FILTER, prctl
from harnessx.sandbox.syscalls import numbers

ALLOWED = """
read write readv writev pread64 pwrite64 preadv pwritev close close_range lseek fstat newfstatat stat lstat statx
access faccessat faccessat2 readlink readlinkat getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename
renameat renameat2 ftruncate fsync fdatasync getdents getdents64 sendfile copy_file_range dup dup2 dup3 pipe pipe2
umask poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2
mmap munmap mprotect mremap brk msync membarrier set_robust_list get_robust_list rseq set_tid_address gettid getpid
getppid getuid geteuid getgid getegid getgroups getresuid getresgid getpgrp getpgid getsid getcpu uname getrandom
clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage getrlimit sched_yield
sched_getaffinity sched_getparam sched_getscheduler rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending
rt_sigtimedwait rt_sigsuspend sigaltstack setitimer getitimer alarm pause exit exit_group restart_syscall recvfrom
shutdown getsockopt setsockopt getsockname getpeername wait4 waitid
""".split()
"""What a rollout may always call."""

REFUSED = """
socket connect bind listen accept accept4 sendmsg sendmmsg recvmsg recvmmsg execve execveat fork vfork clone ptrace
process_vm_readv process_vm_writev kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_getfd
pidfd_send_signal mount umount2 pivot_root chroot unshare setns open_tree move_mount fsopen fsmount mount_setattr bpf
perf_event_open userfaultfd keyctl add_key request_key io_uring_setup io_uring_enter io_uring_register memfd_create
memfd_secret chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat truncate
link linkat symlink symlinkat mknod mknodat setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
inotify_init inotify_init1 fanotify_init setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid
setfsgid setsid setpgid setpriority sched_setaffinity sched_setscheduler sched_setparam sched_setattr ioprio_set
setrlimit prlimit64 prctl seccomp personality capset acct quotactl reboot kexec_load init_module finit_module
delete_module swapon swapoff sethostname setdomainname settimeofday clock_settime adjtimex clock_adjtime nfsservctl
iopl ioperm open_by_handle_at name_to_handle_at shmget shmat shmctl semget semop semctl msgget msgsnd msgrcv msgctl
mq_open mq_unlink socketpair sendto open openat creat ioctl fcntl process_madvise migrate_pages move_pages mbind
set_mempolicy kcmp lookup_dcookie vhangup syslog flock mincore fadvise64 statfs fstatfs sysinfo futex madvise
""".split()
"""What is refused with EPERM, except as `_checked` lets it pass."""

FORKING = """
fork vfork recvmsg setsid setrlimit prlimit64 prctl seccomp capset kill tgkill landlock_create_ruleset
landlock_add_rule landlock_restrict_self
""".split()
"""What the process that forks rollouts may call besides."""

_OF_ITSELF = ("kill", "tgkill", "prlimit64", "prctl")
"""Of these, what a rollout may do to itself."""

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NR, _ARCH, _ARGS = 0, 4, 16
_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_CLONE3 = 435
"""Not in the tables: what is in no list does not exist for a rollout. Libraries fall back to clone."""
_NEW_NAMESPACES = 0x7E020080
"""The bits of clone(2) that make a namespace."""
_PR_GET_NAME, _PR_SET_NAME, _PR_SET_VMA = 16, 15, 0x53564D41
_IOCTLS = (0x5421, 0x5451, 0x5450, 0x541B, 0x5401, 0x5413)
"""FIONBIO, FIOCLEX, FIONCLEX, FIONREAD, TCGETS, TIOCGWINSZ: what opening a file or a socket asks."""
_FCNTLS = (*range(5), 1030)
"""Copies and flags; not F_SETOWN and F_SETSIG, which send a signal to any process, and no locks: two rollouts can
lock what both may read, and so talk."""
_PRIVATE = 0x80
"""Of futex(2): for the threads of one process. Without it, who maps the same file can wake the other."""
_ADVICE = (*range(5), 8, 9, *range(14, 20))
"""Of madvise(2): on its own memory; not to push pages of a shared file out, where another rollout misses them."""
_UNIX, _STREAM, _SOCK_FLAGS = 1, 1, 0x80800
_OPENINGS = (0, 1, 2, 3, 0x201, 0x202, 0x203)
"""Access mode and O_TRUNC, without the one that empties what may only be read (Landlock before Linux 6.2)."""
_ANY = 0xFFFFFFFF


_Test: TypeAlias = tuple[int, int, tuple[int, ...]]
"""A 32-bit word of the arguments (two to an argument, the low one first), a mask, and what may be left of it."""
_HARMLESS: dict[str, tuple[_Test, ...]] = {
    "openat": ((4, 0x203, _OPENINGS),),
    "open": ((2, 0x203, _OPENINGS),),
    "sendto": ((8, _ANY, (0,)), (9, _ANY, (0,))),  # no address: to whom the socket is connected
    "fcntl": ((2, _ANY, _FCNTLS),),
    "ioctl": ((2, _ANY, _IOCTLS),),
    "socketpair": ((0, _ANY, (_UNIX,)), (2, _ANY ^ _SOCK_FLAGS, (_STREAM,))),
    "futex": ((2, _PRIVATE, (_PRIVATE,)),),
    "madvise": ((4, _ANY, _ADVICE),),
    "clone": ((0, _NEW_NAMESPACES, (0,)),),
}
"""Calls that pass if all their tests do, and are refused otherwise."""


OUTSIDE = """
socket ptrace process_vm_readv process_vm_writev pidfd_getfd mount umount2 pivot_root chroot unshare setns open_tree
move_mount fsopen fsmount mount_setattr bpf perf_event_open userfaultfd keyctl add_key request_key io_uring_setup
open_by_handle_at name_to_handle_at mknod mknodat acct quotactl reboot kexec_load init_module finit_module
delete_module swapon swapoff sethostname setdomainname settimeofday clock_settime adjtimex clock_adjtime syslog
personality shmget msgget semget mq_open
""".split()
"""What a program of the system does not need to work on its own files, and evolved code could use on others."""


def program_filter() -> bytes:
    """The filter of a program of the system and all it starts: everything but `OUTSIDE`, and no new namespaces.

    Raises:
        OSError: no filter is known for this processor.
    """
    known = _known()
    clone = _HARMLESS["clone"]
    code = _when(known["clone"], [*(part for test in clone for part in _tested(*test)), _op(_RETURN, _ALLOW)])
    code += [part for name in OUTSIDE if name in known for part in _when(known[name], [_deny(errno.EPERM)])]
    code += _when(_CLONE3, [_deny(errno.ENOSYS)])  # its flags lie in memory, where no filter sees them
    return b"".join([*_head(), *code, _op(_RETURN, _ALLOW)])


def zygote_program() -> bytes:
    """The filter of the process that forks rollouts, for this machine: the allow-list.

    Raises:
        OSError: no filter is known for this processor.
    """
    known = _known()
    allow, code = [_op(_RETURN, _ALLOW)], []
    for name, tests in _HARMLESS.items():  # first: the kernel remembers what always passes, and asks anew for these
        if name in known:
            code += _when(known[name], [part for test in tests for part in _tested(*test)] + allow)
    code += [part for name in (*ALLOWED, *FORKING) if name in known for part in _when(known[name], allow)]
    code += [part for name in REFUSED if name in known for part in _when(known[name], [_deny(errno.EPERM)])]
    return b"".join([*_head(), *code, _deny(errno.ENOSYS)])


def rollout_program(pid: int) -> bytes:
    """What a rollout, which is process ``pid``, loses besides: every call is asked of both filters."""
    known, start, end = _lost()
    itself: dict[str, tuple[_Test, ...]] = {
        "kill": ((0, _ANY, (pid,)),),
        "tgkill": ((0, _ANY, (pid,)),),
        "prlimit64": ((0, _ANY, (0, pid)), (4, _ANY, (0,)), (5, _ANY, (0,))),  # asking is no setting
        "prctl": ((0, _ANY, (_PR_GET_NAME, _PR_SET_NAME, _PR_SET_VMA)),),
    }
    allow = [_op(_RETURN, _ALLOW)]
    code = [_when(known[name], [part for t in tests for part in _tested(*t)] + allow) for name, tests in itself.items()]
    return start + b"".join(part for block in code for part in block) + end


@cache
def _lost() -> tuple[dict[str, int], bytes, bytes]:
    """What every rollout's filter has in common: the numbers, the beginning, the end."""
    known = _known()
    lost = [known[name] for name in (*FORKING, "clone") if name in known and name not in _OF_ITSELF]
    code = [part for number in lost for part in _when(number, [_deny(errno.EPERM)])]
    return known, b"".join(_head()), b"".join([*code, _op(_RETURN, _ALLOW)])


def install(program: bytes) -> None:
    """Filter the calls of this process, and of all it ever starts. Needs `no_new_privileges` before.

    Raises:
        OSError: the kernel has no seccomp filters, or has forbidden to add one.
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer)))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(header))


def _known() -> dict[str, int]:
    machine = platform.machine()
    if machine not in _ARCHES:
        raise OSError(errno.ENOSYS, f"no seccomp filter for {machine}; there is one for {', '.join(_ARCHES)}")
    return numbers(machine)


def _head() -> list[bytes]:
    """Load the number of the call; refuse those of another processor, and the x32 ones of x86_64."""
    of_this = [_op(_LOAD, _ARCH), _op(_EQUAL, _ARCHES[platform.machine()], 1, 0), _deny(errno.EPERM)]
    return [*of_this, _op(_LOAD, _NR), _op(_AT_LEAST, _X32, 0, 1), _deny(errno.EPERM)]


def _when(number: int, code: list[bytes]) -> list[bytes]:
    """``code`` for one call; it ends by returning."""
    return [_op(_EQUAL, number, 0, len(code)), *code]


def _tested(word: int, mask: int, values: tuple[int, ...]) -> list[bytes]:
    """Go on if the word is one of ``values``; refuse the call otherwise."""
    code = [_op(_LOAD, _ARGS + 4 * word)]
    if mask != _ANY:
        code.append(_op(_AND, mask))
    code += [_op(_EQUAL, value, len(values) - i, 0) for i, value in enumerate(values)]
    return [*code, _deny(errno.EPERM)]


def _op(code: int, k: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, k)


def _deny(number: int) -> bytes:
    return _op(_RETURN, _ERRNO | number)
