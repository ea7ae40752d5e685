"""Mode flags (is_training, learning phase, keep_prob ...) and the values that inference gives them.

A flag is found by what it does, then by what it is called:
1. `--feed` settles it.
2. Structure: of the two sides of a Merge/If/Select that it decides, one reads stored statistics and the
   other computes them from the batch; or it is the rate of a dropout mask, which some value turns off.
3. Name: is_training, phase_train, keras_learning_phase, ... (False), is_test, inference, ... (True).
4. A scalar with a default, and a boolean variable, keep that default or stored value.
Anything else that decides a conditional is an input like any other, and the conditional stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from folding.errors import UsageError
from folding.options import FoldOptions
from folding.report import Assumption
from folding.sources.tensorflow.graph.constant_eval import evaluate, leaves
from folding.sources.tensorflow.graph.tf_graph import (
    INPUT_OPS,
    VARIABLE_OPS,
    Node,
    TfGraph,
    data_inputs,
    dtype_of,
    join,
    numpy_dtype,
    shape_of,
    split,
)
from folding.sources.tensorflow.rewrite.dropout import dropout_masks

_TRAINING = re.compile(
    r"(^|_)(is_?)?(train(ing)?|phase_?train(ing)?|train(ing)?_?(phase|mode|flag|ph|pl|placeholder|bool)|"
    r"learning_?phase|(bn|batch_?norm)_?(train(ing)?|phase)|is_?learning|phase|update_?bn)(_?\d+)?($|_)"
)
_INFERENCE = re.compile(
    r"(^|_)(is_?)?(test(ing)?|infer(ence)?|eval(uation)?|predict(ing|ion)?|deterministic|use_?(moving|global)_?(stats|averages?))"
    r"(_?(mode|phase|flag))?(_?\d+)?($|_)"
)
_KEEP = re.compile(r"(^|_)(keep_?(prob(ability)?|rate|ratio|p)?|dropout_?keep(_?prob)?|kp)(_?\d+)?($|_)")
_DROP = re.compile(r"(^|_)(drop(out)?_?(rate|prob(ability)?|p|ratio)|drop_?rate)(_?\d+)?($|_)")
_AS_STORED = "it decides a conditional; this is the value stored with the weights"
_BOOL, _STRING = 10, 7
_FLOATS = frozenset({1, 2, 14, 19})


@dataclass
class Modes:
    """Decides flags one by one and writes each decision down.

    stored: reads the checkpoint's value of a variable node (for flags that are variables), or None.
    reserved: nodes that the user named as inputs; they are never taken for flags.
    """

    options: FoldOptions
    reserved: frozenset[str] = frozenset()
    aliases: dict[str, str] = field(default_factory=dict)  # node name -> name that the user knows it by
    stored: Callable[[str], np.ndarray | None] = lambda name: None
    values: dict[str, np.ndarray] = field(default_factory=dict)
    assumptions: list[Assumption] = field(default_factory=list)
    used_feeds: set[str] = field(default_factory=set)

    def settle(self, graph: TfGraph, roots: list[str]) -> bool:
        """Turn every flag that `roots` need into a constant. True if something changed."""
        names = graph.ancestors(roots, control=True)
        found: dict[str, tuple[np.ndarray, str]] = {}
        for name in sorted(names):
            if feed := self._feed(graph.nodes[name]):
                found[name] = (feed[0], f"--feed {feed[1]}")
        found.update(self._by_dropout(graph, names, set(found)))
        decided = _Deciders(graph, names)
        for name in sorted(decided.leaves() - set(found)):
            if verdict := self._decide(graph, name, decided):
                found[name] = verdict
        for name in sorted(names - set(found)):
            if verdict := self._by_name_alone(graph.nodes[name]):
                found[name] = verdict
        for name, (value, why) in found.items():
            self._set(graph, name, value, why)
        return bool(found)

    def _feed(self, node: Node) -> tuple[np.ndarray, str] | None:
        """The user's own value: for placeholders, variables, and constants that stand for a flag."""
        if node.op not in INPUT_OPS and node.op not in VARIABLE_OPS and node.op != "Const":
            return None
        for spelling in (node.name, f"{node.name}:0", self.aliases.get(node.name)):
            if spelling is not None and spelling in self.options.feeds and node.name not in self.values:
                self.used_feeds.add(spelling)
                return _typed(self.options.feeds[spelling], dtype_of(node), spelling), spelling
        return None

    def _decide(self, graph: TfGraph, name: str, decided: _Deciders) -> tuple[np.ndarray, str] | None:
        node = graph.nodes[name]
        if name in self.reserved or not _may_be_scalar(node):
            return None
        flag = (
            node.op in INPUT_OPS
            or node.op in VARIABLE_OPS
            or (node.op == "Const" and _was_variable(node, graph))
        )
        if not flag:
            return None
        dtype = dtype_of(node)
        known = self.stored(name) if node.op in VARIABLE_OPS else evaluate(graph, name)
        held = "" if known is None or node.op in INPUT_OPS else f" (the file holds {known.reshape(-1)[0]})"
        if (value := decided.by_structure(name, dtype)) is not None:
            if node.op == "Const" and known is not None and known.size == 1 and known.item() == value.item():
                return None
            if (
                node.op in VARIABLE_OPS
                and known is not None
                and known.size == 1
                and known.item() == value.item()
            ):
                return known, _AS_STORED
            return value, f"it chooses between batch and stored statistics{held}"
        if (value := _by_name(name, dtype)) is not None:
            if node.op == "Const" and known is not None and known.size == 1 and known.item() == value.item():
                return None
            return value, f"it is called like a mode flag and decides a conditional{held}"
        if node.op == "PlaceholderWithDefault":
            default = evaluate(graph, node.input[0])
            if default is not None and default.size == 1:
                return default, "it decides a conditional and has this default"
        if node.op in VARIABLE_OPS and known is not None and known.size == 1:
            return known, _AS_STORED
        return None

    def _by_name_alone(self, node: Node) -> tuple[np.ndarray, str] | None:
        """Scalar placeholders that are called like a mode even where they decide nothing."""
        if node.op not in INPUT_OPS or node.name in self.reserved or not _may_be_scalar(node):
            return None
        if node.op == "PlaceholderWithDefault" and shape_of(node) != []:
            return None
        dtype = dtype_of(node)
        if dtype in _FLOATS and shape_of(node) == []:
            base = _base(node.name)
            if _KEEP.search(base):
                return np.asarray(1, numpy_dtype(dtype)), "it is called like a dropout keep probability"
            if _DROP.search(base):
                return np.asarray(0, numpy_dtype(dtype)), "it is called like a dropout rate"
        value = _by_name(node.name, dtype)
        if value is None or (dtype != _BOOL and shape_of(node) != []):
            return None
        return value, "it is called like a mode flag"

    def _by_dropout(
        self, graph: TfGraph, names: set[str], taken: set[str]
    ) -> dict[str, tuple[np.ndarray, str]]:
        """Scalars whose value 1 or 0 turns a dropout mask off."""
        found: dict[str, tuple[np.ndarray, str]] = {}
        for mask in dropout_masks(graph, names):
            for leaf in leaves(graph, mask.rate):
                node = graph.nodes[leaf]
                if (
                    node.op not in INPUT_OPS
                    or leaf in self.reserved
                    or leaf in taken
                    or not _may_be_scalar(node)
                ):
                    continue
                for trial in (1.0, 0.0):
                    value = np.asarray(trial, numpy_dtype(dtype_of(node)))
                    if mask.is_off({leaf: value}):
                        found[leaf] = (value, "this turns the dropout off")
                        break
        return found

    def _set(self, graph: TfGraph, name: str, value: np.ndarray, why: str) -> None:
        known_as = self.aliases.get(name, f"{name}:0")
        graph.set_constant(name, value)
        self.values[name] = value
        self.assumptions.append(
            Assumption(what=known_as, value=str(value.tolist()), why=why, override=f"--feed {known_as}=VALUE")
        )


