"""What a runner can really not do: it tries, inside its own jail, before it gets a job.

Each act returns None when it was refused, or a word on what it managed. Nothing here trusts a feature
list: a layer that is on but lets something through shows as an escape, and the level falls.

Levels:
    full      every act refused, and separate mount, pid, network and ipc namespaces
    strong    every act refused
    partial   the limits bind, and all file acts or all process and network acts are refused
    none      anything less
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import resource
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from service.runner.jail.syscalls import MACHINES

NAMESPACES: Final = ("mnt", "pid", "net", "ipc")
Facts = dict[str, Any]
Act = Callable[[Facts], str | None]


@dataclass
class Trap:
    """The parent's side: bait outside the jail, and a listener that should hear nothing."""

    folder: Path
    listener: socket.socket
    datagrams: socket.socket
    abstract: socket.socket | None

    @staticmethod
    def set_up(owner: int | None = None) -> Trap:
        """Lay out the bait; `owner` is the uid that runners have, so that file modes do not help them."""
        folder = Path(tempfile.mkdtemp(prefix="bnfold-canary-"))
        for name in ("secret", "precious", "mine"):
            (folder / name).write_text("outside")
            (folder / name).chmod(0o666)
        folder.chmod(0o777)
        if owner is not None:
            for path in (folder, *folder.iterdir()):
                os.chown(path, owner, -1)
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        listener.setblocking(False)
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", 0))
        datagrams.setblocking(False)
        return Trap(folder, listener, datagrams, _abstract_listener())

    def facts(self) -> Facts:
        """What the child has to know to try."""
        return {
            "folder": str(self.folder),
            "port": self.listener.getsockname()[1],
            "udp": self.datagrams.getsockname()[1],
            "abstract": self.abstract.getsockname()[1:].decode() if self.abstract else "",
            "parent": os.getpid(),
            "namespaces": _namespaces(),
        }

    def sprung(self) -> list[str]:
        """Evidence on this side: files that changed, connections that arrived."""
        found = []
        names = {path.name for path in self.folder.iterdir()}
        if names != {"secret", "precious", "mine"}:
            found.append("files were made, moved or removed outside")
        if (self.folder / "precious").exists() and (self.folder / "precious").read_text() != "outside":
            found.append("a file outside was overwritten")
        for name, server in (("tcp", self.listener), ("unix", self.abstract)):
            with contextlib.suppress(OSError):
                if server is not None:
                    server.accept()[0].close()
                    found.append(f"a {name} connection came in")
        with contextlib.suppress(OSError):
            self.datagrams.recv(16)
            found.append("a datagram came in")
        return found

    def close(self) -> None:
        """Remove the bait."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for server in (self.listener, self.datagrams, self.abstract):
            if server is not None:
                server.close()

    def __enter__(self) -> Trap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _abstract_listener() -> socket.socket | None:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        server.bind("\0bnfold-canary-" + secrets.token_hex(8))
        server.listen(8)
        server.setblocking(False)
    except OSError:
        server.close()
        return None
    return server


def _namespaces() -> dict[str, str]:
    """Identity of this process's namespaces; must be asked before the jail closes /proc."""
    found = {}
    for name in NAMESPACES:
        with contextlib.suppress(OSError):
            found[name] = os.readlink(f"/proc/self/ns/{name}")
    return found


# --- acts: files ----------------------------------------------------------------------------------


def _read_outside(facts: Facts) -> str | None:
    return "read it: " + Path(facts["folder"], "secret").read_text()


def _list_outside(facts: Facts) -> str | None:
    return f"saw {len(os.listdir(facts['folder']))} names"


def _read_accounts(facts: Facts) -> str | None:
    return f"read {len(Path('/etc/passwd').read_bytes())} bytes of /etc/passwd"


def _read_parent(facts: Facts) -> str | None:
    return f"read {len(Path('/proc', str(facts['parent']), 'environ').read_bytes())} bytes of its environment"


def _create_outside(facts: Facts) -> str | None:
    Path(facts["folder"], "planted").write_text("x")
    return "made a file"


def _overwrite_outside(facts: Facts) -> str | None:
    with Path(facts["folder"], "precious").open("r+") as file:
        file.write("changed")
    return "changed a file"


def _truncate_outside(facts: Facts) -> str | None:
    os.close(os.open(Path(facts["folder"], "precious"), os.O_RDONLY | os.O_TRUNC))
    return "emptied a file by opening it for reading"


def _delete_outside(facts: Facts) -> str | None:
    Path(facts["folder"], "mine").unlink()
    return "removed a file"


