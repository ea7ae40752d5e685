"""Keys, scopes, tenants (R11), quotas, rates, and what a public bind needs."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from sqlalchemy import insert, select

from service.app import check_bind, create_app
from service.auth.keys import load_pepper
from service.auth.limits import RateLimit
from service.cli import keys as keys_command
from service.errors import Forbidden, NotFound, TooMany, Unauthorized, Unprocessable
from service.settings import Settings
from service.store import tables
from service.wiring import Services
from tests.support.in_process import (
    TestClient,
    digest_of,
    open_services,
    orders,
    settings,
    submit,
    upload,
    worker,
)


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services=services), base_url="http://localhost") as made:
        yield made


def key(services: Services, tenant: str, *scopes: str, expires_at: float | None = None) -> dict[str, str]:
    _, secret = services.keys.create(tenant, "test", list(scopes or ("submit", "read")), expires_at)
    return {"authorization": f"Bearer {secret}"}


class TestKeys:
    def test_form_and_storage(self, services: Services) -> None:
        info, shown = services.keys.create("acme", "ci", ["submit"])
        assert re.fullmatch(r"bnf_[0-9a-z]{20}\.[A-Za-z0-9_-]{43}", shown)
        with services.db.read() as connection:
            row = connection.execute(select(tables.api_keys)).one()
        assert shown.split(".")[1] not in str(row)
        assert services.keys.check(shown).tenant == "acme"
        assert services.keys.list()[0] == info

    @pytest.mark.parametrize("wrong", ["", "bnf_x.y", "bnf_" + "0" * 20 + "." + "a" * 43, "Ω", "a" * 100_000])
    def test_unknown(self, services: Services, wrong: str) -> None:
        with pytest.raises(Unauthorized):
            services.keys.check(wrong)

    def test_wrong_secret(self, services: Services) -> None:
        _, shown = services.keys.create("acme", "ci", ["submit"])
        with pytest.raises(Unauthorized):
            services.keys.check(shown[:-1] + ("A" if shown[-1] != "A" else "B"))

    def test_expiry_revocation_rotation(self, services: Services) -> None:
        _, old = services.keys.create("acme", "ci", ["read"], time.time() - 1)
        with pytest.raises(Unauthorized) as caught:
            services.keys.check(old)
        assert caught.value.error_code == "key_expired"
        info, first = services.keys.create("acme", "ci", ["read"])
        successor, second = services.keys.rotate(info.id, overlap=3600)
        assert services.keys.check(first).tenant == services.keys.check(second).tenant
        services.keys.revoke(info.id)
        with pytest.raises(Unauthorized) as caught:
            services.keys.check(first)
        assert caught.value.error_code == "key_revoked"
        assert successor.scopes == ["read"]
        with pytest.raises(NotFound):
            services.keys.rotate(info.id)

    def test_bad_requests(self, services: Services) -> None:
        with pytest.raises(Unprocessable):
            services.keys.create("acme", "ci", ["root"])
        with pytest.raises(Unprocessable):
            services.keys.create("../x", "ci", ["read"])

    def test_pepper_is_made_once(self, tmp_path: Path) -> None:
        chosen = settings(tmp_path)
        assert load_pepper(chosen) == load_pepper(chosen)
        assert (tmp_path / "pepper").stat().st_mode & 0o077 == 0


class TestAccess:
    def test_loopback_needs_no_key_until_one_exists(self, services: Services, client: TestClient) -> None:
        assert client.get("/v1/jobs").status_code == 200
        headers = key(services, "acme")
        client.app.state.keys_exist = (0.0, False)  # type: ignore[attr-defined]
        answer = client.get("/v1/jobs")
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert client.get("/v1/jobs", headers=headers).status_code == 200
        assert client.get("/v1/jobs", headers={"x-api-key": headers["authorization"][7:]}).status_code == 200
        for path in ("/livez", "/readyz"):
            assert client.get(path).status_code in (200, 503)

    def test_expired_key(self, services: Services, client: TestClient) -> None:
        answer = client.get("/v1/jobs", headers=key(services, "acme", "read", expires_at=time.time() - 1))
        assert (answer.status_code, answer.json()["code"]) == (401, "key_expired")

    def test_scopes(self, services: Services, client: TestClient) -> None:
        reader = key(services, "acme", "read")
        answer = client.post("/v1/jobs", json={"input": digest_of(b"")}, headers=reader)
        assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
        assert client.get("/v1/webhooks", headers=reader).status_code == 403
        assert client.get("/v1/webhooks", headers=key(services, "acme", "admin")).status_code == 200

    def test_public_bind_needs_a_key(self, tmp_path: Path) -> None:
        with pytest.raises(Forbidden) as caught:
            check_bind(settings(tmp_path, host="0.0.0.0"))
        assert caught.value.error_code == "public_bind_without_key"
        services = open_services(tmp_path)
        services.keys.create("acme", "x", ["read"])
        check_bind(settings(tmp_path, host="0.0.0.0"))
        check_bind(settings(tmp_path / "other", host="127.0.0.1"))
        # Nobody gets in without a key, so that the first one may be made while the service runs.
        check_bind(settings(tmp_path / "third", host="0.0.0.0", require_keys=True))

    def test_every_route_hides_foreign_things(self, services: Services, client: TestClient) -> None:
        """R11: for each route with an id, a foreign id answers exactly like an unknown one."""
        data = orders()
        job = submit(services, data, tenant="acme").job
        worker(services).run(job.id)
        done = services.jobs.get("acme", job.id)
        mine, other = key(services, "acme", "admin"), key(services, "rival", "admin")
        model = client.post("/v1/models", json={"digest": done.input_digest}, headers=mine).json()["id"]
        client.put("/v1/releases/net/prod", json={"digest": done.artifact_digest}, headers=mine)
        made = client.post("/v1/uploads", headers=mine | {"upload-length": "3"}).headers["location"]
        with services.db.write() as connection:
            connection.execute(
                insert(tables.webhooks).values(
                    id="wh_1", tenant="acme", url="https://x.example", events=[], secret="whsec_",
                    active=True,
                    created_at=0.0,
                )
            )  # fmt: skip
        values = {
            "job_id": job.id, "digest": str(done.artifact_digest), "model_id": model, "name": "net",
            "channel": "prod", "webhook_id": "wh_1", "upload_id": made.rsplit("/", 1)[1],
            "key_id": services.keys.create("acme", "idle", ["read"])[0].id,
        }  # fmt: skip
        unknown = values | {
            "job_id": job.id[:-1] + "x", "digest": digest_of(b"?"),
            "model_id": model[:-1] + "x", "name": "other",
            "webhook_id": "wh_2", "upload_id": "up_x", "key_id": "key_x",
        }  # fmt: skip
        tried = 0
        for path, methods in client.app.openapi()["paths"].items():  # type: ignore[attr-defined]
            if "{" not in path:
                continue
            for method in methods:
                if method == "put" and "blobs" in path:
                    continue  # uploading bytes that somebody else has is no question about them
                request = _request(method, path, values)
                foreign = client.request(
                    method, path.format(**values), headers=other | request[0], **request[1]
                )
                missing = client.request(
                    method, path.format(**unknown), headers=other | request[0], **request[1]
                )
                assert foreign.status_code == missing.status_code == 404, (method, path, foreign.text)
                if method != "head":
                    assert foreign.json()["code"] == missing.json()["code"], path
                tried += 1
        assert tried >= 18
        assert client.get("/v1/jobs", headers=other).json()["jobs"] == []

    def test_no_dedupe_signal_across_tenants(self, services: Services, client: TestClient) -> None:
        data = orders()
        digest = upload(services, data, "acme")
        rival = key(services, "rival", "admin")
        assert client.head(f"/v1/blobs/{digest}", headers=rival).status_code == 404
        answer = client.post("/v1/jobs", json={"input": digest}, headers=rival)
        assert (answer.status_code, answer.json()["code"]) == (404, "blob_not_found")
        assert client.put(f"/v1/blobs/{digest}", content=data, headers=rival).status_code == 201
        job = submit(services, data, tenant="acme").job
        worker(services).run(job.id)
        mine = client.post("/v1/jobs", json={"input": digest}, headers=rival)
        assert mine.headers["bnfold-cache"] == "new"


def _request(method: str, path: str, values: dict[str, str]) -> tuple[dict[str, str], dict[str, object]]:
    if method == "put" and "releases" in path:
        return {}, {"json": {"digest": values["digest"]}}
    if method == "patch" and "/jobs/" in path:
        return {}, {"json": {"name": "x"}}
    if method == "patch":
        return {"content-type": "application/offset+octet-stream", "upload-offset": "0"}, {"content": b"abc"}
    return {}, {}


class TestQuotas:
    def test_queued(self, tmp_path: Path) -> None:
        services = open_services(tmp_path, quota_queued=1)
        with TestClient(create_app(services=services), base_url="http://localhost") as client:
            first, second = upload(services, orders()), upload(services, orders())
            assert client.post("/v1/jobs", json={"input": first}).status_code == 202
            answer = client.post("/v1/jobs", json={"input": second})
            assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
            assert int(answer.headers["retry-after"]) >= 1

    @pytest.mark.parametrize("name", ["quota_stored_bytes", "quota_upload_bytes"])
    def test_bytes(self, tmp_path: Path, name: str) -> None:
        services = open_services(tmp_path, **{name: 1000})
        with TestClient(create_app(services=services), base_url="http://localhost") as client:

            def put(data: bytes) -> int:
                return client.put(f"/v1/blobs/{digest_of(data)}", content=data).status_code

            assert put(b"a" * 600) == 201
            assert put(b"b" * 600) == 429
            assert put(b"c" * 300) == (201 if name == "quota_stored_bytes" else 429)

    @pytest.mark.parametrize("name", ["quota_stored_bytes", "quota_upload_bytes"])
    def test_bytes_of_many_at_once(self, tmp_path: Path, name: str) -> None:
        """Each of them had room when it began."""
        services = open_services(tmp_path, **{name: 1000})

        async def all_at_once() -> list[int]:
            together = asyncio.Barrier(4)
            transport = httpx.ASGITransport(create_app(services=services))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

                async def put(index: int) -> int:
                    data = bytes([index]) * 400

                    async def slowly() -> AsyncIterator[bytes]:
                        yield data[:200]
                        await together.wait()
                        yield data[200:]

                    return (await client.put(f"/v1/blobs/{digest_of(data)}", content=slowly())).status_code

                return sorted(await asyncio.gather(*map(put, range(4))))

        assert asyncio.run(all_at_once()) == [201, 201, 429, 429]

    def test_rate_is_shared_by_the_processes_of_a_host(self, tmp_path: Path) -> None:
        settings = Settings(data_dir=tmp_path, rate_per_minute=60.0, rate_burst=8, web_workers=4)
        granted = 0
        for limit in [RateLimit(settings) for _ in range(4)]:
            with suppress(TooMany):
                for _ in range(100):
                    limit.take("somebody")
                    granted += 1
        assert granted == 8

    def test_own_quota_of_a_tenant(self, tmp_path: Path) -> None:
        services = open_services(tmp_path, quota_queued=1)
        with services.db.write() as connection:
            connection.execute(insert(tables.tenants).values(id="big", created_at=0.0, quotas={"queued": 0}))
        for _ in range(3):
            submit(services, tenant="big")

    def test_rate(self, tmp_path: Path) -> None:
        services = open_services(tmp_path, rate_per_minute=60.0, rate_burst=3)
        with TestClient(create_app(services=services), base_url="http://localhost") as client:
            codes = [client.get("/v1/jobs").status_code for _ in range(5)]
            assert codes[:3] == [200] * 3
            assert codes[-1] == 429
            assert client.get("/livez").status_code == 200

    def test_body_above_the_cap_is_cut_while_it_streams(self, tmp_path: Path) -> None:
        services = open_services(tmp_path, max_upload_bytes=10_000)
        with TestClient(create_app(services=services), base_url="http://localhost") as client:

            def endless():  # type: ignore[no-untyped-def]
                for _ in range(1000):
                    yield b"x" * 1000

            answer = client.put(f"/v1/blobs/{digest_of(b'')}", content=endless())
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
            assert list((tmp_path / "blobs" / "tmp").iterdir()) == []


def test_the_command_rotates_a_key_and_both_work_for_a_while(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keys_command.create("ci", ["read"], "acme", 30.0, tmp_path, True, False) == 0
    first = json.loads(capsys.readouterr().out)
    assert keys_command.rotate(first["id"], 2.0, tmp_path, True, False) == 0
    second = json.loads(capsys.readouterr().out)
    assert [second[name] for name in ("tenant", "name", "scopes")] == ["acme", "ci", ["read"]]
    assert keys_command.show(tmp_path, True, False) == 0
    old, new = json.loads(capsys.readouterr().out)
    assert (old["id"], new["id"]) == (first["id"], second["id"])
    assert 0 < old["expires_at"] - time.time() <= 7200 < new["expires_at"] - time.time()
