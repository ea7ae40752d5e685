"""The ASGI application, and `serve`: uvicorn with our limits, one process or several."""

from __future__ import annotations

import ctypes
import errno
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psutil
import uvicorn
from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi

import folding
from folding.errors import UsageError
from service import logs, telemetry
from service.api import problems
from service.api.deps import known_query
from service.api.middleware import RequestMiddleware
from service.api.routes import ROUTERS
from service.auth.keys import Keys, load_pepper
from service.errors import Forbidden
from service.files.private_files import private_folder
from service.process.process_limits import connection_limit, raise_descriptor_limit
from service.settings import Settings
from service.store.db import Database
from service.store.migrate import migrate
from service.wiring import Services, build

log = logging.getLogger("bnfold.app")
ORPHAN_GRACE = 20.0  # seconds that an orphan has for its open requests
DESCRIPTION = (
    "Folds batch-norm moving statistics into trained models, exports ONNX and proves the result equivalent. "
    "Errors are RFC 9457 problems with a stable `code`. Every GET answers HEAD as well; bodies are taken "
    "without Content-Encoding; a query parameter that a route does not know is refused by name."
)


def create_app(settings: Settings | None = None, services: Services | None = None) -> FastAPI:
    """The application. With `services`, their owner closes them; else they live as long as the app runs."""
    settings = settings or (services.settings if services else Settings())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        ports = services or build(settings)
        app.state.services = ports
        telemetry.configure(settings, "api")
        ports.changes.start()
        ports.queue.start()
        try:
            yield
        finally:
            ports.queue.stop()
            if services is None:
                ports.close()

    app = FastAPI(
        title="bnfold",
        version=folding.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=problems.RESPONSES,
        separate_input_output_schemas=False,
    )
    if services is not None:
        app.state.services = services
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router, dependencies=[Depends(known_query)])
    app.openapi = lambda: contract(app)  # type: ignore[method-assign]
    app.add_middleware(RequestMiddleware, settings=settings)
    _mount_pages(app)
    return app


def _mount_pages(app: FastAPI) -> None:
    from service import web

    web.mount(app)


def contract(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1, with what FastAPI does not know by itself."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes,
            separate_input_output_schemas=False,
        )  # fmt: skip
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        components["Problem"] = problems.Problem.model_json_schema(
            ref_template="#/components/schemas/{model}"
        )
        components["Report"] = _report_schema(components)
        for name in ("HTTPValidationError", "ValidationError"):
            components.pop(name, None)
        for methods in schema["paths"].values():
            for operation in methods.values():
                operation["responses"].pop("422", None)
        app.openapi_schema = schema
    return app.openapi_schema


def _report_schema(components: dict[str, Any]) -> dict[str, Any]:
    from folding.report import Report

    schema = Report.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    for name, part in schema.pop("$defs", {}).items():
        components.setdefault(name, part)
    return schema


def check_bind(settings: Settings) -> None:
    """Refuse a public address while no key exists: anybody could use the service as its owner.

    With `require_keys` nobody can, and the first key is made while the service runs.
    """
    if settings.is_loopback or settings.oidc_file is not None or settings.require_keys:
        return
    db = Database(settings.db_url)
    try:
        migrate(db, settings)
        if Keys(db, load_pepper(settings)).any_usable():
            return
    finally:
        db.close()
    raise Forbidden(
        f"Refusing to listen on {settings.host} without an API key.",
        code="public_bind_without_key",
        hint="Make one with `bnfold keys create`, set BNFOLD_REQUIRE_KEYS=true, or bind 127.0.0.1.",
    )


def serve(settings: Settings) -> int:
    """`bnfold serve`: until SIGTERM or SIGINT; exit code. Raises Forbidden for an open public bind."""
    raise_descriptor_limit()
    private_folder(settings.data_dir)
    check_bind(settings)
    logs.configure(settings)
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    log.info("listening", extra={"url": f"http://{host}:{port}", "processes": settings.web_workers})
    print(f"bnfold serves on http://{host}:{port}", file=sys.stderr, flush=True)
    if settings.web_workers == 1:
        _run(settings, listener)
        return 0
    return _run_several(settings, listener)


