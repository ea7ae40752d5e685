"""Variables become placeholders of their shape; whatever read, gathered or updated them reads those.

Given:  w = VariableV2;  r = Identity(w)  |  w = VarHandleOp;  r = ReadVariableOp(w)
Result: w = Placeholder[shape];  r = Identity(w)

In-place updates on the data path keep their value semantics: AssignSub(w, d) = Sub(w, d). No reference
type (`float_ref`) and no resource of a variable is left anywhere, control-flow bodies included.
"""

from __future__ import annotations

from typing import Any

from folding.errors import UnsupportedModel
from folding.sources.tensorflow.graph.tf_graph import (
    VARIABLE_OPS,
    Node,
    TfGraph,
    data_inputs,
    dtype_of,
    shape_attr,
    shape_list,
    shape_of,
    split,
)

REF_OPS = {"RefIdentity": "Identity", "RefSwitch": "Switch", "RefMerge": "Merge", "RefEnter": "Enter",
           "RefExit": "Exit", "RefNextIteration": "NextIteration"}  # fmt: skip
UPDATES = {"AssignSub": "Sub", "AssignAdd": "AddV2", "Assign": "Identity"}
_RESOURCE = 20  # DT_RESOURCE
BODIES = {"If": ("then_branch", "else_branch"), "StatelessIf": ("then_branch", "else_branch"),
          "While": ("cond", "body"), "StatelessWhile": ("cond", "body"),
          "Case": (), "StatelessCase": ()}  # fmt: skip


def declared(node: Node) -> tuple[int, list[int | None] | None]:
    """dtype and shape that a variable op declares (`_output_shapes` of old files as the last resort)."""
    shape = shape_of(node)
    if shape is None and "_output_shapes" in node.attr and node.op != "VarHandleOp":
        shapes = node.attr["_output_shapes"].list.shape
        shape = shape_list(shapes[0]) if shapes else None
    return dtype_of(node), shape


def dereference(graph: TfGraph) -> None:
    """No `*_ref` types: reference ops become their value twins, in-place updates their arithmetic."""
    for node in graph.nodes.values():
        if node.op in REF_OPS:
            node.op = REF_OPS[node.op]
        elif node.op in UPDATES:
            _value_update(node)
        elif node.op == "RefSelect":
            raise UnsupportedModel(f"Node {node.name!r} is a RefSelect.", layer=node.name)
        for key in ("T", "dtype"):
            if key in node.attr and node.attr[key].type > 100:
                node.attr[key].type -= 100


def _value_update(node: Node) -> None:
    inputs, dtype = list(node.input), dtype_of(node)
    node.op = UPDATES[node.op]
    del node.input[:]
    node.input.extend(inputs[1:] if node.op == "Identity" else inputs)
    node.attr.clear()
    node.attr["T"].type = dtype


def detach(graph: TfGraph, shapes: dict[str, tuple[int, list[int | None] | None]]) -> list[str]:
    """Turn every variable into a placeholder. `shapes`: dtype and shape by node, where known better.

    Returns the names of the variables. Raises UnsupportedModel for a use of the resource that has no
    value form.
    """
    for function in graph.library.values():
        updates = {node.name for node in function.node_def if _writes(node)}
        if updates:
            drop_nodes(function, updates)
    names = [name for name, node in graph.nodes.items() if node.op in VARIABLE_OPS]
    kinds: dict[str, int] = {}
    for name in names:
        node = graph.nodes[name]
        dtype, shape = declared(node)
        dtype, shape = shapes.get(name, (dtype, shape))
        kinds[name] = dtype
        node.op = "Placeholder"
        del node.input[:]
        node.attr.clear()
        node.attr["dtype"].type = dtype
        node.attr["shape"].CopyFrom(shape_attr(shape))
    _read_values(graph, kinds)
    return names


