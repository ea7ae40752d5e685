"""What `make demo` runs: the whole way, over HTTP, on two real models.

Starts the service on a free port with an empty data folder, posts a checkpoint trained with TensorFlow 1.15 and a
Keras network built here, prints each report in words, downloads the artifacts, runs them with ONNX Runtime
beside the answers of the original frameworks, and stops the service. Exit code 0 when everything agrees.
"""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import contextmanager
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # only silences TensorFlow's note about it
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import httpx
import numpy as np


def say(text: str = "") -> None:
    print(text, flush=True)


def title(text: str) -> None:
    say(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}")


@contextmanager
def service(folder: Path) -> Iterator[httpx.Client]:
    """`bnfold serve` on a free port, ended with everything that it started."""
    log = (folder / "service.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c", "from service.cli import main; main()", "serve", "--port", "0",
         "--data-dir", str(folder / "data")],
        stdout=log, stderr=subprocess.STDOUT, cwd=folder,
    )  # fmt: skip
    try:
        url = wait_for_url(process, folder / "service.log")
        with httpx.Client(base_url=url, timeout=120.0, trust_env=False) as client:
            wait_until_ready(client)
            say(f"the service is up at {url}")
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


def wait_for_url(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that the service prints."""
    for _ in range(600):
        if process.poll() is not None:
            sys.exit(f"the service did not start:\n{log.read_text()}")
        for line in log.read_text().splitlines():
            if line.startswith("bnfold serves on "):
                return line.split()[-1]
        time.sleep(0.1)
    sys.exit(f"the service did not start within a minute:\n{log.read_text()}")


def wait_until_ready(client: httpx.Client) -> None:
    """Until a worker is there."""
    for _ in range(600):
        answer = client.get("/readyz")
        if answer.status_code == 200 and answer.json().get("ready"):
            say(f"ready, sandbox level: {answer.json().get('sandbox')}")
            return
        time.sleep(0.1)
    sys.exit(f"not ready within a minute: {answer.text}")


def packed(folder: Path) -> bytes:
    """The checkpoint's files as one .tar.gz, which is how several files become one request."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for path in sorted(folder.glob("*")):
            if path.suffix != ".npz":
                tar.add(path, path.name)
    return data.getvalue()


def fold(client: httpx.Client, body: bytes, filename: str) -> tuple[dict[str, Any], bytes]:
    """POST the model, wait, and fetch the report and the artifact by its digest."""
    say(f"POST /v1/fold   {filename}, {len(body):,} bytes")
    start = time.perf_counter()
    wait = {"Prefer": "wait=60"}
    answer = client.post("/v1/fold", params={"filename": filename}, content=body, headers=wait)
    while answer.status_code == 504:  # not finished in time: the same request joins the running job
        answer = client.post("/v1/fold", params={"filename": filename}, content=body, headers=wait)
    if answer.status_code != 200:
        sys.exit(f"HTTP {answer.status_code}: {answer.text}")
    say(f"200             verdict {answer.headers['bnfold-verdict']} after {time.perf_counter() - start:.1f} s")
    report = client.get(f"/v1/jobs/{answer.headers['bnfold-job']}/report", headers={"Accept": "application/json"})
    digest = report.json()["artifact"]["digest"]
    artifact = client.get(f"/v1/artifacts/{digest}").content
    found = "sha256:" + hashlib.sha256(artifact).hexdigest()
    assert found == digest, f"downloaded {found}, the report says {digest}"
    say(f"artifact        {len(artifact):,} bytes, {digest[:23]}..., digest checked")
    return report.json(), artifact


def in_words(report: dict[str, Any]) -> None:
    """The report as `bnfold fold` would print it."""
    from folding.report import Report
    from service.cli import describe
    from service.cli.output import Output

    say()
    describe.report(Report.model_validate(report), Output())


def agrees(artifact: bytes, expected: Any, output: str, whose: str) -> bool:
    """Run the artifact and compare with what the original framework answered."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(artifact, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    inputs = next(value for key, value in expected.items() if key != output)
    answer = session.run(None, {name: inputs})[0]
    worst = float(np.abs(answer - expected[output]).max())
    scale = float(np.abs(expected[output]).max())
    good = worst <= 1e-5 * max(scale, 1.0)
    say(f"\nONNX Runtime on {len(inputs)} inputs, against {whose}:")
    say(f"  largest difference {worst:.1e}, largest answer {scale:.2g}: {'agrees' if good else 'DOES NOT AGREE'}")
    return good


def keras_model(folder: Path) -> tuple[bytes, Any]:
    """Build the Keras network in a process of its own, as a user would have it."""
    subprocess.run(
        [sys.executable, str(HERE / "keras_network.py"), str(folder)], check=True, stderr=subprocess.DEVNULL
    )
    return (folder / "network.keras").read_bytes(), dict(np.load(folder / "expected.npz"))


def main() -> int:
    """The demo; 0 when every artifact agrees with its original."""
    with tempfile.TemporaryDirectory(prefix="bnfold-demo-") as name, service(Path(name)) as client:
        title("A checkpoint trained with TensorFlow 1.15")
        expected = dict(np.load(HERE / "tf1_checkpoint" / "expected.npz"))
        report, artifact = fold(client, packed(HERE / "tf1_checkpoint"), "tf1_checkpoint.tar.gz")
        in_words(report)
        good = agrees(artifact, expected, "probs:0", "TensorFlow 1.15's own answers")

        title("A Keras network with live statistics")
        body, expected = keras_model(Path(name))
        report, artifact = fold(client, body, "network.keras")
        in_words(report)
        good = agrees(artifact, expected, "classes", "Keras' own answers") and good

        title("done" if good else "something does not agree")
        say("Next: `make serve` and open http://127.0.0.1:8750, or `.venv/bin/bnfold fold YOUR_MODEL -o model.onnx`.")
        return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
