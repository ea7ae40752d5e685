"""What ONNX files may spell in several ways, and what no file may hold: read, or refused for the true reason.

Each model goes from the file to the artifact without verification; where ONNX Runtime loads the source, it
says whether the two answer alike.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from folding import pipeline
from folding.errors import CorruptModel, UnsupportedModel
from folding.options import FoldOptions
from folding.report import Report

IMAGE = (1, 4, 6, 6)


def parse(body: str, *, opsets: str = '"" : 17', inputs: str = "float[1,4,6,6] x",
          outputs: str = "float[N,C,H,W] y", more: str = "", arrays: dict[str, np.ndarray] | None = None,
          ) -> onnx.ModelProto:  # fmt: skip
    """A model from onnx text; `more` holds functions."""
    proto = onnx.parser.parse_model(
        f"<ir_version: 9, opset_import: [{opsets}]>\ng ({inputs}) => ({outputs}) {{\n{body}\n}}\n{more}"
    )
    for name, array in (arrays or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


def norm(channels: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(channels)
    rows = {name: rng.normal(size=channels) for name in "gbm"} | {"v": rng.uniform(0.5, 2.0, channels)}
    return {name: row.astype(np.float32) for name, row in rows.items()}


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def fold(tmp_path: Path, proto: onnx.ModelProto) -> Report:
    onnx.save(proto, tmp_path / "m.onnx")
    return pipeline.fold(tmp_path / "m.onnx", tmp_path / "o.onnx", FoldOptions(verify=False))


def difference(tmp_path: Path, **more: np.ndarray) -> float:
    """Largest difference between source and artifact on one probe, at no optimization."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    feeds = {"x": np.random.default_rng(0).normal(size=IMAGE).astype(np.float32), **more}
    answers = []
    for name in ("m.onnx", "o.onnx"):
        session = ort.InferenceSession(str(tmp_path / name), options, providers=["CPUExecutionProvider"])
        read = {value.name for value in session.get_inputs()}
        answers.append(session.run(None, {key: array for key, array in feeds.items() if key in read}))
    return max(float(np.abs(a - b).max(initial=0.0)) for a, b in zip(*answers, strict=True))


CONV_NORM = "c = Conv (x, w)\n y = BatchNormalization (c, g, b, m, v)"
ARRAYS = {"w": weights(4, 4, 3, 3), **norm()}


def test_the_default_domain_spelled_out(tmp_path: Path) -> None:
    proto = parse(CONV_NORM, arrays=ARRAYS)
    proto.opset_import[0].domain = "ai.onnx"
    proto.graph.node[1].domain = "ai.onnx"
    report = fold(tmp_path, proto)
    assert [row.decision for row in report.batch_norms] == ["folded"]
    assert difference(tmp_path) < 1e-5


def test_the_default_domain_in_two_versions_is_refused(tmp_path: Path) -> None:
    proto = parse(CONV_NORM, arrays=ARRAYS)
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 18))
    with pytest.raises(CorruptModel, match="versions"):
        fold(tmp_path, proto)


def test_the_default_domain_in_one_version_twice(tmp_path: Path) -> None:
    proto = parse(CONV_NORM, arrays=ARRAYS)
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 17))
    assert fold(tmp_path, proto).batch_norms[0].decision == "folded"


def test_no_default_domain(tmp_path: Path) -> None:
    proto = parse("y = ai.onnx.ml.Scaler <offset: floats = [1.0], scale: floats = [0.5]> (x)",
                  opsets='"ai.onnx.ml" : 3', inputs="float[3,1] x", outputs="float[3,1] y")  # fmt: skip
    report = fold(tmp_path, proto)
    assert any("not imported" in note for note in report.source.notes)
    assert difference(tmp_path, x=weights(3, 1)) == 0.0


def test_optional_and_type_attributes(tmp_path: Path) -> None:
    proto = parse(
        "o = Optional <type: type_proto = float[2]> ()\n p = Optional <type: type_proto = float[2]> ()\n"
        "one = OptionalHasElement (o)\n two = OptionalHasElement (p)\n" + CONV_NORM,
        outputs="float[N,C,H,W] y, bool one, bool two", arrays=ARRAYS,
    )  # fmt: skip
    assert fold(tmp_path, proto).batch_norms[0].decision == "folded"


