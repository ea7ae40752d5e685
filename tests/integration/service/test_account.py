"""The account, API keys over HTTP, and the orders of the list of jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.app import create_app
from service.wiring import Services
from tests.support.in_process import TestClient, orders, submit, upload


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services=services), base_url="http://localhost") as made:
        yield made


def key(services: Services, tenant: str, *scopes: str) -> dict[str, str]:
    _, secret = services.keys.create(tenant, "laptop", list(scopes))
    return {"authorization": f"Bearer {secret}"}


def test_the_account_of_a_key(services: Services, client: TestClient) -> None:
    mine = key(services, "acme", "submit", "read")
    key(services, "other", "admin")
    upload(services, b"x" * 1000, "acme")
    submit(services, b"y" * 10, "acme")
    submit(services, b"z" * 10, "other")
    found = client.get("/v1/account", headers=mine).json()
    assert (found["tenant"], found["scopes"]) == ("acme", ["read", "submit"])
    assert found["key"]["name"] == "laptop"
    assert mine["authorization"].removeprefix("Bearer ").startswith(found["key"]["id"] + ".")
    assert found["usage"]["queued"] == {"used": 1, "limit": None}
    assert found["usage"]["stored_bytes"]["used"] == 1010
    assert "secret" not in str(found)


def test_the_account_of_a_local_caller(client: TestClient) -> None:
    found = client.get("/v1/account").json()
    assert (found["tenant"], found["key"]) == ("default", None)


def test_the_first_key_is_not_made_over_the_network(client: TestClient) -> None:
    answer = client.post("/v1/keys", json={"name": "mine"})
    assert (answer.status_code, answer.json()["code"]) == (403, "first_key")
    assert client.get("/v1/jobs").status_code == 200, "the service is still open"


def test_keys_are_made_listed_and_revoked_within_the_tenant(services: Services, client: TestClient) -> None:
    admin, foreign = key(services, "acme", "admin"), key(services, "other", "admin")
    made = client.post("/v1/keys", json={"name": "ci", "scopes": ["read"], "days": 1}, headers=admin).json()
    used = {"authorization": f"Bearer {made['secret']}"}
    assert client.get("/v1/account", headers=used).json()["tenant"] == "acme"
    assert client.post("/v1/keys", json={}, headers=used).status_code == 403, "only admin creates keys"
    listed = client.get("/v1/keys", headers=admin).json()["keys"]
    assert [row["name"] for row in listed] == ["laptop", "ci"]
    assert made["secret"] not in str(listed)
    assert not listed[1]["expired"]
    assert client.delete(f"/v1/keys/{made['id']}", headers=foreign).status_code == 404
    assert client.get("/v1/account", headers=used).status_code == 200
    assert client.delete(f"/v1/keys/{made['id']}", headers=admin).status_code == 204
    assert client.get("/v1/account", headers=used).json()["code"] == "key_revoked"


@pytest.mark.parametrize("body", [{"scopes": ["root"]}, {"scopes": []}, {"days": 0}, {"tenant": "other"}])
def test_a_key_that_cannot_be_made(services: Services, client: TestClient, body: dict[str, object]) -> None:
    assert client.post("/v1/keys", json=body, headers=key(services, "acme", "admin")).status_code == 422


@pytest.mark.parametrize("sort", ["newest", "oldest", "name", "size"])
def test_every_order_pages_through_all_jobs_once(services: Services, client: TestClient, sort: str) -> None:
    names = ["b", "a", "c", "a", "B", "ä", "c"]
    made = [submit(services, orders(), filename=name).job for name in names]
    found: list[dict[str, object]] = []
    query: dict[str, object] = {"sort": sort, "limit": 2}
    while True:
        page = client.get("/v1/jobs", params=query).json()  # type: ignore[arg-type]
        found += page["jobs"]
        if page["next"] is None:
            break
        query["page_token"] = page["next"]
    assert sorted(str(row["id"]) for row in found) == sorted(job.id for job in made)
    shown = [row["name"] for row in found]
    if sort == "name":
        assert shown == sorted(names)
    if sort in ("newest", "oldest"):
        assert shown == (names if sort == "oldest" else names[::-1])


def test_a_page_token_belongs_to_its_order(services: Services, client: TestClient) -> None:
    for _ in range(2):
        submit(services)
    token = client.get("/v1/jobs", params={"sort": "name", "limit": 1}).json()["next"]
    answer = client.get("/v1/jobs", params={"sort": "newest", "page_token": token})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_page_token")
