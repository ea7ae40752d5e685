"""The `bnfold` command. Importing this costs nothing; `main` imports what the command line asks for."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0, 2, 3, 4, 5 or 75, never a bare traceback."""
    from service.cli import process

    process.open_streams()
    sys.exit(run(sys.argv[1:] if argv is None else list(argv)))


def run(argv: list[str]) -> int:
    """The same, returning the exit code."""
    try:
        from service.cli import process

        process.catch_signals(argv)
        process.skip_plugins(argv)
        from service.cli.app import app

        code = app(args=argv, prog_name="bnfold", standalone_mode=False)
        sys.stdout.flush()  # while an error can still be told
        if code in (None, 0):  # `--help` must not wait for the records that errors are made of
            return 0
        if code == process.INTERRUPTED:
            raise KeyboardInterrupt
    except BaseException as error:  # noqa: BLE001 - the one place where everything ends as a message
        from service.cli import failures

        return failures.explain(error, argv)
    from service.cli import failures

    return failures.exit_code(code)
