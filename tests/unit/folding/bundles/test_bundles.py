"""Each kind of bundle: what is in it, that it loads, and what is refused."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from onnxruntime.tools.reduced_build_config_parser import parse_config

import bnfold
from bnfold.results import Folded
from folding import bundles
from folding.bundles import kserve, local, packing, triton
from folding.errors import UnsupportedModel, UsageError
from folding.ort import save_ort_format
from folding.report import ArtifactReport, HealthCode, Recalibrated, Report, Verdict
from folding.report.render import render
from folding.report.render.card import recalibrated
from tests.support.networks import residual
from tests.support.reports import norm, sample_report


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return residual(tmp_path_factory.mktemp("source") / "net.onnx", 2)


@pytest.fixture(scope="module")
def folded(source: Path) -> Folded:
    return bnfold.fold(source, ort_format=True, progress=False)


def answers(model: Path | bytes, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model))
    found: np.ndarray = session.run(None, {"image": x})[0]
    return found


def image() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(2, 4, 6, 6)).astype(np.float32)


def test_triton_is_a_model_repository(folded: Folded, tmp_path: Path) -> None:
    out = folded.bundle(tmp_path / "repository.zip", name="mobile")
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["mobile/config.pbtxt", "mobile/1/model.onnx", "mobile/report.json"]
        assert archive.read("mobile/1/model.onnx") == folded.artifact
    again = folded.bundle(tmp_path / "again.zip", name="mobile")
    assert again.read_bytes() == out.read_bytes()


def test_triton_config() -> None:
    config = triton.config_text(sample_report().source, "mobile")
    fields = dict(re.findall(r"^(name|backend|max_batch_size): \"?([\w]+)\"?$", config, re.M))
    assert fields == {"name": "mobile", "backend": "onnxruntime", "max_batch_size": "64"}
    assert 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 8, 8, 1 ] } ]' in config
    assert 'output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] } ]' in config


def test_kserve_has_the_repository_and_the_service(folded: Folded, tmp_path: Path) -> None:
    out = folded.bundle(tmp_path / "out", "kserve", "Res_Net.v2", storage_uri="s3://bucket/res: net")
    service = yaml.safe_load((out / "inferenceservice.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert service["metadata"]["name"] == "res-net-v2"
    assert service["metadata"]["annotations"]["bnfold.digest"] == folded.report.artifact.digest  # type: ignore[union-attr]
    model = service["spec"]["predictor"]["model"]
    assert (model["runtime"], model["storageUri"]) == ("kserve-tritonserver", "s3://bucket/res: net")
    assert (out / "models/Res_Net.v2/1/model.onnx").read_bytes() == folded.artifact
    assert 'name: "Res_Net.v2"' in (out / "models/Res_Net.v2/config.pbtxt").read_text()


@pytest.mark.parametrize("name", ["a", "9", "A.B_C-", "-.x", "x" * 100, "yes"])
def test_kserve_names_are_dns_labels(name: str) -> None:
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", kserve.label(name))


def test_ort_format_runs_and_names_its_operators(folded: Folded, tmp_path: Path) -> None:
    out = folded.bundle(tmp_path / "out", "ort")
    expected = answers(folded.artifact or b"", image())
    np.testing.assert_allclose(answers(out / "model.ort", image()), expected, rtol=1e-5, atol=1e-5)
    operators, types = parse_config(str(out / "required_operators.config"), True)
    used = {op for found in operators.values() for ops in found.values() for op in ops}
    assert {"Add", "Relu"} & used or "FusedConv" in used
    assert operators
    assert types is not None
    assert "/tmp" not in (out / "required_operators.config").read_text()
    rows = [row for row in folded.report.verification if row.optimization_level == "ort_format"]
    assert rows
    assert all(row.status == "pass" and row.judged for row in rows)


def test_a_wrong_file_in_ort_format_is_no_pass(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime writes another model than the artifact: the verdict must see it."""

    def write_another(model: Path, out: Path) -> None:
        wrong = onnx.load(model)
        weight = next(t for t in wrong.graph.initializer if len(t.dims) == 4)
        array = onnx.numpy_helper.to_array(weight).copy()
        array[0] *= 1.01
        weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
        onnx.save(wrong, model.with_name("wrong.onnx"))
        save_ort_format(model.with_name("wrong.onnx"), out)

    monkeypatch.setattr("folding.ort.save_ort_format", write_another)
    report = bnfold.fold(source, ort_format=True, progress=False).report
    assert report.verdict is Verdict.FAIL
    assert {r.status for r in report.verification if r.optimization_level == "ort_format"} == {"fail"}
    assert {r.status for r in report.verification if r.optimization_level != "ort_format"} == {"pass"}


