"""`bnfold inspect`: what is in a model, without converting it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folding.report import Inspection
from service.cli import describe, native, parse
from service.cli.fold import output_folder
from service.cli.invocation import Invocation

if TYPE_CHECKING:
    from service.addresses.address import Address


def run(
    src: Path | Address,
    stats: Path | None,
    invocation: Invocation,
) -> int:
    """Inspect, print, and write the raw statistics when asked."""
    output, options = invocation.output(), invocation.options()
    if stats is not None:
        output_folder(stats)
    with native.quiet(), parse.model(src) as model, output.progress(("read",)) as listener:
        if invocation.unsandboxed:
            found = _here(model, options, stats)
        else:
            from service.cli import isolated

            with isolated.job("inspect", model, options, listener, timeout=invocation.timeout) as result:
                found = Inspection.model_validate(result.report)
                if stats is not None:
                    shutil.copyfile(result.folder / "stats.npz", stats)
    describe.inspection(found, output)
    if stats is not None:
        output.say(f"written: {stats}")
    output.document(found.to_json())
    return 0


def _here(model: Path, options: Any, stats: Path | None) -> Inspection:
    import numpy as np

    from folding import pipeline

    found, arrays = pipeline.inspect(model, options)
    if stats is not None:
        with stats.open("wb") as file:  # savez would append .npz to the name
            np.savez(file, **arrays)  # type: ignore[arg-type]
    return found