@pytest.mark.parametrize("condition", ["c", "Constant"])
def test_constants_inside_branches_inside_functions(tmp_path: Path, condition: str) -> None:
    function = """
    <opset_import: ["" : 17], domain: "local"> scaled (c, x) => (y) {
      y = If (c) <
        then_branch = a () => (t) { k = Constant <value = float[1] {2.0}> () t = Mul (x, k) },
        else_branch = b () => (e) { k = Constant <value = float[1] {3.0}> () e = Mul (x, k) }>
    }"""
    known = "k = Constant <value: tensor = bool {1}> ()\n" if condition == "Constant" else ""
    given = "" if known else "bool c, "
    proto = parse(
        f"{known} n = BatchNormalization (x, g, b, m, v)\n y = local.scaled ({'k' if known else 'c'}, n)",
        opsets='"" : 17, "local" : 1', inputs=f"{given}float[1,4,6,6] x", more=function, arrays=norm(),
    )  # fmt: skip
    fold(tmp_path, proto)
    assert difference(tmp_path, c=np.array(False)) < 1e-5


NODES_BACKWARDS = "y = Relu (n)\n n = BatchNormalization (c, g, b, m, v)\n c = Conv (x, w)"


def test_unsorted_nodes_are_sorted(tmp_path: Path) -> None:
    report = fold(tmp_path, parse(NODES_BACKWARDS, arrays=ARRAYS))
    assert [row.decision for row in report.batch_norms] == ["folded"]
    assert any("topological" in note for note in report.source.notes)
    assert difference(tmp_path) < 1e-5


def test_a_branch_reads_what_a_later_node_makes(tmp_path: Path) -> None:
    proto = parse(
        "y = If (c) <then_branch = a () => (t) { t = Relu (n) }, else_branch = b () => (e) { e = Neg (n) }>\n"
        "n = BatchNormalization (d, g, b, m, v)\n d = Conv (x, w)",
        inputs="bool c, float[1,4,6,6] x", arrays=ARRAYS,
    )  # fmt: skip
    assert fold(tmp_path, proto).batch_norms[0].decision == "folded"
    assert difference(tmp_path, c=np.array(True)) < 1e-5


def test_a_cycle_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match="topologic"):
        fold(tmp_path, parse("a = Add (x, y)\n y = Relu (a)"))


def test_maps_are_unsupported(tmp_path: Path) -> None:
    proto = parse("y = Relu (x)")
    element = helper.make_map_type_proto(onnx.TensorProto.INT64, helper.make_tensor_type_proto(1, []))
    proto.graph.value_info.append(helper.make_value_info("z", helper.make_sequence_type_proto(element)))
    with pytest.raises(UnsupportedModel, match="a map") as caught:
        fold(tmp_path, proto)
    assert caught.value.error_code == "unsupported_model"
    assert caught.value.layer == "z"


