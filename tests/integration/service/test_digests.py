"""Bytes are compared with their digest before anything is promised about them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.app import create_app
from service.jobs.model import Job
from service.wiring import Services
from tests.support.in_process import TestClient, orders, submit, upload, worker


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services=services), base_url="http://localhost") as made:
        yield made


def finished(services: Services) -> Job:
    job = submit(services).job
    worker(services).run(job.id)
    return services.jobs.get("default", job.id)


def rot(services: Services, digest: str | None) -> None:
    path = services.blobs.path(str(digest))
    assert path is not None
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_no_release_of_rotten_bytes(services: Services, client: TestClient) -> None:
    job = finished(services)
    rot(services, job.artifact_digest)
    answer = client.put("/v1/releases/net/prod", json={"digest": job.artifact_digest})
    assert (answer.status_code, answer.json()["code"]) == (500, "corrupt_blob")
    assert client.get("/v1/releases/net/prod").status_code == 404


def test_no_release_of_lost_bytes(services: Services, client: TestClient) -> None:
    job = finished(services)
    services.blobs.delete(str(job.artifact_digest))
    answer = client.put("/v1/releases/net/prod", json={"digest": job.artifact_digest})
    assert (answer.status_code, answer.json()["code"]) == (410, "artifact_lost")


def test_a_channel_does_not_move_to_rotten_bytes(services: Services, client: TestClient) -> None:
    good, bad = finished(services), finished(services)
    tag = client.put("/v1/releases/net/prod", json={"digest": good.artifact_digest}).headers["etag"]
    rot(services, bad.artifact_digest)
    moved = client.put(
        "/v1/releases/net/prod", json={"digest": bad.artifact_digest}, headers={"if-match": tag}
    )
    assert moved.status_code == 500
    assert client.get("/v1/releases/net/prod").json()["digest"] == good.artifact_digest


def test_head_of_rotten_or_lost_bytes_asks_for_them_again(services: Services, client: TestClient) -> None:
    data = orders()
    digest = upload(services, data)
    assert client.head(f"/v1/blobs/{digest}").status_code == 200
    rot(services, digest)
    assert client.head(f"/v1/blobs/{digest}").status_code == 404
    assert client.put(f"/v1/blobs/{digest}", content=data).status_code in (200, 201)
    assert client.head(f"/v1/blobs/{digest}").status_code == 200
    services.blobs.delete(digest)
    assert client.head(f"/v1/blobs/{digest}").status_code == 404


def test_head_of_a_rotten_artifact(services: Services, client: TestClient) -> None:
    job = finished(services)
    rot(services, job.artifact_digest)
    assert client.head(f"/v1/artifacts/{job.artifact_digest}").status_code == 500