def _rename_outside(facts: Facts) -> str | None:
    Path("moved").write_text("x")
    Path("moved").rename(Path(facts["folder"], "moved"))
    return "moved a file out"


def _hard_link(facts: Facts) -> str | None:
    os.link(Path(facts["folder"], "secret"), "hard")
    return "linked a file in"


def _symbolic_link(facts: Facts) -> str | None:
    os.symlink("/etc/passwd", "soft")
    return "made a symbolic link for the parent to follow"


def _make_fifo(facts: Facts) -> str | None:
    os.mkfifo("fifo")
    return "made a FIFO for the parent to hang on"


def _change_mode(facts: Facts) -> str | None:
    Path(facts["folder"], "secret").chmod(0o640)
    return "changed the mode of a file"


def _write_installation(facts: Facts) -> str | None:
    target = Path(__file__).with_name(f"planted-{os.getpid()}")
    target.write_text("x")
    target.unlink()
    return "wrote into the installed package"


def _write_input(facts: Facts) -> str | None:
    Path("..", "in", "planted").write_text("x")
    return "wrote into the job's input"


def _write_own_memory(facts: Facts) -> str | None:
    os.close(os.open("/proc/self/mem", os.O_RDWR))
    return "may write past the protection of its own pages"


def _inherited_files(facts: Facts) -> str | None:
    """Beyond the pipe in, the log and the pipe out there is nothing open that the parent had open."""
    found = [fd for fd in range(3, 256) if fd != facts.get("out") and _is_open(fd)]
    return f"inherited descriptors {found}" if found else None


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# --- acts: processes and network --------------------------------------------------------------------


def _tcp(facts: Facts) -> str | None:
    with socket.create_connection(("127.0.0.1", facts["port"]), timeout=1):
        return "connected"


def _udp(facts: Facts) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", facts["udp"]))
    return "sent" if "net" in _shared(facts) else None  # into our own namespace's loopback: nobody is there


def _unix(facts: Facts) -> str | None:
    if not facts["abstract"]:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sender:
        sender.settimeout(1)
        sender.connect("\0" + facts["abstract"])
    return "connected"


def _fork(facts: Facts) -> str | None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "forked"


def _exec(facts: Facts) -> str | None:
    return _answer(lambda: os.execv("/nonexistent/program", ["program"]), "may execute programs")


def _signal_parent(facts: Facts) -> str | None:
    if os.getppid() == 0:
        return None  # it is not even visible
    os.kill(facts["parent"], 0)
    return "may send signals"


def _ptrace(facts: Facts) -> str | None:
    return _system_call("ptrace", (16, 0x7FFFFFFF, 0, 0))  # PTRACE_ATTACH to nobody


def _read_memory(facts: Facts) -> str | None:
    return _system_call("process_vm_readv", (0x7FFFFFFF, 0, 0, 0, 0, 0))


def _unshare(facts: Facts) -> str | None:
    return _system_call("unshare", (0x10000000,))  # CLONE_NEWUSER


def _mount(facts: Facts) -> str | None:
    return _system_call("mount", (0, 0, 0, 0, 0))


def _io_uring(facts: Facts) -> str | None:
    return _system_call("io_uring_setup", (1, 0))


def _bpf(facts: Facts) -> str | None:
    return _system_call("bpf", (-1, 0, 0))


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


def _netlink(facts: Facts) -> str | None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0):
        return "may ask the kernel about the network"


def _run_from_memory(facts: Facts) -> str | None:
    if facts.get("memory_is_watched"):
        return None  # CUDA needs memory files; executing one is refused by `exec` and `other_calls`
    os.close(os.memfd_create("program"))
    return "made a file that no folder shows"


def _other_calls(facts: Facts) -> str | None:
    """What no conversion calls, and exploits of kernels often begin with. Useless arguments each time."""
    found = [name for name in _NEVER if _system_call(name, (-1, -1, -1, -1)) is not None]
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


# --- acts: limits -----------------------------------------------------------------------------------


def _dump_core(facts: Facts) -> str | None:
    return None if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else "may write core files"


