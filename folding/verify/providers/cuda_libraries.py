"""Load the CUDA libraries that came as Python packages, and say which library or call keeps CUDA away."""

from __future__ import annotations

import contextlib
import ctypes
import io
from functools import cache
from pathlib import Path
from typing import Final

from folding.ort import runtime

_DRIVER: Final = "libcuda.so.1"
# What cuInit returns, and what it means for whoever set the machine up.
_RESULTS: Final = {
    3: "the driver is not initialized",
    34: "the driver library is a stub without a driver",
    35: "the driver is older than this CUDA needs",
    46: "the devices are busy or unavailable",
    100: "the driver sees no device (are the device nodes in this container?)",
    101: "no device of that number (CUDA_VISIBLE_DEVICES)",
    304: "the operating system refused a call of the driver: the sandbox, or missing device nodes",
    802: "the system is not ready (is the fabric manager running?)",
    803: "the driver in the kernel and its library have different versions",
    999: "an error that the driver does not name",
}


@cache
def preload() -> str:
    """Load CUDA and cuDNN from their Python packages, once, so that no LD_LIBRARY_PATH is needed.

    Returns: what the runtime said of libraries that did not load; empty where it had nothing to say.
    """
    load = getattr(runtime(), "preload_dlls", None)
    if load is None:
        return ""
    said = io.StringIO()
    # It prints; the first place that it looks at is the `nvidia` packages beside it, then the system.
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            load()
        except Exception as error:  # noqa: BLE001  the session decides whether that matters
            return str(error)[:300]
    return " ".join(said.getvalue().split())[:300]


def what_is_missing() -> str | None:
    """Return the first library or driver call that fails, in the order in which the runtime needs them."""
    return _driver() or _provider()


def _driver() -> str | None:
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError as error:
        return f"the driver's library does not load ({error})"
    result = int(driver.cuInit(0))
    if result:
        return f"cuInit returned {result}: {_RESULTS.get(result, 'see cuda.h')}"
    count = ctypes.c_int(0)
    result = int(driver.cuDeviceGetCount(ctypes.byref(count)))
    if result or count.value == 0:
        return f"the driver counts {count.value} devices (result {result})"
    return None


def _provider() -> str | None:
    """The runtime's own library: the loader names the first one that it needs and does not find."""
    library = Path(runtime().__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    if not library.exists():
        return f"onnxruntime has no {library.name}: install onnxruntime-gpu"
    shared = library.with_name("libonnxruntime_providers_shared.so")
    try:
        if shared.exists():
            ctypes.CDLL(str(shared), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        return f"{library.name} does not load ({error})"
    return None
