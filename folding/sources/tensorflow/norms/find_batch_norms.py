"""Batch norms of a TensorFlow graph, by their arithmetic, under the names that their author gave them.

    FusedBatchNorm*(x, gamma, beta, mean, variance)                      fused; 2015's op is rewritten as it
    x * f + (beta - mean * f) with f = rsqrt(variance + epsilon) * gamma   tf.nn.batch_normalization
    (x - mean) / sqrt(variance + epsilon) * gamma + beta                 by hand

Each is found from its 1/sqrt(variance + epsilon): the variance is a leaf (a weight, through identities and
reshapes) or comes from the batch. The other roles are read off what that factor meets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from folding.norms.base import NormHint
from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.tf_graph import (
    Node,
    TfGraph,
    canonical,
    data_inputs,
    dtype_of,
    shape_of,
    split,
)
from folding.sources.tensorflow.norms.training_evidence import History

_PASS = frozenset(
    {
        "Identity",
        "Reshape",
        "ExpandDims",
        "Squeeze",
        "Cast",
        "BroadcastTo",
        "StopGradient",
        "Snapshot",
        "Enter",
    }
)
_ADD, _MUL, _DIV = frozenset({"Add", "AddV2", "BiasAdd"}), frozenset({"Mul"}), frozenset({"RealDiv", "Div"})
_REDUCTIONS = frozenset({"Mean", "SquaredDifference", "Sum"})
_ROLES = ("moving_mean", "moving_variance", "gamma", "beta")


@dataclass
class FoundNorm:
    """One batch norm: leaves by role, and the node that names its scope."""

    node: Node
    spelling: str
    roles: dict[str, str] = field(default_factory=dict)
    epsilon: float | None = None
    batch: bool = False
    axis: int | None = None
    end: str = ""
    stored: tuple[str, ...] = ()  # statistics that the file holds and the layer does not use


def find(graph: TfGraph) -> list[FoundNorm]:
    """Every batch norm of a resolved graph, in graph order; shared ones once per use."""
    finder = _Finder(graph)
    found = [hit for node in graph.in_order() if (hit := finder.at(node)) is not None]
    return _whole([hit for hit in found if hit.batch or "moving_variance" in hit.roles])


def _whole(found: list[FoundNorm]) -> list[FoundNorm]:
    """Without those that show a part of another: 1/sqrt(variance + epsilon) may be written twice."""
    known: dict[str, list[set[tuple[str, str]]]] = {}
    for hit in found:
        if not hit.batch:
            known.setdefault(hit.roles["moving_variance"], []).append(set(hit.roles.items()))
    return [
        hit
        for hit in found
        if hit.batch or not any(set(hit.roles.items()) < more for more in known[hit.roles["moving_variance"]])
    ]


def hints(found: list[FoundNorm], history: History, missing: dict[str, object]) -> list[NormHint]:
    """The records for `folding.norms`; layers that are used twice with the same variables appear once."""
    names = _names(found)
    result: dict[tuple[object, ...], NormHint] = {}
    for hit, name in zip(found, names, strict=True):
        key = (*(hit.roles.get(role) for role in _ROLES), hit.node.name if hit.batch else "")
        if key in result:
            continue
        result[key] = NormHint(
            name=name,
            spelling=hit.spelling,
            variables={role: history.known_as(leaf) for role, leaf in hit.roles.items()},
            initializers=dict(hit.roles),
            missing=tuple(role for role, leaf in hit.roles.items() if leaf in missing),
            epsilon=hit.epsilon,
            momentum=history.momentum(hit.roles, hit.node.name),
            channel_axis=hit.axis,
            batch_statistics=hit.batch,
            evidence=history.evidence(hit.roles, batch=hit.batch, name=name, stored=hit.stored),
        )
    return list(result.values())


class _Finder:
    def __init__(self, graph: TfGraph) -> None:
        self.graph = graph
        self.readers = graph.consumers()

    def at(self, node: Node) -> FoundNorm | None:
        if node.op.startswith("FusedBatchNorm") and not node.op.endswith("Grad") and "Grad" not in node.op:
            return self._fused(node)
        if node.op in ("Rsqrt", "Sqrt", "Pow"):
            return self._arithmetic(node)
        return None

    def leaf(self, ref: str) -> str | None:
        """The placeholder (a detached weight) or constant vector that a reference reads."""
        for _ in range(32):
            node = self.graph.nodes.get(split(ref)[0])
            if node is None:
                return None
            if node.op == "Placeholder" or (node.op == "Const" and _is_vector(node)):
                return str(node.name)
            inputs = data_inputs(node)
            if node.op not in _PASS or not inputs:
                return None
            ref = inputs[0]
        return None

    def _fused(self, node: Node) -> FoundNorm | None:
        inputs = data_inputs(node)
        batch = node.attr["is_training"].b if "is_training" in node.attr else True
        if batch and self._is_fill(inputs[1]):
            return None  # Keras spells a layer norm so: examples as channels, scale and offset filled in
        found = FoundNorm(node, node.op, epsilon=_single(node.attr["epsilon"].f), batch=batch)
        roles = {"gamma": inputs[1], "beta": inputs[2]}
        if not batch:
            roles.update(moving_mean=inputs[3], moving_variance=inputs[4])
        for role, ref in roles.items():
            leaf = self.leaf(ref)
            if leaf is not None and not _is_neutral(self.graph, leaf, role):
                found.roles[role] = leaf
        found.axis = 1 if node.attr["data_format"].s in (b"NCHW", b"NCDHW") else -1
        found.end = node.name
        if batch:
            found.spelling = f"{node.op} in training mode"
        return found

    def _is_fill(self, ref: str) -> bool:
        node = self.graph.nodes.get(split(ref)[0])
        return node is not None and node.op in ("Fill", "OnesLike", "BroadcastTo")

    def _arithmetic(self, node: Node) -> FoundNorm | None:
        inputs = data_inputs(node)
        if node.op == "Pow":
            power = evaluate(self.graph, inputs[1])
            if power is None or power.size != 1 or abs(float(power.reshape(-1)[0])) != 0.5:
                return None
            inverted = float(power.reshape(-1)[0]) < 0
        else:
            inverted = node.op == "Rsqrt"
        variance, epsilon = self._variance(inputs[0])
        if variance is None:
            return None
        leaf = self.leaf(variance)
        batch = leaf is None and self._from_batch(variance)
        if leaf is None and not batch:
            return None
        found = FoundNorm(node, "arithmetic", epsilon=epsilon, batch=batch, axis=-1)
        if leaf is not None:
            found.roles["moving_variance"] = leaf
        self._follow(found, inverted)
        if not found.end:
            return None
        self._spell(found, node)
        return found

    def _spell(self, found: FoundNorm, node: Node) -> None:
        kind = "tf.nn.batch_normalization" if "/batchnorm/" in f"/{node.name}" else "hand-written arithmetic"
        found.spelling = f"{kind} on batch moments" if found.batch else kind

    def _variance(self, ref: str) -> tuple[str | None, float | None]:
        """`variance` and `epsilon` of `variance + epsilon`; a bare variance has epsilon 0."""
        node = self.graph.nodes.get(split(ref)[0])
        while node is not None and node.op in _PASS and data_inputs(node) and self.leaf(ref) is None:
            ref = data_inputs(node)[0]
            node = self.graph.nodes.get(split(ref)[0])
        if node is None:
            return None, None
        if node.op in ("Add", "AddV2", "Maximum"):
            left, right = data_inputs(node)
            for inner, constant in ((left, right), (right, left)):
                value = evaluate(self.graph, constant)
                if value is not None and value.size == 1:
                    return inner, _single(float(value.reshape(-1)[0]))
            return None, None
        return (ref, 0.0) if self.leaf(ref) is not None or self._from_batch(ref) else (None, None)

    def _from_batch(self, ref: str) -> bool:
        """Variance of the batch: a mean of squared differences (or of squares, minus a square)."""
        stack, depth = [ref], 0
        while stack and depth < 24:
            node = self.graph.nodes.get(split(stack.pop())[0])
            depth += 1
            if node is None:
                continue
            inputs = data_inputs(node)
            if node.op == "Mean":
                return self._over_batch(node)
            if node.op in _PASS or node.op in ("Sub", "Mul", "Square", "Maximum", "AddV2", "Add", "RealDiv"):
                stack.extend(inputs[:1] if node.op in _PASS else inputs)
        return False

    def _over_batch(self, node: Node) -> bool:
        """Axis 0 is among the reduced ones: an instance or layer norm reduces others only."""
        axes = self.graph.nodes.get(split(data_inputs(node)[1])[0])
        value = evaluate(self.graph, axes.name) if axes is not None else None
        return value is not None and 0 in value.reshape(-1).tolist()

    def _follow(self, found: FoundNorm, inverted: bool) -> None:
        """From 1/sqrt (or sqrt) onwards: gamma multiplies it, the mean meets it, beta comes last."""
        factors = {canonical(found.node.name)}
        work: list[tuple[str, bool]] = [(found.node.name, inverted)]
        while work:
            ref, ready = work.pop()
            for node in self.readers.get(canonical(ref), ()):
                inputs = [canonical(i) for i in data_inputs(node)]
                other = inputs[1 - inputs.index(canonical(ref))] if len(inputs) == 2 else ""
                if node.op in _PASS or node.op in ("Reciprocal", "Inv"):
                    work.append((node.name, ready or node.op in ("Reciprocal", "Inv")))
                    factors.add(node.name)
                elif node.op in _MUL and ready:
                    self._multiplied(found, node, other, work, factors)
                elif node.op in _DIV and not ready and inputs[1] == canonical(ref):
                    self._divided(found, node, other, work, factors)

    def _multiplied(
        self, found: FoundNorm, node: Node, other: str, work: list[tuple[str, bool]], factors: set[str]
    ) -> None:
        leaf = self.leaf(other)
        if leaf is None:
            negated = self.graph.nodes.get(split(other)[0])
            if negated is not None and negated.op == "Neg" and (mean := self.leaf(data_inputs(negated)[0])):
                found.roles.setdefault("moving_mean", mean)
                return
            self._applied(found, node, other)
            return
        for reader in self.readers.get(node.name, ()):
            inputs = [canonical(i) for i in data_inputs(reader)]
            if reader.op == "Sub" and inputs[1] == node.name:
                beta = self.leaf(inputs[0])
                if beta is not None and "moving_mean" not in found.roles:
                    found.roles["moving_mean"] = leaf
                    found.roles["beta"] = beta
                    return
                if self._is_zero(inputs[0]):
                    found.roles["moving_mean"] = leaf
                    return
            if reader.op in ("Neg",):
                found.roles["moving_mean"] = leaf
                return
            if reader.op == "Sub" and inputs[0] != node.name:
                found.roles["moving_mean"] = leaf
                return
        found.roles.setdefault("gamma", leaf)
        factors.add(node.name)
        work.append((node.name, True))

    def _divided(
        self, found: FoundNorm, node: Node, other: str, work: list[tuple[str, bool]], factors: set[str]
    ) -> None:
        leaf = self.leaf(other)
        if leaf is not None:  # gamma / sqrt(...)
            found.roles.setdefault("gamma", leaf)
            work.append((node.name, True))
            return
        self._applied(found, node, other)

    def _applied(self, found: FoundNorm, node: Node, data: str) -> None:
        """`node` scales the data (or the centred data); walk on to gamma and beta."""
        found.end = found.end or node.name
        source = self.graph.nodes.get(split(data)[0])
        if source is not None and source.op == "Sub":
            mean = self.leaf(data_inputs(source)[1])
            if mean is not None:
                found.roles.setdefault("moving_mean", mean)
        elif source is not None and found.batch and source.op == "Mean":
            return
        self._tail(found, node)

    def _tail(self, found: FoundNorm, node: Node) -> None:
        for _ in range(6):
            readers = self.readers.get(node.name, [])
            if len(readers) != 1:
                return
            node = readers[0]
            inputs = [canonical(i) for i in data_inputs(node)]
            leaves = [leaf for ref in inputs if (leaf := self.leaf(ref)) is not None]
            if node.op in _MUL and leaves and "gamma" not in found.roles:
                found.roles["gamma"] = leaves[0]
            elif node.op in _ADD and leaves and "beta" not in found.roles:
                found.roles["beta"] = leaves[0]
                found.end = node.name
                return
            elif node.op in _ADD and self._shift(found, inputs):
                found.end = node.name
                return
            elif node.op not in ("Identity", "Reshape", "Cast"):
                return
            found.end = node.name

    def _shift(self, found: FoundNorm, inputs: list[str]) -> bool:
        """`beta - mean * factor`, perhaps with a mean that comes from the batch; `- mean * factor` alone."""
        for ref in inputs:
            source = self.graph.nodes.get(split(ref)[0])
            if source is not None and source.op == "Sub":
                beta = self.leaf(data_inputs(source)[0])
                if beta is not None and not self._is_zero(data_inputs(source)[0]):
                    found.roles.setdefault("beta", beta)
                return True
            if source is not None and source.op == "Neg":
                return True
        return False

    def _is_zero(self, ref: str) -> bool:
        value = evaluate(self.graph, ref)
        return value is not None and not value.any()


def _is_vector(node: Node) -> bool:
    dims = node.attr["value"].tensor.tensor_shape.dim
    return len(dims) >= 1 and dtype_of(node) in (1, 2, 14, 19)


def _is_neutral(graph: TfGraph, leaf: str, role: str) -> bool:
    """A gamma of ones or beta of zeros that the layer's author did not have (scale=False, center=False)."""
    node = graph.nodes[leaf]
    if node.op != "Const":
        return False
    from folding.sources.tensorflow.graph.tf_graph import const_value

    value = const_value(node)
    if value is None:
        return False
    if value.size == 0:
        return True
    return bool((value == (1 if role == "gamma" else 0)).all()) and role in ("gamma", "beta")


