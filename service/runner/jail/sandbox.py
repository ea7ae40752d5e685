"""What a runner does to itself before it imports anything that could read a model.

Order: rlimits, death with the parent, loss of capabilities, no-new-privs, Landlock, seccomp. Each layer is
attempted; one that the kernel refuses is named in the result, and the canary judges what that is worth.
Only the standard library is imported here.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import site
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from service.runner.jail import landlock, seccomp

LAYERS: Final = ("rlimits", "privileges", "landlock", "seccomp")

# What libraries read of the system: the loader, time zone, and what the machine is made of.
SYSTEM_FILES: Final = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime",
    "/etc/os-release", "/dev/random", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
    "/proc/filesystems", "/proc/sys/vm/overcommit_memory", "/proc/self", "/sys/devices/system",
    "/sys/kernel/mm/transparent_hugepage", "/sys/kernel/mm/hugepages",
)  # fmt: skip

# CUDA: the driver's device nodes (ioctl), its libraries outside the prefixes, and what it asks of the kernel.
CUDA_DEVICES: Final = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
CUDA_FILES: Final = (
    "/proc/driver/nvidia", "/proc/devices", "/proc/modules", "/proc/sys/vm/mmap_min_addr",
    "/sys/bus/pci", "/sys/devices", "/sys/module/nvidia", "/sys/module/nvidia_uvm", "/dev/nvidia-caps",
    "/usr/local/cuda", "/usr/share/nvidia", "/etc/nvidia",
    "/usr/local/nvidia",  # where container runtimes mount the driver's libraries
)  # fmt: skip
# The driver names its threads: it opens /proc/self/task/<tid>/comm with O_WRONLY|O_CREAT|O_TRUNC, and cuInit
# fails (304) when it may not. The kernel lets every thread of a process write this file. The others there
# belong to root, because the process is not dumpable, so file modes keep a runner from them: one that has to
# start as root becomes somebody else (`JailSpec.user`).
CUDA_REWRITE: Final = ("/proc/self/task",)


@dataclass(frozen=True)
class JailSpec:
    """The bars of one runner. Sizes in bytes, 0 for no limit; paths absolute.

    `memory` bounds RLIMIT_DATA (what the process may write to of its own); `address_space` bounds
    everything mapped, which must leave room for mapped weights and thread stacks. `private_network`:
    the process has a network namespace of its own, so that nobody outside can reach its abstract sockets.
    `user`: who to become inside, for a process that starts as root because only root can read the
    installation; it keeps the right to read, which Landlock confines. 0: stay.
    """

    folder: str
    read: tuple[str, ...] = ()
    layers: tuple[str, ...] = LAYERS
    cuda: bool = False
    private_network: bool = False
    user: int = 0
    memory: int = 0
    address_space: int = 0
    file_size: int = 0
    open_files: int = 1024
    cpu_seconds: int = 0
    nice: int = 5
    parent: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For the pipe."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> JailSpec:
        """Inverse of `to_dict`."""
        return JailSpec(**{**data, "read": tuple(data["read"]), "layers": tuple(data["layers"])})


def installation() -> tuple[str, ...]:
    """Folders that the interpreter imports from, this package's own included; existing ones, no nesting."""
    roots = {
        sys.prefix,
        sys.base_prefix,
        sys.exec_prefix,
        sysconfig.get_path("stdlib"),
        *site.getsitepackages(),
        # Packages of the user (`pip install --user`), of another prefix named in a .pth file, of PYTHONPATH.
        *(entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")),
    }
    package = Path(__file__).resolve().parents[3]  # service/runner/jail/sandbox.py
    roots |= {str(package / "service"), str(package / "folding")}
    real = {os.path.realpath(root) for root in roots} | roots
    # An interpreter in /usr has the prefix /usr; reading programs and shared data there tells nothing secret.
    return tuple(sorted(path for path in real if path not in ("/", "") and os.path.isdir(path)))


def enter(spec: JailSpec) -> dict[str, str]:
    """Apply every layer of `spec.layers` to this process, which must still be single-threaded.

    Returns: layer -> `on`, or the reason why it is not.
    """
    steps: dict[str, Callable[[JailSpec], None]] = {
        "rlimits": _limit,
        "privileges": _drop_privileges,
        "landlock": _landlock,
        "seccomp": _seccomp,
    }
    _die_with_parent(spec.parent)
    state = {}
    for layer, apply in steps.items():
        if layer not in spec.layers:
            state[layer] = "off"
            continue
        try:
            apply(spec)
            state[layer] = "on"
        except (OSError, ValueError) as error:
            state[layer] = f"unavailable: {error}"
    return state


def _die_with_parent(parent: int) -> None:
    if not parent:
        return
    _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() not in (parent, 0):  # 0: the parent is outside our pid namespace
        os._exit(1)


def _limit(spec: JailSpec) -> None:
    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: spec.address_space,
        resource.RLIMIT_DATA: spec.memory,
        resource.RLIMIT_FSIZE: spec.file_size,
        resource.RLIMIT_NOFILE: spec.open_files,
        resource.RLIMIT_CPU: spec.cpu_seconds,
        resource.RLIMIT_MEMLOCK: 64 << 20,
    }
    for which, value in bounds.items():
        if value or which == resource.RLIMIT_CORE:
            hard = resource.getrlimit(which)[1]
            wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(which, (wanted, wanted))
    os.nice(spec.nice)


