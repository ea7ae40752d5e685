"""What a loop only hands on to itself is read from outside instead.

Given:  y, w' = Loop(n, c, x, w) { body(i, c, x, w): ...f(x, w)...; return c, x2, w }
Result: y = Loop(n, c, x) { body(i, c, x): ...f(x, w)...; return c, x2 },  and w where w' was read

TensorFlow's loops carry their weights as state; as outer values they are constants like any other.
"""

from __future__ import annotations

import onnx_ir as ir


def hoist(graph: ir.Graph) -> None:
    """Rewrite every Loop of a graph, inner ones too."""
    for node in list(graph):
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                hoist(attribute.as_graph())
        if node.op_type == "Loop" and node.domain in ("", "ai.onnx"):
            _hoist_from(graph, node)


def _hoist_from(graph: ir.Graph, loop: ir.Node) -> None:
    body = loop.attributes["body"].as_graph()
    states = range(len(loop.inputs) - 2)  # the trip count and the condition come first
    fixed = [
        k for k in states
        if _source(body.outputs[1 + k]) is body.inputs[2 + k]
        and loop.inputs[2 + k] is not None and not loop.outputs[k].is_graph_output()
    ]  # fmt: skip
    if not fixed:
        return
    for k in reversed(fixed):
        inner, outer = body.inputs[2 + k], loop.inputs[2 + k]
        assert outer is not None
        body.outputs.pop(1 + k)
        body.inputs.pop(2 + k)
        inner.replace_all_uses_with(outer)
        loop.outputs[k].replace_all_uses_with(outer)
    _drop_copies(body)
    kept = [k for k in range(len(loop.outputs)) if k not in fixed]
    inputs = [value for k, value in enumerate(loop.inputs) if k - 2 not in fixed]
    new = ir.Node("", "Loop", inputs, loop.attributes.values(), num_outputs=len(kept), name=loop.name)
    for value, k in zip(new.outputs, kept, strict=True):
        _take_over(value, loop.outputs[k])
    graph.insert_before(loop, new)
    graph.remove(loop, safe=True)


def _source(value: ir.Value) -> ir.Value:
    """What a value is a copy of."""
    node = value.producer()
    while node is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _drop_copies(body: ir.Graph) -> None:
    for node in reversed(list(body)):
        output = node.outputs[0]
        if node.op_type == "Identity" and not output.uses() and not output.is_graph_output():
            body.remove(node, safe=True)


def _take_over(value: ir.Value, old: ir.Value) -> None:
    value.name, value.type, value.shape = old.name, old.type, old.shape
    old.replace_all_uses_with(value, replace_graph_outputs=True)
