"""Execution providers, by the short name that users write. A new one: one file and one line in PROVIDERS."""

from __future__ import annotations

from folding.verify.base import Provider
from folding.verify.providers.cpu import Cpu
from folding.verify.providers.cuda import Cuda
from folding.verify.providers.generic import Generic

PROVIDERS: tuple[type[Cpu] | type[Cuda], ...] = (Cpu, Cuda)


def find(name: str) -> Provider:
    """The provider called `name`; an unknown name is looked up among the installed ones when it is used."""
    for kind in PROVIDERS:
        if kind.name == name:
            return kind()
    return Generic(name)
