"""The commands on a job's page, executed as they are: each gives the artifact of the job again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from tests.e2e.conftest import Visit
from tests.integration.pipelines.interpret import clean_environment, github, gitlab
from tests.support import networks
from tests.support.paths import ROOT


@pytest.fixture
def job(visit: Visit, tmp_path: Path) -> dict[str, str]:
    """A job with options of several kinds and with both data files; its id and its artifact's digest."""
    rng = np.random.default_rng(0)
    files = {"model": networks.residual(tmp_path / "net.onnx", 2).read_bytes()}
    for name in ("calibration", "probe"):
        np.savez(tmp_path / f"{name}.npz", image=rng.normal(size=(4, 4, 6, 6)).astype(np.float32))
        files[name] = (tmp_path / f"{name}.npz").read_bytes()
    digests = {name: "sha256:" + hashlib.sha256(body).hexdigest() for name, body in files.items()}
    options = {"outputs": ["block1/add:0"], "inputs": {"image": [None, 4, 6, 6]}, "recalibrate": True,
               "opset": 19, "rename_outputs": {"block1/add:0": "it's $HOME"}}  # fmt: skip
    with httpx.Client(base_url=visit.url, trust_env=False, timeout=300) as client:
        for name, body in files.items():
            client.put(f"/v1/blobs/{digests[name]}", content=body).raise_for_status()
        body = {"input": digests["model"], "filename": "my net.onnx", "options": options}
        body |= {"calibration": digests["calibration"], "probe": digests["probe"]}
        made = client.post("/v1/jobs", json=body).json()
        done = client.get(f"/v1/jobs/{made['id']}", params={"wait": 240}).json()
    assert done["verdict"] == "pass", done
    return {"id": done["id"], "digest": done["artifact"]["digest"]}


def test_every_command_gives_the_same_artifact(visit: Visit, job: dict[str, str], tmp_path: Path) -> None:
    page = visit.go(f"/jobs/{job['id']}")
    titles = page.locator(".snippet h3").all_text_contents()
    texts = dict(zip(titles, page.locator(".snippet code").all_text_contents(), strict=True))
    work = tmp_path / "reader"
    work.mkdir()
    (work / "bin").mkdir()
    command = work / "bin" / "bnfold"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m service.cli "$@"\n')
    command.chmod(0o755)
    environment = clean_environment(no_proxy="*", PYTHONPATH=str(ROOT))
    environment["PATH"] = f"{work / 'bin'}:{environment['PATH']}"

    def run(title: str) -> None:
        done = subprocess.run(
            ["bash", "-euc", texts[title]],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{title}: {done.stderr}"

    def made() -> str:
        found = (work / "model.onnx").read_bytes()
        (work / "model.onnx").unlink()
        return "sha256:" + hashlib.sha256(found).hexdigest()

    run("Fetch the files of this job")
    for title in ("Download and check", "Do it again with curl", "On the command line"):
        run(title)
        assert made() == job["digest"], title
    [step] = yaml.safe_load(texts["GitHub Actions"])
    ran = github(ROOT / "action.yml", work, **step["with"])
    assert ran.code == 0, ran.log
    assert made() == job["digest"]
    inputs = yaml.safe_load(texts["GitLab CI"])["include"][0]["inputs"]
    inputs["options"] = inputs["options"].replace("$$", "$")  # as a runner expands it
    ran, _ = gitlab(ROOT / "templates" / "fold" / "template.yml", work, **inputs)
    assert ran.code == 0, ran.log
    assert made() == job["digest"]
