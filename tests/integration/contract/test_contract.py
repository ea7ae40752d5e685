"""The HTTP contract, over both engines and both stores: what DESIGN promises, asked for over the wire."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import secrets
import socket
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.support.deployment import eventually

JSON = {"content-type": "application/json"}


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def orders(**values: Any) -> bytes:
    """Input of the memory runner, different each time."""
    return json.dumps({"nonce": secrets.token_hex(8)} | values).encode()


def put(client: httpx.Client, data: bytes) -> str:
    found = digest(data)
    assert client.put(f"/v1/blobs/{found}", content=data).status_code in (200, 201)
    return found


def run(client: httpx.Client, data: bytes, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/jobs", json={"input": put(client, data)} | body, headers={"prefer": "wait=30"})
    assert answer.status_code in (200, 202), answer.text
    return dict(answer.json())


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = dict(answer.json())
    assert (body["status"], body["code"], body["type"]) == (status, code, f"/problems/{code}")
    assert body["detail"]
    return body


class TestBlobs:
    def test_put_and_head(self, client: httpx.Client) -> None:
        data = secrets.token_bytes(3_000_000)
        first = client.put(f"/v1/blobs/{digest(data)}", content=data)
        assert (first.status_code, first.json()["bytes"]) == (201, 3_000_000)
        assert client.put(f"/v1/blobs/{digest(data)}", content=data).status_code == 200
        head = client.head(f"/v1/blobs/{digest(data)}")
        assert (head.status_code, head.headers["content-length"]) == (200, "3000000")

    def test_larger_than_one_part(self, client: httpx.Client) -> None:
        """Through the multipart way of an object store, and back through a job."""
        data = orders(bytes=11_000_000) + b" " * 21_000_000
        assert client.put(f"/v1/blobs/{digest(data)}", content=data).status_code == 201
        job = run(client, data)
        assert job["state"] == "failed" or job["artifact"]["bytes"] in (1000, 11_000_000)
        if job["artifact"]:
            assert digest(client.get(job["links"]["artifact"]).content) == job["artifact"]["digest"]

    def test_wrong_digest_is_refused_and_not_kept(self, client: httpx.Client) -> None:
        wrong = digest(secrets.token_bytes(8))
        assert_problem(client.put(f"/v1/blobs/{wrong}", content=b"else"), 422, "digest_mismatch")
        assert client.head(f"/v1/blobs/{wrong}").status_code == 404

    def test_malformed_digest(self, client: httpx.Client) -> None:
        assert_problem(client.put("/v1/blobs/sha256:xyz", content=b""), 422, "invalid")

    def test_short_body_keeps_nothing(self, client: httpx.Client) -> None:
        data = secrets.token_bytes(1000)
        self._send(client, data, declared=2000)
        assert client.head(f"/v1/blobs/{digest(data)}").status_code == 404

    def test_lying_length_does_not_smuggle(self, client: httpx.Client) -> None:
        data = secrets.token_bytes(1000)
        answer = self._send(client, data, declared=10)
        # The rest of the body is no request: the connection ends there, as a problem.
        assert answer.split()[1] in (b"400", b"422")
        assert b"application/problem+json" in answer
        assert client.head(f"/v1/blobs/{digest(data)}").status_code == 404

    def _send(self, client: httpx.Client, data: bytes, declared: int) -> bytes:
        place = urlsplit(str(client.base_url))
        with socket.create_connection((place.hostname, place.port), timeout=10) as raw:
            head = f"PUT /v1/blobs/{digest(data)} HTTP/1.1\r\nHost: localhost\r\n"
            raw.sendall(f"{head}Content-Length: {declared}\r\n\r\n".encode() + data)
            raw.shutdown(socket.SHUT_WR)
            return raw.recv(65536)


class TestJobs:
    def test_succeeds_and_publishes(self, client: httpx.Client) -> None:
        job = run(client, orders(bytes=5000))
        assert (job["state"], job["verdict"], job["artifact"]["bytes"]) == ("succeeded", "pass", 5000)
        assert job["attempt"] == 1
        report = client.get(job["links"]["report"]).json()
        assert report["artifact"] == job["artifact"]
        assert report["source"]["digest"] == job["input"]

    def test_queued_answer(self, client: httpx.Client) -> None:
        answer = client.post("/v1/jobs", json={"input": put(client, orders(seconds=0.3))})
        assert answer.status_code == 202
        assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
        assert answer.headers["retry-after"] == "1"
        done = client.get(answer.headers["location"], params={"wait": 20}).json()
        assert done["state"] == "succeeded"

    def test_identical_work_answers_from_the_cache(self, client: httpx.Client) -> None:
        data = orders()
        first = run(client, data)
        again = client.post("/v1/jobs", json={"input": digest(data)})
        assert (again.status_code, again.headers["bnfold-cache"]) == (200, "hit")
        assert again.json()["cached_from"] == first["id"]
        assert again.json()["artifact"] == first["artifact"]
        other = client.post("/v1/jobs", json={"input": digest(data), "options": {"opset": 17}})
        assert other.headers["bnfold-cache"] == "new"
        fresh = client.post("/v1/jobs", json={"input": digest(data), "fresh": True})
        assert fresh.headers["bnfold-cache"] == "new"

    def test_fifty_posts_with_one_key_make_one_job(self, client: httpx.Client) -> None:
        name, key = put(client, orders(seconds=0.2)), secrets.token_hex(8)

        def post(_: int) -> str:
            answer = client.post("/v1/jobs", json={"input": name}, headers={"idempotency-key": key})
            assert answer.status_code in (200, 202), answer.text
            return str(answer.json()["id"])

        with ThreadPoolExecutor(50) as pool:
            assert len(set(pool.map(post, range(50)))) == 1

    def test_key_for_other_work_is_refused(self, client: httpx.Client) -> None:
        headers = {"idempotency-key": secrets.token_hex(8)}
        client.post("/v1/jobs", json={"input": put(client, orders())}, headers=headers)
        other = client.post("/v1/jobs", json={"input": put(client, orders())}, headers=headers)
        assert_problem(other, 422, "idempotency_key_reused")

    def test_rejected_is_quarantined(self, client: httpx.Client) -> None:
        job = run(client, orders(verdict="fail"))
        assert (job["state"], job["verdict"]) == ("rejected", "fail")
        where = f"/v1/artifacts/{job['artifact']['digest']}"
        assert_problem(client.get(where), 403, "quarantined")
        insisted = client.get(where, params={"allow_quarantined": "true"})
        assert (insisted.status_code, insisted.headers["bnfold-quarantined"]) == (200, "true")

    def test_error_of_the_model(self, client: httpx.Client) -> None:
        job = run(client, orders(error="corrupt_model"))
        assert (job["state"], job["error"]["code"], job["attempt"]) == ("failed", "corrupt_model", 1)
        assert_problem(client.get(f"/v1/jobs/{job['id']}/report"), 404, "no_report")

    def test_crash_is_tried_once_more(self, client: httpx.Client) -> None:
        job = run(client, orders(crash="runner_crashed"))
        assert (job["state"], job["error"]["code"], job["attempt"]) == ("failed", "runner_crashed", 2)

    def test_timeout_is_not_tried_again(self, client: httpx.Client) -> None:
        job = run(client, orders(crash="timed_out"))
        assert (job["state"], job["error"]["code"], job["attempt"]) == ("failed", "timed_out", 1)

    def test_cancel_running_then_retry(self, client: httpx.Client) -> None:
        job = client.post("/v1/jobs", json={"input": put(client, orders(seconds=20))}).json()
        here = f"/v1/jobs/{job['id']}"
        eventually(lambda: client.get(here).json()["state"] == "running", 10, "it runs")
        began = time.monotonic()
        assert client.post(f"{here}:cancel").json()["state"] in ("stopping", "cancelled")
        done = client.get(here, params={"wait": 20}).json()
        assert done["state"] == "cancelled"
        assert time.monotonic() - began < 3
        assert client.post(f"{here}:cancel").json()["state"] == "cancelled"
        assert client.post(f"{here}:retry").json()["state"] == "queued"
        eventually(lambda: client.get(here).json()["state"] == "running", 10, "it runs again")
        assert_problem(client.delete(here), 409, "wrong_state")
        client.post(f"{here}:cancel")
        assert client.get(here, params={"wait": 20}).json()["attempt"] == 2
        assert client.delete(here).status_code == 204
        assert_problem(client.get(here), 404, "not_found")

    def test_succeeded_cannot_be_retried_or_cancelled(self, client: httpx.Client) -> None:
        job = run(client, orders())
        assert_problem(client.post(f"/v1/jobs/{job['id']}:retry"), 409, "wrong_state")
        assert_problem(client.post(f"/v1/jobs/{job['id']}:cancel"), 409, "wrong_state")

    def test_pages_and_filters(self, client: httpx.Client) -> None:
        made = {run(client, orders(verdict="fail"))["id"] for _ in range(5)}
        seen: list[str] = []
        params: dict[str, Any] = {"limit": 2, "state": "rejected"}
        while True:
            page = client.get("/v1/jobs", params=params).json()
            seen += [job["id"] for job in page["jobs"]]
            assert all(job["state"] == "rejected" for job in page["jobs"])
            if page["next"] is None:
                break
            params["page_token"] = page["next"]
        assert made <= set(seen)
        assert len(seen) == len(set(seen))
        assert_problem(client.get("/v1/jobs", params={"page_token": "nonsense"}), 400, "bad_page_token")

    @pytest.mark.parametrize(
        ("body", "status", "code", "where"),
        [
            ("{", 400, "bad_json", ""),
            ('{"input": 5}', 422, "invalid", "input"),
            ('{"bogus": 1}', 422, "unknown_option", "bogus"),
            (json.dumps({"input": digest(b"x"), "options": {"bogus": 1}}), 422, "unknown_option", "bogus"),
            ("{}", 422, "invalid", "model"),
            (json.dumps({"input": digest(b"never uploaded")}), 404, "blob_not_found", "sha256"),
            ('{"model": "model_unknown"}', 404, "not_found", "model_unknown"),
        ],
    )
    def test_bad_input(self, client: httpx.Client, body: str, status: int, code: str, where: str) -> None:
        answer = client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
        assert where in assert_problem(answer, status, code)["detail"]

    @pytest.mark.parametrize(
        "odd", ["\x00", "\ud800", "\U0001f600", "a" * 5000, "' OR 1=1 --", "%s%n", "../x"]
    )
    def test_odd_text_is_never_a_server_error(self, client: httpx.Client, odd: str) -> None:
        """NUL is nothing that PostgreSQL can hold, a lone surrogate nothing that UTF-8 can."""
        quoted = quote(odd, errors="surrogatepass")
        name = put(client, orders())
        bodies = [
            ("/v1/jobs", {"input": name, "filename": odd, "options": {"outputs": [odd], "signature": odd}}),
            ("/v1/jobs", {"model": odd}),
            ("/v1/models", {"digest": name, "filename": odd}),
            ("/v1/webhooks", {"url": f"https://example.invalid/{odd}"}),
        ]
        answers = [client.post(path, content=json.dumps(body), headers=JSON) for path, body in bodies]
        note = json.dumps({"digest": digest(b"?"), "note": odd})
        answers.append(client.put("/v1/releases/a/b", content=note, headers=JSON))
        for path in ("/v1/jobs/", "/v1/models/", "/v1/webhooks/", "/v1/artifacts/", "/v1/uploads/"):
            answers.append(client.get(path + quoted))
        answers.append(client.post(f"/v1/jobs/{quoted}:cancel"))
        answers.append(client.get(f"/v1/jobs?model={quoted}&page_token={quoted}"))
        answers.append(client.get(f"/v1/jobs?model={quoted}"))
        answers.append(client.post(f"/v1/fold?filename={quoted}", content=orders()))
        for answer in answers:
            assert answer.status_code < 500, (answer.request.url, answer.text)

    def test_foreign_paths(self, client: httpx.Client) -> None:
        assert_problem(client.get("/v1/jobs/job_nothing"), 404, "not_found")
        assert_problem(client.get("/v1/nothing"), 404, "not_found")
        assert_problem(client.put("/v1/jobs"), 405, "method_not_allowed")


class TestEvents:
    def test_whole_story_and_replay(self, client: httpx.Client) -> None:
        job = run(client, orders(seconds=0.1))
        lines = client.get(job["links"]["events"]).text
        ids = [int(line[4:]) for line in lines.splitlines() if line.startswith("id: ")]
        assert ids == list(range(1, len(ids) + 1))
        states = [
            json.loads(line[6:])["state"]
            for line in lines.splitlines()
            if line.startswith("data: ") and "state" in line
        ]
        assert [states[0], states[1], states[-1]] == ["queued", "running", "succeeded"]
        replay = client.get(job["links"]["events"], headers={"last-event-id": str(ids[-2])}).text
        assert [line for line in replay.splitlines() if line.startswith("id: ")] == [f"id: {ids[-1]}"]
        assert client.get(job["links"]["events"], headers={"last-event-id": str(ids[-1])}).status_code == 204
        bad = client.get(job["links"]["events"], headers={"last-event-id": "x"})
        assert_problem(bad, 400, "bad_event_id")

    def test_live(self, client: httpx.Client) -> None:
        job = client.post("/v1/jobs", json={"input": put(client, orders(seconds=1.0))}).json()
        with client.stream("GET", job["links"]["events"]) as stream:
            arrived = {line: time.monotonic() for line in stream.iter_lines() if line.startswith("data")}
        first, last = min(arrived.values()), max(arrived.values())
        assert last - first > 0.5, "events came as they happened, not all at the end"
        assert '"succeeded"' in list(arrived)[-1]


class TestArtifacts:
    @pytest.fixture
    def artifact(self, client: httpx.Client) -> tuple[str, bytes]:
        job = run(client, orders(bytes=100_000))
        where = job["links"]["artifact"]
        data = client.get(where).content
        assert digest(data) == job["artifact"]["digest"]
        return where, data

    def test_headers(self, client: httpx.Client, artifact: tuple[str, bytes]) -> None:
        where, data = artifact
        for answer in (client.get(where), client.head(where)):
            assert answer.headers["etag"] == f'"{digest(data)}"'
            assert "immutable" in answer.headers["cache-control"]
            encoded = base64.b64encode(hashlib.sha256(data).digest()).decode()
            assert answer.headers["repr-digest"] == f"sha-256=:{encoded}:"
            assert answer.headers["content-length"] == "100000"
        assert client.head(where).content == b""
        assert client.get(where, headers={"if-none-match": f'"{digest(data)}"'}).status_code == 304

    @pytest.mark.parametrize(
        ("header", "start", "end"),
        [("bytes=0-9", 0, 10), ("bytes=99990-", 99_990, 100_000), ("bytes=-5", 99_995, 100_000),
         ("bytes=50-999999", 50, 100_000), ("BYTES=1-1", 1, 2)],
    )  # fmt: skip
    def test_range(
        self, client: httpx.Client, artifact: tuple[str, bytes], header: str, start: int, end: int
    ) -> None:
        where, data = artifact
        answer = client.get(where, headers={"range": header})
        assert answer.status_code == 206
        assert answer.content == data[start:end]
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/100000"

    @pytest.mark.parametrize("header", ["bytes=0-1,5-6", "lines=1-2", "bytes=9-1", "bytes=", "bytes=a-b"])
    def test_ranges_that_are_ignored(
        self, client: httpx.Client, artifact: tuple[str, bytes], header: str
    ) -> None:
        answer = client.get(artifact[0], headers={"range": header})
        assert (answer.status_code, len(answer.content)) == (200, 100_000)

    @pytest.mark.parametrize("header", ["bytes=100000-", "bytes=200000-300000", "bytes=-0"])
    def test_unsatisfiable(self, client: httpx.Client, artifact: tuple[str, bytes], header: str) -> None:
        answer = client.get(artifact[0], headers={"range": header})
        assert_problem(answer, 416, "range_not_satisfiable")
        assert answer.headers["content-range"] == "bytes */100000"

    def test_if_range(self, client: httpx.Client, artifact: tuple[str, bytes]) -> None:
        where, data = artifact
        good = {"range": "bytes=0-9", "if-range": f'"{digest(data)}"'}
        assert client.get(where, headers=good).status_code == 206
        stale = {"range": "bytes=0-9", "if-range": '"other"'}
        assert client.get(where, headers=stale).status_code == 200

    def test_bundle(self, client: httpx.Client, artifact: tuple[str, bytes]) -> None:
        where, data = artifact
        first = client.get(f"{where}/bundle", params={"name": "net"}).content
        archive = zipfile.ZipFile(io.BytesIO(first))
        assert archive.namelist() == ["net/config.pbtxt", "net/1/model.onnx", "net/report.json"]
        assert archive.read("net/1/model.onnx") == data
        assert b'name: "net"' in archive.read("net/config.pbtxt")
        assert client.get(f"{where}/bundle", params={"name": "net"}).content == first

    def test_kinds_of_bundles(self, client: httpx.Client, artifact: tuple[str, bytes]) -> None:
        where, data = artifact

        def bundle(**params: str) -> zipfile.ZipFile:
            answer = client.get(f"{where}/bundle", params={"name": "net", **params})
            assert answer.status_code == 200, answer.text
            return zipfile.ZipFile(io.BytesIO(answer.content))

        kserve = bundle(kind="kserve", storage_uri="s3://bucket/net")
        assert b"s3://bucket/net" in kserve.read("net/inferenceservice.yaml")
        assert kserve.read("net/models/net/1/model.onnx") == data
        folder = bundle(kind="folder")
        assert folder.read("net/model.onnx") == data
        assert digest(data)[7:].encode() in folder.read("net/model_card.md")
        assert "payload" in json.loads(folder.read("net/attestation.json"))
        assert "verdict" in json.loads(folder.read("net/report.json"))
        assert_problem(client.get(f"{where}/bundle", params={"kind": "ort"}), 422, "no_ort_format")
        assert client.get(f"{where}/bundle", params={"kind": "tar"}).status_code == 422

    def test_ort_format_is_kept_with_the_report(self, client: httpx.Client) -> None:
        data, options = orders(), {"ort_format": True}
        job = run(client, data, options=options)
        report = client.get(job["links"]["report"]).json()
        where = {"params": {"kind": "ort", "name": "net"}}
        answer = client.get(f"{job['links']['artifact']}/bundle", **where)
        archive = zipfile.ZipFile(io.BytesIO(answer.content))
        assert digest(archive.read("net/model.ort")) == report["ort_format"]["artifact"]["digest"]
        told = report["ort_format"]["required_operators"]
        assert archive.read("net/required_operators.config").decode() == told
        again = client.post("/v1/jobs", json={"input": digest(data), "options": options}).json()
        assert again["cached_from"] == job["id"]
        assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
        assert client.get(f"{again['links']['artifact']}/bundle", **where).content == answer.content

    def test_attestation(self, client: httpx.Client, artifact: tuple[str, bytes]) -> None:
        envelope = client.get(f"{artifact[0]}/attestation").json()
        statement = json.loads(base64.b64decode(envelope["payload"]))
        assert statement["subject"][0]["digest"]["sha256"] == digest(artifact[1])[7:]


class TestRecalibratedArtifacts:
    """A second artifact beside the faithful one, where calibration data was given."""

    def test_it_lies_beside_the_artifact(self, client: httpx.Client) -> None:
        data = orders(recalibrated="pass", health="never_updated")
        job = run(client, data, calibration=put(client, secrets.token_bytes(50)))
        second = job["recalibrated"]
        assert second["digest"] != job["artifact"]["digest"]
        assert (second["verdict"], second["bytes"]) == ("pass", 500)
        assert second["headline"]["state"] == "healthy"
        assert digest(client.get(job["links"]["recalibrated"]).content) == second["digest"]
        report = client.get(job["links"]["report"]).json()
        assert report["recalibrated"]["artifact"] == {"digest": second["digest"], "bytes": 500}
        assert report["artifact"] == job["artifact"]
        assert_problem(client.get(f"{job['links']['recalibrated']}/attestation"), 404, "no_attestation")
        again = client.post(
            "/v1/jobs", json={"input": digest(data), "calibration": job["calibration"]}
        ).json()
        assert again["cached_from"] == job["id"]
        assert again["recalibrated"] == second

    def test_it_is_released_by_its_own_health(self, client: httpx.Client) -> None:
        data = orders(recalibrated="pass", health="never_updated")
        job = run(client, data, calibration=put(client, secrets.token_bytes(50)))
        here = f"/v1/releases/second-{secrets.token_hex(4)}/x"
        faithful = {"digest": job["artifact"]["digest"]}
        assert_problem(client.put(here, json=faithful), 409, "unhealthy_artifact")
        made = client.put(here, json={"digest": job["recalibrated"]["digest"]})
        assert made.status_code == 201, made.text
        assert made.json()["job"] == job["id"]
        assert made.json()["headline"]["state"] == "healthy"
        assert_problem(client.delete(f"/v1/jobs/{job['id']}"), 409, "in_use")

    def test_its_own_verdict_publishes_it(self, client: httpx.Client) -> None:
        job = run(client, orders(recalibrated="fail"), calibration=put(client, secrets.token_bytes(50)))
        assert job["state"] == "succeeded"
        assert client.get(job["links"]["artifact"]).status_code == 200
        assert_problem(client.get(job["links"]["recalibrated"]), 403, "quarantined")

    def test_it_goes_with_the_job(self, client: httpx.Client) -> None:
        job = run(client, orders(recalibrated="pass"), calibration=put(client, secrets.token_bytes(50)))
        assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
        assert_problem(client.get(job["links"]["recalibrated"]), 404, "not_found")

    def test_without_data_there_is_none(self, client: httpx.Client) -> None:
        job = run(client, orders(recalibrated="pass"))
        assert job["recalibrated"] is None
        assert "recalibrated" not in job["links"]


class TestFold:
    def test_raw(self, client: httpx.Client) -> None:
        answer = client.post("/v1/fold", content=orders(bytes=77), params={"filename": "net.onnx"})
        assert (answer.status_code, len(answer.content)) == (200, 77)
        assert answer.headers["bnfold-verdict"] == "pass"
        assert answer.headers["content-disposition"] == 'attachment; filename="net.folded.onnx"'

    def test_form(self, client: httpx.Client) -> None:
        files = {"model": ("net.h5", orders()), "calibration": ("c.npz", b"cal"), "probe": ("p.npz", b"pro")}
        answer = client.post("/v1/fold", files=files, data={"options": '{"opset": 17}'})
        assert answer.status_code == 200, answer.text
        job = client.get(answer.headers["location"]).json()
        assert (job["filename"], job["options"], job["calibration"]) == (
            "net.h5",
            {"opset": 17},
            digest(b"cal"),
        )

    def test_not_finished_is_an_error_so_that_nobody_saves_a_job_as_a_model(
        self, client: httpx.Client
    ) -> None:
        body = orders(seconds=2)
        answer = client.post("/v1/fold", content=body, headers={"prefer": "wait=0"})
        problem = assert_problem(answer, 504, "still_running")
        assert answer.headers["retry-after"]
        assert answer.headers["location"] == f"/v1/jobs/{problem['job']}"
        again = client.post("/v1/fold", content=body, headers={"prefer": "wait=30"})
        assert again.status_code == 200
        assert again.headers["bnfold-job"] == problem["job"], "the same request joins the running job"
        assert again.headers["bnfold-cache"] == "joined"

    def test_respond_async_answers_at_once(self, client: httpx.Client) -> None:
        body = orders(seconds=2)
        answer = client.post("/v1/fold", content=body, headers={"prefer": "respond-async"})
        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "respond-async"
        assert client.get(answer.headers["location"], params={"wait": 20}).json()["state"] == "succeeded"

    @pytest.mark.parametrize(
        ("asked", "status", "code"),
        [({"verdict": "fail"}, 422, "verification_failed"), ({"error": "unsafe_model"}, 422, "unsafe_model"),
         ({"error": "unknown_format"}, 422, "unknown_format"),
         ({"crash": "out_of_memory"}, 422, "out_of_memory")],
    )  # fmt: skip
    def test_failures_are_problems(
        self, client: httpx.Client, asked: dict[str, Any], status: int, code: str
    ) -> None:
        body = assert_problem(client.post("/v1/fold", content=orders(**asked)), status, code)
        assert body["job"].startswith("job_")

    def test_bad_requests(self, client: httpx.Client) -> None:
        assert_problem(client.post("/v1/fold", content=b""), 400, "empty_body")
        options = {"options": '{"nope": 1}'}
        assert_problem(client.post("/v1/fold", content=orders(), params=options), 422, "unknown_option")
        assert_problem(client.post("/v1/fold", content=orders(), params={"options": "{"}), 400, "bad_json")
        assert_problem(client.post("/v1/fold", files={"other": b"x"}), 400, "unknown_option")
        assert_problem(client.post("/v1/fold", files={"probe": b"x"}), 400, "bad_form")


class TestModels:
    def test_inspection(self, client: httpx.Client) -> None:
        name = put(client, orders())
        made = client.post("/v1/models", json={"digest": name, "filename": "../a b.h5"})
        assert made.status_code == 201
        model = made.json()
        assert model["filename"] == "a_b.h5"
        here = f"/v1/models/{model['id']}"
        found = eventually(lambda: client.get(here).json()["inspection"], 15, "inspection")
        assert found["format"] == "memory"
        again = client.post("/v1/models", json={"digest": name, "filename": "../a b.h5"})
        assert again.json()["id"] == model["id"]
        job = client.post("/v1/jobs", json={"model": model["id"]}, headers={"prefer": "wait=20"}).json()
        assert (job["state"], job["model"]) == ("succeeded", model["id"])
        assert client.delete(here).status_code == 204
        assert_problem(client.get(here), 404, "not_found")


class TestLists:
    def test_jobs_are_named_and_found(self, client: httpx.Client) -> None:
        name = f"Résumé 100%_{secrets.token_hex(4)}"
        sick, well = run(client, orders(health="lagging")), run(client, orders())
        assert (sick["name"], well["headline"]["state"]) == (sick["filename"], "healthy")
        changed = client.patch(f"/v1/jobs/{sick['id']}", json={"name": name})
        assert changed.json()["name"] == name
        for asked in ({"search": name[-12:].upper()}, {"search": sick["id"]}, {"search": "100%_"}):
            found = client.get("/v1/jobs", params=asked).json()["jobs"]
            assert sick["id"] in [job["id"] for job in found], asked
            assert well["id"] not in [job["id"] for job in found], asked
        found = client.get("/v1/jobs", params={"health": "unhealthy", "limit": 100}).json()["jobs"]
        assert {job["headline"]["state"] for job in found} == {"unhealthy"}
        assert client.patch(f"/v1/jobs/{sick['id']}", json={"name": None}).json()["name"] == sick["filename"]
        assert_problem(client.patch("/v1/jobs/job_none", json={"name": "x"}), 404, "not_found")

    def test_a_cached_answer_keeps_the_headline(self, client: httpx.Client) -> None:
        body = orders(health="never_updated")
        run(client, body)
        again = client.post("/v1/fold", content=body)
        job = client.get(again.headers["location"]).json()
        assert job["cached_from"]
        assert job["headline"]["code"] == "never_updated"


class TestReleases:
    def test_moves_under_if_match(self, client: httpx.Client) -> None:
        one, two = (run(client, orders())["artifact"]["digest"] for _ in range(2))
        here = f"/v1/releases/net-{secrets.token_hex(4)}/production"
        made = client.put(here, json={"digest": one})
        assert (made.status_code, made.json()["version"]) == (201, 1)
        assert_problem(client.put(here, json={"digest": two}), 428, "precondition_required")
        stale = client.put(here, json={"digest": two}, headers={"if-match": '"0-x"'})
        assert_problem(stale, 412, "precondition_failed")
        moved = client.put(
            here, json={"digest": two, "note": "n"}, headers={"if-match": made.headers["etag"]}
        )
        assert (moved.status_code, moved.json()["version"]) == (200, 2)
        history = client.get(f"{here}/history").json()["history"]
        assert [entry["digest"] for entry in history] == [two, one]
        only_new = client.put(here, json={"digest": one}, headers={"if-none-match": "*"})
        assert_problem(only_new, 412, "precondition_failed")
        assert client.delete(here).status_code == 204
        assert_problem(client.get(here), 404, "not_found")

    def test_only_published(self, client: httpx.Client) -> None:
        bad = run(client, orders(verdict="inconclusive"))["artifact"]["digest"]
        assert_problem(client.put("/v1/releases/a/b", json={"digest": bad}), 409, "quarantined")
        unknown = client.put("/v1/releases/a/b", json={"digest": digest(b"none")})
        assert_problem(unknown, 404, "not_found")

    def test_unhealthy_statistics_are_released_only_when_accepted(self, client: httpx.Client) -> None:
        job = run(client, orders(health="never_updated"))
        assert job["state"] == "succeeded"
        assert job["headline"]["state"] == "unhealthy"
        here = f"/v1/releases/sick-{secrets.token_hex(4)}/x"
        body = {"digest": job["artifact"]["digest"]}
        problem = assert_problem(client.put(here, json=body), 409, "unhealthy_artifact")
        assert "never updated" in problem["detail"]
        made = client.put(here, json=body | {"accept_unhealthy": True})
        assert made.status_code == 201
        assert made.json()["job"] == job["id"]
        assert made.json()["headline"]["code"] == "never_updated"

    def test_race_has_one_winner(self, client: httpx.Client) -> None:
        one = run(client, orders())["artifact"]["digest"]
        here = f"/v1/releases/race-{secrets.token_hex(4)}/x"
        tag = client.put(here, json={"digest": one}).headers["etag"]
        gate = threading.Barrier(8)

        def move(_: int) -> int:
            gate.wait()
            return client.put(here, json={"digest": one}, headers={"if-match": tag}).status_code

        with ThreadPoolExecutor(8) as pool:
            codes = sorted(pool.map(move, range(8)))
        assert codes == [200] + [412] * 7


class TestUploads:
    TUS = {"tus-resumable": "1.0.0"}  # noqa: RUF012
    BODY = {"content-type": "application/offset+octet-stream"}  # noqa: RUF012

    def test_resumes(self, client: httpx.Client) -> None:
        data = secrets.token_bytes(300_000)
        made = client.post("/v1/uploads", headers=self.TUS | {"upload-length": str(len(data))})
        assert made.status_code == 201
        here = made.headers["location"]
        first = client.patch(
            here, content=data[:100_000], headers=self.TUS | self.BODY | {"upload-offset": "0"}
        )
        assert (first.status_code, first.headers["upload-offset"]) == (204, "100000")
        wrong = client.patch(here, content=b"x", headers=self.TUS | self.BODY | {"upload-offset": "5"})
        assert_problem(wrong, 409, "offset_mismatch")
        offset = client.head(here, headers=self.TUS).headers["upload-offset"]
        last = client.patch(
            here, content=data[int(offset) :], headers=self.TUS | self.BODY | {"upload-offset": offset}
        )
        assert last.headers["bnfold-digest"] == digest(data)
        assert client.head(f"/v1/blobs/{digest(data)}").status_code == 200

    def test_interrupted_patch_keeps_what_came(self, client: httpx.Client) -> None:
        data = secrets.token_bytes(200_000)
        here = client.post("/v1/uploads", headers=self.TUS | {"upload-length": "200000"}).headers["location"]
        place = urlsplit(str(client.base_url))
        with socket.create_connection((place.hostname, place.port), timeout=10) as raw:
            head = (
                f"PATCH {here} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
                "Content-Type: application/offset+octet-stream\r\nContent-Length: 200000\r\n\r\n"
            )
            raw.sendall(head.encode() + data[:150_000])
        offset = eventually(lambda: int(client.head(here).headers["upload-offset"]), 10, "the bytes are kept")
        assert offset == 150_000
        headers = self.TUS | self.BODY | {"upload-offset": str(offset)}
        eventually(
            lambda: client.patch(here, content=data[offset:], headers=headers).status_code == 204,
            10,
            "goes on",
        )
        assert client.head(here).headers["bnfold-digest"] == digest(data)

    def test_checksum(self, client: httpx.Client) -> None:
        here = client.post("/v1/uploads", headers=self.TUS | {"upload-length": "4"}).headers["location"]
        good = "sha256 " + base64.b64encode(hashlib.sha256(b"data").digest()).decode()
        headers = self.TUS | self.BODY | {"upload-offset": "0", "upload-checksum": good}
        assert_problem(client.patch(here, content=b"tada", headers=headers), 460, "checksum_mismatch")
        assert client.head(here).headers["upload-offset"] == "0"
        assert client.patch(here, content=b"data", headers=headers).status_code == 204

    def test_limits_and_end(self, client: httpx.Client) -> None:
        assert client.options("/v1/uploads").headers["tus-version"] == "1.0.0"
        assert_problem(client.post("/v1/uploads", headers=self.TUS), 400, "bad_upload")
        huge = client.post("/v1/uploads", headers=self.TUS | {"upload-length": str(10**15)})
        assert_problem(huge, 413, "too_large")
        here = client.post("/v1/uploads", headers=self.TUS | {"upload-length": "4"}).headers["location"]
        more = client.patch(here, content=b"12345", headers=self.TUS | self.BODY | {"upload-offset": "0"})
        assert_problem(more, 413, "too_large")
        assert client.delete(here, headers=self.TUS).status_code == 204
        assert_problem(client.request("GET", "/v1/uploads"), 405, "method_not_allowed")
        assert client.head(here).status_code == 404


class TestSystem:
    def test_probes(self, client: httpx.Client) -> None:
        assert client.get("/livez").json() == {"status": "ok"}
        ready = eventually(
            lambda: (r := client.get("/readyz").json())["workers"] and r, 10, "a worker reports"
        )
        assert ready["ready"] is True
        assert ready["sandbox"] == "none"

    def test_capabilities(self, client: httpx.Client) -> None:
        found = client.get("/v1/capabilities").json()
        assert "opset" in found["options"]["properties"]
        assert "text/html" in found["report_forms"]

    def test_metrics(self, client: httpx.Client) -> None:
        run(client, orders())
        text = client.get("/metrics").text
        assert 'bnfold_jobs{kind="fold",pool="cpu",state="succeeded"}' in text
        assert 'route="/v1/blobs/{digest}"' in text
        assert "bnfold_workers 1.0" in text

    def test_security_headers_everywhere(self, client: httpx.Client) -> None:
        for path in ("/livez", "/nothing", "/v1/jobs", "/docs"):
            headers = client.get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"], path
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-request-id"]

    def test_other_sites_are_refused(self, client: httpx.Client) -> None:
        evil = client.get("/v1/jobs", headers={"host": "evil.example"})
        assert_problem(evil, 403, "bad_host")
        page = client.post("/v1/jobs", json={}, headers={"origin": "https://evil.example"})
        assert_problem(page, 403, "cross_origin")


class TestEdges:
    """Found by trying: what clients, proxies and attackers send at the rim of the contract."""

    @pytest.mark.parametrize(
        "path", ["/livez", "/readyz", "/metrics", "/v1/jobs", "/v1/capabilities", "/", "/jobs", "/releases"]
    )
    def test_head_is_get_without_the_body(self, client: httpx.Client, path: str) -> None:
        head, whole = client.head(path), client.get(path)
        assert head.status_code == whole.status_code == 200
        assert head.content == b""
        assert head.headers["content-type"] == whole.headers["content-type"]

    def test_head_of_a_stream_ends_at_once(self, client: httpx.Client) -> None:
        job = client.post("/v1/jobs", json={"input": put(client, orders(seconds=5))}).json()
        began = time.monotonic()
        assert client.head(job["links"]["events"]).status_code == 200
        assert time.monotonic() - began < 3
        client.post(f"/v1/jobs/{job['id']}:cancel")

    def test_head_knows_no_range(self, client: httpx.Client) -> None:
        """RFC 9110, 14.2: a Range means something with GET alone."""
        where = run(client, orders())["links"]["artifact"]
        head = client.head(where, headers={"range": "bytes=0-9"})
        assert (head.status_code, head.headers["content-length"]) == (200, "1000")
        far = client.get(where, headers={"range": f"bytes={'9' * 30}-"})
        assert_problem(far, 416, "range_not_satisfiable")

    def test_if_match_of_other_bytes(self, client: httpx.Client) -> None:
        where = run(client, orders())["links"]["artifact"]
        assert_problem(client.get(where, headers={"if-match": '"else"'}), 412, "precondition_failed")
        tag = client.head(where).headers["etag"]
        assert client.get(where, headers={"if-match": tag}).status_code == 200
        assert client.get(where, headers={"if-match": f"W/{tag}"}).status_code == 412
        assert client.get(where, headers={"if-none-match": f"W/{tag}"}).status_code == 304

    @pytest.mark.parametrize(
        "options",
        ['{"atol": Infinity}', '{"rtol": NaN}', '{"feeds": {"x": NaN}}', '{"outputs": ["a\\u0000"]}',
         '{"feeds": {"\\ud800": 1}}', '{"outputs": ["\\udfff"]}', '{"seed": 1e999}'],
    )  # fmt: skip
    def test_values_that_no_answer_could_carry(self, client: httpx.Client, options: str) -> None:
        name = put(client, orders())
        answer = client.post("/v1/jobs", content=f'{{"input": "{name}", "options": {options}}}', headers=JSON)
        assert_problem(answer, 422, "invalid")
        assert client.get("/v1/jobs").status_code == 200

    @pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a": ' + b"9" * 10_000 + b"}", b"{", b"\xff"])
    def test_json_that_no_parser_takes(self, client: httpx.Client, body: bytes) -> None:
        assert_problem(client.post("/v1/jobs", content=body, headers=JSON), 400, "bad_json")

    def test_a_misspelt_query_option_is_named(self, client: httpx.Client) -> None:
        answer = client.post("/v1/fold", content=orders(), params={"opset": "17"})
        assert "query.opset" in assert_problem(answer, 422, "unknown_option")["detail"]
        assert_problem(client.get("/v1/jobs", params={"sate": "queued"}), 422, "unknown_option")

    def test_bodies_are_taken_as_they_are(self, client: httpx.Client) -> None:
        data = orders()
        for headers in ({"content-encoding": "gzip"}, {"content-encoding": "br, gzip"}):
            answer = client.put(f"/v1/blobs/{digest(data)}", content=data, headers=headers)
            assert_problem(answer, 415, "unsupported_media_type")

    def test_an_upload_never_shrinks(self, client: httpx.Client) -> None:
        made = client.post("/v1/uploads", headers={"upload-defer-length": "1"})
        kind = {"content-type": "application/offset+octet-stream"}
        where = made.headers["location"]
        assert (
            client.patch(where, content=b"x" * 100, headers=kind | {"upload-offset": "0"}).status_code == 204
        )
        short = client.patch(where, headers=kind | {"upload-offset": "100", "upload-length": "50"})
        assert_problem(short, 409, "length_mismatch")
        done = client.patch(where, headers=kind | {"upload-offset": "100", "upload-length": "100"})
        assert done.headers["bnfold-digest"] == digest(b"x" * 100)

    def test_a_patch_through_a_proxy_that_knows_none(self, client: httpx.Client) -> None:
        made = client.post("/v1/uploads", headers={"upload-length": "3"})
        headers = {"content-type": "application/offset+octet-stream", "upload-offset": "0"}
        other = {"x-http-method-override": "PATCH"}
        done = client.post(made.headers["location"], content=b"abc", headers=headers | other)
        assert (done.status_code, done.headers["bnfold-digest"]) == (204, digest(b"abc"))

    @pytest.mark.parametrize("host", ["[", "localhost:abc", "a b", "a" * 300, 'x"y'])
    def test_a_host_that_is_none(self, client: httpx.Client, host: str) -> None:
        for path in ("/v1/jobs", "/jobs", "/livez"):
            assert client.get(path, headers={"host": host}).status_code == 400

    def test_a_redirect_stays_here(self, client: httpx.Client) -> None:
        answer = client.get("/v1/jobs/", headers={"host": "evil.example"}, follow_redirects=False)
        assert answer.headers.get("location", "/v1/jobs") == "/v1/jobs"

    def test_events_after_one_that_never_was(self, client: httpx.Client) -> None:
        job = client.post("/v1/jobs", json={"input": put(client, orders(seconds=1))}).json()
        text = client.get(job["links"]["events"], headers={"last-event-id": "999999"}).text
        assert '"state":"succeeded"' in text

    @pytest.mark.parametrize("how", ["create", "move"])
    def test_of_twenty_releases_at_once_one_wins(self, client: httpx.Client, how: str) -> None:
        made = run(client, orders())["artifact"]["digest"]
        where = f"/v1/releases/race-{secrets.token_hex(4)}/prod"
        headers = {}
        if how == "move":
            headers = {"if-match": client.put(where, json={"digest": made}).headers["etag"]}
        with ThreadPoolExecutor(20) as pool:
            answers = list(
                pool.map(lambda _: client.put(where, json={"digest": made}, headers=headers), range(20))
            )
        codes = sorted(answer.status_code for answer in answers)
        assert codes == ([201] + [428] * 19 if how == "create" else [200] + [412] * 19)

    def test_of_twenty_equal_models_at_once_one_is_made(self, client: httpx.Client) -> None:
        name = put(client, orders())
        with ThreadPoolExecutor(20) as pool:
            made = list(
                pool.map(
                    lambda _: client.post("/v1/models", json={"digest": name, "filename": "m"}), range(20)
                )
            )
        assert {answer.status_code for answer in made} == {201}
        assert len({answer.json()["id"] for answer in made}) == 1

    @pytest.mark.parametrize(
        "url",
        ["http://localhost:99999/", "http://x\x00.example/", "https://[", "http://", "http://a\r\nb/",
         "http://user:pw@example.org/", "http://\u2139.example/", "file:///etc/passwd"],
    )  # fmt: skip
    def test_addresses_that_are_none(self, client: httpx.Client, url: str) -> None:
        assert_problem(client.post("/v1/webhooks", json={"url": url}), 422, "bad_webhook_url")