def _read_values(graph: TfGraph, kinds: dict[str, int]) -> None:
    for node in list(graph.nodes.values()):
        inputs = data_inputs(node)
        source = _source(graph, inputs[0], kinds) if inputs else None
        if node.op == "ReadVariableOp":
            # the file may hold a plain value here already: a frozen graph whose reads were left in place
            _to_identity(node, inputs[0], kinds.get(source or "", dtype_of(node)))
        elif node.op in ("ResourceGather", "ResourceGatherNd") and source:
            _to_gather(graph, node)
        elif node.op == "VariableShape" and source:
            node.op = "Shape"
            node.attr["T"].type = kinds[source]
        elif node.op in ("VarIsInitializedOp", "IsVariableInitialized"):
            graph.set_constant(node.name, _true())
        elif node.op in BODIES or node.op in graph.library or node.op.endswith("PartitionedCall"):
            Specializer(graph).call(node, _value_inputs(graph, node, kinds))
        elif node.op in ("Identity", "Switch", "Merge", "Enter", "Exit", "NextIteration") and source:
            node.attr["T"].type = kinds[source]


def _sources(graph: TfGraph, node: Node, kinds: dict[str, int]) -> dict[int, str]:
    found = {}
    for index, ref in enumerate(data_inputs(node)):
        if source := _source(graph, ref, kinds):
            found[index] = source
    return found


def _value_inputs(graph: TfGraph, node: Node, kinds: dict[str, int]) -> dict[int, int]:
    """dtype by input, for inputs that are variables, or constants that freezing put in their place."""
    values = {index: kinds[source] for index, source in _sources(graph, node, kinds).items()}
    for index, ref in enumerate(data_inputs(node)):
        held = graph.nodes.get(split(ref)[0])
        if index in values or held is None or held.op not in ("Const", "Placeholder"):
            continue
        listed = node.attr["T" if node.op.endswith("While") else "Tin"].list.type
        skip = 1 if node.op in ("If", "StatelessIf", "Case", "StatelessCase") else 0
        if index >= skip and index - skip < len(listed) and listed[index - skip] == _RESOURCE:
            values[index] = dtype_of(held)
    return values


def _source(graph: TfGraph, ref: str, kinds: dict[str, int]) -> str | None:
    """The variable that a reference reads through identities and switches."""
    for _ in range(64):
        name, _index = split(ref)
        if name in kinds:
            return name
        node = graph.nodes.get(name)
        if node is None or node.op not in ("Identity", "Switch", "Enter"):
            return None
        ref = node.input[0]
    return None


def _to_identity(node: Node, ref: str, dtype: int) -> None:
    node.op = "Identity"
    del node.input[:]
    node.input.append(ref)
    node.attr.clear()
    node.attr["T"].type = dtype


def _to_gather(graph: TfGraph, node: Node) -> None:
    dtype, index_type = node.attr["dtype"].type, node.attr["Tindices"].type
    batch_dims = node.attr["batch_dims"].i if "batch_dims" in node.attr else 0
    gather_nd = node.op == "ResourceGatherNd"
    node.op = "GatherNd" if gather_nd else "GatherV2"
    node.attr.clear()
    node.attr["Tparams"].type = dtype
    node.attr["Tindices"].type = index_type
    if gather_nd:
        return
    import numpy as np

    axis = graph.add("Const", f"{node.name}/axis")
    graph.set_constant(axis.name, np.asarray(batch_dims, np.int32))
    node.attr["batch_dims"].i = batch_dims
    node.attr["Taxis"].type = graph.nodes[axis.name].attr["dtype"].type
    node.input.append(axis.name)


def _true() -> Any:
    import numpy as np

    return np.asarray(True)


