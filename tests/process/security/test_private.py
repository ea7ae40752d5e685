"""No connection, no write outside: a real job under strace. And what the audit calls checked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from scripts import audit
from service.runner import minimum_versions
from tests.support.paths import ROOT

_WRITES = re.compile(
    r"(?:openat|creat|mkdirat?|unlinkat?|rename\w*|linkat?|symlinkat?|mknodat?|truncate)\((.*)\) += (\d+)$"
)


def _source(kind: str, home: Path) -> Path:
    from tests.process.security.strategies import SOUND

    if kind == "checkpoint":
        return Path(shutil.copytree(ROOT / "examples" / "tf1_checkpoint", home / "ckpt"))
    if kind == "saved_model":
        tf = pytest.importorskip("tensorflow")
        weights = tf.Variable(tf.ones((4, 2)))
        module = tf.Module()
        module.weights = weights
        module.run = tf.function(
            lambda x: tf.nn.relu(x @ weights), input_signature=[tf.TensorSpec([None, 4], tf.float32)]
        )
        tf.saved_model.save(module, str(home / "saved"), signatures=module.run)
        return home / "saved"
    suffix = {"onnx": "onnx", "keras": "keras", "tensorflow": "pb"}[kind]
    path = home / f"model.{suffix}"
    path.write_bytes(SOUND[kind]())
    return path


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "kind",
    ["onnx", "tensorflow"]
    + [pytest.param(kind, marks=pytest.mark.slow) for kind in ("keras", "saved_model", "checkpoint")],
)
def test_a_job_connects_to_nothing_and_writes_nowhere_else(tmp_path: Path, kind: str) -> None:
    home, scratch = tmp_path / "model", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    source = _source(kind, home)
    log = tmp_path / "trace"
    traced = subprocess.run(
        ["strace", "-f", "-qq", "-s", "200", "-e", "trace=network,%file", "-o", str(log),
         sys.executable, "-m", "tests.process.security.fold_in_runner", str(source), str(home / "out.onnx")],
        capture_output=True, text=True, timeout=400, cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(scratch)},
    )  # fmt: skip
    if "ptrace" in traced.stderr and traced.returncode:
        pytest.skip("this machine does not allow tracing")
    assert traced.returncode == 0, traced.stderr[-2000:]
    lines = log.read_text().splitlines()
    connects = [line for line in lines if re.search(r"\b(connect|sendto|sendmsg)\(.*\) += \d", line)]
    assert connects == []
    wrote = [line for line in lines if _is_write(line)]
    allowed = (str(scratch), str(home), "/dev/null", "/proc/", "/sys/fs/cgroup")
    outside = [line for line in wrote if not any(f'"{place}' in line for place in allowed) and '"/' in line]
    assert [line for line in outside if "__pycache__" not in line] == []
    assert wrote


def _is_write(line: str) -> bool:
    match = _WRITES.search(line)
    if match is None:
        return False
    return "openat(" not in line or "O_WRONLY" in line or "O_RDWR" in line or "O_CREAT" in line


def test_telemetry_is_off_in_every_runner(tmp_path: Path) -> None:
    from service.runner.config import environment

    assert environment(tmp_path, cuda=False)["ORT_DISABLE_TELEMETRY"] == "1"


def test_installed_versions_are_safe() -> None:
    assert minimum_versions.too_old() == {}


def test_an_old_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minimum_versions.metadata, "version", lambda name: "1.0.0")
    with pytest.raises(minimum_versions.DependencyTooOld, match="is older than"):
        minimum_versions.assert_minimum_versions()


def test_what_the_product_asks_for_is_never_older_than_what_is_safe() -> None:
    """Else a fresh install may be one that refuses to start."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    seen = set()
    for line in asked:
        requirement = Requirement(line)
        (bound,) = requirement.specifier
        assert bound.operator == ">="
        if requirement.name in minimum_versions.FLOORS:
            seen.add(requirement.name)
            assert Version(bound.version) >= Version(minimum_versions.FLOORS[requirement.name].version), line
    assert {"keras", "onnx", "onnxruntime", "python-multipart", "h5py", "jinja2", "cryptography"} <= seen


def test_a_skipped_package_is_not_checked() -> None:
    answer: dict[str, object] = {"dependencies": [{"name": "a", "skip_reason": "not found"}]}
    assert audit.judge(answer, {"a"}) == (["1 packages could not be looked up: a"], False)


def test_a_package_without_an_answer_is_not_checked() -> None:
    answer: dict[str, object] = {"dependencies": [{"name": "a", "version": "1", "vulns": []}]}
    assert audit.judge(answer, {"a", "b"})[1] is False
    assert audit.judge(answer, {"a"}) == ([], True)


def test_a_hole_is_reported() -> None:
    hole = {"id": "CVE-1", "fix_versions": ["2"]}
    answer: dict[str, object] = {"dependencies": [{"name": "a", "version": "1", "vulns": [hole]}]}
    assert audit.judge(answer, {"a"}) == (["a==1: CVE-1, mended in 2"], True)


def test_every_pin_has_a_hash() -> None:
    packages = audit.pinned(audit.ROOT / "constraints" / "runtime.txt")
    assert len(packages) > 40
    assert audit.offline(packages) == []
