"""What a command that works on this machine was given beside its files: options, limits, kind of output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.cli import parse
from service.cli.output import Output

if TYPE_CHECKING:
    from folding.options import FoldOptions


@dataclass(frozen=True)
class Invocation:
    """Flags that `fold`, `verify` and `inspect` share.

    unsandboxed: work in this process. timeout: of the sandboxed job, in seconds. given: flags of the fold.
    """

    unsandboxed: bool
    timeout: float
    as_json: bool
    quiet: bool
    given: Mapping[str, Any]

    def output(self) -> Output:
        """Return where the command speaks."""
        return Output(self.as_json, self.quiet)

    def options(self) -> FoldOptions:
        """Return the options of the fold. Raises: UsageError."""
        return fold_options(self.given)


def fold_options(given: Mapping[str, Any]) -> FoldOptions:
    """Command-line values as FoldOptions; repeatable NAME=VALUE become dictionaries."""
    given = dict(given)
    given["inputs"] = dict(parse.shape(item) for item in given.get("inputs") or []) or None
    for name in ("rename_inputs", "rename_outputs"):
        given[name] = dict(parse.rename(item) for item in given.get(name) or []) or None
    given["artifact_inputs"] = dict(parse.shape(item) for item in given.get("artifact_inputs") or []) or None
    for name in ("input_mean", "input_std"):
        given[name] = dict(parse.numbers(item) for item in given.get(name) or []) or None
    given["feeds"] = dict(parse.feed(item) for item in given.get("feeds") or []) or None
    return parse.options(**{name: value for name, value in given.items() if value not in (None, [], ())})
