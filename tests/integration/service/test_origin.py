"""Which hosts are served, which pages may act, and when anonymous callers are refused for good."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.app import create_app
from service.errors import Conflict
from service.wiring import Services
from tests.support.in_process import TestClient, digest_of, open_services, upload

BASE = "http://localhost"


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services=services), base_url=BASE) as made:
        yield made


class TestKeysNeverFailOpen:
    def test_the_first_key_counts_at_once(self, services: Services, client: TestClient) -> None:
        assert client.get("/v1/jobs").status_code == 200
        services.keys.create("acme", "ci", ["read"])
        assert client.get("/v1/jobs").status_code == 401

    def test_after_the_last_key_was_revoked(self, services: Services, client: TestClient) -> None:
        info, _ = services.keys.create("acme", "ci", ["read"])
        services.keys.revoke(info.id)
        assert client.get("/v1/jobs").status_code == 401
        assert client.get("/v1/webhooks").status_code == 401

    def test_after_the_last_key_expired(self, services: Services, client: TestClient) -> None:
        services.keys.create("acme", "ci", ["read"], time.time() - 1)
        assert client.get("/v1/jobs").status_code == 401

    def test_opening_again_is_explicit(self, services: Services, client: TestClient) -> None:
        info, _ = services.keys.create("acme", "ci", ["read"])
        with pytest.raises(Conflict) as caught:
            services.keys.forget_all()
        assert caught.value.error_code == "keys_in_use"
        services.keys.revoke(info.id)
        assert services.keys.forget_all() == 1
        client.app.state.keys_seen = -100.0  # type: ignore[attr-defined]
        assert client.get("/v1/jobs").status_code == 200

    @pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via", "x-real-ip"])
    def test_behind_a_proxy_everybody_would_be_local(self, client: TestClient, header: str) -> None:
        answer = client.get("/v1/jobs", headers={header: "203.0.113.9"})
        assert (answer.status_code, answer.json()["code"]) == (401, "proxied_without_key")


PATHS = ("/livez", "/readyz", "/metrics", "/openapi.json", "/", "/jobs", "/v1/jobs", "/nope")


class TestHost:
    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("host", ["evil.example", "testserver", "localhost.evil.example", "10.1.2.3"])
    def test_foreign_names_everywhere(self, client: TestClient, path: str, host: str) -> None:
        answer = client.get(path, headers={"host": host})
        assert (answer.status_code, answer.json()["code"]) == (403, "bad_host")

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8750", "127.0.0.1:1", "[::1]:8750"])
    def test_loopback_names(self, client: TestClient, host: str) -> None:
        assert client.get("/livez", headers={"host": host}).status_code == 200

    def test_named_hosts_bind_also_with_keys(self, tmp_path: Path) -> None:
        services = open_services(tmp_path, allowed_hosts=["bnfold.example"], require_keys=True)
        with TestClient(create_app(services=services), base_url=BASE) as client:
            assert client.get("/livez", headers={"host": "bnfold.example"}).status_code == 200
            assert client.get("/livez", headers={"host": "other.example"}).status_code == 403

    def test_with_keys_any_name_unless_some_are_named(self, services: Services, client: TestClient) -> None:
        services.keys.create("acme", "ci", ["read"])
        assert client.get("/livez", headers={"host": "bnfold.example"}).status_code == 200

    def test_the_address_that_was_connected_to(self, tmp_path: Path) -> None:
        """A kubelet's probe names the pod by its address, which no operator can put into a list."""
        services = open_services(tmp_path, allowed_hosts=["bnfold.example"], require_keys=True)
        app = create_app(services=services)
        with TestClient(app, base_url="http://10.9.8.7:8750") as client:
            assert client.get("/livez").status_code == 200
            assert client.get("/livez", headers={"host": "10.9.8.6"}).status_code == 403


FOREIGN = [
    {"origin": "http://localhost:3000"},
    {"origin": "https://localhost"},
    {"origin": "http://127.0.0.1"},
    {"origin": "null"},
    {"origin": "http://localhost.evil.example"},
    {"origin": "http://[bad"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "none"},
    {"sec-fetch-site": "same-origin", "origin": "http://localhost:3000"},
    {"sec-fetch-site": "same-site", "origin": "null"},
]


class TestOrigin:
    @pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: " ".join(headers.values()))
    @pytest.mark.parametrize("path", ["/v1/jobs", "/session", "/v1/fold", "/v1/uploads"])
    def test_pages_of_other_origins(self, client: TestClient, path: str, headers: dict[str, str]) -> None:
        answer = client.post(path, headers=headers, json={"input": digest_of(b"")})
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_origin")

    @pytest.mark.parametrize(
        "headers",
        [{}, {"origin": "http://localhost"}, {"origin": "http://localhost:80"},
         {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "same-origin", "origin": "null"}],
    )  # fmt: skip
    def test_own_pages_and_programs(
        self, services: Services, client: TestClient, headers: dict[str, str]
    ) -> None:
        digest = upload(services, b"{}")
        assert client.post("/v1/jobs", json={"input": digest}, headers=headers).status_code in (200, 202)

    def test_a_link_of_another_page_is_followed(self, client: TestClient) -> None:
        click = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert client.get("/v1/capabilities", headers=click).status_code == 200
        assert (
            client.get("/v1/capabilities", headers=click | {"sec-fetch-mode": "no-cors"}).status_code == 403
        )

    def test_behind_tls_the_public_address_counts(self, tmp_path: Path) -> None:
        services = open_services(tmp_path, public_url="https://bnfold.example/", allowed_hosts=["localhost"])
        with TestClient(create_app(services=services), base_url=BASE) as client:
            page = {"origin": "https://bnfold.example", "host": "bnfold.example"}
            assert client.post("/v1/jobs", json={}, headers=page).status_code == 422
            other = page | {"origin": "http://bnfold.example"}
            assert client.post("/v1/jobs", json={}, headers=other).status_code == 403

    def test_a_key_in_the_request_is_no_pages_doing(self, services: Services, client: TestClient) -> None:
        _, key = services.keys.create("acme", "ci", ["read"])
        headers = {"authorization": f"Bearer {key}", "origin": "http://other.example"}
        assert client.get("/v1/jobs", headers=headers).status_code == 200
