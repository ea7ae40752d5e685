"""Inputs and outputs of a graph: as the user, the signature or the graph itself names them.

An output that nobody named is found so: nodes of training (gradients, optimizers, savers, summaries, losses and
whatever depends on labels) are set aside; what remains and feeds nothing else is an output. Where several
remain that cannot all be meant, `AmbiguousModel` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from folding.errors import AmbiguousModel, UsageError
from folding.options import FoldOptions
from folding.report import TensorInfo
from folding.sources.tensorflow.graph import (
    INPUT_OPS,
    VARIABLE_OPS,
    Node,
    TfGraph,
    canonical,
    data_inputs,
    full,
    shape_of,
    split,
)
from folding.sources.tensorflow.modes import looks_like_a_mode
from folding.sources.tensorflow.program import Port
from folding.sources.tensorflow.respell import output_dtype

_SIDE = re.compile(
    r"Grad$|^(Resource|Sparse)?(Resource)?Apply[A-Z]|^Assign|^Save|^Restore|^MergeV2Checkpoints|^ShardedFilename|"
    r"Summary|^NoOp$|^Assert$|^Print|^VarIsInit|^IsVariableInit|^Queue|^ReportUninit|^Initialize|^InitializeTable|"
    r"^Variable|^VarHandle|^ReadVariableOp$|^Const$|^Write|^Read(er|File)|^Iterator|^Delete|^Destroy|^Scatter|"
    r"^BroadcastGradientArgs$|^InvertPermutation$|^ConcatOffset$"
)
_SIDE_SCOPE = re.compile(
    r"(^|/)(gradients(_\d+)?|save(_\d+)?|report_uninitialized_variables|init(_\d+)?|train_op|"
    r"(Adam|GradientDescent|Momentum|RMSProp|Adagrad|SGD|Ftrl|Adadelta)(_\d+)?|"
    r"Regularizer|Initializer|report_uninitialized)(/|$)"
)
_LOSS = re.compile(r"CrossEntropy|^L2Loss$|^InTopK")
_LINEAR = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "Conv2D", "Conv3D", "Conv2DBackpropInput",
                     "Conv3DBackpropInputV2", "DepthwiseConv2dNative", "BiasAdd", "FusedBatchNorm",
                     "FusedBatchNormV2", "FusedBatchNormV3", "GatherV2", "Gather", "Einsum",
                     "BatchNormWithGlobalNormalization"})  # fmt: skip
_LABEL = re.compile(r"(^|[/_])(labels?|targets?|y_?true|ground_?truth|truth|gt|classes)(_?\d+)?($|[/_])", re.IGNORECASE)
_SHAPES = frozenset({"Shape", "Size", "Rank", "ShapeN", "Assert", "Equal", "Range", "ExpandDims", "Prod"})
_DECISIONS = frozenset({"ArgMax", "ArgMin", "TopK", "TopKV2", "InTopK", "InTopKV2"})
_GOOD = re.compile(
    r"(^|[/_])(out(puts?)?|logits?|prob(s|abilit(y|ies))?|predictions?|preds?|softmax|sigmoid|scores?|infer(ence)?|y_?(hat|pred|out)|"
    r"embed(ding)?s?|results?|final)(_?\d+)?($|[/_])",
    re.IGNORECASE,
)
_BAD = re.compile(r"(^|[/_])(loss(es)?|cost|accuracy|acc|error|train(ing)?(_?out\w*)?|global_step|metrics?|l2|reg\w*|mse)(_?\d+)?($|[/_])",
                  re.IGNORECASE)  # fmt: skip


def choose(
    graph: TfGraph,
    options: FoldOptions,
    *,
    inputs: list[Port] | None = None,
    outputs: list[Port] | None = None,
    labels: Iterable[str] = (),
) -> tuple[list[Port], list[Port]]:
    """Ports of the conversion. `inputs`, `outputs`: a signature's, under its names.

    Raises:
        UsageError: `unknown_output`, `unknown_input`.
        AmbiguousModel: `ambiguous_outputs`; details carry the candidates.
    """
    outputs = _asked_outputs(graph, options, outputs or []) or outputs or infer_outputs(graph, labels)
    asked = _asked_inputs(graph, options, inputs or [])
    if inputs is None:
        inputs = []
        needed = graph.ancestors([port.tensor for port in outputs], control=True)
        cut = {split(port.tensor)[0] for port in asked}
        for name in placeholders(graph):
            if name in needed and name not in cut and not _shadowed(graph, name, outputs, cut):
                node = graph.nodes[name]
                if node.op != "PlaceholderWithDefault":
                    inputs.append(Port(f"{name}:0", f"{name}:0"))
    known = {port.tensor: port for port in asked}
    merged = [known.pop(port.tensor, port) for port in inputs]
    return [*merged, *known.values()], outputs


def _shadowed(graph: TfGraph, name: str, outputs: list[Port], cut: set[str]) -> bool:
    """Is the placeholder needed only behind a point where the user cuts the graph?"""
    if not cut:
        return False
    seen: set[str] = set()
    stack = [split(port.tensor)[0] for port in outputs]
    while stack:
        current = stack.pop()
        if current in seen or current not in graph.nodes or current in cut:
            continue
        seen.add(current)
        stack.extend(split(ref)[0] for ref in graph.nodes[current].input)
    return name not in seen


def _asked_outputs(graph: TfGraph, options: FoldOptions, known: list[Port]) -> list[Port]:
    by_name = {port.name: port for port in known}
    ports = []
    for name in options.outputs:
        port = by_name.get(name)
        if port is None:
            node, index = split(name)
            if node not in graph.nodes or name.startswith("^"):
                raise UsageError(
                    f"The model has no output {name!r}.",
                    code="unknown_output",
                    layer=name,
                    hint="bnfold inspect lists what it has; candidates are in the details.",
                    details={"candidates": [*by_name, *(full(c) for c in candidates(graph))][:40]},
                )
            port = Port(f"{node}:{index}", f"{node}:{index}")
        ports.append(port)
    return ports


def _asked_inputs(graph: TfGraph, options: FoldOptions, known: list[Port]) -> list[Port]:
    by_name = {port.name: port for port in known} | {port.tensor: port for port in known}
    ports = []
    for name, shape in options.inputs.items():
        dims = tuple(shape) if shape else None
        port = by_name.get(name) or by_name.get(full(name))
        if port is None:
            node, index = split(name)
            if node not in graph.nodes:
                raise UsageError(
                    f"The model has no input {name!r}.",
                    code="unknown_input",
                    layer=name,
                    hint="bnfold inspect lists what it has; candidates are in the details.",
                    details={"candidates": [*by_name, *(f"{p}:0" for p in placeholders(graph))][:40]},
                )
            port = Port(f"{node}:{index}", f"{node}:{index}")
        _fits(graph, port, dims)
        ports.append(Port(port.tensor, port.name, dims))
    return ports


def _fits(graph: TfGraph, port: Port, dims: tuple[int | str | None, ...] | None) -> None:
    node = graph.nodes[split(port.tensor)[0]]
    declared = shape_of(node) if node.op in INPUT_OPS else None
    if dims is None or declared is None:
        return
    wrong = len(dims) != len(declared) or any(
        isinstance(a, int) and b is not None and a != b for a, b in zip(dims, declared, strict=False)
    )
    if wrong:
        raise UsageError(
            f"Input {port.name!r} is declared as {declared}; {list(dims)} does not fit.",
            code="input_shape",
            layer=port.name,
        )


def placeholders(graph: TfGraph) -> list[str]:
    """Placeholders that belong to the model: not the saver's, not the queue's."""
    return [
        name for name, node in graph.nodes.items()
        if node.op in INPUT_OPS and not _SIDE_SCOPE.search(name) and not name.startswith("saver_filename")
        and not re.search(r"(^|/)(filename|Const)$", name)
    ]  # fmt: skip


def candidates(graph: TfGraph, labels: Iterable[str] = ()) -> list[str]:
    """Nodes that may be outputs, in graph order."""
    return _Forward(graph, labels).frontier()


def infer_outputs(graph: TfGraph, labels: Iterable[str] = ()) -> list[Port]:
    """The outputs of an inference graph, or of the inference part of a training graph."""
    forward = _Forward(graph, labels)
    frontier = forward.frontier()
    chosen = frontier
    if forward.training or len(frontier) > 1:
        chosen = forward.best(frontier)
    if not chosen or (forward.training and len(chosen) > 1):
        raise AmbiguousModel(
            f"The outputs cannot be told from the graph: {len(chosen) or 'no'} candidates"
            f"{' (' + ', '.join(full(c) for c in chosen[:6]) + ')' if chosen else ''}.",
            code="ambiguous_outputs",
            hint="Name what inference should compute: --output NAME (repeat for several).",
            details={"candidates": [full(name) for name in (chosen or forward.any())][:40]},
        )
    return [Port(full(name), full(name)) for name in chosen]


class _Forward:
    """The part of a graph that inference runs."""

    def __init__(self, graph: TfGraph, labels: Iterable[str]) -> None:
        self.graph = graph
        self.side = {name for name, node in graph.nodes.items() if _is_side(node)}
        self.training = any(re.search(r"^(Resource)?Apply|Grad$", n.op) for n in graph.nodes.values())
        self.readers: dict[str, list[str]] = {}
        for node in graph.nodes.values():
            for ref in data_inputs(node):
                self.readers.setdefault(split(ref)[0], []).append(node.name)
        roots = [name for name in placeholders(graph) if not looks_like_a_mode(graph.nodes[name])]
        reach = {root: self._descendants([root]) for root in roots}
        data = [root for root in roots if self._has_layer(reach[root])] or roots
        given = {split(label)[0] for label in labels}
        data = [root for root in data if root not in given and not (_LABEL.search(root) and len(data) > 1)] or data
        self.data = data
        self.labels = [root for root in roots if root not in data]
        self.behind_labels: set[str] = set().union(*(reach[root] for root in self.labels)) if self.labels else set()
        forward = set().union(*(reach[root] for root in data)) if data else set()
        self.nodes = forward - self.behind_labels - set(roots)

    def _descendants(self, roots: list[str]) -> set[str]:
        seen: set[str] = set()
        stack = list(roots)
        while stack:
            name = stack.pop()
            if name in seen or (name in self.side and name not in roots):
                continue
            seen.add(name)
            stack.extend(self.readers.get(name, ()))
        return seen

    def _has_layer(self, names: set[str]) -> bool:
        for name in names:
            node = self.graph.nodes[name]
            if node.op in _LINEAR or node.op.endswith("PartitionedCall"):
                others = [split(ref)[0] for ref in data_inputs(node)]
                if any(other not in names for other in others) and not _LOSS.search(node.op):
                    return True
        return False

    def frontier(self) -> list[str]:
        """Forward nodes that no other forward node reads (losses are not forward)."""
        found = []
        for name, node in self.graph.nodes.items():
            if name not in self.nodes or _LOSS.search(node.op) or node.op in _SHAPES:
                continue
            readers = [r for r in self.readers.get(name, ()) if r in self.nodes and not self._aside(r)]
            if not readers and not self._aside(name):
                found.append(name)
        return found

    def _aside(self, name: str, depth: int = 0) -> bool:
        """Nodes that only measure: shapes, decisions and whatever hangs on them alone."""
        node = self.graph.nodes[name]
        if _LOSS.search(node.op) or node.op in _SHAPES or (self.training and node.op in _DECISIONS):
            return True
        if self.training and _BAD.search(name):
            return True
        inputs = [split(ref)[0] for ref in data_inputs(node)]
        forward = [i for i in inputs if i in self.nodes]
        return depth < 8 and bool(forward) and all(self._aside(i, depth + 1) for i in forward)

    def best(self, names: list[str]) -> list[str]:
        """Narrow several candidates down by what they are called and what they rest on."""
        graph = self.graph
        floating = [n for n in names if output_dtype(graph, graph.nodes[n], 0) in (1, 2, 14, 19)] or names
        names = floating if self.training else names
        if not self.training:
            return names
        quiet = [name for name in names if not self._batch_statistics(name)]
        names = quiet or names
        if len(names) > 1:
            names = [name for name in names if not _BAD.search(name)] or names
        if len(names) > 1:
            good = [name for name in names if _GOOD.search(name)]
            names = good if len(good) == 1 else names
        if len(names) > 1:
            rank = [n for n in names if (shape_of(graph.nodes[n]) or [None]) != []]
            names = rank or names
        return names

    def _batch_statistics(self, name: str) -> bool:
        """Does it rest on batch moments whatever the mode (a training branch beside an inference one)?"""
        for ancestor in self.graph.ancestors([name], control=False):
            node = self.graph.nodes[ancestor]
            if node.op == "SquaredDifference" and not self._under_switch(node):
                return True
            if node.op.startswith("FusedBatchNorm") and node.attr["is_training"].b and not self._under_switch(node):
                return True
        return False

    def _under_switch(self, node: Node) -> bool:
        for name in self.graph.ancestors([node.name], control=True):
            if self.graph.nodes[name].op in ("Switch", "RefSwitch"):
                return True
        for reader in self._descendants([node.name]):
            if self.graph.nodes[reader].op in ("Merge", "If", "StatelessIf", "Select", "SelectV2"):
                return True
        return False

    def any(self) -> list[str]:
        """Forward nodes that look like results, when nothing better is known."""
        return [name for name in self.nodes if _GOOD.search(name)]


def _is_side(node: Node) -> bool:
    return bool(_SIDE.search(node.op) or _SIDE_SCOPE.search(node.name)) and node.op not in VARIABLE_OPS


def info(graph: TfGraph, port: Port) -> TensorInfo:
    """dtype and declared shape of a port."""
    from tensorflow.python.framework import dtypes

    name, index = split(port.tensor)
    node = graph.nodes[name]
    kind = output_dtype(graph, node, index)
    shape = list(port.shape) if port.shape is not None else shape_of(node) if node.op in INPUT_OPS else None
    return TensorInfo(name=port.name, dtype=dtypes.as_dtype(kind).name, shape=shape)


def short(ref: str) -> str:
    """Canonical reference."""
    return canonical(ref)
