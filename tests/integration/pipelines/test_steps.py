"""The pipeline steps, run for real against a live service by interpreting their own files."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.integration.pipelines.interpret import clean_environment, github, gitlab
from tests.support.live import Live, live_service
from tests.support.paths import ROOT

ACTION = ROOT / "action.yml"
COMPONENT = ROOT / "templates" / "fold" / "template.yml"
STEP = ROOT / "deploy" / "ci" / "step.py"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A checkout that holds a model."""
    shutil.copytree(ROOT / "examples" / "tf1_checkpoint", tmp_path / "model")
    return tmp_path


def digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_github_action_passes(live: Live, workspace: Path) -> None:
    ran = github(ACTION, workspace, model="model", url=live.url, out="artifacts/model.onnx")
    assert ran.code == 0, ran.log
    assert ran.outputs["verdict"] == "pass"
    assert ran.outputs["digest"] == digest(workspace / "artifacts" / "model.onnx")
    assert ran.outputs["report-url"].startswith(f"{live.url}/v1/jobs/{ran.outputs['job']}")
    assert "pass" in ran.summary
    report = json.loads((workspace / "bnfold-reports" / "report.json").read_text())
    assert report["artifact"]["digest"] == ran.outputs["digest"]
    suite = ET.parse(workspace / "bnfold-reports" / "junit.xml").getroot()
    assert suite.findall(".//testcase")
    assert not suite.findall(".//failure")
    assert "<html" in (workspace / "bnfold-reports" / "report.html").read_text()


def test_action_annotates_sick_statistics(live: Live, workspace: Path) -> None:
    sick = workspace / "sick"
    shutil.copytree(ROOT / "examples" / "never_updated", sick)
    options = json.dumps({"outputs": ["batch_normalization_2/batchnorm/add_1:0"]})
    ran = github(ACTION, workspace, model="sick", url=live.url, options=options)
    assert ran.code == 0, ran.log
    warnings = [line for line in ran.log.splitlines() if line.startswith("::warning")]
    assert any("never_updated" in line for line in warnings), ran.log


def test_action_fails_on_strict_health(live: Live, workspace: Path) -> None:
    shutil.copytree(ROOT / "examples" / "never_updated", workspace / "sick")
    options = {"outputs": ["batch_normalization_2/batchnorm/add_1:0"], "strict": True}
    ran = github(ACTION, workspace, model="sick", url=live.url, options=json.dumps(options))
    assert ran.code == 4, ran.log
    assert "::error" in ran.log
    assert ran.outputs["verdict"] == "none"


def test_action_fails_on_the_verdict(live: Live, workspace: Path) -> None:
    """A provider that is required and absent makes the verdict inconclusive, so nothing is fetched."""
    options = json.dumps({"providers": ["cpu", "tensorrt"], "require": ["tensorrt"]})
    ran = github(ACTION, workspace, model="model", url=live.url, out="model.onnx", options=options)
    assert ran.code == 3, ran.log
    assert ran.outputs["verdict"] == "inconclusive"
    assert not (workspace / "model.onnx").exists()
    suite = ET.parse(workspace / "bnfold-reports" / "junit.xml").getroot()
    assert suite.findall(".//failure") or suite.findall(".//error") or suite.findall(".//skipped")


BROKEN = [
    ("gone", "{}", 2, "no such file"),
    ("text.h5", "{}", 4, "unknown_format"),
    ("model", "not json", 2, "not JSON"),
    ("model", '{"no_such_option": 1}', 2, "no_such_option"),
    ("model", '{"outputs": ["nowhere"]}', 2, "nowhere"),
]


@pytest.mark.parametrize(("model", "options", "code", "words"), BROKEN, ids=[b[3] for b in BROKEN])
def test_action_says_what_is_wrong(
    live: Live, workspace: Path, model: str, options: str, code: int, words: str
) -> None:
    (workspace / "text.h5").write_text("this is no model")
    ran = github(ACTION, workspace, model=model, url=live.url, options=options)
    assert ran.code == code, ran.log
    assert words in ran.log
    assert "Traceback" not in ran.log
    assert "::error" in ran.log


