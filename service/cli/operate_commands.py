"""`bnfold serve` and `bnfold worker`: flags become settings, settings become processes."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from service.cli import failures

if TYPE_CHECKING:
    from service.settings import Settings


def serve(given: dict[str, Any], as_json: bool, quiet: bool) -> int:
    """Until SIGTERM or Ctrl-C, which is a good end."""
    settings = _settings(given, as_json, quiet)
    from service import app

    return app.serve(settings)


def worker(given: dict[str, Any], as_json: bool, quiet: bool) -> int:
    """The same for a worker. It leaves at once: threads of a killed runner must not hold the process."""
    settings = _settings(given, as_json, quiet)
    from service.engine.main import run_worker

    code = run_worker(settings)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if code else failures.OK)


def migrate(given: dict[str, Any], as_json: bool, quiet: bool) -> int:
    """Prepare the database and end."""
    settings = _settings(given, False, quiet)
    from service.cli.output import Output
    from service.wiring import prepare_database

    revision = prepare_database(settings)
    output = Output(as_json, quiet)
    output.document({"revision": revision})
    output.say(f"the database is at revision {revision}")
    return failures.OK


def _settings(given: dict[str, Any], as_json: bool, quiet: bool) -> Settings:
    """Settings from flags and environment. Flags go into the environment, where child processes look."""
    from service.cli.keys import settings

    if quiet:
        given = {**given, "log_level": "error"}
    if as_json:
        given = {**given, "log_format": "json"}
    chosen = settings({name: value for name, value in given.items() if value is not None})
    for name, value in given.items():
        if value is not None:
            os.environ[f"BNFOLD_{name.upper()}"] = _text(value)
    return chosen


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return json.dumps(value) if isinstance(value, bool) else str(value)
