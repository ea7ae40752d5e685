"""Build and load a seccomp filter: classic BPF made here, loaded with seccomp(2), no library needed.

The allow-list is what tracing real work showed (`python -m tests.process.security.trace`: checkpoints,
frozen graphs, SavedModels, Keras of both generations and ONNX; converted, folded, verified and inspected on
CPU), plus relatives of those calls that other versions of the same libraries make. Everything
else answers EPERM, so that a probing library (`uname -p`, an IPv6 check) goes on without; a foreign
architecture's calls kill the process, since their numbers mean something else.

Calls that depend on an argument:
    clone       threads only (CLONE_THREAD set); clone3 answers ENOSYS, so that libc falls back to clone
    ioctl       terminal and close-on-exec questions
    prctl       thread names only
    prlimit64   reading one's own only (pid 0, new limit NULL)
    sched_setaffinity  for the calling thread; for any other it answers success and does nothing: thread pools
                ask for it by thread id, and a thread id may as well be the parent's or another job's
    tgkill      own process only, which abort() and raise() need
    fcntl       not F_SETOWN, F_SETSIG, F_NOTIFY: signals to others

`cuda_calls` has what a CUDA runner gets on top.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

from service.runner.jail import bpf, cuda_calls
from service.runner.jail.bpf import Instruction
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

_CLONE_THREAD: Final = 0x00010000
IOCTLS: Final = (0x5401, 0x5413, 0x5450, 0x5451, 0x541B)  # TCGETS TIOCGWINSZ FIONCLEX FIOCLEX FIONREAD
_PRCTLS: Final = (15, 16, 0x53564D41)  # PR_SET_NAME PR_GET_NAME PR_SET_VMA
_FCNTL_REFUSED: Final = (8, 10, 15, 0x402)  # F_SETOWN F_SETSIG F_SETOWN_EX F_NOTIFY
_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4  # of seccomp(2)
_X32_BIT: Final = 0x40000000


def supported() -> bool:
    """Whether the numbers of this machine's system calls are known here."""
    return platform.machine() in MACHINES and struct.calcsize("P") == 8


def program(
    *, cuda: bool = False, private_network: bool = False, pid: int | None = None
) -> list[Instruction]:
    """Return the filter as (code, jump-if-true, jump-if-false, k); `pid` is the one that tgkill may name."""
    arch, numbers = MACHINES[platform.machine()]
    allowed = [*ALLOWED, *(cuda_calls.ALLOWED if cuda else ())]
    steps = bpf.prologue(arch, _X32_BIT if platform.machine() == "x86_64" else None)
    for number in sorted({numbers[name] for name in allowed if name in numbers}):
        steps += bpf.allow_call(number)
    rules: dict[str, list[Instruction]] = {
        "clone3": bpf.answer(errno.ENOSYS),
        "clone": [*bpf.argument(0), *bpf.if_bits(_CLONE_THREAD, bpf.allow()), *bpf.answer(errno.EPERM)],
        "ioctl": bpf.any_of(1, IOCTLS),
        "prctl": bpf.any_of(0, _PRCTLS),
        "fcntl": bpf.none_of(1, _FCNTL_REFUSED),
        "tgkill": bpf.any_of(0, (os.getpid() if pid is None else pid,)),
        "prlimit64": [*bpf.argument(0), *bpf.unless_equal(0, bpf.answer(errno.EPERM)), *bpf.is_null(2)],
        "sched_setaffinity": [*bpf.argument(0), *bpf.if_equal(0, bpf.allow()), *bpf.answer(0)],
    }
    if cuda:
        rules |= cuda_calls.rules(IOCTLS, private_network=private_network)
    for name, body in rules.items():
        if name in numbers:
            steps += bpf.block(numbers[name], body)
    return [*steps, *bpf.answer(cuda_calls.REFUSAL if cuda else errno.EPERM)]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(*, cuda: bool = False, private_network: bool = False) -> None:
    """Load the filter for this thread and all it will start. Needs no-new-privs. Raises OSError.

    Kernels before 5.16 turn speculative store bypass off for whoever has a filter, which costs a tenth of
    the speed of arithmetic. It protects a process's memory from code inside it; here there is only one
    tenant's job in it, and nothing that this job may not see. So it is asked to stay as it is.
    """
    steps = program(cuda=cuda, private_network=private_network)
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    record = ctypes.byref(_Program(len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    number = MACHINES[platform.machine()][1]["seccomp"]
    if libc.syscall(number, _SET_MODE_FILTER, _SPEC_ALLOW, record) == 0:
        return
    if libc.prctl(22, 2, record, 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER: kernels without the flag
        raise OSError(ctypes.get_errno(), "seccomp filter refused")