def _take_memory(facts: Facts) -> str | None:
    if facts.get("memory_is_watched"):
        return None  # CUDA: no limit can be set; the parent kills by resident memory
    limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if limit == resource.RLIM_INFINITY:
        return "no memory limit"
    mmap.mmap(-1, limit + 1, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    return "mapped more than its limit"


def _open_many(facts: Facts) -> str | None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if limit <= 4096 else f"may open {limit} files"


def _fill_disk(facts: Facts) -> str | None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    if limit == resource.RLIM_INFINITY:
        return "no file size limit"
    with Path("large").open("wb") as file:
        file.truncate(limit + 1)
    return "made a file past its limit"


FILES: Final[dict[str, Act]] = {
    "read_outside": _read_outside,
    "list_outside": _list_outside,
    "read_accounts": _read_accounts,
    "read_parent": _read_parent,
    "create_outside": _create_outside,
    "overwrite_outside": _overwrite_outside,
    "truncate_outside": _truncate_outside,
    "delete_outside": _delete_outside,
    "rename_outside": _rename_outside,
    "hard_link": _hard_link,
    "symbolic_link": _symbolic_link,
    "make_fifo": _make_fifo,
    "write_installation": _write_installation,
    "write_input": _write_input,
    "write_own_memory": _write_own_memory,
    "inherited_files": _inherited_files,
}
PROCESSES: Final[dict[str, Act]] = {
    "change_mode": _change_mode,  # of our own files outside: only the system call filter knows of it
    "become_root": _become_root,  # before unshare, which would change who we are
    "tcp": _tcp,
    "udp": _udp,
    "unix": _unix,
    "fork": _fork,
    "exec": _exec,
    "signal_parent": _signal_parent,
    "ptrace": _ptrace,
    "read_memory": _read_memory,
    "pin_parent": _pin_parent,
    "limit_parent": _limit_parent,
    "slow_parent": _slow_parent,
    "netlink": _netlink,
    "run_from_memory": _run_from_memory,
    "unshare": _unshare,
    "mount": _mount,
    "io_uring": _io_uring,
    "bpf": _bpf,
    "other_calls": _other_calls,
}
LIMITS: Final[dict[str, Act]] = {
    "dump_core": _dump_core,
    "take_memory": _take_memory,
    "open_many": _open_many,
    "fill_disk": _fill_disk,
}
_REFUSED_BY_FILTER: Final = (errno.EPERM, errno.ENOSYS)


def run(facts: Facts, namespaces: dict[str, str]) -> dict[str, str | None]:
    """Try every act. Returns: act -> None (refused) or what it managed; `namespaces` lists shared ones."""
    facts = {**facts, "own_namespaces": namespaces}
    results = {name: _attempt(act, facts) for name, act in {**FILES, **PROCESSES, **LIMITS}.items()}
    results["namespaces"] = " ".join(_shared(facts)) or None
    for left in ("moved", "hard", "soft", "fifo", "large"):
        with contextlib.suppress(OSError):
            os.unlink(left)
    return results


def level_of(results: dict[str, str | None], sprung: list[str]) -> str:
    """The level that these results, and the trap's own evidence, amount to."""
    if not results:
        return "none"
    escaped = {name for name, what in results.items() if what is not None}
    held = {kind: not escaped & set(acts) for kind, acts in _KINDS.items()}
    if all(held.values()) and not sprung:
        return "strong" if "namespaces" in escaped else "full"
    if held["limits"] and (held["files"] or held["processes"]):
        return "partial"
    return "none"


_KINDS: Final = {"files": FILES, "processes": PROCESSES, "limits": LIMITS}


def _attempt(act: Act, facts: Facts) -> str | None:
    try:
        return act(facts)
    except (OSError, MemoryError, OverflowError):
        return None


def _shared(facts: Facts) -> list[str]:
    """Namespaces that we have in common with the parent (unknown ones count as shared)."""
    own, outer = facts["own_namespaces"], facts["namespaces"]
    return [name for name in NAMESPACES if own.get(name) is None or own.get(name) == outer.get(name)]


def own_namespaces() -> dict[str, str]:
    """To be asked by the child before it enters the jail."""
    return _namespaces()


def _answer(call: Callable[[], object], word: str) -> str | None:
    """`word` unless the call is refused as such; any other failure means that it was let through."""
    try:
        call()
    except OSError as error:
        return None if error.errno in _REFUSED_BY_FILTER else word
    return word


def _system_call(name: str, arguments: tuple[int, ...]) -> str | None:
    """A call with useless arguments: EPERM means refused; EINVAL and the like, let through."""
    machine = MACHINES.get(platform.machine())
    if machine is None or sys.platform != "linux":
        return f"{name}: number not known on this machine"
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(machine[1][name], *(ctypes.c_long(value) for value in arguments))
    if result >= 0 or ctypes.get_errno() not in _REFUSED_BY_FILTER:
        return f"{name} is let through"
    return None


def _capabilities() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    ctypes.CDLL(None).capget(header, sets)
    return sets[0] | sets[3]
