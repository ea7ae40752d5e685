"""One node, one step: `y = scale * x + shift` with constants on either side.

    Mul(x, c), Mul(c, x)    scale c,    shift 0
    Add(x, c), Add(c, x)    scale 1,    shift c
    Sub(x, c)               scale 1,    shift -c          Sub(c, x)   scale -1,  shift c
    Div(x, c)               scale 1/c,  shift 0           Neg(x)      scale -1,  shift 0

c broadcasts to x and never x to c: a constant that would enlarge x is no affine of x. Which axis a constant
runs along is read from the real shape of x; an unknown shape is a refusal, not a guess.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir import shapes
from folding.ir.types import Array, Float64Array
from folding.norms.constants import Constants, Env

_MAX_CONST = 1 << 22  # elements of a constant operand worth looking at
OPS = ("Mul", "Add", "Sub", "Div", "Neg")


@dataclass(frozen=True, eq=False)
class Step:
    """A node that applies constants to one run-time value. `const` is None for Neg."""

    node: ir.Node
    x: ir.Value
    const: ir.Value | None
    x_index: int

    @property
    def y(self) -> ir.Value:
        """The node's output."""
        return self.node.outputs[0]

    def arrays(self, constants: Constants, env: Env | None = None) -> tuple[Float64Array, Float64Array]:
        """(scale, shift), both with the rank of x and sizes 1 or x's own."""
        rank = shapes.rank(self.x)
        assert rank is not None
        one, zero = np.ones((1,) * rank), np.zeros((1,) * rank)
        if self.const is None:
            return -one, zero
        const = align(self.node, constants.evaluate(self.const, env), rank)
        with np.errstate(all="ignore"):  # a division by zero shows up as non-finite, and is refused as such
            match self.node.op_type:
                case "Mul":
                    return const, zero
                case "Add":
                    return one, const
                case "Div":
                    return 1.0 / const, zero
                case _:
                    return (one, -const) if self.x_index == 0 else (-one, const)


def align(node: ir.Node, const: Array, rank: int) -> Array:
    """`const` reshaped to `rank` dimensions as the operator broadcasts it."""
    axis = g.attr_int(node, "axis")  # opset < 7 aligns the second operand at `axis`
    trailing = 0 if axis is None or not const.ndim else rank - axis - const.ndim
    shape = const.shape + (1,) * max(trailing, 0)
    if len(shape) > rank:
        shape = shape[len(shape) - rank :]
    return const.reshape((1,) * (rank - len(shape)) + shape)


def step(node: ir.Node, constants: Constants) -> Step | None:
    """The node as a step, or None when it is none or when shapes leave a doubt."""
    if not g.is_op(node, *OPS) or not node.inputs or node.inputs[0] is None:
        return None
    if node.op_type == "Neg":
        found = Step(node, node.inputs[0], None, 0)
    else:
        sides = [constants.is_const(value) for value in node.inputs]
        if sides == [False, True]:
            found = Step(node, node.inputs[0], node.inputs[1], 0)
        elif sides == [True, False] and node.op_type != "Div" and node.inputs[1] is not None:
            found = Step(node, node.inputs[1], node.inputs[0], 1)
        else:
            return None
    return found if _is_float(found) and _fits(found, constants) else None


def _is_float(found: Step) -> bool:
    dtypes = {value.dtype for value in (found.x, found.y) if value.dtype is not None}
    if found.const is not None and found.const.dtype is not None:
        dtypes.add(found.const.dtype)
    return bool(dtypes) and dtypes <= g.FLOATS


def _fits(found: Step, constants: Constants) -> bool:
    """Whether the constant broadcasts to x, dimension by dimension, without enlarging it."""
    shape = shapes.dims(found.x)
    if shape is None:
        return False
    if found.const is None:
        return True
    const = constants.shape(found.const)
    if const is None or np.prod(const, dtype=np.float64) > _MAX_CONST:
        return False
    axis = g.attr_int(found.node, "axis")
    if axis is not None and const:
        if found.x_index != 0 or axis + len(const) > len(shape):
            return False
        const = const + (1,) * (len(shape) - axis - len(const))
    if len(const) > len(shape):
        return False
    pairs = zip(reversed(const), reversed(shape), strict=False)
    return all(size in (1, dim) for size, dim in pairs)
