"""The gate of TensorFlow Lite files: what it reads, and what it refuses before anybody follows an offset."""

# Tables of one case a line read better than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from folding.errors import BnfoldError, CorruptModel, UnsafeModel, UnsupportedModel
from folding.sources.gates.limits import LIMITS
from folding.sources.gates.tflite import check_tflite
from folding.sources.gates.tflite_growth import check_growth
from folding.sources.tflite import rewrite
from tests.support import tflite_files as files


def test_a_model_is_read_as_it_was_written() -> None:
    found = check_tflite(files.quantized())
    graph = found.graphs[0]
    assert [tensor.name for tensor in graph.tensors] == ["x", "w", "b", "y"]
    assert [operator.op for operator in graph.operators] == ["FULLY_CONNECTED"]
    assert graph.tensors[1].quantization is not None
    assert np.allclose(graph.tensors[1].quantization.scale, [0.01, 0.02, 0.03])
    assert np.allclose(rewrite.dequantized(graph.tensors[1])[0], [1.27, -0.9, 0.03, 0.4])


def main(made: Any) -> Any:
    return made.subgraphs[0]


def huge(made: Any) -> None:
    main(made).tensors[0].shape = np.array([2**31 - 1, 2**31 - 1], np.int32)


def lying_shape(made: Any) -> None:
    main(made).tensors[1].shape = np.array([300, 400], np.int32)


def negative(made: Any) -> None:
    main(made).tensors[0].shape = np.array([-5, 4], np.int32)


def no_such_tensor(made: Any) -> None:
    main(made).operators[0].inputs = [0, 1, 99]


def no_such_buffer(made: Any) -> None:
    main(made).tensors[1].buffer = 9


def no_such_code(made: Any) -> None:
    main(made).operators[0].opcodeIndex = 4


def reads_its_own_result(made: Any) -> None:
    main(made).operators[0].inputs = [3, 1, 2]


def written_twice(made: Any) -> None:
    main(made).operators.append(main(made).operators[0])


def constant_output(made: Any) -> None:
    main(made).operators[0].outputs = [1]


def zero_scale(made: Any) -> None:
    main(made).tensors[1].quantization = schema.QuantizationParametersT()
    main(made).tensors[1].quantization.scale = np.zeros(1, np.float32)


def too_many_scales(made: Any) -> None:
    main(made).tensors[1].quantization = schema.QuantizationParametersT()
    main(made).tensors[1].quantization.scale = np.ones(7, np.float32)


def calls_itself(made: Any) -> None:
    options = schema.WhileOptionsT()
    options.condSubgraphIndex = options.bodySubgraphIndex = 1
    made.operatorCodes.append(files.code(files.OPERATORS.WHILE))
    body = files.graph([files.tensor("a", (1, 3))], [], [0], [0], "body")
    inner = files.operator(1, [0], [1], schema.BuiltinOptions.WhileOptions, options)
    body.tensors.append(files.tensor("c", (1, 3)))
    body.operators, body.outputs = [inner], [1]
    made.subgraphs.append(body)


def calls_the_main_graph(made: Any) -> None:
    calls_itself(made)
    made.subgraphs[1].operators[0].builtinOptions.condSubgraphIndex = 0


def sparse(made: Any) -> None:
    main(made).tensors[1].sparsity = schema.SparsityParametersT()


def int4(made: Any) -> None:
    main(made).tensors[1].type = schema.TensorType.INT4


def long_name(made: Any) -> None:
    main(made).tensors[0].name = "n" * 5000


def nothing_to_do(made: Any) -> None:
    main(made).operators = []


def reads_a_file(made: Any) -> None:
    made.operatorCodes[0] = files.code(files.OPERATORS.CUSTOM, "FlexReadFile")


REFUSED: tuple[tuple[Callable[[Any], None], type[BnfoldError], str], ...] = (
    (huge, UnsafeModel, "unsafe_dimensions"),
    (lying_shape, CorruptModel, "corrupt_tflite"),
    (negative, CorruptModel, "corrupt_tflite"),
    (no_such_tensor, CorruptModel, "corrupt_tflite"),
    (no_such_buffer, CorruptModel, "corrupt_tflite"),
    (no_such_code, CorruptModel, "corrupt_tflite"),
    (reads_its_own_result, CorruptModel, "corrupt_tflite"),
    (written_twice, CorruptModel, "corrupt_tflite"),
    (constant_output, CorruptModel, "corrupt_tflite"),
    (zero_scale, CorruptModel, "corrupt_tflite"),
    (too_many_scales, CorruptModel, "corrupt_tflite"),
    (calls_itself, UnsafeModel, "unsafe_function_recursion"),
    (calls_the_main_graph, CorruptModel, "corrupt_tflite"),
    (sparse, UnsupportedModel, "unsupported_tflite_storage"),
    (int4, UnsupportedModel, "unsupported_tflite_storage"),
    (long_name, UnsafeModel, "unsafe_name"),
    (nothing_to_do, CorruptModel, "empty_graph"),
    (reads_a_file, UnsafeModel, "unsafe_op"),
)


