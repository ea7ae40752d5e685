"""Any other installed execution provider, by name (`openvino`, `tensorrt`, `dml`, ... or the full name)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from folding.ort import OrtSession, runtime
from folding.verify.bounds import Arithmetic
from folding.verify.providers.base import Session
from folding.verify.providers.failures import ProviderLostError


def short(name: str) -> str:
    """`CUDAExecutionProvider` and `CUDA` as `cuda`."""
    return name.lower().removesuffix("executionprovider")


class Generic:
    """A provider that has no file of its own: default options, judged.

    Args:
        name: short name; matched without regard to case against `<Name>ExecutionProvider`.
        installed, opener: as in `Cuda`.
    """

    determinism = True

    def __init__(
        self,
        name: str,
        installed: Callable[[], list[str]] | None = None,
        opener: Callable[..., Any] = OrtSession,
    ) -> None:
        self.name = name
        self._installed = installed or (lambda: list(runtime().get_available_providers()))
        self._opener = opener

    def full_name(self) -> str | None:
        """The installed provider's full name, or None."""
        for installed in self._installed():
            if short(installed) == short(self.name):
                return installed
        return None

    def unavailable(self) -> str | None:
        """Why there is no such provider here, with those that there are."""
        if self.full_name() is None:
            return f"no provider called {self.name!r}; installed: {', '.join(self._installed())}"
        return None

    def variants(self) -> list[tuple[str, bool]]:
        """One variant, judged."""
        return [(self.name, True)]

    def arithmetic(self, variant: str, types: Arithmetic) -> Arithmetic | None:
        """None: some of them compute in narrower types by default."""
        return None

    def open(self, model: Path, level: str, variant: str) -> Session:
        """A session that lists the provider among its own. Raises: ProviderLostError on a silent fallback."""
        full = self.full_name()
        session = self._opener(model, level, providers=[full, "CPUExecutionProvider"])
        if full not in session.providers:
            raise ProviderLostError(
                f"{full} is installed but did not start; the runtime fell back to the CPU"
            )
        return session  # type: ignore[no-any-return]