def test_a_model_that_the_runtime_cannot_write_is_refused_by_code(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: Path, out: Path) -> None:
        raise RuntimeError("ORT format has at most 2 GiB")

    monkeypatch.setattr("folding.ort.save_ort_format", refuse)
    with pytest.raises(UnsupportedModel) as caught:
        bnfold.fold(source, ort_format=True, progress=False)
    assert caught.value.error_code == "no_ort_format_possible"


def test_without_the_option_there_is_no_ort_format(source: Path, tmp_path: Path) -> None:
    plain = bnfold.fold(source, tmp_path / "net.onnx", progress=False)
    assert plain.ort_format is None
    assert plain.report.ort_format is None
    assert not (tmp_path / "net.ort").exists()
    with pytest.raises(UsageError) as caught:
        plain.bundle(tmp_path / "out", "ort")
    assert caught.value.error_code == "no_ort_format"
    assert not (tmp_path / "out").exists()


def test_the_library_writes_ort_format_beside_the_artifact(source: Path, tmp_path: Path) -> None:
    made = bnfold.fold(source, tmp_path / "net.onnx", ort_format=True, progress=False)
    assert (tmp_path / "net.ort").read_bytes() == made.ort_format


def test_a_folder_has_report_card_and_attestation(folded: Folded, tmp_path: Path) -> None:
    out = folded.bundle(tmp_path / "out", "folder", attestation=b'{"payload": ""}')
    names = sorted(path.name for path in out.iterdir())
    assert names == ["attestation.json", "model.onnx", "model_card.md", "report.json"]
    report = Report.model_validate_json((out / "report.json").read_bytes())
    assert report.artifact == folded.report.artifact
    card = (out / "model_card.md").read_text()
    assert report.artifact is not None
    assert report.artifact.digest.replace("sha256:", "") in card.replace("\\", "")
    assert "## Evidence of equivalence" in card
    assert "image" in card
    without = folded.bundle(tmp_path / "bare", "folder")
    assert not (without / "attestation.json").exists()


def test_weights_beside_the_model_keep_their_name(folded: Folded, tmp_path: Path) -> None:
    """The name of the weights file stands inside the model."""
    model = tmp_path / "net.onnx"
    (tmp_path / "net.onnx.data").write_bytes(b"weights")
    model.write_bytes(folded.artifact or b"")
    members = triton.members(local.contents(model, folded.report))
    assert [m.path for m in members][1:3] == ["model/1/model.onnx", "model/1/net.onnx.data"]
    assert b"".join(members[2].open()) == b"weights"


def test_a_card_shows_findings_and_escapes_names() -> None:
    hostile = "bn <script>|`@someone`"
    card = render(sample_report(norms=[norm(hostile, code=HealthCode.NEVER_UPDATED)]), "card")
    assert "never\\_updated" in card
    assert "<script>" not in card
    assert "@someone" not in card
    assert "Assumed: is\\_training" in card
    assert "training data, intended use" in card


def test_the_card_of_a_recalibrated_artifact_is_about_that_one() -> None:
    report = sample_report()
    artifact = ArtifactReport(digest="sha256:" + "ef" * 32, bytes=77)
    report.recalibrated = Recalibrated(file="r.onnx", artifact=artifact, verdict=Verdict.PASS)
    card = render(recalibrated(report), "card")
    assert "ef" * 32 in card
    assert "ab" * 32 not in card
    with pytest.raises(ValueError, match="no recalibrated"):
        recalibrated(sample_report())


def test_what_is_not_proved_is_not_packed(folded: Folded, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(folded.artifact or b"")
    failed = folded.report.model_copy(update={"verdict": Verdict.FAIL})
    with pytest.raises(UsageError) as caught:
        local.contents(path, failed)
    assert caught.value.error_code == "quarantined"
    path.write_bytes((folded.artifact or b"") + b"\0")
    with pytest.raises(UsageError) as caught:
        local.contents(path, folded.report)
    assert caught.value.error_code == "digest_mismatch"
    with pytest.raises(UsageError):
        local.contents(path, folded.report, name="../x")


def test_unknown_kinds_and_places_are_named(folded: Folded, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        bundles.find("zip")
    assert caught.value.error_code == "unknown_bundle"
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="there already"):
        packing.write([], tmp_path / "there")
    with pytest.raises(UsageError, match="no folder"):
        packing.write([], tmp_path / "no" / "out")
    assert len({*bundles.KINDS}) == len(bundles.BUNDLES)
    json.dumps(bundles.KINDS)
