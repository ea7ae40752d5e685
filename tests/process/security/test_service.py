"""Hostile files over HTTP: every job ends by a code, and the service answers all the while."""

from __future__ import annotations

import shutil
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from folding.errors import catalogue
from tests.process.security.corpus import Case, build
from tests.support.live import Live, live_service

FEW = (
    "archives/tar_parent", "archives/zip_bomb", "tensorflow/recursion", "tensorflow/top_ReadFile",
    "keras/config_lambda", "onnx/function_expansion", "onnx/script_name", "keras/h5_petabytes",
)  # fmt: skip
FINAL = {"succeeded", "rejected", "failed", "cancelled"}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return build(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_service(tmp_path_factory.mktemp("service"), slots="2", job_timeout="60") as service:
        yield service


def _body(case: Case, folder: Path) -> Path:
    """A folder travels as an archive; one that cannot be packed is not an upload."""
    if not case.path.is_dir():
        return case.path
    packed = folder / (case.name.replace("/", "-") + ".tar")
    with tarfile.open(packed, "w") as archive:
        for path in sorted(case.path.rglob("*")):
            archive.add(path, path.relative_to(case.path).as_posix(), recursive=False)
    return packed


def _submit(client: httpx.Client, case: Case, folder: Path) -> tuple[int, dict[str, object]]:
    path = _body(case, folder)
    answer = client.post(
        "/v1/fold",
        content=path.read_bytes(),
        headers={"Content-Type": "application/octet-stream", "Prefer": "respond-async, wait=0"},
        params={"filename": path.name},
    )
    if answer.status_code == 200:  # known work: the artifact itself came back
        return 200, {"id": answer.headers["Bnfold-Job"]}
    return answer.status_code, answer.json()


def _end(client: httpx.Client, job: str, seconds: float) -> dict[str, object]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        view: dict[str, object] = client.get(f"/v1/jobs/{job}", params={"wait": "5"}).json()
        if view["state"] in FINAL:
            return view
    raise AssertionError(f"job {job} is stuck: {view}")


class _Pulse:
    """Asks for /livez all the time."""

    def __init__(self, url: str) -> None:
        self.url, self.slowest, self.failures, self.over = url, 0.0, 0, False
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.thread.start()

    def _beat(self) -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not self.over:
                began = time.monotonic()
                try:
                    self.failures += client.get(f"{self.url}/livez").status_code != 200
                except httpx.HTTPError:
                    self.failures += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
                time.sleep(0.05)


def _siege(live: Live, chosen: list[Case], folder: Path, seconds: float) -> None:
    pulse = _Pulse(live.url)
    wrong = {}
    with httpx.Client(base_url=live.url, trust_env=False, timeout=120) as client:
        jobs = {}
        for case in chosen:
            status, view = _submit(client, case, folder)
            if status >= 500:
                wrong[case.name] = f"HTTP {status}"
            elif status >= 400:
                assert view["code"], case.name
            else:
                jobs[case.name] = str(view["id"])
        for name, job in jobs.items():
            view = _end(client, job, seconds)
            error = view.get("error")
            code = error.get("code") if isinstance(error, dict) else "ok"
            if code not in {*catalogue.ERRORS, "ok", "missing_from_checkpoint"} or code == "internal":
                wrong[name] = str(error)
    pulse.over = True
    pulse.thread.join()
    assert wrong == {}
    assert pulse.failures == 0
    assert live.process.poll() is None


def test_a_few_of_each_kind(live: Live, cases: list[Case], tmp_path: Path) -> None:
    chosen = [case for case in cases if case.name in FEW]
    assert len(chosen) == len(FEW)
    _siege(live, chosen, tmp_path, 240.0)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_all_of_them(live: Live, cases: list[Case], tmp_path: Path) -> None:
    def packable(case: Case) -> bool:
        inside = case.path.rglob("*") if case.path.is_dir() else [case.path]
        return all(p.is_file() or p.is_dir() for p in inside) and case.path.stat().st_size < 1 << 30

    _siege(live, [case for case in cases if packable(case)], tmp_path, 3600.0)


def test_names_from_models_are_text_in_the_pages(live: Live, cases: list[Case], tmp_path: Path) -> None:
    case = next(case for case in cases if case.name == "onnx/script_name")
    source = tmp_path / "m.onnx"
    shutil.copy(case.path, source)
    with httpx.Client(base_url=live.url, trust_env=False, timeout=120) as client:
        _, view = _submit(client, Case(case.name, source, case.codes), tmp_path)
        job = str(view["id"])
        assert _end(client, job, 240.0)["state"] in ("succeeded", "rejected")
        for accept in ("text/html", "text/markdown"):
            report = client.get(f"/v1/jobs/{job}/report", headers={"Accept": accept})
            assert "<script>alert(document.cookie)" not in report.text, accept
        page = client.get(f"/jobs/{job}", headers={"Accept": "text/html"})
        assert "<script>alert(document.cookie)" not in page.text
