"""Webhooks: Standard Webhooks signatures, retries, the log, and no way to private addresses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from service.errors import Unprocessable
from service.store import tables
from service.webhooks import targets
from service.webhooks.dispatch import Dispatcher, sign
from service.wiring import Services
from tests.support.in_process import open_services, orders, submit, worker


class Receiver(HTTPServer):
    """Keeps what it gets; answers as told."""

    got: list[tuple[dict[str, str], bytes]]
    answers: list[int]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        server: Receiver

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.server.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
            self.send_header("location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = Receiver(("127.0.0.1", 0), Handler)
    server.got, server.answers = [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def open_minded(tmp_path: Path) -> Iterator[Services]:
    made = open_services(tmp_path, webhook_allow_private=True, webhook_attempts=3, webhook_timeout=3.0)
    yield made
    made.close()


def hook(services: Services, receiver: Receiver, *events: str) -> Any:
    url = f"http://127.0.0.1:{receiver.server_port}/in?x=1"
    return services.webhooks.create("default", url, list(events))


def due_now(services: Services) -> None:
    with services.db.write() as connection:
        connection.execute(update(tables.deliveries).values(next_at=0.0))


def test_signed_delivery(open_minded: Services, receiver: Receiver) -> None:
    made = hook(open_minded, receiver)
    job = submit(open_minded).job
    worker(open_minded).run(job.id)
    assert Dispatcher(open_minded.db, open_minded.settings).run() == 1
    (headers, body), *rest = receiver.got
    assert rest == []
    key = base64.b64decode(made.secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    content = json.loads(body)
    assert (content["type"], content["data"]["job"]) == ("job.succeeded", job.id)
    (entry,) = open_minded.webhooks.deliveries("default", made.id)
    assert (entry.state, entry.attempts, entry.log[0]["status"]) == ("delivered", 1, 204)


def test_known_vector() -> None:
    """From the specification of Standard Webhooks."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body) == expected


def test_retries_then_gives_up(open_minded: Services, receiver: Receiver) -> None:
    made = hook(open_minded, receiver)
    receiver.answers = [500, 302, 503]
    worker(open_minded).run(submit(open_minded).job.id)
    dispatcher = Dispatcher(open_minded.db, open_minded.settings)
    for tries in (1, 2, 3):
        assert dispatcher.run() == 1
        assert dispatcher.run() == 0, "not before its pause is over"
        (entry,) = open_minded.webhooks.deliveries("default", made.id)
        assert entry.attempts == tries
        due_now(open_minded)
    assert entry.state == "failed"
    assert [item["status"] for item in entry.log] == [500, 302, 503]
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert dispatcher.run() == 0


def test_only_wanted_events(open_minded: Services, receiver: Receiver) -> None:
    hook(open_minded, receiver, "job.failed")
    mine = worker(open_minded)
    mine.run(submit(open_minded).job.id)
    failing = submit(open_minded, orders(error="corrupt_model")).job
    mine.run(failing.id)
    queued = submit(open_minded).job
    open_minded.jobs.cancel("default", queued.id)
    Dispatcher(open_minded.db, open_minded.settings).run()
    assert [json.loads(body)["data"]["job"] for _, body in receiver.got] == [failing.id]


def test_two_dispatchers_send_once(open_minded: Services, receiver: Receiver) -> None:
    hook(open_minded, receiver)
    mine = worker(open_minded)
    for _ in range(5):
        mine.run(submit(open_minded).job.id)
    threads = [
        threading.Thread(target=Dispatcher(open_minded.db, open_minded.settings).run) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(receiver.got) == len({headers["webhook-id"] for headers, _ in receiver.got}) == 5


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/x", "http://localhost:1/", "http://[::1]/", "http://10.0.0.1/", "http://192.168.1.1/",
     "http://169.254.169.254/latest/meta-data/", "http://[::ffff:127.0.0.1]/", "http://0.0.0.0/", "http://0/",
     "http://2130706433/", "http://[fe80::1]/", "http://[fd00::1]/", "http://100.64.0.1/",
     "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/"],
)  # fmt: skip
def test_private_targets_are_refused(services: Services, url: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        services.webhooks.create("default", url, [])
    assert caught.value.error_code in ("private_webhook_target", "bad_webhook_url")


@pytest.mark.parametrize(
    "url", ["ftp://example.org/", "http://user:pw@example.org/", "http:///x", "nonsense"]
)
def test_odd_urls_are_refused(services: Services, url: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        services.webhooks.create("default", url, [])
    assert caught.value.error_code == "bad_webhook_url"


def test_rebinding_is_caught_at_connect_time(
    services: Services, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Public when registered, loopback when called: the address that is connected to is checked."""
    real, answers = socket.getaddrinfo, ["93.184.216.34"]

    def resolve(host: str, port: int, *rest: Any, **more: Any) -> Any:
        if host != "rebind.example":
            return real(host, port, *rest, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[0], port))]

    monkeypatch.setattr(targets.socket, "getaddrinfo", resolve)
    made = services.webhooks.create("default", f"http://rebind.example:{receiver.server_port}/", [])
    answers[0] = "127.0.0.1"
    worker(services).run(submit(services).job.id)
    Dispatcher(services.db, services.settings).run()
    assert receiver.got == []
    with services.db.read() as connection:
        row = connection.execute(select(tables.deliveries)).one()
    assert row.webhook_id == made.id
    assert row.log[0]["error"] == "private_webhook_target"


@pytest.fixture
def tarpit() -> Iterator[int]:
    """Answers a byte a second, for ever."""
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        held = []
        server.settimeout(0.2)
        while not over.is_set():
            with suppress(TimeoutError):
                held.append(server.accept()[0])
            for each in held:
                with suppress(OSError):
                    each.sendall(b"H")
        for each in held:
            each.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    over.set()
    thread.join()
    server.close()


def test_a_dripping_answer_is_cut_at_the_timeout(tarpit: int) -> None:
    began = time.monotonic()
    with pytest.raises((OSError, targets.HTTPException)):
        targets.post(f"http://127.0.0.1:{tarpit}/", b"{}", {}, 1.0, True)
    assert time.monotonic() - began < 3


def test_a_slow_target_holds_up_nobody_else(open_minded: Services, receiver: Receiver, tarpit: int) -> None:
    for _ in range(3):
        open_minded.webhooks.create("default", f"http://127.0.0.1:{tarpit}/", [])
    hook(open_minded, receiver)
    for _ in range(4):
        worker(open_minded).run(submit(open_minded).job.id)
    stop = threading.Event()
    thread = threading.Thread(target=Dispatcher(open_minded.db, open_minded.settings).serve, args=(stop,))
    began = time.monotonic()
    thread.start()
    while len(receiver.got) < 4 and time.monotonic() - began < 2.5:
        time.sleep(0.02)
    stop.set()
    thread.join()
    assert len(receiver.got) == 4
