"""Check the arguments that the functions of the library share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import ValidationError

from folding.errors import UsageError
from folding.options import FoldOptions
from folding.progress import Listener, ignore_progress
from folding.progress_bar import in_notebook, progress_bar

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


def options_of(options: FoldOptions | None, overrides: dict[str, Any]) -> FoldOptions:
    """Return the options with the overrides. Raises: UsageError, naming the option that is wrong."""
    if options is not None and not isinstance(options, FoldOptions):
        raise UsageError(
            f"`options` is a {type(options).__name__}, not a FoldOptions.",
            hint="Give options by name: fold(model, opset=17).",
        )
    values = (options.model_dump(exclude_unset=True) if options is not None else {}) | overrides
    try:
        return FoldOptions(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "options"
        if first["type"] == "extra_forbidden":
            known = ", ".join(FoldOptions.model_fields)
            raise UsageError(f"There is no option `{name}`.", hint=f"The options are: {known}.") from None
        raise UsageError(f"The option `{name}` is wrong: {first['msg']}.", code="bad_option") from None


def arrays_of(given: Arrays | None, role: str) -> dict[str, np.ndarray[Any, Any]] | None:
    """Return the arrays by name. Raises: UsageError for something else."""
    if given is None:
        return None
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise UsageError(
            f"`{role}` is a {type(given).__name__}, not a mapping from input names to arrays.",
            hint='Give {"input": array}; numpy.load of an .npz file is one.',
        )
    return {name: np.asarray(array) for name, array in given.items()}


@contextlib.contextmanager
def listener_of(progress: bool | Listener | None) -> Iterator[Listener]:
    """Yield the listener that `progress` asks for; None shows a bar on a terminal and in a notebook."""
    if callable(progress):
        yield progress
    elif progress or (progress is None and (sys.stderr.isatty() or in_notebook())):
        with progress_bar() as listener:
            yield listener
    else:
        yield ignore_progress
