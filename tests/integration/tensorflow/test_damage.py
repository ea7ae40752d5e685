"""Damage to graphs and to bytes, at random: an error of ours with a code, or a model; never anything else.

The long form (`-m slow`) does the same at greater length.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from folding import pipeline
from folding.errors import BnfoldError
from folding.options import FoldOptions
from folding.sources.tensorflow.graph import protobuf_io
from tests.integration.tensorflow import tf1
from tests.support.paths import TF1_PROGRAMS

pytestmark = pytest.mark.filterwarnings("ignore")
GRAPHS = {
    "s000_trained/ckpt/model.ckpt.meta": "MetaGraphDef", "s004_ema_cond_small/frozen.pb": "GraphDef",
    "s003_contrib/saved_model/saved_model.pb": "SavedModel",
}  # fmt: skip
Mutation = Callable[[random.Random, Any, Any], object]


def _rename(rng: random.Random, graph: Any, node: Any) -> None:
    node.name = rng.choice(["", rng.choice(graph.node).name, "a/b:0"])


def _reread(rng: random.Random, graph: Any, node: Any) -> None:
    if node.input:
        other = rng.choice(graph.node).name
        node.input[0] = rng.choice(["gone", "^gone", "", ":0", other, f"{other}:7", f"{other}:{10**20}"])


def _retype(rng: random.Random, graph: Any, node: Any) -> None:
    for key in node.attr:
        if node.attr[key].WhichOneof("value") == "type":
            node.attr[key].type = rng.choice([0, 2, 3, 7, 10, 20, 101, 999])


def _reshape(rng: random.Random, graph: Any, node: Any) -> None:
    for key in node.attr:
        if node.attr[key].WhichOneof("value") == "shape":
            node.attr[key].shape.ClearField("dim")
            node.attr[key].shape.dim.add().size = rng.choice([-5, 0, 7, 2**40])


def _forget(rng: random.Random, graph: Any, node: Any) -> None:
    if node.attr:
        del node.attr[rng.choice(sorted(node.attr))]


def _lose_input(rng: random.Random, graph: Any, node: Any) -> None:
    if node.input:
        del node.input[-1]


def _bite_tail(rng: random.Random, graph: Any, node: Any) -> None:
    if node.input:
        node.input[0] = node.name


def _change_op(rng: random.Random, graph: Any, node: Any) -> None:
    node.op = rng.choice(["NoSuchOp", "", "MatMul", "Switch", "Merge", "If", "While", "Enter", "VariableV2"])


MUTATIONS: tuple[Mutation, ...] = (
    _rename, _reread, _retype, _reshape, _forget, _lose_input, _bite_tail, _change_op,
    lambda rng, graph, node: graph.node.remove(node),
    lambda rng, graph, node: graph.node.add().CopyFrom(node),
)  # fmt: skip


def _survives(source: Path, name: str, target: Path) -> None:
    """Folding and looking both end in a result or in an error with a code."""
    outputs = [o["name"] for o in tf1.expected(name.split("/")[0])["outputs"]]
    options = FoldOptions(outputs=[] if "saved_model" in name else outputs, verify=False)
    codes: set[str] = set()
    for act in (lambda: pipeline.fold(source, target, options), lambda: pipeline.inspect(source, options)):
        try:
            act()
        except BnfoldError as error:
            codes.add(error.error_code)
    assert all(codes)
    assert "internal" not in codes


def _copy(name: str, into: Path) -> tuple[Path, Path]:
    """A copy of the artifact that the file belongs to: what to fold, and the file."""
    original = TF1_PROGRAMS / name
    if original.name == "frozen.pb":
        shutil.copy(original, into)
        return into / original.name, into / original.name
    shutil.copytree(original.parent, into / "copy")
    return into / "copy", into / "copy" / original.name


def _damage_structure(name: str, seed: int, into: Path) -> None:
    rng = random.Random(seed)
    source, path = _copy(name, into)
    message = protobuf_io.parse(path, GRAPHS[name])
    graph = {"SavedModel": lambda: message.meta_graphs[0].graph_def, "GraphDef": lambda: message}.get(
        GRAPHS[name], lambda: message.graph_def
    )()
    for _ in range(rng.choice([1, 1, 2, 4])):
        rng.choice(MUTATIONS)(rng, graph, rng.choice(graph.node))
    path.write_bytes(message.SerializeToString())
    _survives(source, name, into / "out.onnx")


def _damage_bytes(name: str, seed: int, into: Path) -> None:
    rng = random.Random(seed)
    source, path = _copy(name, into)
    if path.suffix == ".meta":  # its index and its shard are as good to hit
        path = rng.choice(sorted(file for file in path.parent.iterdir() if file.stat().st_size))
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data[: rng.randrange(len(data))] if rng.random() < 0.3 else data))
    _survives(source, name, into / "out.onnx")


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", sorted(GRAPHS))
@pytest.mark.parametrize("damage", [_damage_structure, _damage_bytes], ids=["structure", "bytes"])
def test_damage_is_named(damage: Any, name: str, seed: int, tmp_path: Path) -> None:
    damage(name, seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GRAPHS))
@pytest.mark.parametrize("damage", [_damage_structure, _damage_bytes], ids=["structure", "bytes"])
def test_much_damage_is_named(damage: Any, name: str, tmp_path: Path) -> None:
    for seed in range(100, 400):
        (tmp_path / str(seed)).mkdir()
        damage(name, seed, tmp_path / str(seed))
        shutil.rmtree(tmp_path / str(seed))


def test_what_crashes_tensorflow_never_reaches_it(tmp_path: Path) -> None:
    """Grappler and the importer crash over an output that is not there, and over a cycle."""
    from folding.errors import CorruptModel

    outputs = [o["name"] for o in tf1.expected("s004_ema_cond_small")["outputs"]]
    for break_it in ("index", "cycle"):
        graph = protobuf_io.parse(TF1_PROGRAMS / "s004_ema_cond_small" / "frozen.pb", "GraphDef")
        node = next(node for node in graph.node if node.op in ("MatMul", "Conv2D"))
        node.input[0] = node.name if break_it == "cycle" else f"{node.input[0].split(':')[0]}:{10**12}"
        (tmp_path / "broken.pb").write_bytes(graph.SerializeToString())
        options = FoldOptions(outputs=outputs, verify=False)
        with pytest.raises(CorruptModel) as caught:
            pipeline.fold(tmp_path / "broken.pb", tmp_path / "out.onnx", options)
        assert caught.value.error_code in ("dangling_reference", "corrupt_model")


def _without_prefix(into: Path) -> Path:
    """A checkpoint whose prefix is empty: `.index`, `.meta`, `.data-00000-of-00001`."""
    original = TF1_PROGRAMS / "s000_trained" / "ckpt"
    into.mkdir()
    for path in original.glob("model.ckpt*"):
        shutil.copy(path, into / path.name.removeprefix("model.ckpt"))
    return into


@pytest.mark.parametrize("suffix", [".index", ".meta", ".data-00000-of-00001"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_checkpoint_without_prefix_is_named(suffix: str, damage: str, tmp_path: Path) -> None:
    rng = random.Random(f"{suffix}{damage}")
    source = _without_prefix(tmp_path / "copy")
    path = source / suffix
    data = bytearray(path.read_bytes())
    if damage == "flip":
        for _ in range(8):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes({"cut": data[: len(data) // 2], "empty": b""}.get(damage, data)))
    if damage == "gone":
        path.unlink()
    _survives(source, "s000_trained/ckpt/model.ckpt.meta", tmp_path / "out.onnx")
