"""What a CUDA runner may do: all that the driver does, shown by a fake driver inside the real sandbox.

No device is needed: `fake_driver.c` makes the system calls of cuInit in their order on plain files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.runner.base import Status
from service.runner.children.launch import runner_user, start_child
from service.runner.config import environment
from service.runner.jail import bubblewrap, canary, landlock, seccomp
from service.runner.jail.bpf import ALLOW, ERRNO, KILL, Instruction
from service.runner.jail.canary import level_of
from service.runner.jail.syscalls import MACHINES
from service.runner.process import ProcessRunner
from tests.process.security.conftest import configured, run_act
from tests.process.security.fake_driver import MISUSES
from tests.support.paths import ROOT

HERE = Path(__file__).parent
needs_sandbox = pytest.mark.skipif(
    landlock.abi() < 3 or not seccomp.supported(),
    reason="needs Landlock of ABI 3, and seccomp",
)


def _cuda(tmp_path: Path, *, wrapped: bool, **changes: Any) -> ProcessRunner:
    if wrapped and not bubblewrap.available():
        pytest.skip("bubblewrap is not installed")
    config = configured(tmp_path / "scratch", cuda=True, bubblewrap=wrapped, **changes)
    runner = ProcessRunner(config)
    runner.start()
    return runner


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake driver as a shared library, in a folder of its own that runners may read."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the fake driver cannot be built")
    folder = tmp_path_factory.mktemp("driver")
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)  # runners have another user
    library = folder / "libfakecuda.so"
    command = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-pthread", "-o", str(library)]
    subprocess.run([*command, str(HERE / "fake_driver.c")], check=True)
    return library


@pytest.fixture
def runner(tmp_path: Path, driver: Path, wrapped: bool) -> Iterator[ProcessRunner]:
    """A runner with the openings for CUDA, inside bubblewrap or not."""
    read = (str(ROOT / "tests"), str(driver.parent))
    made = _cuda(tmp_path, wrapped=wrapped, entry="tests.process.security.fake_driver", read=read)
    yield made
    made.close()


def _ordered(runner: ProcessRunner, folder: Path, **orders: str) -> dict[str, Any]:
    outcome = run_act(runner, folder, json.dumps(orders))
    assert outcome.status is Status.DONE, outcome
    assert outcome.artifact is not None
    found: dict[str, Any] = json.loads(outcome.artifact.read_text())
    return found


@needs_sandbox
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_driver_starts_inside(runner: ProcessRunner, driver: Path, tmp_path: Path) -> None:
    assert _ordered(runner, tmp_path, library=str(driver)) == {"step": 0, "errno": 0}
    assert runner.level() in ("strong", "full")


@needs_sandbox
@pytest.mark.parametrize("opened", ["landlock", "seccomp"])
def test_without_the_openings_it_does_not(tmp_path: Path, driver: Path, opened: str) -> None:
    """So the fake driver really needs both: each layer alone breaks it when CUDA is off."""
    config = configured(
        tmp_path / "scratch", layers=("rlimits", "privileges", opened), cuda=False, allow_unsandboxed=True,
        entry="tests.process.security.fake_driver", read=(str(ROOT / "tests"), str(driver.parent)),
    )  # fmt: skip
    closed = ProcessRunner(config)
    closed.start()
    try:
        found = _ordered(closed, tmp_path, library=str(driver))
    finally:
        closed.close()
    assert found == (
        {"step": 17, "errno": "EACCES"} if opened == "landlock" else {"step": 1, "errno": "EPERM"}
    )


_REFUSALS = {
    "ipv4": "EAFNOSUPPORT", "ipv6": "EAFNOSUPPORT", "netlink": "EAFNOSUPPORT", "packet": "EAFNOSUPPORT",
    "vsock": "EAFNOSUPPORT", "datagrams": "ESOCKTNOSUPPORT", "raw": "ESOCKTNOSUPPORT", "pair": "ENOSYS",
    "connect_path": "ENOENT", "connect_abstract": "ENOENT", "symlink": "ENOENT",
    "attach_program": "ENOPROTOOPT", "run_a_program": "ENOSYS", "fork": "EPERM", "kill": "ENOSYS",
}  # fmt: skip


@needs_sandbox
@pytest.mark.parametrize("wrapped", [False, True])
def test_each_misuse_of_an_opening_is_refused(runner: ProcessRunner, tmp_path: Path) -> None:
    found = _ordered(runner, tmp_path)
    assert set(found) == set(MISUSES)
    assert {name: found[name] for name in _REFUSALS} == _REFUSALS
    assert {name for name, code in found.items() if code == "done"} == set()


@needs_sandbox
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_canary_tries_the_openings(tmp_path: Path, wrapped: bool) -> None:
    if wrapped and not bubblewrap.available():
        pytest.skip("bubblewrap is not installed")
    if wrapped and os.geteuid() == 0 and runner_user() is None:
        pytest.skip("only root can read this installation, and inside bubblewrap root stays root")
    child = start_child(configured(tmp_path, cuda=True), wrapped=wrapped, modules=())
    try:
        assert child.level == ("full" if wrapped else "strong"), child.canary
        tried = {
            "unix_path", "unix_datagram", "bind_path", "be_reached", "write_own_memory", "network_ioctl",
            "change_own_process", "read_other_processes", "run_from_memory",
        }  # fmt: skip
        assert tried <= set(child.canary)
    finally:
        child.close()


@needs_sandbox
@pytest.mark.parametrize(
    ("layers", "level", "escapes"),
    [
        (("rlimits", "privileges", "seccomp"), "none", {"read_other_processes", "bind_path"}),
        (("rlimits", "privileges", "landlock"), "partial", {"unix_path", "unix_datagram", "be_reached"}),
    ],
)
def test_the_canary_notices_a_layer_that_is_missing(
    tmp_path: Path, layers: tuple[str, ...], level: str, escapes: set[str]
) -> None:
    """Each act can escape: it is not one that nothing could ever fail."""
    child = start_child(configured(tmp_path, cuda=True, layers=layers), wrapped=False, modules=())
    try:
        assert escapes <= {name for name, what in child.canary.items() if what is not None}
        assert child.level == level
    finally:
        child.close()


def test_an_escape_by_an_opening_lowers_the_level() -> None:
    clean: dict[str, str | None] = dict.fromkeys({**canary.FILES, **canary.PROCESSES, **canary.LIMITS})
    assert level_of(clean | {"be_reached": "was reached from outside"}, []) == "partial"
    assert level_of(clean | {"write_own_memory": "may open /proc/self/mem"}, []) == "partial"


def _answer(steps: list[Instruction], name: str, *arguments: int) -> int:
    """Run the filter on one call, as the kernel would."""
    arch, numbers = MACHINES["x86_64" if os.uname().machine == "x86_64" else os.uname().machine]
    at, value, words = 0, 0, {0: numbers[name], 4: arch}
    for index, argument in enumerate((*arguments, *([0] * (6 - len(arguments))))):
        words[16 + 8 * index], words[20 + 8 * index] = argument & 0xFFFFFFFF, (argument >> 32) & 0xFFFFFFFF
    while True:
        code, yes, no, k = steps[at]
        at += 1
        if code == 0x20:
            value = words[k]
        elif code == 0x54:
            value &= k
        elif code == 0x06:
            return k
        else:
            held = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[code]
            at += yes if held else no


@needs_sandbox
def test_who_comes_in_depends_on_the_network_namespace() -> None:
    import errno

    shared = seccomp.program(cuda=True)
    private = seccomp.program(cuda=True, private_network=True)
    for name in ("accept", "accept4"):
        assert _answer(shared, name) == ERRNO | errno.EAGAIN
        assert _answer(private, name) == ALLOW
    assert _answer(seccomp.program(), "socket", 1, 1) == ERRNO | errno.EPERM
    assert _answer(shared, "ioctl", 3, 0xC00846D2) == ALLOW
    assert _answer(shared, "ioctl", 3, 0x30000001) == ALLOW
    for request in (0x5412, 0x8912, 0x8914):  # TIOCSTI, SIOCGIFCONF, SIOCSIFFLAGS
        assert _answer(shared, "ioctl", 3, request) == ERRNO | errno.ENOTTY
    assert _answer(shared, "clone", 0x11) == ERRNO | errno.EPERM
    assert _answer(shared, "clone", 0x00010000) == ALLOW
    assert KILL not in {_answer(shared, name) for name in ("read", "execve", "ptrace")}


def test_its_environment_names_the_device_and_nothing_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/cuda/lib64")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    names = environment(tmp_path, cuda=True)
    assert names["CUDA_VISIBLE_DEVICES"] == "1"
    assert names["LD_LIBRARY_PATH"] == "/usr/local/cuda/lib64"
    assert "AWS_SECRET_ACCESS_KEY" not in names
    assert environment(tmp_path, cuda=False)["CUDA_VISIBLE_DEVICES"] == ""
