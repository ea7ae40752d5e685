"""What the saved graph tells of a layer's past: who writes its statistics, and whether that ever ran.

Evidence that `folding.health` reads:
    initial_mean, initial_variance   the values that initialization gave (0/1, or 0/0 for EMA shadows)
    update_ops                       how many nodes of the graph write the statistics after initialization
    update_collection                how many of those the collection `update_ops` names
    training_graph                   whether the file holds an optimizer
    batch_path                       whether any part of the graph normalizes this layer with the batch's
    statistics
"""

from __future__ import annotations

from typing import Any

import numpy as np

from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.tf_graph import Node, TfGraph, const_value, data_inputs, split

_WRITES = frozenset({"Assign", "AssignSub", "AssignAdd", "AssignVariableOp", "AssignSubVariableOp",
                     "AssignAddVariableOp"})  # fmt: skip
_THROUGH = frozenset({"RefSwitch", "Switch", "Identity", "RefIdentity", "Enter", "RefEnter"})


class History:
    """An index of the writes to the variables of a graph as it was saved (before surgery)."""

    def __init__(
        self, full: TfGraph | None, collections: dict[str, list[str]], display: dict[str, str] | None = None
    ) -> None:
        """full: None where only an inference graph was saved. display: nicer names by node name."""
        self.full = full
        self.display = display or {}
        self.update_ops = {name.split(":")[0] for name in collections.get("update_ops", ())}
        self.writes: dict[str, list[Node]] = {}
        self.initial: dict[str, float] = {}
        self.optimizer = False
        self.fused_training: set[str] = set()
        self.moments = False
        if full is not None:
            self._index(full)

    def _index(self, full: TfGraph) -> None:
        for node in full.nodes.values():
            if node.op in _WRITES:
                self._write(full, node)
            elif node.op.startswith(("Apply", "ResourceApply")):
                self.optimizer = True
            elif node.op == "SquaredDifference":
                self.moments = True
            elif _trains(node):
                self.fused_training |= {self._source(ref) for ref in data_inputs(node)[1:3]}
        for function in full.library.values():
            for node in function.node_def:
                self.moments = self.moments or node.op == "SquaredDifference"
                if node.op.startswith("AssignSubVariableOp"):
                    self.writes.setdefault("", []).append(node)

    def _write(self, full: TfGraph, node: Node) -> None:
        inputs = data_inputs(node)
        if len(inputs) < 2:
            return
        variable = self._source(inputs[0])
        if node.op in ("Assign", "AssignVariableOp"):
            value = self._plain(full, inputs[1])
            if value is not None:
                self.initial[variable] = value
            if (
                value is not None
                or self._restores(full, inputs[1])
                or node.name.endswith(("/Assign", "/initializer"))
            ):
                return
        self.writes.setdefault(variable, []).append(node)

    def _source(self, ref: str) -> str:
        assert self.full is not None
        name = split(ref)[0]
        for _ in range(16):
            node = self.full.nodes.get(name)
            if node is None or node.op not in _THROUGH or not node.input:
                break
            name = split(node.input[0])[0]
        return name

    @staticmethod
    def _plain(full: TfGraph, ref: str) -> float | None:
        """The one number that an initializer fills with."""
        node = full.nodes.get(split(ref)[0])
        while node is not None and node.op == "Identity":
            node = full.nodes.get(split(node.input[0])[0])
        if node is not None and node.op in ("Fill", "ZerosLike", "OnesLike"):
            if node.op != "Fill":
                return 0.0 if node.op == "ZerosLike" else 1.0
            node = full.nodes.get(split(node.input[1])[0])
        value = const_value(node) if node is not None and node.op == "Const" else None
        if value is None or not value.size or value.dtype.kind not in "fiub":
            return None
        first = value.reshape(-1)[0]
        return float(first) if bool(np.all(value == first)) else None

    @staticmethod
    def _restores(full: TfGraph, ref: str) -> bool:
        node = full.nodes.get(split(ref)[0])
        while node is not None and node.op == "Identity":
            node = full.nodes.get(split(node.input[0])[0])
        return node is not None and node.op in ("RestoreV2", "Restore", "RestoreSlice")

    def known_as(self, leaf: str) -> str:
        """The variable's name as its author knows it."""
        return self.display.get(leaf, leaf)

    def writers(self, leaf: str) -> list[str]:
        """Nodes that update a variable after initialization."""
        names = [node.name for node in self.writes.get(leaf, ())]
        return names + [node.name for node in self.writes.get("", ()) if leaf in node.name]

    def momentum(self, roles: dict[str, str], node: str) -> float | None:
        """`decay` of the moving average: 1 minus the constant that scales its update."""
        if self.full is None or "moving_mean" not in roles:
            return None
        for write in self.writes.get(roles["moving_mean"], ()):
            delta = self.full.nodes.get(split(data_inputs(write)[1])[0])
            if delta is None or delta.op != "Mul":
                continue
            for ref in data_inputs(delta):
                value = evaluate(self.full, ref)
                if value is not None and value.size == 1 and 0 < float(value.reshape(-1)[0]) <= 1:
                    return round(1 - float(value.reshape(-1)[0]), 6)
        return None

    def evidence(
        self, roles: dict[str, str], *, batch: bool, name: str, stored: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Facts for `folding.health`; nothing where no graph tells. stored: what a layer leaves unused."""
        facts: dict[str, Any] = {}
        if batch and stored:
            facts["stored_statistics"] = [self.known_as(leaf) for leaf in stored]
        if self.full is None:
            return facts
        statistics = [roles[role] for role in ("moving_mean", "moving_variance") if role in roles]
        writers = [writer for leaf in statistics for writer in self.writers(leaf)]
        if self.optimizer or writers or self.update_ops:  # an inference export says nothing about training
            facts["update_ops"] = len(writers)
            facts["update_collection"] = sum(writer in self.update_ops for writer in writers)
            facts["training_graph"] = self.optimizer
        for role, key in (("moving_mean", "initial_mean"), ("moving_variance", "initial_variance")):
            if role in roles and roles[role] in self.initial:
                facts[key] = self.initial[roles[role]]
        own = {roles[role] for role in ("gamma", "beta") if role in roles}
        facts["batch_path"] = batch or bool(writers) or bool(own & self.fused_training)
        beside = sorted(
            variable for variable in self.initial
            if name and variable.startswith(f"{name}/") and variable.endswith(("mean", "variance"))
        )  # fmt: skip
        if batch and beside:
            facts.setdefault("stored_statistics", beside)
        return facts


def _trains(node: Node) -> bool:
    """A fused batch norm in training mode."""
    return node.op.startswith("FusedBatchNorm") and "Grad" not in node.op and bool(node.attr["is_training"].b)
