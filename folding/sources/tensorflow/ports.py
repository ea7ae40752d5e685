"""Inputs and outputs of a graph: as the user, the signature or the graph itself names them.

An output that nobody named is found so: nodes of training (gradients, optimizers, savers, summaries,
losses and
whatever depends on labels) are set aside; what remains and feeds nothing else is an output. Where several
remain that cannot all be meant, `AmbiguousModel` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from folding.errors import AmbiguousModel, UsageError
from folding.options import FoldOptions
from folding.report import TensorInfo
from folding.sources.tensorflow import controlflow
from folding.sources.tensorflow.constants import evaluate
from folding.sources.tensorflow.graph import (
    INPUT_OPS,
    VARIABLE_OPS,
    Node,
    TfGraph,
    data_inputs,
    dtype_of,
    full,
    shape_of,
    split,
)
from folding.sources.tensorflow.modes import Modes, looks_like_a_mode
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
_GRADIENT = re.compile(r"(^|/)gradients(_\d+)?/")
_LOSS = re.compile(r"CrossEntropy|^L2Loss$|^InTopK")
_LINEAR = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "Conv2D", "Conv3D", "Conv2DBackpropInput",
                     "Conv3DBackpropInputV2", "DepthwiseConv2dNative", "BiasAdd", "FusedBatchNorm",
                     "FusedBatchNormV2", "FusedBatchNormV3", "GatherV2", "Gather", "Einsum",
                     "BatchNormWithGlobalNormalization"})  # fmt: skip
_LABEL = re.compile(
    r"(^|[/_])(labels?|targets?|y_?true|ground_?truth|truth|gt|classes)(_?\d+)?($|[/_])", re.IGNORECASE
)
_SHAPES = frozenset({"Shape", "Size", "Rank", "ShapeN", "Assert"})
_DECISIONS = frozenset({"ArgMax", "ArgMin", "TopK", "TopKV2", "InTopK", "InTopKV2"})
_AUTOMATIC = ("add", "sub", "mul", "truediv", "strided_slice", "transpose", "concat", "stack", "sum", "mean")
_GOOD = re.compile(
    r"(^|[/_])(out(puts?)?|logits?|prob(s|abilit(y|ies))?|predictions?|preds?|softmax|sigmoid|scores?|infer(ence)?|y_?(hat|pred|out)|"
    r"embed(ding)?s?|results?|final)(_?\d+)?($|[/_])",
    re.IGNORECASE,
)
_BAD = re.compile(
    r"(^|[/_])(loss(es)?|cost|accuracy|acc|error|train(ing)?(_?out\w*)?|global_step|metrics?|l2|reg\w*|mse)"
    r"(_?\d+)?($|[/_])",
    re.IGNORECASE,
)


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
    outputs = (
        _asked_outputs(graph, options, outputs or []) or outputs or infer_outputs(graph, labels, options)
    )
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


def candidates(graph: TfGraph, labels: Iterable[str] = (), options: FoldOptions | None = None) -> list[str]:
    """Nodes that may be outputs, in graph order."""
    forward = _Forward(_view(graph, options), labels)
    return forward.best(_both(forward, _Forward(graph, labels))) or forward.any()


def _both(view: _Forward, whole: _Forward) -> list[str]:
    """Ends of the inference part that are not merely cut off from what training reads."""
    ends = view.frontier()
    whole_ends = set(whole.frontier())
    return [name for name in ends if name in whole_ends] or ends


def _view(graph: TfGraph, options: FoldOptions | None) -> TfGraph:
    """A copy in inference mode, its dead branches gone."""
    view = graph.copy()
    Modes(options or FoldOptions()).settle(view, list(view.nodes))
    return controlflow.alive_view(view)


def infer_outputs(
    graph: TfGraph, labels: Iterable[str] = (), options: FoldOptions | None = None
) -> list[Port]:
    """The outputs of an inference graph, or of the inference part of a training graph."""
    forward = _Forward(_view(graph, options), labels)
    chosen = forward.best(_both(forward, _Forward(graph, labels)))
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
        self._measured: dict[str, bool] = {}
        self.side = {name for name, node in graph.nodes.items() if _is_side(node)}
        self.training = any(re.search(r"^(Resource)?Apply|Grad$", n.op) for n in graph.nodes.values())
        self.readers: dict[str, list[str]] = {}
        self.controls: set[str] = set()  # what something waits for is a step, not a result
        for node in graph.nodes.values():
            for ref in data_inputs(node):
                self.readers.setdefault(split(ref)[0], []).append(node.name)
            if node.op != "NoOp" and node.name not in self.side:
                self.controls.update(ref[1:] for ref in node.input if ref.startswith("^"))
        roots = [name for name in placeholders(graph) if not looks_like_a_mode(graph.nodes[name])]
        reach = {root: self._descendants([root]) for root in roots}
        data = [root for root in roots if self._has_layer(reach[root])] or roots
        given = {split(label)[0] for label in labels}
        data = [
            root for root in data if root not in given and not (_LABEL.search(root) and len(data) > 1)
        ] or data
        self.data = data
        self.labels = [root for root in roots if root not in data]
        self.behind_labels: set[str] = (
            set().union(*(reach[root] for root in self.labels)) if self.labels else set()
        )
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
        """Forward nodes that no other forward node reads (losses and updates are not forward)."""
        return [
            name for name in self.graph.nodes
            if name in self.nodes and name not in self.controls and not self._aside(name)
            and all(reader not in self.nodes or self._aside(reader) for reader in self.readers.get(name, ()))
        ]  # fmt: skip

    def _aside(self, name: str) -> bool:
        if name not in self._measured:
            self._measured[name] = False  # cycles end here
            self._measured[name] = self._measures(name)
        return self._measured[name]

    def _measures(self, name: str) -> bool:
        """Nodes that only measure or update: shapes, losses, averages, and what hangs on those alone."""
        node = self.graph.nodes[name]
        if _LOSS.search(node.op) or node.op in _SHAPES:
            return True
        readers = self.readers.get(name, [])
        if self._feeds_update(name, readers):
            return True
        if self.training and (node.op in _DECISIONS or _BAD.search(name) or self._full_reduction(node)):
            return True
        inputs = [split(ref)[0] for ref in data_inputs(node)]
        forward = [i for i in inputs if i in self.nodes]
        return bool(forward) and not set(inputs) & set(self.data) and all(self._aside(i) for i in forward)

    def _feeds_update(self, name: str, readers: list[str]) -> bool:
        """Every reader is an assignment, or only feeds assignments."""
        useful = [reader for reader in readers if not _GRADIENT.search(reader)]
        return bool(useful) and all(
            self.graph.nodes[reader].op.startswith(("Assign", "Scatter"))
            or (reader in self.nodes and self._feeds_update(reader, self.readers.get(reader, [])))
            for reader in useful
        )

    def _full_reduction(self, node: Node) -> bool:
        """A scalar loss: Mean or Sum over every axis, the batch's included."""
        if node.op not in ("Mean", "Sum") or (
            node.attr["keep_dims"].b if "keep_dims" in node.attr else False
        ):
            return False
        axes = evaluate(self.graph, data_inputs(node)[1])
        return axes is not None and 0 in axes.reshape(-1).tolist() and not self.readers_forward(node.name)

    def readers_forward(self, name: str) -> list[str]:
        """Readers within the forward part."""
        return [reader for reader in self.readers.get(name, ()) if reader in self.nodes]

    def best(self, names: list[str]) -> list[str]:
        """Narrow several candidates down by what they are called and what they rest on."""
        graph = self.graph
        names = [name for name in names if self._rests_on_weights(name)] or names
        if not self.training:
            return names
        names = list(dict.fromkeys(self._before_loss(name) for name in names))
        names = [n for n in names if output_dtype(graph, graph.nodes[n], 0) in (1, 2, 14, 19)] or names
        names = [name for name in names if not self._batch_statistics(name)] or names
        names = [name for name in names if not _BAD.search(name)] or names
        if len(names) > 1:
            good = [name for name in names if _GOOD.search(name)]
            names = good if len(good) == 1 else names
        return self._marked(names) if all(self._automatic(name) for name in names) else names

    def _automatic(self, name: str) -> bool:
        """`Mean_1`, `add_3`: the name that TensorFlow gives where the author gave none."""
        last = re.sub(r"_\d+$", "", name.rsplit("/", 1)[-1]).lower()
        return "/" not in name and last in (self.graph.nodes[name].op.lower(), *_AUTOMATIC)

    def _marked(self, names: list[str]) -> list[str]:
        """An Identity upstream that the author called `out`, `logits` or the like, when there is one."""
        marks = [
            name for name in self.graph.ancestors(names, control=False) & self.nodes
            if self.graph.nodes[name].op == "Identity" and "/" not in name and _GOOD.search(name)
        ]  # fmt: skip
        return marks if len(marks) == 1 else names

    def _rests_on_weights(self, name: str) -> bool:
        nodes = (self.graph.nodes[ancestor] for ancestor in self.graph.ancestors([name], control=False))
        return any(
            node.op in VARIABLE_OPS
            or node.op.endswith("PartitionedCall")
            or (
                node.op == "Const"
                and len(node.attr["value"].tensor.tensor_shape.dim)
                and dtype_of(node) in (1, 2, 14, 19)
            )
            for node in nodes
        )

    def _before_loss(self, name: str) -> str:
        """`Square(out - x)` on its way to a scalar is a loss that needs no labels: what counts is `out`."""
        node = self.graph.nodes[name]
        inputs = [split(ref)[0] for ref in data_inputs(node)]
        if not self._automatic(name):
            return name
        if node.op in ("Square", "Pow", "Abs") and inputs[0] in self.nodes:
            before = self._before_loss(inputs[0])
            return before if before != inputs[0] else name
        if node.op in ("Sub", "SquaredDifference") and set(inputs) & set(self.data):
            rest = [each for each in inputs if each in self.nodes]
            return rest[0] if len(rest) == 1 else name
        return name

    def _batch_statistics(self, name: str) -> bool:
        """Does it rest on batch moments in inference mode (a training branch beside an inference one)?"""
        nodes = (self.graph.nodes[ancestor] for ancestor in self.graph.ancestors([name], control=False))
        return any(
            node.op == "SquaredDifference"
            or (node.op.startswith("FusedBatchNorm") and node.attr["is_training"].b)
            for node in nodes
        )

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
