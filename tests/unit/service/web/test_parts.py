"""Forms, charts, words, latency, snippets: the pure parts."""

# ruff: noqa: E501  rows of data

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from folding.options import FoldOptions
from folding.report import ArrayStats
from service.cli import app, remote_commands
from service.web import apidocs, snippets, views
from service.web.api_records import download_name
from service.web.charts import calibration, latency, svg
from service.web.forms import options_form
from service.web.rendering import formats
from tests.unit.service.web import sample


def test_every_option_is_on_the_form_once_with_its_default() -> None:
    fields = [item for _, items in options_form(None) for item in items]
    assert sorted(item.name for item in fields) == sorted(FoldOptions.model_fields)
    defaults = FoldOptions().model_dump(mode="json")
    for item in fields:
        assert item.default == defaults[item.name]
        assert item.help, f"{item.name} has no help"
        assert item.title


def test_the_form_offers_what_the_inspection_found() -> None:
    fields = {
        item.name: item for _, items in options_form(sample.inspection(), ["cpu", "cuda"]) for item in items
    }
    assert fields["inputs"].rows == [("image", "float32", "N, 224, 224, 3")]
    assert fields["outputs"].choices == [("logits", "logits")]
    assert [value for value, _ in fields["providers"].choices] == ["cpu", "cuda"]
    assert (fields["opset"].kind, fields["opset"].minimum) == ("integer", 7)
    assert fields["missing_stats"].kind == "choice"
    assert fields["rename_inputs"].kind == "renames", "a new name `1` is a text, not a number"


@given(st.lists(st.integers(0, 10**9), max_size=60))
def test_bars_stay_inside_their_box(counts: list[int]) -> None:
    path = svg.bars(counts)
    assert path.count("z") == sum(count > 0 for count in counts)
    assert "nan" not in path
    assert "inf" not in path
    for part in path.split("M")[1:]:
        assert 0 <= float(part.split(" ")[0]) <= svg.HISTOGRAM[0]


def test_zero_is_marked_where_it_lies() -> None:
    def of(low: float | None, high: float | None) -> float | None:
        return svg.zero_mark(ArrayStats(dtype="float32", size=2, min=low, max=high))

    assert of(-1, 3) == 24
    assert of(1, 3) is None
    assert of(None, None) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "–"), (0, "0"), (12345, "12,345"), (float("nan"), "NaN"), (float("-inf"), "−∞"), ("NaN", "NaN"),
     (1.5e-7, "1.5e−07"), (True, "yes"), ("", "–")],
)  # fmt: skip
def test_numbers(value: float | str | None, words: str) -> None:
    assert formats.number(value) == words


def test_times_shapes_sizes() -> None:
    assert formats.moment("2026-01-31T12:00:00.000Z") == "2026-01-31 12:00:00 UTC"
    assert formats.moment("soon") == "–"
    assert formats.moment(1e300) == "–"
    assert formats.machine_moment(0.0) == "1970-01-01T00:00:00Z"
    assert formats.shape(["N", None, 3]) == "N × ? × 3"
    assert formats.shape([]) == "scalar"
    assert formats.size(1536) == "1.5 kB"
    assert [formats.duration(v) for v in (5e-6, 0.02, 3.0, 125.0)] == ["5 µs", "20 ms", "3.0 s", "2 min 5 s"]


def test_latency_of_any_shape_is_read() -> None:
    record = {"rows": [{"provider": "cpu", "optimization_level": "enable_all", "before": {"median_ms": 4.0, "low_ms": 3.9, "high_ms": 4.1},
                        "after": {"median_ms": 2.0, "low_ms": 1.9, "high_ms": 2.1}}], "seed": 3}  # fmt: skip
    (row,) = latency.rows(record)
    assert (row.label, row.change) == ("cpu enable all", "2.00× faster")
    assert (row.before.middle, row.after.low) == (0.004, 0.0019)
    noisy = {
        "cpu": {
            "before": {"median": 1.0, "low": 0.8, "high": 1.2},
            "after": {"median": 0.9, "low": 0.7, "high": 1.1},
        }
    }
    assert "within the noise" in latency.rows(noisy)[0].change
    assert latency.rows({"before": 1.0, "after": 2.0})[0].change == "2.00× slower"
    assert latency.rows({"odd": ["x", 1], "before": True}) == []
    assert latency.rows(None) == []


NASTY = "my model'; rm -rf ~ $(id) `id`.h5"


def work(**more: Any) -> snippets.Work:
    given: dict[str, Any] = {
        "base": "http://localhost",
        "filename": "model.h5",
        "source": sample.SOURCE,
        "options": {},
    }
    return snippets.Work(**(given | more))


EVERYTHING: dict[str, Any] = {
    "inputs": {"x:0": [None, 224, "C", 3], "y": []}, "outputs": ["a:0", "-odd"], "feeds": {"is_training": False, "mode": "1", "axes": [1, 2]},
    "signature": "serving default", "tags": ["serve"], "step": 3, "use_ema": True, "missing_stats": "init", "recalibrate": True,
    "rename_inputs": {"x:0": "image"}, "rename_outputs": {"a:0": "it's"}, "inputs_as_nchw": ["x:0"], "outputs_as_nchw": ["a:0"],
    "artifact_inputs": {"x:0": [1, 224, 224, 3]}, "opset": 17, "freeze_inputs": True, "providers": ["cpu", "cuda"], "require": ["cuda"],
    "rtol": 1e-3, "atol": 0.5, "seed": 7, "strict": True, "latency": True, "ort_format": True,
    "input_mean": {"x:0": [123.5, 116.0, 103.25]}, "input_std": {"x:0": [255.0]}, "uint8_inputs": ["x:0"],
}  # fmt: skip


