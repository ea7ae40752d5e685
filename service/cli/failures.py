"""Every way in which a command can end, as an exit code and as words that say what to do."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from folding.errors import BnfoldError, Cancelled, InternalError, TemporaryFailure, UsageError
from service.cli import completion, process
from service.cli.text import clean

OK, USAGE, NOT_VERIFIED, MODEL, STOPPED, TEMPORARY = 0, 2, 3, 4, 5, 75
_READER_LEFT = 1  # how rich ends a program whose output nobody reads any more
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def exit_code(code: Any) -> int:
    """The exit code for what a command function returned (None: all is well)."""
    return code if isinstance(code, int) else OK


def explain(error: BaseException, argv: list[str]) -> int:
    """Print the error for a person, or as JSON under --json, and return its exit code."""
    asked_by_shell = completion.VARIABLE in os.environ  # 1 is an answer then
    if isinstance(error, SystemExit) and (error.code != _READER_LEFT or asked_by_shell):
        return exit_code(error.code)
    if isinstance(error, BrokenPipeError | SystemExit):
        process.drop(sys.stdout)
        return OK
    if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
        process.drop(sys.stdout)
    known = as_bnfold_error(error)
    if "--json" in argv:
        body = {"error": known.to_dict(), "exit_code": known.exit_code}
        process.emit(json.dumps(body, indent=2, default=str), sys.stdout)
    else:
        for line in error_lines(known):
            process.emit(line, sys.stderr)
    return known.exit_code


def as_bnfold_error(error: BaseException) -> BnfoldError:
    """Any exception as one of ours; an unknown one becomes an InternalError that names a log file."""
    if isinstance(error, BnfoldError):
        return error
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return Cancelled("interrupted; nothing was published")
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # the option parser's own
        return UsageError(error.format_message(), hint=_help_hint(error))
    if isinstance(error, OSError) and error.errno and (error.filename or error.errno in _FULL):
        return _os_error(error)
    log = _write_log(error)
    return InternalError(
        f"unexpected {type(error).__name__}: {str(error)[:300]}",
        hint=f"this is a defect of bnfold; please report it with the log file {log}",
        details={"log": str(log)},
    )


def error_lines(error: BnfoldError) -> list[str]:
    """What a person reads: the message, where it happened, the candidates, what to do."""
    lines = [f"error: {clean(error.message)}  [{clean(error.error_code)}]"]
    where = [
        f"{label} {clean(value)}"
        for label, value in (("stage", error.stage), ("layer", error.layer))
        if value
    ]
    if where:
        lines.append("  at: " + ", ".join(where))
    candidates = error.details.get("candidates")
    if isinstance(candidates, list) and candidates:
        lines.append("  candidates: " + ", ".join(clean(str(_name(c))) for c in candidates[:20]))
        if len(candidates) > 20:
            lines.append(f"    and {len(candidates) - 20} more")
    if error.hint:
        lines.append(f"  what to do: {clean(error.hint)}")
    from folding.errors import catalogue

    if catalogue.lookup(error.error_code) and not isinstance(error, UsageError | Cancelled):
        lines.append(f"  more: bnfold explain {error.error_code}")
    return lines


def _name(candidate: Any) -> Any:
    return candidate.get("name", candidate) if isinstance(candidate, dict) else candidate


def _help_hint(error: Any) -> str:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", None) or "bnfold"
    return f"see `{path} --help`"


def _os_error(error: OSError) -> BnfoldError:
    """Files that are missing or may not be read are the request's fault; a full disk is nobody's."""
    text = f"{error.filename or 'the output'}: {error.strerror}"
    if error.errno in _FULL:
        return TemporaryFailure(text, hint="free some space and run the command again")
    return UsageError(text, hint="check the path and its permissions")


def _write_log(error: BaseException) -> Path:
    """The traceback in a file of its own, for a report; falls back to the temporary folder."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "bnfold"
    text = "".join(traceback.format_exception(error))
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (state, Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            path.write_text(f"bnfold {' '.join(sys.argv[1:2])}\nPython {sys.version}\n\n{text}")
        except OSError:
            continue
        return path
    return Path(os.devnull)
