"""CUDA: judged with TF32 off and the default convolution search, reported with the runtime's defaults.

ONNX Runtime multiplies in TF32 (10-bit mantissa) on Ampere and later unless told otherwise: errors of 1e-3
that say nothing about the fold. `cudnn_conv_algo_search=DEFAULT` keeps a timing race from choosing the
algorithm.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from folding.ort import OrtSession, runtime
from folding.verify.providers.base import Session

EXACT: dict[str, Any] = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
VARIANTS: dict[str, tuple[dict[str, Any], bool]] = {"cuda": (EXACT, True), "cuda tf32": ({}, False)}
NAME = "CUDAExecutionProvider"


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
        """The reason why no CUDA session can be had, or None.

        The runtime falls back to the CPU silently when a driver or a library is missing, so the first
        session's own provider list decides (`open`), not only the installed list.
        """
        if NAME not in self._installed():
            return "this onnxruntime has no CUDAExecutionProvider; install the `cuda` extra (onnxruntime-gpu)"
        return None

    def variants(self) -> list[tuple[str, bool]]:
        """(label, judged)."""
        return [(label, judged) for label, (_, judged) in VARIANTS.items()]

    def open(self, model: Path, level: str, variant: str) -> Session:
        """A session that really runs on the device.

        Raises: ProviderLostError when the runtime silently fell back to the CPU.
        """
        options, _ = VARIANTS[variant]
        session = self._opener(model, level, providers=[(NAME, dict(options)), "CPUExecutionProvider"])
        if NAME not in session.providers:
            raise ProviderLostError(
                "no CUDA device or library could be loaded; the runtime fell back to the CPU"
            )
        return session  # type: ignore[no-any-return]


class ProviderLostError(RuntimeError):
    """A provider that is installed but could not start here; becomes an `unavailable` row."""
