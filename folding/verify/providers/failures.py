"""Failures of a device that say nothing about the model, told from what the runtime says of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from folding.errors import TemporaryFailure


class ProviderLostError(RuntimeError):
    """A provider that is installed but cannot be used here; becomes an `unavailable` row."""


class DeviceLost(TemporaryFailure):
    """The device failed while it computed; its context is dead, so the whole job has to run again."""

    code = "device_lost"


class DeviceGone(BaseException):
    """Carries a DeviceLost past handlers that turn any exception into a finding about the artifact.

    Not an `Exception`, as `KeyboardInterrupt` is not: nothing that this process still computes on the
    device can be right.
    """

    def __init__(self, error: DeviceLost) -> None:
        super().__init__(error.message)
        self.error = error


# Results of CUDA calls after which every further call of the process fails as well, and lost devices.
_LOST: Final = re.compile(
    r"illegal memory access|unspecified launch failure|device-side assert|hardware stack error"
    r"|misaligned address|uncorrectable (?:ECC|NVLink)|ECC error"
    r"|GPU (?:is lost|has fallen off)|device (?:is )?lost"
    r"|(?:CUDA(?:RT)?|driver) (?:failure|error) (?:46|214|700|709|71[0-9])\b"
    r"|cudaError(?:IllegalAddress|LaunchFailure|DevicesUnavailable|ECCUncorrectable|HardwareStackError)"
    r"|CUDA_ERROR_(?:ILLEGAL_ADDRESS|LAUNCH_FAILED|ECC_UNCORRECTABLE|CONTEXT_IS_DESTROYED)",
    re.I,
)
_NO_MEMORY: Final = re.compile(
    r"CUDA(?:RT)? (?:failure|error) 2\b|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|CUDNN_STATUS_INTERNAL_ERROR_.*ALLOC"
    r"|Failed to allocate memory for requested buffer|Available memory of \d+ is smaller than requested",
    re.I,
)


@contextmanager
def device_failures(provider: str, memory_limit: int = 0) -> Iterator[None]:
    """Translate what the runtime says of a device inside the block.

    Raises:
        DeviceGone: the device is lost; it carries the error to raise at the end of the job.
        ProviderLostError: the model does not fit into the device's memory (or into `memory_limit` of it).
    """
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split())
        if _LOST.search(said):
            lost = DeviceLost(
                f"The device failed while it computed ({provider}): {said[:300]}", stage="verify",
                hint="The job runs again once. If it keeps failing, look at `nvidia-smi -q` and dmesg.",
            )  # fmt: skip
            raise DeviceGone(lost) from error
        if _NO_MEMORY.search(said):
            cap = f" within the limit of {memory_limit} bytes" if memory_limit else ""
            raise ProviderLostError(
                f"the model does not fit into the memory of the device{cap}: {said[:200]}"
            ) from error
        raise


P = ParamSpec("P")
T = TypeVar("T")


def raises_device_lost(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate the outermost function that uses devices: DeviceGone leaves it as DeviceLost."""

    @wraps(function)
    def inner(*args: P.args, **named: P.kwargs) -> T:
        try:
            return function(*args, **named)
        except DeviceGone as gone:
            raise gone.error from gone.__cause__

    return inner
