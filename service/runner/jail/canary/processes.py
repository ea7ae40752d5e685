"""Acts on processes and on the kernel: what the system call filter must refuse."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from functools import partial
from pathlib import Path
from typing import Final

from service.runner.jail.canary.acts import Act, Facts, answer, system_call

# The driver needs these; `network` tries what they could be misused for. `symlinkat` always answers ENOENT,
# which the act `symbolic_link` tries.
OPENED_FOR_CUDA: Final = ("bind", "listen", "recvmsg", "sendmsg", "symlinkat")


def _change_mode(facts: Facts) -> str | None:
    Path(facts["folder"], "secret").chmod(0o640)
    return "changed the mode of a file"


def _fork(facts: Facts) -> str | None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "forked"


def _exec(facts: Facts) -> str | None:
    return answer(lambda: os.execv("/nonexistent/program", ["program"]), "may execute programs")


def _signal_parent(facts: Facts) -> str | None:
    if os.getppid() == 0:
        return None  # it is not even visible
    os.kill(facts["parent"], 0)
    return "may send signals"


def _ptrace(facts: Facts) -> str | None:
    return system_call("ptrace", (16, 0x7FFFFFFF, 0, 0))  # PTRACE_ATTACH to nobody


def _read_memory(facts: Facts) -> str | None:
    return system_call("process_vm_readv", (0x7FFFFFFF, 0, 0, 0, 0, 0))


def _unshare(facts: Facts) -> str | None:
    return system_call("unshare", (0x10000000,))  # CLONE_NEWUSER


def _mount(facts: Facts) -> str | None:
    return system_call("mount", (0, 0, 0, 0, 0))


def _io_uring(facts: Facts) -> str | None:
    return system_call("io_uring_setup", (1, 0))


def _bpf(facts: Facts) -> str | None:
    return system_call("bpf", (-1, 0, 0))


def _pin_parent(facts: Facts) -> str | None:
    parent = facts["parent"]
    before = os.sched_getaffinity(parent)
    os.sched_setaffinity(parent, {min(before)})
    after = os.sched_getaffinity(parent)
    os.sched_setaffinity(parent, before)
    return "moved the parent to one processor" if after != before else None


def _limit_parent(facts: Facts) -> str | None:
    limits = resource.prlimit(facts["parent"], resource.RLIMIT_NOFILE)
    resource.prlimit(facts["parent"], resource.RLIMIT_NOFILE, limits)
    return "may change the parent's limits"


def _slow_parent(facts: Facts) -> str | None:
    os.setpriority(os.PRIO_PROCESS, facts["parent"], os.getpriority(os.PRIO_PROCESS, facts["parent"]))
    return "may change the parent's priority"


def _run_from_memory(facts: Facts) -> str | None:
    """CUDA needs files in memory: then no program may be started from one, by its descriptor or by /proc."""
    descriptor = os.memfd_create("program")
    try:
        if not facts.get("cuda"):
            return "made a file that no folder shows"
        os.write(descriptor, b"#!/nonexistent\n")
        by_number = partial(os.execve, descriptor, ["program"], {})
        by_name = partial(os.execve, f"/proc/self/fd/{descriptor}", ["program"], {})
        started = [answer(by_number, "its descriptor"), answer(by_name, "/proc")]
        return f"may execute {started}" if any(started) else None
    finally:
        os.close(descriptor)


def _other_calls(facts: Facts) -> str | None:
    """What no conversion calls, and exploits of kernels often begin with. Useless arguments each time."""
    names = [name for name in _NEVER if not (facts.get("cuda") and name in OPENED_FOR_CUDA)]
    found = [name for name in names if system_call(name, (-1, -1, -1, -1)) is not None]
    return f"let through: {', '.join(found)}" if found else None


_NEVER: Final = (
    "acct", "add_key", "adjtimex", "bind", "bpf", "chroot", "clock_settime", "execveat", "fanotify_init",
    "fchmod", "fchmodat2", "fchown", "fchownat", "fsopen", "init_module", "io_setup", "io_submit",
    "io_uring_setup", "kcmp", "keyctl", "kill", "linkat", "listen", "memfd_secret", "migrate_pages",
    "mknodat", "mount", "mount_setattr", "move_mount", "move_pages", "mq_open", "msgget",
    "open_by_handle_at", "open_tree", "openat2", "perf_event_open", "personality", "pidfd_getfd",
    "pidfd_open", "pidfd_send_signal", "pivot_root", "process_madvise", "process_vm_readv",
    "process_vm_writev", "ptrace", "quotactl", "reboot", "recvmsg", "request_key", "rt_sigqueueinfo",
    "rt_tgsigqueueinfo", "sched_setattr", "sched_setscheduler", "seccomp", "semget", "sendmsg", "sendto",
    "setgid", "sethostname", "setns", "setpgid", "setpriority", "setsid", "settimeofday", "setuid",
    "setxattr", "shmget", "socketpair", "splice", "swapon", "symlinkat", "syslog", "umount2", "unshare",
    "userfaultfd", "utimensat", "vmsplice",
)  # fmt: skip


def _become_root(facts: Facts) -> str | None:
    if os.geteuid() == 0:
        return None if _capabilities() == 0 else "is root with capabilities"
    os.setuid(0)
    return "became root"


def _capabilities() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    ctypes.CDLL(None).capget(header, sets)
    return sets[0] | sets[3]


BEFORE: Final[dict[str, Act]] = {
    "change_mode": _change_mode,  # of our own files outside: only the system call filter knows of it
    "become_root": _become_root,
}
ACTS: Final[dict[str, Act]] = {
    "fork": _fork,
    "exec": _exec,
    "signal_parent": _signal_parent,
    "ptrace": _ptrace,
    "read_memory": _read_memory,
    "pin_parent": _pin_parent,
    "limit_parent": _limit_parent,
    "slow_parent": _slow_parent,
    "run_from_memory": _run_from_memory,
    "unshare": _unshare,
    "mount": _mount,
    "io_uring": _io_uring,
    "bpf": _bpf,
    "other_calls": _other_calls,
}
