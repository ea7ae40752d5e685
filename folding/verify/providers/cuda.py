"""CUDA: end to end judged with TF32 off, reported with TF32; layer by layer each is judged by its own bound.

ONNX Runtime multiplies in TF32 (10-bit mantissa) on Ampere and later unless told otherwise: errors of 1e-3
that say nothing about the fold. `cudnn_conv_algo_search=DEFAULT` keeps a timing race from choosing the
algorithm.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from folding.ir.types import Feeds
from folding.ort import OrtSession, runtime
from folding.verify.bounds import TF32, Arithmetic
from folding.verify.providers import cuda_libraries
from folding.verify.providers.base import Session
from folding.verify.providers.failures import DeviceLost, ProviderLostError, device_failures

__all__ = ["EXACT", "NAME", "VARIANTS", "Cuda", "DeviceLost", "ProviderLostError", "memory_limit"]

EXACT: dict[str, Any] = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
VARIANTS: dict[str, tuple[dict[str, Any], bool]] = {"cuda": (EXACT, True), "cuda tf32": ({}, False)}
# At `disable_all` TF32 is bounded layer by layer: there the algorithm is not raced for either.
PLAIN: dict[str, Any] = {"cudnn_conv_algo_search": "DEFAULT"}
# cuDNN may choose Winograd's F(2x2, 3x3), whose transforms let rounding grow sixfold in each direction.
WINOGRAD: Final = 36.0
NAME = "CUDAExecutionProvider"
MEMORY_VARIABLE: Final = "BNFOLD_DEVICE_MEMORY_BYTES"


def memory_limit() -> int:
    """Return the bytes of device memory that a session may take (`BNFOLD_DEVICE_MEMORY_BYTES`); 0: any."""
    try:
        return max(0, int(os.environ.get(MEMORY_VARIABLE, "0")))
    except ValueError:
        return 0


class Cuda:
    """CUDAExecutionProvider, with the CPU for nodes that it has no kernel for.

    Args:
        installed: lists the providers of the installed runtime.
        opener: opens a session; both are replaced in tests by recorded answers.
    """

    name = "cuda"
    determinism = True

    def __init__(
        self,
        installed: Callable[[], list[str]] | None = None,
        opener: Callable[..., Any] = OrtSession,
    ) -> None:
        self._installed = installed or (lambda: list(runtime().get_available_providers()))
        self._opener = opener

    def unavailable(self) -> str | None:
        """Return the reason why no CUDA session can be had, or None.

        The runtime falls back to the CPU silently when a driver or a library is missing, so the first
        session's own provider list decides (`open`), not only the installed list.
        """
        if NAME not in self._installed():
            return "this onnxruntime has no CUDAExecutionProvider; install the `cuda` extra (onnxruntime-gpu)"
        return None

    def variants(self) -> list[tuple[str, bool]]:
        """(label, judged)."""
        return [(label, judged) for label, (_, judged) in VARIANTS.items()]

    def arithmetic(self, variant: str, types: Arithmetic) -> Arithmetic | None:
        """Return the types' own with Winograd's growth; with TF32, products of shorter factors."""
        found = replace(types, convolution=WINOGRAD)
        if VARIANTS[variant][0] is EXACT:
            return found
        name = TF32.name if types.u < TF32.u else f"{types.name}, {TF32.name}"
        return replace(found, name=name, u=max(types.u, TF32.u), factors=TF32.factors)

    def open(self, model: Path, level: str, variant: str) -> Session:
        """Open a session that really runs on the device.

        Raises:
            ProviderLostError: the runtime silently fell back to the CPU, or the model does not fit.
            DeviceGone: the device failed.
        """
        options, limit = dict(VARIANTS[variant][0]), memory_limit()
        if level == "disable_all":
            options |= PLAIN
        if limit:  # the runtime would double its arena at each step, past the limit
            options |= {"gpu_mem_limit": str(limit), "arena_extend_strategy": "kSameAsRequested"}
        preloaded = cuda_libraries.preload()
        with device_failures(self.name, limit):
            session = self._opener(model, level, providers=[(NAME, options), "CPUExecutionProvider"])
        if NAME not in session.providers:
            raise ProviderLostError(
                "no CUDA device or library could be loaded; the runtime fell back to the CPU: "
                + (cuda_libraries.what_is_missing() or preloaded or "the driver and the libraries load")
            )
        return DeviceSession(session, self.name, limit)


class DeviceSession:
    """A session whose failures are told apart: the model's are raised as they are."""

    def __init__(self, session: Any, provider: str, limit: int) -> None:
        self._session, self._provider, self._limit = session, provider, limit
        self.providers: list[str] = list(session.providers)

    def run(self, feeds: Feeds) -> Feeds:
        """Return outputs by name. Raises: as `Cuda.open`, and whatever the runtime raises."""
        with device_failures(self._provider, self._limit):
            answers: Feeds = self._session.run(feeds)
            return answers