@pytest.mark.parametrize(("change", "error", "code"), REFUSED, ids=[row[0].__name__ for row in REFUSED])
def test_a_spoilt_model_is_refused_by_name(
    change: Callable[[Any], None], error: type[BnfoldError], code: str
) -> None:
    with pytest.raises(error) as caught:
        check_tflite(files.dense(change))
    assert caught.value.error_code == code


def test_every_offset_of_the_file_may_lie() -> None:
    """Each aligned word in turn leads backwards, to the end, or far away: a named error, or the same reading."""
    data = files.quantized()
    for at in range(0, len(data) - 4, 4):
        for value in (0, 3, len(data) - 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            spoilt = bytearray(data)
            struct.pack_into("<I", spoilt, at, value)
            with suppress(BnfoldError):
                check_growth(check_tflite(bytes(spoilt)))


@pytest.mark.parametrize("length", [0, 7, 8, 12, 40, 200])
def test_a_file_that_is_cut_short_is_damaged(length: int) -> None:
    with pytest.raises(CorruptModel):
        check_tflite(files.dense()[:length])


def test_shared_offsets_do_not_multiply() -> None:
    """A vector of a thousand references to one subgraph with a thousand tensors is refused, quickly."""
    data = bytearray(
        files.dense(lambda made: main(made).tensors.extend(files.tensor(f"t{i}", (1,)) for i in range(1000)))
    )
    root = struct.unpack_from("<I", data, 0)[0]
    fields = root - struct.unpack_from("<i", data, root)[0]
    place = root + struct.unpack_from("<H", data, fields + 4 + 2 * 2)[0]  # the field `subgraphs`
    vector = place + struct.unpack_from("<I", data, place)[0]
    target = vector + 4 + struct.unpack_from("<I", data, vector + 4)[0]
    at = len(data)
    count = 1000
    data += struct.pack("<I", count)
    bloated = bytearray(data)
    # offsets only lead forwards, so the table is copied behind the vector
    body = bytes(data[:at])
    start = at + 4 + 4 * count
    bloated = (
        bytearray(data)
        + b"".join(struct.pack("<I", start + target - (at + 4 + 4 * i)) for i in range(count))
        + body
    )
    struct.pack_into("<I", bloated, place, at - place)
    with pytest.raises(UnsafeModel) as caught:
        check_tflite(bytes(bloated), replace(LIMITS, nodes=20_000))
    assert caught.value.error_code == "unsafe_graph_size"


def test_constants_do_not_blow_up() -> None:
    def fill(made: Any) -> None:
        made.operatorCodes.append(files.code(files.OPERATORS.FILL))
        made.buffers += [
            files.buffer(np.array([2**20, 2**20], np.int32)),
            files.buffer(np.zeros(1, np.float32)),
        ]
        main(made).tensors += [
            files.tensor("dims", (2,), buffer=3, kind=schema.TensorType.INT32), files.tensor("v", (), buffer=4),
            files.tensor("filled", ()),
        ]  # fmt: skip
        main(made).operators.append(files.operator(1, [4, 5], [6]))

    with pytest.raises(UnsafeModel) as caught:
        check_growth(check_tflite(files.dense(fill)))
    assert caught.value.error_code == "unsafe_expansion"


def test_names_become_unique() -> None:
    def same(made: Any) -> None:
        for tensor in main(made).tensors:
            tensor.name = "t"
        main(made).tensors[3].name = ""

    data = files.dense(same)
    renamed = rewrite.with_unique_names(data, check_tflite(data))
    assert renamed is not None
    names = [tensor.name for tensor in check_tflite(renamed).graphs[0].tensors]
    assert len(set(names)) == 4
    assert "" not in names
    assert rewrite.with_unique_names(renamed, check_tflite(renamed)) is None