def test_a_service_that_is_not_there_is_temporary(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = clean_environment(BNFOLD_MODEL="model", BNFOLD_URL="http://127.0.0.1:9")
    quick = "import runpy, time\ntime.sleep = lambda seconds: None\n"
    code = f"{quick}runpy.run_path({str(STEP)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=workspace, env=environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 75, done.stdout + done.stderr
    assert "does not answer" in done.stdout


def test_second_run_is_answered_from_the_cache(live: Live, workspace: Path) -> None:
    first = github(ACTION, workspace, model="model", url=live.url)
    for path in (workspace / "model").iterdir():
        path.touch()  # times do not matter, bytes do
    again = github(ACTION, workspace, model="model", url=live.url)
    assert first.outputs["digest"] == again.outputs["digest"]
    assert "running" not in again.log


def test_gitlab_component(live: Live, workspace: Path) -> None:
    ran, job = gitlab(COMPONENT, workspace, model="model", url=live.url)
    assert ran.code == 0, ran.log
    assert ran.outputs["BNFOLD_VERDICT"] == "pass"
    assert ran.outputs["BNFOLD_DIGEST"] == digest(workspace / "model.onnx")
    for path in (*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]):
        assert (workspace / path).exists(), path


def test_gitlab_component_with_options(live: Live, workspace: Path) -> None:
    options = json.dumps({"providers": ["cpu", "tensorrt"], "require": ["tensorrt"]})
    ran, _ = gitlab(COMPONENT, workspace, model="model", url=live.url, options=options)
    assert ran.code == 3, ran.log


def test_component_holds_the_step_as_it_is() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "gitlab_template.py"), "--check"], check=False
    )
    assert done.returncode == 0, "run scripts/gitlab_template.py"


def test_keys_are_used_and_needed(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("keyed")
    made = subprocess.run(
        [sys.executable, "-c", "from service.cli import main; main()", "keys", "create", "ci", "--quiet",
         "--data-dir", str(folder / "data")],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    key = made.stdout.strip()
    with live_service(folder, require_keys="true") as keyed:
        refused = github(ACTION, workspace, model="model", url=keyed.url)
        assert refused.code == 2, refused.log
        ran = github(ACTION, workspace, model="model", url=keyed.url, key=key)
        assert ran.code == 0, ran.log
        assert key not in ran.log
        ran, _ = gitlab(COMPONENT, workspace, key=key, model="model", url=keyed.url)
        assert ran.code == 0, ran.log


def test_step_runs_on_the_standard_library_alone(live: Live, workspace: Path) -> None:
    """Without site-packages, as on a fresh runner."""
    environment = clean_environment(BNFOLD_MODEL="model", BNFOLD_URL=live.url, BNFOLD_REPORTS="r")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(STEP)],
        cwd=workspace, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


HOOKS = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}


def hook(name: str, workspace: Path, *files: str) -> subprocess.CompletedProcess[str]:
    """As pre-commit calls it: the entry with the file names that match."""
    import re

    chosen = [file for file in files if re.search(HOOKS[name]["files"], file)]
    script = Path(sys.executable).parent
    environment = clean_environment()
    environment["PATH"] = f"{script}:{environment['PATH']}"
    return subprocess.run(
        [*HOOKS[name]["entry"].split(), *chosen],
        cwd=workspace, env=environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


def test_local_hook(workspace: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    names = ("gamma", "beta", "mean", "var")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["c", *names], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4, 8, 8])],
        [numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype("float32"), "w")]
        + [numpy_helper.from_array(rng.uniform(0.5, 2, 4).astype("float32"), name) for name in names],
    )
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10),
        workspace / "m.onnx",
    )
    (workspace / "broken.onnx").write_text("no model")
    good = hook("bnfold", workspace, "m.onnx", "README.md")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "1 of 1 batch norms folded" in good.stdout
    bad = hook("bnfold", workspace, "m.onnx", "broken.onnx")
    assert bad.returncode == 4
    assert "FAIL broken.onnx" in bad.stdout
    healthy = hook("bnfold-health", workspace, "m.onnx", "model/model.ckpt.index")
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    assert not list(workspace.glob("*.rejected"))
