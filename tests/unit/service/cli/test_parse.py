"""From what people type to what the library takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from folding.errors import UsageError
from service.cli import parse
from service.cli.fold import check_calibration
from service.cli.invocation import fold_options

SHAPES = [
    ("x=1,224,224,3", "x", [1, 224, 224, 3]),
    ("x:0=?,224,224,3", "x:0", [None, 224, 224, 3]),
    ("x=[-1,3]", "x", [None, 3]),
    ("x=1x3x8", "x", [1, 3, 8]),
    ("x=batch,3", "x", ["batch", 3]),
    ("x", "x", []),
    ("a=b=2,3", "a=b", [2, 3]),
]


@pytest.mark.parametrize(("text", "name", "dims"), SHAPES)
def test_shape(text: str, name: str, dims: list[object]) -> None:
    assert parse.shape(text) == (name, dims)


@pytest.mark.parametrize("text", ["=1,2", "x=1,two words", "x=1.5"])
def test_bad_shape(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse.shape(text)
    assert caught.value.hint


FEEDS = [
    ("t=false", False), ("t=False", False), ("t=True", True), ("p=1.0", 1.0), ("n=3", 3),
    ("m=eval", "eval"), ("l=[1, 2]", [1, 2]), ("e=", ""), ("q='x'", "x"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), FEEDS)
def test_feed(text: str, value: object) -> None:
    name, found = parse.feed(text)
    assert name == text[0]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["is_training", "=1", ""])
def test_bad_feed(text: str) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parse.feed(text)


@given(st.text())
def test_parsers_raise_nothing_but_usage_errors(text: str) -> None:
    for reader in (parse.shape, parse.feed):
        try:
            reader(text)
        except UsageError:
            continue


def test_arrays_keep_names(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **{"scope/x:0": np.ones((2, 3), np.float32)})
    feeds = parse.arrays(path, "--probe")
    assert feeds is not None
    assert {name: value.shape for name, value in feeds.items()} == {"scope/x:0": (2, 3)}


def no_archives(folder: Path) -> tuple[Path, Path, Path]:
    """An archive of nothing, a bare array, and rubbish by the name of an archive."""
    empty, bare, rubbish = folder / "empty.npz", folder / "bare.npy", folder / "rubbish.npz"
    np.savez(empty)
    np.save(bare, np.ones(3))
    rubbish.write_bytes(b"not a zip")
    return empty, bare, rubbish


def test_pickles_and_rubbish_are_refused(tmp_path: Path) -> None:
    pickled = tmp_path / "objects.npz"
    np.savez(pickled, x=np.array([{}], dtype=object), allow_pickle=True)
    for path in (pickled, *no_archives(tmp_path)):
        with pytest.raises(UsageError, match="--calibrate") as caught:
            parse.arrays(path, "--calibrate")
        assert "numpy.savez" in (caught.value.hint or "")


def test_an_archive_is_looked_at_before_the_sandbox_reads_it(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    np.savez(good, x=np.ones(2))
    parse.npz(good, "--probe")
    for path in (*no_archives(tmp_path), tmp_path):
        with pytest.raises(UsageError, match="--probe") as caught:
            parse.npz(path, "--probe")
        assert "numpy.savez" in (caught.value.hint or "")


def test_unknown_option_value_is_named() -> None:
    with pytest.raises(UsageError, match="opset") as caught:
        parse.options(opset=3)
    assert caught.value.details["option"] == "opset"


def test_options_from_flags() -> None:
    options = fold_options(
        {"inputs": ["x=?,3"], "outputs": ["y"], "feeds": ["t=false"], "providers": ["CPU"], "strict": None}
    )
    assert options.inputs == {"x": [None, 3]}
    assert options.outputs == ["y"]
    assert options.feeds == {"t": False}
    assert options.providers == ["cpu"]
    assert options.strict is False


def test_recalibrate_needs_data() -> None:
    with pytest.raises(UsageError, match="needs data"):
        check_calibration(fold_options({"recalibrate": True}), None)


def test_checkpoint_prefix_stands_for_its_files(tmp_path: Path) -> None:
    for suffix in ("index", "meta", "data-00000-of-00001"):
        (tmp_path / f"model.ckpt-7.{suffix}").write_text(suffix)
    (tmp_path / "model.ckpt-70.index").write_text("another step")
    for name in ("model.ckpt-7", "model.ckpt-7.meta", "model.ckpt-7.data-00000-of-00001"):
        with parse.model(tmp_path / name) as folder:
            assert sorted(p.name for p in folder.iterdir()) == [
                "model.ckpt-7.data-00000-of-00001", "model.ckpt-7.index", "model.ckpt-7.meta",
            ]  # fmt: skip


def test_other_paths_stay_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"")
    for path in (file, tmp_path):
        with parse.model(path) as found:
            assert found == path


def test_missing_model_names_neighbours(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(UsageError) as caught, parse.model(tmp_path / "modle.onnx"):
        pass
    assert "model.onnx" in (caught.value.hint or "")


def test_the_file_of_a_saved_model_stands_for_its_folder(tmp_path: Path) -> None:
    """A hook is given the file alone; the weights lie in the folder `variables` beside it."""
    file = tmp_path / "saved_model.pb"
    file.write_bytes(b"\x08\x01")
    with parse.model(file) as alone:
        assert alone == file  # without weights it may be anything: its content says what
    (tmp_path / "variables").mkdir()
    with parse.model(file) as whole:
        assert whole == tmp_path
