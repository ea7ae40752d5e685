"""Outputs of a graph that nobody named.

Nodes of training (gradients, optimizers, savers, summaries, losses and whatever depends on labels) are set
aside; what remains and feeds nothing else is an output. Where several remain that cannot all be meant,
`AmbiguousModel` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

from folding.errors import AmbiguousModel
from folding.options import FoldOptions
from folding.report import Assumption
from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.program import Port
from folding.sources.tensorflow.graph.tf_graph import (
    VARIABLE_OPS,
    Node,
    TfGraph,
    data_inputs,
    dtype_of,
    full,
    shape_of,
    split,
)
from folding.sources.tensorflow.infer.input_pipelines import SIDE_SCOPE, placeholders
from folding.sources.tensorflow.infer.mode_flags import Modes, looks_like_a_mode
from folding.sources.tensorflow.rewrite import controlflow
from folding.sources.tensorflow.rewrite.legalize import output_dtype

_SIDE = re.compile(
    r"Grad$|^(Resource|Sparse)?(Resource)?Apply[A-Z]|^Assign|^Save|^Restore|^MergeV2Checkpoints|^ShardedFilename|"
    r"Summary|^NoOp$|^Assert$|^PrintV2$|^VarIsInit|^IsVariableInit|^Queue|^ReportUninit|^Initialize|^InitializeTable|"
    r"^Variable|^VarHandle|^ReadVariableOp$|^Const$|^Write|^Read(er|File)|^Iterator|^Delete|^Destroy|^Scatter|"
    r"^BroadcastGradientArgs$|^InvertPermutation$|^ConcatOffset$"
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
_BOOL = 10  # DT_BOOL
_SHOWN = 8  # candidates that an assumption lists
_SHAPES = frozenset({"Shape", "Size", "Rank", "ShapeN", "Assert"})
_DECISIONS = frozenset({"ArgMax", "ArgMin", "TopK", "TopKV2", "InTopK", "InTopKV2"})
_AUTOMATIC = ("add", "sub", "mul", "truediv", "strided_slice", "transpose", "concat", "stack", "sum", "mean")
_GOOD = re.compile(
    r"(^|[/_])(out(puts?)?|logits?|prob(s|abilit(y|ies))?|predictions?|preds?|softmax|sigmoid|scores?|infer(ence)?|y_?(hat|pred|out)|"
    r"embed(ding)?s?|results?|final)(_?\d+)?($|[/_])",
    re.IGNORECASE,
)
_BAD = re.compile(
    r"(^|[/_])(loss(es)?|cost|\w*cross_?entropy\w*|objective|"
    r"accuracy|acc|error|train(ing)?(_?out\w*)?|global_step|metrics?|l2|reg\w*|mse)"
    r"(_?\d+)?($|[/_])",
    re.IGNORECASE,
)


def candidates(graph: TfGraph, labels: Iterable[str] = (), options: FoldOptions | None = None) -> list[str]:
    """Nodes that may be outputs, in graph order."""
    forward, chosen = _chosen(graph, labels, options)
    return chosen or forward.any()


def _chosen(graph: TfGraph, labels: Iterable[str], options: FoldOptions | None) -> tuple[_Forward, list[str]]:
    """Ends of the inference part that are not merely cut off from what training reads."""
    modes = Modes(options or FoldOptions())
    view = graph.copy()
    modes.settle(view, [name for name in view.nodes if not SIDE_SCOPE.search(name)])
    view = controlflow.alive_view(view)
    whole = _Forward(graph, labels, flags=modes.values)
    forward = _Forward(view, labels, flags=modes.values, training=whole.training)
    ends = forward.frontier()
    whole_ends = set(whole.frontier())
    return forward, forward.best([name for name in ends if name in whole_ends] or ends)


def infer_outputs(
    graph: TfGraph, labels: Iterable[str] = (), options: FoldOptions | None = None
) -> tuple[list[Port], list[Assumption]]:
    """The outputs of an inference graph, or of the inference part of a training graph; what was assumed."""
    forward, chosen = _chosen(graph, labels, options)
    if not chosen or (forward.training and len(chosen) > 1 and not _towers(chosen)):
        raise AmbiguousModel(
            f"The outputs cannot be told from the graph: {len(chosen) or 'no'} candidates"
            f"{' (' + ', '.join(full(c) for c in chosen[:6]) + ')' if chosen else ''}.",
            code="ambiguous_outputs",
            hint="Name what inference should compute: --output NAME (repeat for several).",
            details={"candidates": [full(name) for name in (chosen or forward.any())][:40]},
        )
    return [Port(full(name), full(name)) for name in chosen], _assumptions_about(forward, chosen)


def _assumptions_about(forward: _Forward, chosen: list[str]) -> list[Assumption]:
    """That the outputs were guessed, where anything else could be meant."""
    others = [name for name in dict.fromkeys([*forward.named(), *forward.frontier()]) if name not in chosen]
    if not others or not forward.training:
        return []
    more = ", ..." if len(others) > _SHOWN else ""
    why = (
        f"guessed from the graph, which names no outputs; also there: {', '.join(map(full, others[:_SHOWN]))}"
    )
    return [
        Assumption(
            what="outputs", value=", ".join(map(full, chosen)), why=why + more, override="--output NAME"
        )
    ]


def _towers(names: list[str]) -> bool:
    """`a/logits/BiasAdd`, `b/logits/BiasAdd`: the same result of several networks side by side."""
    return all("/" in name for name in names) and len({name.split("/", 1)[1] for name in names}) == 1


class _Forward:
    """The part of a graph that inference runs."""

    def __init__(
        self,
        graph: TfGraph,
        labels: Iterable[str],
        *,
        flags: Container[str] = (),
        training: bool | None = None,
    ) -> None:
        """flags: mode flags. training: whether the file trains, where its inference part does not show it."""
        self.graph = graph
        self.side = {name for name, node in graph.nodes.items() if _is_side(node)}
        if training is None:
            training = any(re.search(r"^(Resource)?Apply|Grad$", n.op) for n in graph.nodes.values())
        self.training = training
        self.readers: dict[str, list[str]] = {}
        self.controls: set[str] = set()  # what something waits for is a step, not a result
        for node in graph.nodes.values():
            for ref in data_inputs(node):
                self.readers.setdefault(split(ref)[0], []).append(node.name)
            if node.op != "NoOp" and node.name not in self.side:
                self.controls.update(ref[1:] for ref in node.input if ref.startswith("^"))
        roots = [
            name
            for name in placeholders(graph)
            if name not in flags
            and not looks_like_a_mode(graph.nodes[name])
            and (dtype_of(graph.nodes[name]), shape_of(graph.nodes[name])) != (_BOOL, [])  # a choice
        ]
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
        order = [node.name for node in graph.in_order()]
        self._updates = self._feed_updates(order)
        self._aside = self._set_aside(order)

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
        useful = self.nodes - self._aside
        return [
            name for name in self.graph.nodes
            if name in useful and name not in self.controls
            and not any(reader in useful for reader in self.readers.get(name, ()))
        ]  # fmt: skip

    def _set_aside(self, order: list[str]) -> set[str]:
        """Nodes that only measure or update: shapes, losses, averages, and what hangs on those alone."""
        aside: set[str] = set()
        for name in order:
            if name in self.nodes and (self._measures(name) or self._hangs_on(name, aside)):
                aside.add(name)
        return aside

    def _measures(self, name: str) -> bool:
        node = self.graph.nodes[name]
        if _LOSS.search(node.op) or node.op in _SHAPES or name in self._updates:
            return True
        return self.training and (
            node.op in _DECISIONS or bool(_BAD.search(name)) or self._full_reduction(node)
        )

    def _hangs_on(self, name: str, aside: set[str]) -> bool:
        inputs = [split(ref)[0] for ref in data_inputs(self.graph.nodes[name])]
        forward = [i for i in inputs if i in self.nodes]
        return bool(forward) and not set(inputs) & set(self.data) and all(i in aside for i in forward)

    def _feed_updates(self, order: list[str]) -> set[str]:
        """Forward nodes whose every reader is an assignment, or only feeds assignments."""
        found: set[str] = set()
        for name in reversed(order):
            useful = [reader for reader in self.readers.get(name, ()) if not _GRADIENT.search(reader)]
            if useful and all(
                self.graph.nodes[reader].op.startswith(("Assign", "Scatter"))
                or (reader in self.nodes and reader in found)
                for reader in useful
            ):
                found.add(name)
        return found

    def _full_reduction(self, node: Node) -> bool:
        """A scalar loss: Mean or Sum over every axis, the batch's included."""
        if node.op not in ("Mean", "Sum") or (
            node.attr["keep_dims"].b if "keep_dims" in node.attr else False
        ):
            return False
        axes = evaluate(self.graph, data_inputs(node)[1])
        return axes is not None and 0 in axes.reshape(-1).tolist()

    def best(self, names: list[str]) -> list[str]:
        """Narrow several candidates down by what they are called and what they rest on."""
        graph = self.graph
        names = [name for name in names if self._rests_on_weights(name)] or names
        # the last state of a loop whose outputs are used is seldom meant
        names = [name for name in names if not self._leaves_loop(name)] or names
        if not self.training:
            good = [name for name in names if _GOOD.search(name)]
            rest = [name for name in names if name not in good]
            if len(good) == 1 and all(self._unnamed(name) for name in rest):
                return good
            if all(self._automatic(name) for name in names):
                return names
            # an author who names results named this one too, before doing more with it
            return list(dict.fromkeys(self._identity_of(n) if self._automatic(n) else n for n in names))
        names = list(dict.fromkeys(self._named_before_loss(name) for name in names))
        names = [n for n in names if output_dtype(graph, graph.nodes[n], 0) in (1, 2, 14, 19)] or names
        names = [name for name in names if not self._batch_statistics(name)] or names
        names = [name for name in names if not _BAD.search(name)] or names
        if len(names) > 1:
            good = [name for name in names if _GOOD.search(name)]
            names = good if len(good) == 1 else names
        return self._marked(names) if all(self._automatic(name) for name in names) else names

    def _leaves_loop(self, name: str) -> bool:
        node = self.graph.nodes[name]
        while node.op == "Identity" and split(node.input[0])[0] in self.graph.nodes:
            node = self.graph.nodes[split(node.input[0])[0]]
        return node.op in ("Exit", "RefExit", "While", "StatelessWhile")

    def _automatic(self, name: str) -> bool:
        """`Mean_1`, `add_3`: the name that TensorFlow gives where the author gave none."""
        return "/" not in name and self._unnamed(name)

    def _unnamed(self, name: str) -> bool:
        """The same within any scope: `rnn/transpose_1`."""
        last = re.sub(r"_\d+$", "", name.rsplit("/", 1)[-1]).lower()
        return last in (self.graph.nodes[name].op.lower(), *_AUTOMATIC)

    def _identity_of(self, name: str) -> str:
        marks = [
            each for each in self.graph.ancestors([name], control=False) & self.nodes
            if self.graph.nodes[each].op == "Identity" and "/" not in each and not self._unnamed(each)
        ]  # fmt: skip
        return marks[0] if len(marks) == 1 else name

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
        if node.op == "Relu" or (node.op == "Maximum" and self._fixed(inputs[1])):  # a hinge
            before = self._before_loss(inputs[0])
            return before if before != inputs[0] else name
        if node.op in ("Square", "Pow", "Abs") and inputs[0] in self.nodes:
            before = self._before_loss(inputs[0])
            return before if before != inputs[0] else name
        if node.op in ("Sub", "SquaredDifference"):
            rest = [each for each in inputs if each in self.nodes]
            other = [each for each in inputs if each in self.data or self._fixed(each)]
            return rest[0] if len(rest) == len(other) == 1 else name
        return name

    def _named_before_loss(self, name: str) -> str:
        """As `_before_loss`; of a value that feeds a loss, what its author named on the way there.

        `distance` of `Sqrt(distance + 1e-6)`, which a contrastive loss reads: no weight lies between.
        """
        before = self._before_loss(name)
        if not self._automatic(before) or (before == name and not self._is_a_penalty(name)):
            return before
        found: set[str] = set()
        stack = [before]
        while stack:
            current = stack.pop()
            if current != before and self._by_author(current):
                found.add(current)
                continue
            inputs = {split(ref)[0] for ref in data_inputs(self.graph.nodes[current])}
            if self.graph.nodes[current].op in _LINEAR or inputs & set(self.data):
                return before
            stack.extend(inputs & self.nodes)
        return found.pop() if len(found) == 1 else before

    def _is_a_penalty(self, name: str) -> bool:
        """A square or a magnitude whose mean or sum over the whole batch is taken."""
        aside = [self.graph.nodes[each] for each in self.readers.get(name, ()) if each in self._aside]
        return self.graph.nodes[name].op in ("Square", "Pow", "Abs") and any(map(self._full_reduction, aside))

    def _by_author(self, name: str) -> bool:
        return "/" not in name and not self._unnamed(name)

    def named(self) -> list[str]:
        """Forward nodes that their author named, in graph order: what else may be meant."""
        return [
            name for name in self.graph.nodes
            if name in self.nodes and self._by_author(name) and not _BAD.search(name)
            and self._rests_on_weights(name)
        ]  # fmt: skip

    def _fixed(self, name: str) -> bool:
        """A number that the author wrote down."""
        value = evaluate(self.graph, name)
        return value is not None and value.size == 1

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
    return bool(_SIDE.search(node.op) or SIDE_SCOPE.search(node.name)) and node.op not in VARIABLE_OPS
