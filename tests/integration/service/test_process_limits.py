"""Descriptors: the soft limit is raised at start, connections fit into it, and running out is temporary."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.app import create_app
from service.wiring import Services
from tests.support.deployment import ROOT, deployment, http
from tests.support.in_process import TestClient, digest_of

LOOK = """
import resource, sys
from service.process.process_limits import connection_limit, raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
print(raise_descriptor_limit(), connection_limit(8192))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "limit", "connections"),
    [(1024, 20_000, 20_000, 8192), (1024, 4096, 4096, 3712), (256, 256, 256, 128), (1024, 1024, 1024, 640)],
)
def test_raised_as_far_as_it_may_be(soft: int, hard: int, limit: int, connections: int) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip(f"the hard limit of open files here is below {hard}")
    command = [sys.executable, "-c", LOOK, str(soft), str(hard)]
    made = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert made.stdout.split() == [str(limit), str(connections)]


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    app = create_app(services=services)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as made:
        yield made


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [
        *(
            (number, 503, "unavailable")
            for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
        ),
        *((n, 507, "storage_full") for n in (errno.ENOSPC, errno.EIO, errno.EDQUOT)),
        (errno.EBADF, 500, "internal"),
    ],
)
def test_a_failed_system_call_is_what_it_is(
    client: TestClient,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    status: int,
    code: str,
) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(type(services.blobs), "writer", lambda self: fail())
    monkeypatch.setattr(type(services.jobs), "page", lambda self, *_, **__: fail())
    for answer in (client.put(f"/v1/blobs/{digest_of(b'x')}", content=b"x"), client.get("/v1/jobs")):
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert ("retry-after" in answer.headers) == (status in (503, 507))


def test_more_idle_connections_than_the_soft_limit(tmp_path: Path) -> None:
    """1,100 idle ones on a soft limit of 256 descriptors; normal requests go on."""
    import socket
    from urllib.parse import urlsplit

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard[1] < 4096:
        pytest.skip("the hard limit of open files here is below 4096")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard[1]))
    with deployment(tmp_path, BNFOLD_HEADER_TIMEOUT="60") as made:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard[1]))
        try:
            url = made.api()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, hard)
        place = urlsplit(url)
        held = [socket.create_connection((str(place.hostname), int(place.port or 0))) for _ in range(1100)]
        with http(url) as client:
            for _ in range(5):
                data = os.urandom(16)
                assert client.put(f"/v1/blobs/{digest_of(data)}", content=data).status_code == 201
                assert client.get("/v1/jobs").status_code == 200
        for each in held:
            each.close()
