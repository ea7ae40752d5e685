"""The engine of passes: it finds out what changed by itself, ends, and names the pass that failed."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from folding.errors import InternalError, UnsupportedModel
from folding.passes.base import ROUNDS, Pass, run_once, run_until_stable
from tests.unit.folding.passes.graphs import model

TEXT = "main (float[N,4] x) => (float[N,4] y) { a = Neg(x) b = Relu(a) y = Mul(b, w) }"


def graph() -> ir.Model:
    return model(TEXT, w=np.ones(4, np.float32))


def rename_once(found: ir.Model) -> None:
    value = next(iter(found.graph)).outputs[0]
    value.name = "other"


def change_weights_once(found: ir.Model) -> None:
    value = found.graph.initializers["w"]
    if value.const_value is not None and value.const_value.numpy().any():
        value.const_value = ir.tensor(np.zeros(4, np.float32), name="w")


def change_attribute_once(found: ir.Model) -> None:
    next(iter(found.graph)).attributes["note"] = ir.AttrInt64("note", 1)


def change_shape_once(found: ir.Model) -> None:
    next(iter(found.graph)).outputs[0].shape = ir.Shape([3, 4])


def drop_reader_once(found: ir.Model) -> None:
    node = next((node for node in found.graph if node.op_type == "Relu"), None)
    if node is not None:
        node.outputs[0].replace_all_uses_with(node.inputs[0])
        found.graph.remove(node, safe=True)


@pytest.mark.parametrize(
    "change", [rename_once, change_weights_once, change_attribute_once, change_shape_once, drop_reader_once]
)
def test_a_change_is_found_whatever_the_pass_says(change: object) -> None:
    step = Pass("silent", lambda found: change(found), "")  # type: ignore[operator]
    found = graph()
    assert run_once(found, [step])
    assert not run_once(found, [step])


def test_a_pass_that_claims_changes_ends() -> None:
    assert run_until_stable(graph(), [Pass("boastful", lambda found: True, "")]) == 0


def test_passes_that_undo_each_other_end() -> None:
    def toggle(found: ir.Model) -> None:
        value = next(iter(found.graph)).outputs[0]
        value.name = "one" if value.name != "one" else "two"

    assert run_until_stable(graph(), [Pass("toggle", toggle, "")]) == ROUNDS


def test_a_failing_pass_is_named() -> None:
    def fail(found: ir.Model) -> None:
        raise KeyError("axis")

    with pytest.raises(InternalError, match="the pass `breaks` failed: KeyError: 'axis'") as caught:
        run_once(graph(), [Pass("breaks", fail, "")])
    assert caught.value.details == {"pass": "breaks"}


def test_an_error_with_a_code_keeps_it_and_gets_the_name() -> None:
    def refuse(found: ir.Model) -> None:
        raise UnsupportedModel("no")

    with pytest.raises(UnsupportedModel) as caught:
        run_once(graph(), [Pass("refuses", refuse, "")])
    assert caught.value.details == {"pass": "refuses"}
