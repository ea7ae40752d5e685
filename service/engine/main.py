"""The worker process of both engines: `bnfold worker`, and the embedded engine's supervisor."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading

from folding.errors import BnfoldError
from service import logs, telemetry
from service.engine.embedded import CANNOT_START, Lock, lock_path
from service.files.private_files import private_folder
from service.process.process_limits import raise_descriptor_limit
from service.process.supervision import start_thread
from service.settings import Settings
from service.wiring import build, build_worker

log = logging.getLogger("bnfold.engine")


def run_worker(settings: Settings, *, supervisor: bool = False) -> int:
    """Serve jobs until SIGTERM or SIGINT (or, for a supervisor, until stdin closes); exit code."""
    raise_descriptor_limit()
    logs.configure(settings)
    stop = threading.Event()
    lock = Lock(lock_path(settings))
    if settings.engine == "embedded":
        private_folder(settings.data_dir)
        if not lock.acquire():
            log.info("another supervisor holds the lock")
            return 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if supervisor:
        start_thread("orphan", lambda: _until_orphaned(stop), stop)
    telemetry.configure(settings, "worker")
    services = build(settings)
    process = build_worker(services)
    try:
        process.serve(stop)
    except BnfoldError as error:
        log.critical("worker cannot start: %s", error.message, extra={"code": error.error_code})
        print(f"bnfold: {error.message} {error.hint or ''}", file=sys.stderr, flush=True)
        # No jail on this machine: trying again would not mend it. Anything else may pass.
        return CANNOT_START if error.error_code == "sandbox_unavailable" else error.exit_code
    finally:
        process.close()
        services.close()
        lock.release()
    return 0


def _until_orphaned(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()


def main() -> None:
    """`python -m service.engine.main [--supervisor]`."""
    parser = argparse.ArgumentParser(prog="bnfold worker")
    parser.add_argument("--supervisor", action="store_true", help="end when stdin closes")
    arguments = parser.parse_args()
    code = run_worker(Settings(), supervisor=arguments.supervisor)
    sys.stdout.flush()
    os._exit(code)  # runner threads of a killed model must not hold the process


if __name__ == "__main__":
    main()