def _single(value: float) -> float:
    """0.001 was stored as float32; give the shortest decimal that rounds to it."""
    import numpy as np

    return float(str(np.float32(value)))


def _names(found: list[FoundNorm]) -> list[str]:
    """Layer names: the scope of its own variables, or of its operations where those share a scope."""
    scopes = [_variable_scope(hit) for hit in found]
    distinct: dict[str, set[tuple[object, ...]]] = {}
    for scope, hit in zip(scopes, found, strict=True):
        distinct.setdefault(scope, set()).add(tuple(hit.roles.get(role) for role in _ROLES))
    names = []
    for scope, hit in zip(scopes, found, strict=True):
        usable = scope and len(distinct[scope]) == 1 and _standard(hit)
        names.append(scope if usable else _operation_scope(hit) or scope or hit.node.name)
    return names


def _variable_scope(hit: FoundNorm) -> str:
    for role in ("gamma", "beta", "moving_mean", "moving_variance"):
        if role in hit.roles and "/" in hit.roles[role]:
            return hit.roles[role].rsplit("/", 1)[0]
    return ""


def _standard(hit: FoundNorm) -> bool:
    """Are its variables called as batch norm layers call them?"""
    import re

    known = re.compile(
        r"(gamma|beta|scale|offset|bias|moving_mean|moving_variance|moving_var|mean|variance|mean_ema|variance_ema|"
        r"pop_mean|pop_var(iance)?|running_(mean|var(iance)?)|ExponentialMovingAverage|biased|weight)(_\d+)?(/part_\d+)?"
    )
    return all(known.fullmatch(leaf.rsplit("/", 1)[-1]) for leaf in hit.roles.values())


def _operation_scope(hit: FoundNorm) -> str:
    """`fc1/infer/Sqrt` -> `fc1/infer`; without a scope, the name of what comes out."""
    if "/" in hit.node.name:
        return str(hit.node.name).rsplit("/", 1)[0]
    return hit.end.split(":")[0]


def channels(graph: TfGraph, leaf: str) -> Iterator[int]:
    """Known dimensions of a leaf."""
    yield from (dim for dim in shape_of(graph.nodes[leaf]) or [] if dim is not None)
