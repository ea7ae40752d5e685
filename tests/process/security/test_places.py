"""Where people run it: as a plain user, and in a container as Docker makes it by default.

The container is made here with bubblewrap, by what Docker documents of its defaults: fourteen capabilities
for root and none for others, namespaces of its own, /sys read-only, and the system calls refused that its
seccomp profile refuses to whoever lacks CAP_SYS_ADMIN. So no user namespace, no mount, no control group can
be made inside. The service's own image goes further: another user, no capabilities, a read-only root.
"""

from __future__ import annotations

import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from service.runner.config import NOBODY
from service.runner.jail import bubblewrap, landlock, seccomp
from service.runner.jail.sandbox import installation
from service.runner.jail.syscalls import MACHINES
from tests.support.paths import ROOT

NEEDED = [*installation(), str(ROOT / "examples")]
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else"),
    pytest.mark.skipif(
        any(os.stat(path).st_mode & 0o5 != 0o5 for path in NEEDED if os.path.exists(path)),
        reason="the checkout or its Python is for its owner only",
    ),
    pytest.mark.skipif(not bubblewrap.available(), reason="bubblewrap is not installed"),
    pytest.mark.skipif(landlock.abi() < 3, reason="this kernel has no Landlock of ABI 3 or newer"),
    pytest.mark.skipif(not seccomp.supported(), reason="no system call numbers for this machine"),
]

USER = 10001  # as in the Dockerfile
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
    "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)  # fmt: skip
CHANGING = ("SETUID", "SETGID", "SETPCAP")
REFUSED = (
    "bpf", "get_mempolicy", "io_uring_setup", "mbind", "mount", "open_by_handle_at", "perf_event_open",
    "pivot_root", "set_mempolicy", "setns", "umount2", "unshare", "userfaultfd",
)  # fmt: skip
NEW_NAMESPACES = 0x7E020000  # any of clone's CLONE_NEW*


def docker_filter() -> bytes:
    """A classic BPF program: those calls, and clone with a new namespace, answer EPERM; clone3 ENOSYS."""
    numbers = MACHINES[platform.machine()][1]
    load, equal, any_bit, answer = 0x20, 0x15, 0x45, 0x06
    allow, eperm, enosys = 0x7FFF0000, 0x00050001, 0x00050026
    steps = [(load, 0, 0, 0)]
    for name in REFUSED:
        if name in numbers:
            steps += [(equal, 0, 1, numbers[name]), (answer, 0, 0, eperm)]
    steps += [(equal, 0, 1, numbers["clone3"]), (answer, 0, 0, enosys)]
    steps += [(equal, 0, 4, numbers["clone"]), (load, 0, 0, 16)]
    steps += [(any_bit, 0, 1, NEW_NAMESPACES), (answer, 0, 0, eperm), (answer, 0, 0, allow)]
    steps += [(answer, 0, 0, allow)]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


BNFOLD = [sys.executable, "-c", "from service.cli import main; main()"]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that everyone can get at, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


def as_plain_user(command: list[str], folder: Path) -> str:
    """Without a filter: user namespaces are there where this kernel gives them to everyone."""
    return output(contained(become(NOBODY, command), folder, CHANGING, filtered=False), folder)


def in_container(command: list[str], folder: Path) -> str:
    """As Docker's default: root, of whom fourteen capabilities are left."""
    return output(contained(command, folder, CAPABILITIES), folder)


def in_our_image(command: list[str], folder: Path) -> str:
    """As docker-compose.yml has it: user 10001, no capabilities."""
    return output(contained(become(USER, command), folder, CHANGING), folder)


def become(user: int, command: list[str]) -> list[str]:
    who = [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return ["setpriv", *who, "--bounding-set=-all", *command]


def contained(
    command: list[str], folder: Path, capabilities: Sequence[str], *, filtered: bool = True
) -> list[str]:
    """The command line, in a file system of which only /tmp and `folder` can be written."""
    system = [f"/{name}" for name in ("usr", "bin", "sbin", "lib", "lib64", "etc", "sys")]
    held = sorted({*system, *NEEDED}, key=lambda path: path.count("/"))
    binds = [word for path in held if os.path.exists(path) for word in ("--ro-bind", path, path)]
    above = sorted({str(parent) for path in held for parent in Path(path).parents if parent.name})
    binds = [word for path in above for word in ("--perms", "0755", "--dir", path)] + binds
    kept = [word for name in capabilities for word in ("--cap-add", f"CAP_{name}")]
    return [
        "bwrap", "--tmpfs", "/tmp", *binds, "--dev", "/dev", "--proc", "/proc", "--bind", *[str(folder)] * 2,
        "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--cap-drop", "ALL", *kept,
        *(["--seccomp", str(filter_pipe())] if filtered else []), "--", *command,
    ]  # fmt: skip


def filter_pipe() -> int:
    """A pipe that holds the filter."""
    read, write = os.pipe()
    os.write(write, docker_filter())
    os.close(write)
    return read


def output(command: list[str], folder: Path) -> str:
    environment = {"PATH": os.environ["PATH"], "BNFOLD_DATA_DIR": str(folder)}
    environment |= {"HOME": str(folder), "TMPDIR": str(folder)}
    inherited = [int(command[command.index("--seccomp") + 1])] if "--seccomp" in command else []
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False,
            pass_fds=inherited,
        )  # fmt: skip
    finally:
        for fd in inherited:
            os.close(fd)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


Place = Callable[[list[str], Path], str]


@pytest.mark.parametrize(
    ("place", "levels"),
    [
        (as_plain_user, {"strong", "full"}),
        (in_container, {"strong"}),
        (in_our_image, {"strong"}),
    ],
)
def test_a_checkpoint_is_folded_in_a_jail(place: Place, levels: set[str], home: Path) -> None:
    """With TensorFlow and all, on the command line; `bnfold doctor` says the same of the place."""
    source = ROOT / "examples" / "tf1_checkpoint" / "model.ckpt"
    report = json.loads(
        place([*BNFOLD, "fold", str(source), "-o", str(home / "folded.onnx"), "--json"], home)
    )
    assert report["verdict"] == "pass"
    assert report["sandbox"] in levels
    checks = json.loads(place([*BNFOLD, "doctor", "--json"], home))["checks"]
    assert [check["found"] for check in checks if check["name"] == "sandbox"] == [report["sandbox"]]


def test_root_starts_its_runners_as_nobody(home: Path) -> None:
    ask = "from service.runner.children.launch import runner_user; print(runner_user())"
    assert in_container([sys.executable, "-c", ask], home).split() == [str(NOBODY)]


@pytest.mark.parametrize("place", [in_container, in_our_image])
def test_no_namespaces_are_made_in_that_container(place: Place, home: Path) -> None:
    """The check of the check: what the tests above stand in really refuses them."""
    tried = (
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.unshare(0x10000000), ctypes.get_errno())"
    )
    assert place([sys.executable, "-c", tried], home).split() == ["-1", "1"]
