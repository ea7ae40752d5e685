"""Transpose moves the channel axis, and the affine's axes with it.

Given:  y = s*Transpose(x, perm) + t     Result: Transpose(s'*x + t', perm), s' = inverse-transposed s
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.rules.affine import Affine
from folding.rules.interface import Context, Move, Propagated, unknown


class TransposeRule:
    """See the module."""

    ops = ("Transpose",)

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Undo the permutation."""
        perm = permutation(node, affine.rank)
        source = node.inputs[0]
        if len(perm) != affine.rank or source is None:
            return unknown(node, "permutation does not fit the rank")
        return Propagated(((source, affine.map(lambda array: np.transpose(array, np.argsort(perm)))),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Apply the permutation."""
        perm = permutation(node, affine.rank)
        if len(perm) != affine.rank:
            return unknown(node, "permutation does not fit the rank")
        return Propagated(((node.outputs[0], affine.map(lambda array: np.transpose(array, perm))),))


def permutation(node: ir.Node, rank: int) -> list[int]:
    """`perm`, by default the reversal of all axes."""
    return g.attr_ints(node, "perm") or list(range(rank))[::-1]


RULE = TransposeRule()