def listen(settings: Settings) -> socket.socket:
    """Return the socket that all HTTP processes accept from. Raises UsageError where it cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host.strip("[]"), settings.port))
    except OSError as error:
        listener.close()
        raise unusable_address(settings.host, settings.port, error) from error
    listener.listen(2048)
    listener.set_inheritable(True)
    return listener


def unusable_address(host: str, port: int, error: OSError) -> UsageError:
    """Return why the service cannot listen there; names the process that has the port where known."""
    if error.errno == errno.EADDRINUSE:
        return UsageError(
            f"Port {port} of {host} is taken{_owner(port)}.",
            code="port_taken",
            hint="Choose another with --port (0 takes a free one), or end the process that has it.",
        )
    if error.errno == errno.EACCES:
        return UsageError(
            f"Port {port} needs rights that this process does not have.",
            code="port_taken",
            hint="Choose a port above 1023 with --port.",
        )
    return UsageError(
        f"The service cannot listen on {host}, port {port}: {error.strerror}.",
        hint="--host is an address of this machine, such as 127.0.0.1 or 0.0.0.0.",
    )


def _owner(port: int) -> str:
    """Return ` by python (process 123)`, or nothing where the system does not tell."""
    with suppress(psutil.Error, OSError):
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid:
                return f" by {psutil.Process(found.pid).name()} (process {found.pid})"
    return ""


def _bound_arenas() -> None:
    """glibc gives threads heaps of their own and keeps what was freed in each: with blocks of a megabyte in
    forty threads that looks like a leak. Two heaps are enough here."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX


class _Server(uvicorn.Server):
    """Followers and long polls are answered when the end is asked for, instead of holding it up.

    With a time to drain, `/readyz` says 503 first and every answer closes its connection, until whoever sends
    requests has noticed. A second signal ends that.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float) -> None:
        super().__init__(config)
        self._app, self._drain_seconds = app, drain_seconds

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM or SIGINT."""
        if self._drain_seconds and not getattr(self._app.state, "draining", False):
            self._app.state.draining = True
            timer = threading.Timer(self._drain_seconds, self._end, (sig,))
            timer.daemon = True
            timer.start()
            return
        self._end(sig)

    def _end(self, sig: int) -> None:
        ports: Services | None = getattr(self._app.state, "services", None)
        if ports is not None:
            # Not in the handler itself: the lock that it needs may be held by the code it interrupts.
            threading.Thread(target=ports.changes.interrupt_waits, daemon=True).start()
        super().handle_exit(sig, None)


def _run(settings: Settings, listener: socket.socket) -> None:
    _bound_arenas()
    from service.api.protocol import guarded

    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=guarded(settings.header_timeout, connection_limit(settings.max_connections)),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=20,
        h11_max_incomplete_event_size=64 << 10,
    )
    # uvicorn raises the signal again when it is done; an orderly end is exit code 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _Server(config, app, settings.drain_seconds).run(sockets=[listener])


def _die_with_parent() -> None:
    """End this process when the one that started it is gone, however it ended: the port must come free."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        log.error("the parent process is gone; this one ends too")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_GRACE)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _child(settings: Settings, listener: socket.socket) -> None:
    _die_with_parent()
    raise_descriptor_limit()
    logs.configure(settings)
    _run(settings, listener)
    os._exit(0)


def _run_several(settings: Settings, listener: socket.socket) -> int:
    """One parent that replaces children that die. Metrics of all of them go through one folder."""
    shared = tempfile.mkdtemp(prefix="bnfold-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
    context = multiprocessing.get_context("spawn")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def start() -> Any:
        child = context.Process(target=_child, args=(settings, listener), daemon=False)
        child.start()
        return child

    children = [start() for _ in range(settings.web_workers)]
    try:
        while not stop.wait(0.3):
            for index, child in enumerate(children):
                if not child.is_alive():
                    log.error("process died", extra={"exitcode": child.exitcode})
                    children[index] = start()
    finally:
        for child in children:
            if child.is_alive():
                os.kill(child.pid, signal.SIGTERM)
        for child in children:
            child.join(timeout=25 + settings.drain_seconds)
            if child.is_alive():
                child.kill()
        shutil.rmtree(shared, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(serve(Settings()))
