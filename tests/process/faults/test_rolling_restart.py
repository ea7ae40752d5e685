"""Two API processes behind a balancer are replaced one after the other: no request is dropped."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import httpx

from tests.process.faults.actors import digest
from tests.support.deployment import deployment, eventually, free_port
from tests.support.in_process import orders


class Balancer:
    """What a balancer does: asks `/readyz`, sends new connections to those that are ready, copies bytes."""

    def __init__(self, ports: list[int]) -> None:
        self.ports, self.ready = ports, set(ports)
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        for act in (self._accept, *(lambda port=port: self._ask(port) for port in ports)):
            threading.Thread(target=act, daemon=True).start()

    def close(self) -> None:
        self._stop.set()
        self._listener.close()

    def _ask(self, port: int) -> None:
        while not self._stop.wait(0.05):
            ready = False
            with suppress(httpx.HTTPError):
                ready = (
                    httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False, timeout=10).status_code
                    == 200
                )
            (self.ready.add if ready else self.ready.discard)(port)

    def _accept(self) -> None:
        turn = 0
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                turn += 1
                ready = sorted(self.ready)
                threading.Thread(
                    target=self._serve, args=(near, ready[turn % len(ready)]), daemon=True
                ).start()

    def _serve(self, near: socket.socket, port: int) -> None:
        with suppress(OSError), near, socket.create_connection(("127.0.0.1", port)) as far:
            back = threading.Thread(target=_copy, args=(far, near), daemon=True)
            back.start()
            _copy(near, far)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def clients(url: str, count: int, answers: list[int]) -> Iterator[None]:
    """Clients that ask without a pause, one connection for each request, and never try again."""
    stop = threading.Event()

    def ask() -> None:
        port = int(url.rsplit(":", 1)[1])
        while not stop.is_set():
            data = orders(bytes=100)
            for method, path, body in (("PUT", f"/v1/blobs/{digest(data)}", data), ("GET", "/v1/jobs", None)):
                connection = HTTPConnection("127.0.0.1", port, timeout=60)
                try:
                    connection.request(method, path, body, {"connection": "close"})
                    answer = connection.getresponse()
                    answer.read()
                    answers.append(answer.status)
                except (OSError, HTTPException):
                    answers.append(0)
                connection.close()
            time.sleep(0.02)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def test_a_rolling_restart_drops_no_request(tmp_path: Path) -> None:
    with deployment(tmp_path, BNFOLD_DRAIN_SECONDS="2", BNFOLD_SPAWN_SUPERVISOR="false") as made:
        ports = [free_port(), free_port()]
        for port in ports:
            made.api(port=port, wait=False)
        worker = made.worker()
        for url in made.urls:
            made.ready(url)
        balancer, answers = Balancer(ports), list[int]()
        try:
            with clients(balancer.url, 3, answers):
                for index, port in enumerate(ports):
                    old, before = made.processes[index], len(answers)
                    old.send_signal(signal.SIGTERM)
                    eventually(lambda port=port: port not in balancer.ready, 5, "it says that it ends")
                    assert old.wait(30) == 0
                    made.api(port=port)
                    eventually(lambda port=port: port in balancer.ready, 60, "its successor is ready")
                    assert len(answers) > before
        finally:
            balancer.close()
        assert worker.poll() is None
        wrong = [status for status in answers if status not in (200, 201)]
        assert wrong == [], (len(answers), wrong)
        print(f"{len(answers)} requests, none dropped")