class _Deciders:
    """Which leaves decide which conditionals."""

    def __init__(self, graph: TfGraph, names: set[str]) -> None:
        self.graph = graph
        self.readers: dict[str, list[Node]] = {}
        self.by_leaf: dict[str, list[Node]] = {}
        for name in names:
            node = graph.nodes[name]
            if (predicate := _predicate(node)) is not None:
                for leaf in leaves(graph, predicate):
                    self.by_leaf.setdefault(leaf, []).append(node)

    def leaves(self) -> set[str]:
        return set(self.by_leaf)

    def by_structure(self, name: str, dtype: int) -> np.ndarray | None:
        """The value under which statistics are read rather than computed, if exactly one of two is."""
        for value in self._trials(name, dtype):
            verdicts = {self._prefers(node, {name: value}) for node in self.by_leaf.get(name, ())}
            if verdicts - {None} == {True}:
                return value
        return None

    def _trials(self, name: str, dtype: int) -> list[np.ndarray]:
        """0 and 1; for a flag that is text, what it is compared with, and a word that nothing asks for."""
        if not dtype:
            return []
        if dtype != _STRING:
            return [np.asarray(trial, numpy_dtype(dtype)) for trial in (0, 1)]
        asked: dict[bytes, None] = {}
        for node in self.by_leaf.get(name, ()):
            predicate = _predicate(node)
            for leaf in leaves(self.graph, predicate) if predicate is not None else ():
                held = evaluate(self.graph, leaf)
                if held is not None and held.dtype == object:
                    asked.update(
                        (item, None) for item in held.reshape(-1).tolist() if isinstance(item, bytes)
                    )
        known = sorted(
            asked, key=lambda word: (not _INFERENCE.search(_base(word.decode("utf-8", "replace"))), word)
        )
        return [np.asarray(word, object) for word in (*known, b"infer")]

    def _prefers(self, node: Node, known: dict[str, np.ndarray]) -> bool | None:
        """True where the taken side reads stored statistics and the other computes them."""
        predicate = _predicate(node)
        taken = evaluate(self.graph, predicate, known) if predicate is not None else None
        if taken is None or taken.size != 1:
            return None
        sides = self._sides(node)
        if sides is None:
            return None
        chosen, other = (sides[1], sides[0]) if bool(taken.reshape(())) else (sides[0], sides[1])
        if other and not chosen:
            return True
        return False if chosen and not other else None

    def _sides(self, node: Node) -> tuple[bool, bool] | None:
        """Whether the (false, true) side computes batch statistics: moments, or a fused norm in training."""
        if node.op in ("If", "StatelessIf"):
            no, yes = (
                self._branch_computes(node, node.attr[key].func.name)
                for key in ("else_branch", "then_branch")
            )
            return no, yes
        if node.op in ("Switch", "RefSwitch"):
            if self._moments(data_inputs(node)[0]):  # computed outside, chosen here
                return bool(self._readers_of(node, 0)), bool(self._readers_of(node, 1))
            return self._downstream(node, 0), self._downstream(node, 1)
        return None

    def _branch_computes(self, node: Node, function: str) -> bool:
        """Does a branch compute moments, or hand on moments that were computed outside?"""
        body = self.graph.library.get(function)
        if body is None:
            return False
        if any(_batch(n) for n in body.node_def):
            return True
        outer = dict(zip((a.name for a in body.signature.input_arg), data_inputs(node)[1:], strict=False))
        inner = {n.name: n for n in body.node_def}
        for ref in body.ret.values():
            name = ref.split(":")[0]
            while name in inner and inner[name].op == "Identity":
                name = inner[name].input[0].split(":")[0]
            if name in outer and self._moments(outer[name]):
                return True
        return False

    def _readers_of(self, node: Node, index: int) -> list[Node]:
        if not self.readers:
            self.readers = self.graph.consumers()
        return self.readers.get(join(node.name, index), [])

    def _moments(self, ref: str) -> bool:
        """A mean over the batch axis, through squeezes: the batch's mean or variance."""
        for _ in range(8):
            node = self.graph.nodes.get(split(ref)[0])
            if node is None:
                return False
            inputs = data_inputs(node)
            if node.op == "Mean":
                axes = evaluate(self.graph, inputs[1])
                return axes is not None and 0 in axes.reshape(-1).tolist()
            if node.op not in ("Squeeze", "Identity", "StopGradient", "Reshape", "Cast"):
                return False
            ref = inputs[0]
        return False

    def _downstream(self, switch: Node, side: int) -> bool:
        """Does the Switch's branch lead to batch statistics before it reaches a Merge?"""
        stack = list(self._readers_of(switch, side))
        seen: set[str] = set()
        while stack and len(seen) < 60:
            node = stack.pop()
            if node.name in seen or node.op == "Merge":
                continue
            seen.add(node.name)
            if _batch(node):
                return True
            for index in range(4):
                stack.extend(self.readers.get(join(node.name, index), ()))
        return False


