"""What a runner leaves is checked before it is kept: the API reads it again and sends it to people."""

from __future__ import annotations

from pathlib import Path

import pytest

from folding.errors import UnsafeModel
from folding.report import Inspection, Report
from service.jobs import results


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{}", b"[" * 200_000, b'{"verdict": "pass"}', b"\xff\xfe", b'{"a": NaN}',
     b'{"verdict": "pass", "source": 5, "graph": []}'],
)  # fmt: skip
@pytest.mark.parametrize("kind", [Report, Inspection])
def test_a_report_that_is_none(tmp_path: Path, data: bytes, kind: type[Report] | type[Inspection]) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(data)
    with pytest.raises(UnsafeModel) as caught:
        results.read_report(path, kind)
    assert caught.value.error_code == "sandbox_violation"


def test_a_text_that_cannot_be_sent(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"format": "onnx\\ud800", "framework": "none"}')
    with pytest.raises(UnsafeModel):
        results.read_report(path, Inspection)


def test_a_true_one(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(Inspection(format="onnx", framework="none").to_json())
    assert results.read_report(path, Inspection)["format"] == "onnx"
