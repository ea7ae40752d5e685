"""One graph, evaluated node by node in float64; a value is forgotten after its last use.

Two streams advance together, so that only what both still need is held (`bounded.compare`). Every value has a
number: two values with one number are the same expression of the same values and constants.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace

import numpy as np
import onnx

from folding.ir.types import Feeds
from folding.verify.float64 import Float64UnavailableError, apply_node, inlined, widen
from folding.verify.model import Loaded, bodies, body_reads, read_tensor, same

RANDOM = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
)
# What copies elements is widened behind it: a table of which a few rows are read is never wide as a whole.
COPIED = frozenset(("Gather",))
ENDS = 64  # elements at either end of a constant that tell most from each other


class Numbering:
    """Gives one number to equal expressions."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._arrays: dict[Hashable, list[tuple[np.ndarray, int]]] = {}

    def of(self, expression: Hashable) -> int:
        """Return the number of an expression; a new one gets a new number."""
        return self._numbers.setdefault(expression, len(self._numbers))

    def constant(self, array: np.ndarray) -> int:
        """Return the number of a stored array: equal type, shape and bytes.

        Arrays that begin and end alike are compared; most of those are one object, or differ at once.
        """
        if array.dtype.hasobject:
            return self.of(("unique", object()))
        flat = np.ascontiguousarray(array).reshape(-1)
        ends = flat[:ENDS].tobytes(), flat[-ENDS:].tobytes()
        alike = self._arrays.setdefault((array.dtype.str, array.shape, ends), [])
        for held, number in alike:
            if held is array or same(held, array):
                return number
        number = self.of(("constant", object()))
        alike.append((array, number))
        return number

    def node(self, proto: onnx.NodeProto, inputs: tuple[int | None, ...], index: int) -> int:
        """Return the number of one output of a node whose inputs have these numbers."""
        if proto.op_type in RANDOM or None in inputs or any(True for _ in bodies(proto)):
            return self.of(("unique", object()))
        attributes = tuple(sorted(a.SerializeToString(deterministic=True) for a in proto.attribute))
        return self.of((proto.domain, proto.op_type, attributes, inputs, index))


class GraphStream:
    """The nodes of one graph in order, with the values that are still needed.

    values: name -> array as stored or float64; None for one that cannot be had in float64.
    """

    def __init__(self, loaded: Loaded, feeds: Feeds, numbering: Numbering) -> None:
        self.loaded = replace(loaded, proto=inlined(loaded.proto))
        self.numbering = numbering
        self.nodes = list(self.loaded.proto.graph.node)
        self.position = 0
        self.opset = {e.domain: e.version for e in self.loaded.proto.opset_import}.get("", 1)
        self.stored = self._stored()
        self.values: dict[str, np.ndarray | None] = {**self.stored, **feeds}
        self.numbers: dict[str, int] = {name: numbering.constant(a) for name, a in self.stored.items()}
        self.numbers.update({name: numbering.of(("input", name)) for name in feeds})
        self.last = self._last_uses()
        self.why: dict[str, str] = {}
        self.widened: dict[str, np.ndarray] = {}

    def _stored(self) -> dict[str, np.ndarray]:
        """Weights, and initializers that stayed in the graph."""
        graph = self.loaded.proto.graph
        return {
            **self.loaded.weights,
            **{t.name: read_tensor(t, self.loaded.folder) for t in graph.initializer},
        }

    def _last_uses(self) -> dict[str, int]:
        """Position of the last node that reads each value, bodies included."""
        last: dict[str, int] = {}
        for i, node in enumerate(self.nodes):
            reads = [*node.input, *(name for body in bodies(node) for name in body_reads(body))]
            last.update(dict.fromkeys(reads, i))
        return last

    def number(self, proto: onnx.NodeProto, index: int) -> int:
        """Return the number of one output of a node, from the numbers of what it reads."""
        inputs = tuple(self.numbers.get(name) if name else -1 for name in proto.input)
        return self.numbering.node(proto, inputs, index)

    def operands(self, proto: onnx.NodeProto) -> list[np.ndarray | None] | None:
        """Return the operands by position, floats in float64; None where one cannot be had."""
        found: list[np.ndarray | None] = []
        for name in proto.input:
            value = self.values.get(name) if name else None
            if name and value is None:
                self.why[proto.output[0]] = self.why.get(name, f"no value for {name!r}")
                return None
            found.append(value if value is None or proto.op_type in COPIED else self.wide(name, value))
        return found

    def wide(self, name: str, value: np.ndarray) -> np.ndarray:
        """Return a value of the node at hand with floats in float64: one copy for all that read it there."""
        if name not in self.widened:
            self.widened[name] = widen(value)
        return self.widened[name]

    def evaluate(self, proto: onnx.NodeProto) -> tuple[np.ndarray, ...] | None:
        """Return the node's results, or None with the reason in `why`."""
        operands = self.operands(proto)
        if operands is None:
            return None
        try:
            return tuple(widen(value) for value in apply_node(proto, operands, self.opset))
        except Float64UnavailableError as exc:
            self.why[proto.output[0]] = str(exc)
            return None

    def release(self, proto: onnx.NodeProto, position: int) -> None:
        """Forget what no later node reads."""
        for name in (*proto.input, *proto.output):
            if self.last.get(name, -1) <= position:
                self.values.pop(name, None)


class SourceStream(GraphStream):
    """The source: computes up to a wanted value; from a cut on, consumers read `forced` in its place.

    wanted: values that the other side asks for; each is held until it is taken.
    """

    def __init__(
        self,
        loaded: Loaded,
        feeds: Feeds,
        numbering: Numbering,
        wanted: set[str],
        forced: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__(loaded, feeds, numbering)
        self.wanted, self.forced = wanted, forced
        self.held: dict[str, np.ndarray | None] = {}
        self.names: dict[int, str] = {}
        self.positions = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        for node in self.nodes:
            for i, name in enumerate(node.output):
                if name:
                    self.numbers[name] = self.number(node, i)
                    self.names.setdefault(self.numbers[name], name)

    def take(self, name: str) -> np.ndarray | None:
        """Return the computed value of a wanted name and let go of it; None where it cannot be had."""
        self.advance(name)
        return self.held.pop(name, None)

    def equal(self, number: int) -> np.ndarray | None:
        """Return the source's value with this number, where it has one and still holds it."""
        name = self.names.get(number)
        if name is None:
            return None
        self.advance(name)
        return self.held.get(name) if name in self.forced else self.values.get(name)

    def advance(self, name: str) -> None:
        """Compute up to and including the node that produces `name`."""
        while self.position <= self.positions.get(name, -1):
            self._step()

    def _step(self) -> None:
        """Compute the next node."""
        proto = self.nodes[self.position]
        self.widened.clear()
        results = self.evaluate(proto)
        for i, name in enumerate(proto.output):
            if not name:
                continue
            value = results[i] if results is not None and i < len(results) else None
            if value is None:
                self.why.setdefault(name, self.why.get(proto.output[0], "not computed"))
            if name in self.wanted:
                self.held[name] = value
            self.values[name] = self.forced.get(name, value)
        # What was produced last stays until the next node: the other side asks for it.
        if self.position:
            self.release(self.nodes[self.position - 1], self.position - 1)
        self.position += 1