def _predicate(node: Node) -> str | None:
    inputs = data_inputs(node)
    if node.op in ("Switch", "RefSwitch"):
        return inputs[1]
    if node.op in ("If", "StatelessIf", "Select", "SelectV2", "Case", "StatelessCase"):
        return inputs[0]
    return None


def _batch(node: Node) -> bool:
    if node.op.startswith("FusedBatchNorm") and not node.op.endswith("Grad"):
        return node.attr["is_training"].b if "is_training" in node.attr else True
    return node.op in ("SquaredDifference", "AssignMovingAvg") or node.op.startswith("AssignSub")


def _by_name(name: str, dtype: int) -> np.ndarray | None:
    if dtype in (0, _STRING):
        return None
    base = _base(name)
    if _INFERENCE.search(base):
        return np.asarray(1, numpy_dtype(dtype))
    return np.asarray(0, numpy_dtype(dtype)) if _TRAINING.search(base) else None


def _base(name: str) -> str:
    """Last path component in snake_case: `model/isTraining_1` -> `is_training_1`."""
    last = name.split(":")[0].rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last).replace("-", "_").lower()


def looks_like_a_mode(node: Node) -> bool:
    """A scalar input that is called like a mode flag or a dropout rate."""
    if node.op not in INPUT_OPS or not _may_be_scalar(node):
        return False
    base = _base(node.name)
    return bool(_TRAINING.search(base) or _INFERENCE.search(base) or _KEEP.search(base) or _DROP.search(base))


def _may_be_scalar(node: Node) -> bool:
    shape = shape_of(node)
    return shape is None or len(shape) == 0 or shape == [1]


def _was_variable(node: Node, graph: TfGraph) -> bool:
    """A Const that freezing made of a variable: its `<name>/read` identity is still there."""
    return f"{node.name}/read" in graph.nodes and dtype_of(node) == _BOOL


def _typed(value: object, dtype: int, name: str) -> np.ndarray:
    try:
        if isinstance(value, str):
            value = {"true": True, "false": False}.get(value.lower(), value)
        return np.asarray(value).astype(numpy_dtype(dtype)) if dtype else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--feed {name}: {value!r} is not of the input's type.", layer=name) from error
