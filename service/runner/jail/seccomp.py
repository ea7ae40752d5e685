"""A seccomp filter in a hundred lines: classic BPF made here, loaded with prctl, no library needed.

The allow-list is what tracing real work showed (`python -m tests.process.security.trace`: checkpoints,
frozen graphs, SavedModels, Keras of both generations and ONNX; converted, folded, verified and inspected on
CPU), plus relatives of those calls that other versions of the same libraries make. Everything
else answers EPERM, so that a probing library (`uname -p`, an IPv6 check) goes on without; a foreign
architecture's calls kill the process, since their numbers mean something else.

Calls that depend on an argument:
    clone       threads only (CLONE_THREAD set); clone3 answers ENOSYS, so that libc falls back to clone
    ioctl       terminal and close-on-exec questions; all of them when CUDA is opened
    prctl       thread names only
    prlimit64   reading one's own only (pid 0, new limit NULL)
    sched_setaffinity  for the calling thread; for any other it answers success and does nothing: thread pools
                ask for it by thread id, and a thread id may as well be the parent's or another job's
    tgkill      own process only, which abort() and raise() need
    fcntl       not F_SETOWN, F_SETSIG, F_NOTIFY: signals to others
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

from service.runner.jail.syscalls import MACHINES

_ALLOWED: Final = """
    mmap munmap mprotect mremap madvise brk msync mincore mbind get_mempolicy membarrier read write
    pread64 pwrite64 readv writev preadv pwritev open openat close close_range lseek stat fstat lstat
    newfstatat statx access faccessat faccessat2 readlink readlinkat getdents getdents64 getcwd chdir
    mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 ftruncate fallocate fsync fdatasync
    fadvise64 copy_file_range sendfile dup dup2 dup3 pipe pipe2 poll ppoll select pselect6 eventfd2
    umask statfs fstatfs getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid
    getgroups uname sysinfo getrusage getrandom getcpu getrlimit sched_yield sched_getaffinity
    sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min futex
    set_robust_list rseq set_tid_address exit exit_group arch_prctl rt_sigaction rt_sigprocmask
    rt_sigreturn sigaltstack restart_syscall nanosleep clock_nanosleep clock_gettime clock_getres
    gettimeofday time
"""
ALLOWED: Final = tuple(_ALLOWED.split())

# The driver's user-space part maps devices by ioctl, pins pages, waits for events, shares memory by memfd.
ALLOWED_FOR_CUDA: Final = (
    "memfd_create", "mlock", "munlock", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "getpgid",
)  # fmt: skip

_CLONE_THREAD: Final = 0x00010000
_IOCTLS: Final = (0x5401, 0x5413, 0x5450, 0x5451, 0x541B)  # TCGETS TIOCGWINSZ FIONCLEX FIOCLEX FIONREAD
_PRCTLS: Final = (15, 16, 0x53564D41)  # PR_SET_NAME PR_GET_NAME PR_SET_VMA
_FCNTL_REFUSED: Final = (8, 10, 15, 0x402)  # F_SETOWN F_SETSIG F_SETOWN_EX F_NOTIFY

_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_NR_AT, _ARCH_AT, _ARGS_AT = 0, 4, 16
_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4  # of seccomp(2)
_X32_BIT: Final = 0x40000000

Instruction = tuple[int, int, int, int]


def supported() -> bool:
    """Whether the numbers of this machine's system calls are known here."""
    return platform.machine() in MACHINES and struct.calcsize("P") == 8


def program(*, cuda: bool = False, pid: int | None = None) -> list[Instruction]:
    """The filter as (code, jump-if-true, jump-if-false, k); `pid` is the one that tgkill may name."""
    arch, numbers = MACHINES[platform.machine()]
    allowed = [*ALLOWED, *(ALLOWED_FOR_CUDA if cuda else ()), *(("ioctl",) if cuda else ())]
    steps: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_JEQ, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NR_AT),
    ]
    if platform.machine() == "x86_64":
        steps += [(_JGE, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL)]
    for number in sorted({numbers[name] for name in allowed if name in numbers}):
        steps += [(_JEQ, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    steps += _block(numbers["clone3"], [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)])
    steps += _block(numbers["clone"], [*_argument(0), (_JSET, 0, 1, _CLONE_THREAD), *_allow(), *_deny()])
    if not cuda:
        steps += _block(numbers["ioctl"], _any_of(1, _IOCTLS))
    steps += _block(numbers["prctl"], _any_of(0, _PRCTLS))
    steps += _block(numbers["fcntl"], _none_of(1, _FCNTL_REFUSED))
    steps += _block(numbers["tgkill"], _any_of(0, (os.getpid() if pid is None else pid,)))
    steps += _block(numbers["prlimit64"], [*_argument(0), (_JEQ, 1, 0, 0), *_deny(), *_is_null(2)])
    steps += _block(numbers["sched_setaffinity"], [*_argument(0), (_JEQ, 0, 1, 0), *_allow(), *_pretend()])
    return [*steps, *_deny()]


def _block(number: int, body: list[Instruction]) -> list[Instruction]:
    """Run `body` (which always returns) for system call `number`."""
    return [(_LOAD, 0, 0, _NR_AT), (_JEQ, 0, len(body), number), *body]


def _argument(index: int, *, high: bool = False) -> list[Instruction]:
    return [(_LOAD, 0, 0, _ARGS_AT + 8 * index + (4 if high else 0))]  # little-endian


def _allow() -> list[Instruction]:
    return [(_RETURN, 0, 0, _ALLOW)]


def _deny() -> list[Instruction]:
    return [(_RETURN, 0, 0, _ERRNO | errno.EPERM)]


def _pretend() -> list[Instruction]:
    return [(_RETURN, 0, 0, _ERRNO | 0)]


def _any_of(index: int, values: tuple[int, ...]) -> list[Instruction]:
    steps = _argument(index)
    for value in values:
        steps += [(_JEQ, 0, 1, value & 0xFFFFFFFF), *_allow()]
    return [*steps, *_deny()]


def _none_of(index: int, values: tuple[int, ...]) -> list[Instruction]:
    steps = _argument(index)
    for value in values:
        steps += [(_JEQ, 0, 1, value), *_deny()]
    return [*steps, *_allow()]


def _is_null(index: int) -> list[Instruction]:
    """Allow where the 64-bit argument is zero."""
    return [
        *_argument(index),
        (_JEQ, 0, 3, 0),
        *_argument(index, high=True),
        (_JEQ, 0, 1, 0),
        *_allow(),
        *_deny(),
    ]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(*, cuda: bool = False) -> None:
    """Load the filter for this thread and all it will start. Needs no-new-privs. Raises OSError.

    Kernels before 5.16 turn speculative store bypass off for whoever has a filter, which costs a tenth of
    the speed of arithmetic. It protects a process's memory from code inside it; here there is only one
    tenant's job in it, and nothing that this job may not see. So it is asked to stay as it is.
    """
    steps = program(cuda=cuda)
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    record = ctypes.byref(_Program(len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    number = MACHINES[platform.machine()][1]["seccomp"]
    if libc.syscall(number, _SET_MODE_FILTER, _SPEC_ALLOW, record) == 0:
        return
    if libc.prctl(22, 2, record, 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER: kernels without the flag
        raise OSError(ctypes.get_errno(), "seccomp filter refused")
