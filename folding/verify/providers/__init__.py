"""Execution providers, by the short name that users write. A new one: one file and one line in PROVIDERS.

Other packages name theirs in the entry point group `bnfold.providers`.
"""

from __future__ import annotations

from collections.abc import Iterable

from folding import plug_ins
from folding.errors import UsageError
from folding.ort import runtime
from folding.verify.providers.base import Provider
from folding.verify.providers.cpu import Cpu
from folding.verify.providers.cuda import Cuda
from folding.verify.providers.generic import Generic, short

PROVIDERS: tuple[type[Cpu] | type[Cuda], ...] = (Cpu, Cuda)


def find(name: str) -> Provider:
    """The provider called `name`; an unknown name is looked up among the installed ones when it is used."""
    for kind in PROVIDERS:
        if kind.name == name:
            return kind()
    if name in plug_ins.found(plug_ins.PROVIDERS):
        made: Provider = plug_ins.load(plug_ins.PROVIDERS, name)()
        return made
    return Generic(name)


def require_known(names: Iterable[str]) -> None:
    """Raises: UsageError (`unknown_provider`) for a name that this ONNX Runtime never heard of.

    One that it knows and that is not installed is another matter: its rows say `unavailable`.
    """
    known = sorted(
        {kind.name for kind in PROVIDERS}
        | {short(name) for name in runtime().get_all_providers()}
        | plug_ins.found(plug_ins.PROVIDERS).keys()
    )
    for name in names:
        if short(name) not in known:
            raise UsageError(
                f"there is no execution provider called {name!r}",
                code="unknown_provider",
                hint=f"ONNX Runtime knows {', '.join(known)}",
            )
