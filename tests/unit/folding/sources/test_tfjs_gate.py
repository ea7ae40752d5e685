"""The gate of TensorFlow.js models, and the weights that their shards hold."""

# Tables of one case a line read better than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folding.errors import BnfoldError, CorruptModel, UnsafeModel
from folding.sources.gates.tfjs import check_model_json, deepest, looks_like_model_json, shard_names
from folding.sources.tfjs import weights
from folding.sources.unpack import open_upload

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def document() -> dict[str, Any]:
    return {
        "format": "graph-model",
        "modelTopology": {"node": []},
        "weightsManifest": [
            {"paths": ["a/one.bin", "two.bin"], "weights": [
                {"name": "w", "shape": [2, 3], "dtype": "float32"},
                {"name": "q", "shape": [2], "dtype": "float32",
                 "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0, "original_dtype": "float32"}},
                {"name": "h", "shape": [1], "dtype": "float32", "quantization": {"dtype": "float16"}},
            ]},
            {"paths": ["three.bin"], "weights": [{"name": "s", "shape": [2], "dtype": "string"}]},
        ],
    }  # fmt: skip


def saved(
    folder: Path, spoil: Callable[[dict[str, Any]], None] | None = None, *, compressed: bool = False
) -> Path:
    (folder / "a").mkdir(parents=True)
    made = document()
    if spoil is not None:
        spoil(made)
    data = VALUES.tobytes() + bytes([4, 6]) + np.float16(1.5).tobytes()
    texts = b"".join(len(t).to_bytes(4, "little") + t for t in (b"ab", b""))
    pack = gzip.compress if compressed else bytes
    (folder / "a/one.bin").write_bytes(pack(data[:7]))
    (folder / "two.bin").write_bytes(pack(data[7:]))
    (folder / "three.bin").write_bytes(pack(texts))
    (folder / "model.json").write_bytes(pack(json.dumps(made).encode()))
    return folder / "model.json"


FILES = ("model.json", "a/one.bin", "two.bin", "three.bin")


@pytest.mark.parametrize("compressed", [False, True])
def test_weights_are_read_over_shards_and_groups(tmp_path: Path, compressed: bool) -> None:
    path = saved(tmp_path, compressed=compressed)
    assert looks_like_model_json(path)
    found = weights.read(check_model_json(path, tmp_path, FILES), tmp_path)
    assert np.array_equal(found["w"], VALUES)
    assert found["q"].tolist() == [1.0, 2.0]
    assert found["h"].tolist() == [1.5]
    assert found["s"].tolist() == [b"ab", b""]


def test_a_model_json_brings_its_shards_along(tmp_path: Path) -> None:
    path = saved(tmp_path / "m")
    (tmp_path / "m" / "stranger.bin").write_bytes(b"x")
    assert open_upload(path, tmp_path / "work").files == tuple(sorted(FILES))
    assert shard_names(path) == ["a/one.bin", "two.bin", "three.bin"]


def test_a_lone_gzipped_model_json_is_no_archive(tmp_path: Path) -> None:
    """Hubs serve model.json as gzip; a tar in gzip stays an archive."""
    path = saved(tmp_path / "m", compressed=True)
    upload = open_upload(path, tmp_path / "work")
    assert upload.files == tuple(sorted(FILES))
    packed = tmp_path / "model.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(path, "model.json")
    assert open_upload(packed, tmp_path / "work").root == tmp_path / "work" / "unpacked"


def group(made: dict[str, Any]) -> dict[str, Any]:
    return made["weightsManifest"][0]  # type: ignore[no-any-return]


REFUSED: tuple[tuple[str, Callable[[dict[str, Any]], Any], type[BnfoldError], str], ...] = (
    ("absolute", lambda m: group(m)["paths"].__setitem__(0, "/etc/passwd"), UnsafeModel, "unsafe_shard_path"),
    ("upwards", lambda m: group(m)["paths"].__setitem__(0, "a/../../x.bin"), UnsafeModel, "unsafe_shard_path"),
    ("address", lambda m: group(m)["paths"].__setitem__(0, "https://a.example/x"), UnsafeModel, "unsafe_shard_path"),
    ("backslash", lambda m: group(m)["paths"].__setitem__(0, "a\\one.bin"), UnsafeModel, "unsafe_shard_path"),
    ("no text", lambda m: group(m)["paths"].__setitem__(0, 7), UnsafeModel, "unsafe_shard_path"),
    ("absent", lambda m: group(m)["paths"].__setitem__(0, "other.bin"), CorruptModel, "missing_shard"),
    ("larger", lambda m: group(m)["weights"][0].update(shape=[2, 300]), CorruptModel, "corrupt_tfjs"),
    ("smaller", lambda m: group(m)["weights"][0].update(shape=[1, 3]), CorruptModel, "corrupt_tfjs"),
    ("huge", lambda m: group(m)["weights"][0].update(shape=[2**40, 2**40]), UnsafeModel, "unsafe_dimensions"),
    ("negative", lambda m: group(m)["weights"][0].update(shape=[-2, 3]), CorruptModel, "corrupt_tfjs"),
    ("fraction", lambda m: group(m)["weights"][0].update(shape=[2.5, 3]), CorruptModel, "corrupt_tfjs"),
    ("dtype", lambda m: group(m)["weights"][0].update(dtype="object"), CorruptModel, "corrupt_tfjs"),
    ("scale", lambda m: group(m)["weights"][1]["quantization"].update(scale="1"), CorruptModel, "corrupt_tfjs"),
    ("stored", lambda m: group(m)["weights"][1]["quantization"].update(dtype="V8"), CorruptModel, "corrupt_tfjs"),
    ("twice", lambda m: group(m)["weights"][2].update(name="w"), CorruptModel, "corrupt_tfjs"),
    ("no group", lambda m: m["weightsManifest"].append(3), CorruptModel, "corrupt_tfjs"),
    ("no topology", lambda m: m.pop("modelTopology"), CorruptModel, "corrupt_tfjs"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "error", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_a_lying_manifest_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], Any], error: type[BnfoldError], code: str
) -> None:
    path = saved(tmp_path, spoil)
    with pytest.raises(error) as caught:
        check_model_json(path, tmp_path, FILES)
    assert caught.value.error_code == code


def test_strings_that_run_past_the_end_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, lambda m: m["weightsManifest"][1]["weights"][0].update(shape=[1000]))
    model = check_model_json(path, tmp_path, FILES)
    with pytest.raises(CorruptModel):
        weights.read(model, tmp_path)


def test_a_bomb_and_a_deep_document_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(gzip.compress(b'{"modelTopology":' + b" " * (80 << 20)))
    with pytest.raises(UnsafeModel, match="inflates"):
        check_model_json(path, tmp_path, ["model.json"])
    path.write_bytes(b'{"modelTopology":' + b"[" * 100_000)
    with pytest.raises(UnsafeModel) as caught:
        check_model_json(path, tmp_path, ["model.json"])
    assert caught.value.error_code == "unsafe_config_depth"
    assert deepest(b'{"[[[[": ["\\"[["]}') == 2
