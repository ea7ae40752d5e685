"""Acts on files and on /proc: what Landlock (or a file system of its own) must refuse."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Final

from service.runner.jail.canary.acts import Act, Facts


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


def _write_installation(facts: Facts) -> str | None:
    target = Path(__file__).with_name(f"planted-{os.getpid()}")
    target.write_text("x")
    target.unlink()
    return "wrote into the installed package"


def _write_input(facts: Facts) -> str | None:
    Path("..", "in", "planted").write_text("x")
    return "wrote into the job's input"


def _write_own_memory(facts: Facts) -> str | None:
    """By these files a process writes past the protection of its own pages."""
    found = [name for name in _OWN_MEMORY if _opens(name, os.O_RDWR)]
    return f"may open {', '.join(found)} for writing" if found else None


_OWN_MEMORY: Final = ("/proc/self/mem", "/proc/thread-self/mem", "/proc/self/task/{tid}/mem")


def _change_own_process(facts: Facts) -> str | None:
    """Files beside a thread's name that say how the kernel treats the process.

    Not attr/current: everybody may open it, and the machine's security module decides what a write means.
    """
    names = ("oom_score_adj", "uid_map", "setgroups", "clear_refs", "loginuid")
    found = [name for name in names if _opens("/proc/self/task/{tid}/" + name, os.O_WRONLY)]
    return f"may write {', '.join(found)} of its own threads" if found else None


def _read_other_processes(facts: Facts) -> str | None:
    """Of the parent and of the machine's first process: names, memory, threads; and who else there is."""
    parent = facts["parent"]
    names = [f"/proc/{pid}/{name}" for pid in (parent, 1) if pid != os.getpid() for name in _OF_OTHERS]
    found = [name for name in names if _opens(name, os.O_RDONLY)]
    with contextlib.suppress(OSError):
        others = [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
        found += [f"a list of {len(others)} processes"]
    return f"read {', '.join(found)}" if found else None


_OF_OTHERS: Final = ("cmdline", "environ", "maps", "mem", "status", "task", "root", "cwd")


def _write_other_processes(facts: Facts) -> str | None:
    parent = facts["parent"]
    names = (f"/proc/{parent}/comm", f"/proc/{parent}/task/{parent}/comm", f"/proc/{parent}/mem")
    found = [name for name in names if _opens(name, os.O_WRONLY)]
    return f"may write {', '.join(found)}" if found else None


def _opens(name: str, flags: int) -> bool:
    try:
        os.close(os.open(name.format(tid=threading.get_native_id()), flags))
    except OSError:
        return False
    return True


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


ACTS: Final[dict[str, Act]] = {
    "read_outside": _read_outside,
    "list_outside": _list_outside,
    "read_accounts": _read_accounts,
    "read_parent": _read_parent,
    "read_other_processes": _read_other_processes,
    "write_other_processes": _write_other_processes,
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
    "change_own_process": _change_own_process,
    "inherited_files": _inherited_files,
}