def test_the_command_line_says_every_option_and_data_file_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(EVERYTHING) == set(FoldOptions.model_fields) - {"verify"}, "a new option: try it here too"
    text = snippets.command(work(options=EVERYTHING, calibration=sample.DIGEST, probe=sample.DIGEST))
    assert text is not None
    words = shlex.split(text.replace("\\\n", " "))
    seen: dict[str, Any] = {}
    monkeypatch.setattr(remote_commands, "submit", lambda *given, **rest: seen.update(rest, all=given) or 0)
    CliRunner().invoke(app.app, words[1:], catch_exceptions=False)
    assert remote_commands.fold_options(seen["given"]) == FoldOptions(**EVERYTHING)
    assert Path("calibration.npz") in seen["all"]
    assert Path("probe.npz") in seen["all"]


def test_the_curl_command_repeats_options_data_and_key_under_names_that_were_fetched() -> None:
    asked = work(
        filename=NASTY, options={"outputs": [NASTY + ";type=x"]}, calibration=sample.DIGEST, keyed=True
    )
    words = shlex.split(snippets.submit(asked).replace("\\\n", " "))
    options = next(word for word in words if word.startswith("options="))
    assert words[words.index(options) - 1] == "--form-string", "curl reads `;type=` in other forms"
    assert json.loads(options.removeprefix("options=")) == {"outputs": [NASTY + ";type=x"]}
    assert "--retry" in words, "504 means that the job still runs; curl sends the request again"
    assert "Authorization: Bearer $BNFOLD_KEY" in words
    fetched = snippets.fetch(asked)
    assert fetched.count("Authorization") == 2
    for part in (f"model=@{asked.model}", "calibration=@calibration.npz"):
        assert part in words
        assert f"-o {part.partition('@')[2]}" in fetched
    assert asked.model.isascii()
    assert not set(asked.model) & set(" '$`;/()")


def test_the_pipelines_repeat_options_and_data() -> None:
    asked = work(options={"outputs": ["it's ${{ secrets.X }} $HOME"]}, probe=sample.DIGEST, keyed=True)
    [step] = yaml.safe_load(snippets.github(asked))
    assert "${{ secrets.X }}" not in step["with"]["options"], "the runner would put the secret in"
    assert step["with"]["key"] == "${{ secrets.BNFOLD_KEY }}"
    assert step["with"]["probe"] == "probe.npz"
    inputs = yaml.safe_load(snippets.gitlab(asked))["include"][0]["inputs"]
    assert "'" not in inputs["options"], "the component puts it between apostrophes"
    assert json.loads(inputs["options"].replace("$$", "$")) == asked.options
    assert inputs["probe"] == "probe.npz"


def test_what_no_flag_can_say_has_no_command_line() -> None:
    assert snippets.command(work(options={"verify": False})) is None
    assert snippets.command(work(options={"feeds": {"a=b": 1}})) is None
    assert snippets.command(work(options={"inputs": {"x": ["not a word"]}})) is None


def test_download_names_are_plain() -> None:
    assert download_name("resnet50.h5") == "resnet50-folded.onnx"
    assert download_name(sample.HOSTILE).isascii()
    assert download_name("") == "model-folded.onnx"
    assert "/" not in download_name("../../etc/passwd")


def test_the_worst_output_is_the_one_that_failed() -> None:
    from folding.report import Verdict

    worst = views.worst_output(sample.report(Verdict.FAIL))
    assert worst is not None
    assert not worst.passed


def test_references_are_followed_and_loops_end() -> None:
    document = {"components": {"schemas": {"A": {"$ref": "#/components/schemas/A"},
                "B": {"type": "object", "properties": {"b": {"$ref": "#/components/schemas/B"}, "n": {"type": "integer"}}}}}}  # fmt: skip
    apidocs.resolved(document, {"$ref": "#/components/schemas/A"})
    rows = list(apidocs.properties(document, {"$ref": "#/components/schemas/B"}))
    assert [row.name for row in rows if row.level == 0] == ["b", "n"]
    assert len(rows) < 20


def test_calibration_of_any_shape_is_read() -> None:
    record = {"samples": 1000, "applied": False, "ignored_arrays": ["y"],
              "layers": [{"name": "bn", "measured": True, "mean": [0.5, 1.0], "variance": [2.0], "stored_mean": [0.0, 0.0],
                          "stored_variance": [1.0], "mean_shift": 4.06, "variance_ratio": [0.06, 0.17]}, {"name": "other"}, 3],
              "outputs": {"out": {"max_abs": 2.4, "relative_rms": 0.98}, "odd": None}}  # fmt: skip
    found = calibration.view(record)
    assert found is not None
    assert found.layers[0].ratio == "0.06 … 0.17"
    assert found.layers[0].stored == "mean 0, variance 1"
    assert found.layers[1].measured == "not measured"
    assert found.outputs == [("out", "2.4", "0.98")]
    mean, variance = found.layers[0].charts
    assert (mean.title, variance.title) == ("Moving mean", "Moving variance")
    assert calibration.binned([0.0, 0.5, 1.0], 0.0, 1.0)[0] == 1
    assert sum(calibration.binned([2.0, 2.0], 2.0, 2.0)) == 2
    assert found.layers[1].charts == []
    assert calibration.view(None) is None
    assert calibration.view({"samples": 1}) is not None