def _drop_privileges(spec: JailSpec) -> None:
    """No capability survives, none can come back: also for a root that could not become somebody else."""
    for capability in range(64):
        _prctl(24, capability, may_fail=True)  # PR_CAPBSET_DROP
    _prctl(47, 4, may_fail=True)  # PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL
    kept = 0
    if spec.user and "landlock" in spec.layers and landlock.abi():
        _become(spec.user)
        kept = 1 << _CAP_DAC_READ_SEARCH
        _die_with_parent(spec.parent)  # the kernel forgets it when the user changes
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    sets = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    _prctl(4, 0)  # PR_SET_DUMPABLE: no core, and no ptrace or /proc/<pid>/mem by equals
    _prctl(38, 1)  # PR_SET_NO_NEW_PRIVS


_CAP_DAC_READ_SEARCH: Final = 2


def _become(user: int) -> None:
    """Change to `user` for good, with the capabilities for as long as `capset` has not taken them.

    Without SECBIT_NO_SETUID_FIXUP the kernel forgets effective capabilities inside `access(2)` of a user who
    is not root. TensorFlow looks for a checkpoint's files with that call, and the folders belong to root.
    """
    _prctl(28, 1 << 2, may_fail=True)  # PR_SET_SECUREBITS
    _prctl(8, 1)  # PR_SET_KEEPCAPS
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _landlock(spec: JailSpec) -> None:
    _prctl(38, 1)
    folder = Path(spec.folder)
    read = [Path(p) for p in (*installation(), *SYSTEM_FILES, *spec.read)] + [folder / "in"]
    devices = [Path("/dev/null"), Path("/dev/zero")]
    rewrite: list[Path] = []
    if spec.cuda:
        read += [Path(p) for p in CUDA_FILES]
        devices += [Path(p) for p in CUDA_DEVICES] + sorted(Path("/dev").glob("nvidia[0-9]*"))
        rewrite = [Path(p) for p in CUDA_REWRITE]
    landlock.restrict(read, [folder / "work", folder / "out"], devices, rewrite)


def _seccomp(spec: JailSpec) -> None:
    if not seccomp.supported():
        raise OSError("system call numbers of this machine are not known")
    _prctl(38, 1)
    seccomp.install(cuda=spec.cuda, private_network=spec.private_network)


def _prctl(option: int, value: int, *, may_fail: bool = False) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0 and not may_fail:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