IMAGE_INPUT = "float[1,4,6,6] x"
MISFITS = {
    "another size": ("y = BatchNormalization (x, g, b, m, v)", IMAGE_INPUT, 3),
    "behind a reshape": ("r = Reshape (x, s)\n y = BatchNormalization (r, g, b, m, v)", IMAGE_INPUT, 3),
    "before a reshape": ("n = BatchNormalization (x, g, b, m, v)\n y = Reshape (n, s)", IMAGE_INPUT, 3),
    "rank one": ("y = BatchNormalization (x, g, b, m, v)", "float[4] x", 4),
    "a scalar": ("y = BatchNormalization (x, g, b, m, v)", "float x", 4),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_statistics_that_do_not_fit_the_axis(tmp_path: Path, kind: str) -> None:
    """ONNX Runtime refuses these, and so does the onnx checker: the source is told so."""
    body, inputs, channels = MISFITS[kind]
    arrays = {**norm(channels), "s": np.array([1, 2, 2, 36], np.int64)}
    with pytest.raises(UnsupportedModel, match="source") as caught:
        fold(tmp_path, parse(body, inputs=inputs, arrays=arrays))
    assert caught.value.error_code == "source_checker_refused"


@pytest.mark.parametrize("rank", [3, 5])
def test_a_branch_of_another_rank_that_is_never_taken(tmp_path: Path, rank: int) -> None:
    """The branch that is not taken changes the rank; inlining the one that is taken keeps the graph valid."""
    proto = parse(
        "k = Constant <value: tensor = bool {1}> ()\n"
        "r = If (k) <then_branch = a () => (t) { t = Identity (x) },\n"
        "            else_branch = b () => (e) { e = Reshape (x, s) }>\n"
        "c = Conv (r, w)\n y = BatchNormalization (c, g, b, m, v)",
        arrays={**ARRAYS, "s": np.array([1, 4, 36] if rank == 3 else [1, 1, 4, 6, 6], np.int64)},
    )  # fmt: skip
    report = fold(tmp_path, proto)
    assert [row.decision for row in report.batch_norms] == ["folded"]
    assert report.graph.nodes_after == 1
    assert difference(tmp_path) < 1e-5


def test_a_dead_branch_that_the_checker_refuses_once_it_is_known(tmp_path: Path) -> None:
    """The outer branch is taken at run time only; inside it, a constant condition hides a wrong rank."""
    inner = (
        "z = Conv (x, w)\n"
        "q = If (k) <then_branch = d () => (t2) { t2 = Flatten (z) },\n"
        "            else_branch = f () => (e2) { e2 = Identity (z) }>\n"
        "e = Conv (q, w)"
    )
    proto = parse(
        "k = Constant <value: tensor = bool {1}> ()\n n = BatchNormalization (x, g, b, m, v)\n"
        f"y = If (c) <then_branch = a () => (t) {{ t = Relu (n) }}, else_branch = b () => (e) {{ {inner} }}>",
        inputs="bool c, float[1,4,6,6] x", arrays=ARRAYS,
    )  # fmt: skip
    onnx.checker.check_model(proto, full_check=True)
    report = fold(tmp_path, proto)
    assert any("If nodes" in note for note in report.source.notes)
    onnx.checker.check_model(onnx.load(tmp_path / "o.onnx"), full_check=True)
    assert difference(tmp_path, c=np.array(True)) < 1e-5


def test_a_declared_output_shape_is_a_claim_and_no_fact(tmp_path: Path) -> None:
    """The output declares (1, 2, 2); the graph makes what its input says, and so does the artifact."""
    proto = parse(
        "z = ConstantOfShape (x)\n sh = Shape (z)\n"
        "t = Concat <axis: int = 0> (one, sh)\n y = Reshape (z, t)",
        inputs="int64[2] x", outputs="float[1,2,2] y", arrays={"one": np.array([1], np.int64)},
    )  # fmt: skip
    fold(tmp_path, proto)
    assert difference(tmp_path, x=np.array([3, 4], np.int64)) == 0.0


def test_the_report_counts_the_norms_that_the_artifact_holds(tmp_path: Path) -> None:
    """Constant arithmetic that nothing absorbs is stated as a BatchNormalization, the shortest form."""
    proto = parse(
        "s = Mul (x, a)\n t = Add (s, b)\n r = Sub (t, a)\n y = Sigmoid (r)",
        arrays={name: weights(4, 1, 1) + index for index, name in enumerate("ab")},
    )
    report = fold(tmp_path, proto)
    held = sum(node.op_type == "BatchNormalization" for node in onnx.load(tmp_path / "o.onnx").graph.node)
    assert held == 1
    assert report.graph.batch_norms_after == held


@pytest.mark.parametrize("body", [
    "y = Transpose <perm: ints = [0, 7, 1, 2]> (x)",
    "y = Slice (x, one, two, three)",
    "y = ReduceSum (x, big)",
])  # fmt: skip
def test_operators_used_against_their_definition(tmp_path: Path, body: str) -> None:
    """The checker without shape inference lets these through; what they lead to is the source's fault."""
    numbers = {"one": [0, 0], "two": [1], "three": [9, 9], "big": [9]}
    arrays = {name: np.array(row, np.int64) for name, row in numbers.items() if name in body}
    with pytest.raises((UnsupportedModel, CorruptModel)):
        fold(tmp_path, parse(body, arrays=arrays))


@pytest.mark.parametrize("count", [2**31, 3, 0, -1])
def test_a_split_that_counts_other_outputs_than_it_has_is_refused(tmp_path: Path, count: int) -> None:
    """Shape inference of onnx would make a list of that length first."""
    proto = parse(
        f"a, z = Split <axis = 1, num_outputs = {count}> (x)\n y = Concat <axis = 1> (a, z)",
        opsets='"" : 18',
    )
    with pytest.raises(CorruptModel, match="num_outputs") as raised:
        fold(tmp_path, proto)
    assert raised.value.error_code == "malformed_model"