class Specializer:
    """Gives If/While/calls copies of their bodies that take values where they took variables."""

    def __init__(self, graph: TfGraph) -> None:
        self.graph = graph

    def call(self, node: Node, kinds: dict[int, int]) -> None:
        """Retype the node's inputs (flat index -> dtype) and point it at specialized bodies."""
        skip = 1 if node.op in ("If", "StatelessIf", "Case", "StatelessCase") else 0
        listed = "T" if node.op.endswith("While") else "Tin"
        types = list(node.attr[listed].list.type) if listed in node.attr else None
        kinds = {
            index - skip: dtype
            for index, dtype in kinds.items()
            if index >= skip and (types is None or types[index - skip] == _RESOURCE)
        }
        if not kinds:
            return
        for index, dtype in kinds.items():
            if listed in node.attr:
                node.attr[listed].list.type[index] = dtype
        for function in self._functions(node):
            function.name = self.body(function.name, kinds)
        if node.op in self.graph.library:
            node.op = self.body(node.op, kinds)

    def _functions(self, node: Node) -> list[Any]:
        if node.op.endswith("PartitionedCall"):
            return [node.attr["f"].func]
        if node.op.endswith("Case"):
            return list(node.attr["branches"].list.func)
        return [node.attr[key].func for key in BODIES.get(node.op, ())]

    def body(self, function: str, kinds: dict[int, int]) -> str:
        """Name of the copy of `function` whose arguments `kinds` are values."""
        name = f"{function}__values_{'_'.join(str(index) for index in sorted(kinds))}"
        if name in self.graph.library:
            return name
        from tensorflow.core.framework import function_pb2

        copy = function_pb2.FunctionDef()
        copy.CopyFrom(self.graph.library[function])
        copy.signature.name = name
        self.graph.library[name] = copy
        arguments: dict[str, int] = {}
        for index, dtype in kinds.items():
            argument = copy.signature.input_arg[index]
            arguments[argument.name] = dtype
            argument.type = dtype
            argument.ClearField("handle_data")
            if index in copy.arg_attr:
                del copy.arg_attr[index]
        for output in copy.signature.output_arg:
            if (source := copy.ret[output.name].split(":")[0]) in arguments:
                output.type = arguments[source]
                output.ClearField("handle_data")
        self._nodes(copy, arguments)
        return name

    def _nodes(self, function: Any, values: dict[str, int]) -> None:
        dropped: set[str] = set()
        for node in function.node_def:
            inputs = data_inputs(node)
            read = {
                i: values[ref.split(":")[0]] for i, ref in enumerate(inputs) if ref.split(":")[0] in values
            }
            if not read:
                continue
            if node.op in ("ReadVariableOp", "Identity"):
                control = [ref for ref in node.input if ref.startswith("^")]
                if node.op == "Identity":
                    values[node.name] = read[0]
                _to_identity(node, inputs[0], read[0])
                node.input.extend(control)
                _rename_output(function, node.name, "value", "output")
            elif node.op.startswith("Assign"):
                dropped.add(node.name)
            elif node.op in BODIES or node.op in self.graph.library or node.op.endswith("PartitionedCall"):
                self.call(node, read)
            elif node.op == "VariableShape":
                node.op = "Shape"
                node.attr["T"].type = read[0]
            elif node.op == "ResourceGather":
                self._gather(function, node, read[0])
            else:
                raise UnsupportedModel(
                    f"Node {node.name!r} ({node.op}) uses a variable in a way that has no value form.",
                    code="unsupported_variable_use",
                    layer=node.name,
                )
        if dropped:
            drop_nodes(function, dropped)

    def _gather(self, function: Any, node: Node, dtype: int) -> None:
        import numpy as np
        from tensorflow.python.framework import tensor_util

        axis = function.node_def.add(name=f"{node.name}_axis", op="Const")
        axis.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(np.asarray(0, np.int32)))
        axis.attr["dtype"].type = axis.attr["value"].tensor.dtype
        index_type = node.attr["Tindices"].type
        node.op = "GatherV2"
        node.attr.clear()
        node.attr["Tparams"].type, node.attr["Tindices"].type = dtype, index_type
        node.attr["Taxis"].type = axis.attr["dtype"].type
        node.input.append(f"{axis.name}:output:0")


def _writes(node: Node) -> bool:
    """An update of a variable: inference reads what training wrote, and writes nothing."""
    return bool(node.op.startswith("Assign") and node.op.endswith("VariableOp"))


def drop_nodes(function: Any, names: set[str]) -> None:
    """Remove nodes without outputs from a function, and the control edges that wait for them."""
    copies = []
    for node in function.node_def:
        if node.name in names:
            continue
        copy = type(node).FromString(node.SerializeToString())
        kept = [ref for ref in node.input if not (ref.startswith("^") and ref[1:] in names)]
        del copy.input[:]
        copy.input.extend(kept)
        copies.append(copy)
    del function.node_def[:]
    function.node_def.extend(copies)
    for key in [key for key, name in function.control_ret.items() if name in names]:
        del function.control_ret[key]


def _rename_output(function: Any, node: str, old: str, new: str) -> None:
    """ReadVariableOp's output is called `value`, Identity's `output`; references spell it out."""
    before, after = f"{node}:{old}:", f"{node}:{new}:"
    for other in function.node_def:
        for position, ref in enumerate(other.input):
            if ref.startswith(before):
                other.input[position] = after + ref[len(before) :]
    for key in function.ret:
        if function.ret[key].startswith(before):
            function.ret[key] = after + function.ret[key][len(before) :]
