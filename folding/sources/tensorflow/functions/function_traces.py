"""Traced functions of a SavedModel's object graph, and which of them is the model.

The root's `__call__`, else the only function. Of its traces: inference before training, the defaults of
arguments before other values, the most general shapes. Where several are left, the user chooses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from folding.errors import CorruptModel, UnsupportedModel, UsageError
from folding.sources.gates.limits import LIMITS, refuse, shown
from folding.sources.tensorflow.functions.structures import Leaf, at_least, leaves

# what is called, and what TensorFlow itself would make a signature of: Keras models have one of the two
_ENTRIES = ("__call__", "_default_save_signature")
_DEPTH = 4  # models lie at the root or a few modules below; what is deeper is a layer's
LISTED = 40  # candidates that an error names
_NAMED = 256  # characters of an attribute's name; more is no name that anybody wrote
_FLAGS = frozenset({"training", "is_training"})


@dataclass(frozen=True)
class Trace:
    """One trace of a function.

    path: of the function. name: as `--signature` takes it, `__call__` or `__call__:1`. function: its name in
    the library. values: the plain arguments that it was traced with. unusual: how many of those are not the
    defaults.
    """

    path: str
    name: str
    function: str
    inputs: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    values: dict[str, Any]
    unusual: int

    @property
    def usable(self) -> bool:
        """Whether it takes and gives tensors, and such only as ONNX has."""
        held = (*self.inputs, *self.outputs)
        return bool(self.inputs and self.outputs) and all(leaf.dense for leaf in held)

    @property
    def training(self) -> int:
        """0 for inference, 1 where nothing says, 2 for training."""
        given = [value for name, value in self.values.items() if name in _FLAGS and value is not None]
        return 1 if not given else 2 if given[0] else 0

    def described(self) -> str:
        """The name with shapes and values, for a message."""
        tensors = [f"{leaf.name or 'tensor'} {leaf.dims()}" for leaf in self.inputs]
        values = [f"{name}={value}" for name, value in self.values.items()]
        return shown(f"{self.name} ({', '.join([*tensors, *values])})")


def functions(objects: Any) -> Iterator[tuple[str, Any]]:
    """Functions by their path from the root (`encoder.__call__`), the nearest first."""
    seen = {0}
    level = [("", 0)] if objects.nodes else []
    for _ in range(_DEPTH):
        below = []
        for path, index in level:
            children = objects.nodes[index].children
            for child in sorted(children, key=lambda each: each.local_name not in _ENTRIES):
                name = f"{path}{child.local_name}"
                held = objects.nodes[child.node_id]
                if child.node_id in seen or not _public(child.local_name):
                    continue
                seen.add(child.node_id)
                if held.WhichOneof("kind") in ("function", "bare_concrete_function"):
                    yield name, held
                else:
                    below.append((f"{name}.", child.node_id))
        level = below


def _public(name: str) -> bool:
    return name in _ENTRIES or (not name.startswith("_") and len(name) <= _NAMED)


def pool(meta: Any, functions: dict[str, Any]) -> list[Trace]:
    """Traces to choose from: of `__call__` where one will do, at the least depth that has any."""
    room = LIMITS.nodes
    for depth in range(_DEPTH):
        traces: dict[str, list[Trace]] = {}
        for name, function in functions.items():
            if name.count(".") == depth:
                found = _traces(meta, name, function)
                room = _left(room, found)
                traces[name] = [trace for trace in found if trace.usable]
        for entry in _ENTRIES:
            if held := [each for name in traces if name.rsplit(".")[-1] == entry for each in traces[name]]:
                return held
        if usable := [trace for each in traces.values() for trace in each]:
            return usable
    return []


def _left(room: int, found: list[Trace]) -> int:
    """Many objects may share one long description: what is read of it is counted each time."""
    room -= sum(1 + len(trace.inputs) + len(trace.outputs) + len(trace.values) for trace in found)
    if room < 0:
        refuse(
            "unsafe_graph_size", f"The traced functions have more than {LIMITS.nodes} arguments and results.",
            limit=LIMITS.nodes, hint="Save the model with signatures.",
        )  # fmt: skip
    return room


def asked(meta: Any, functions: dict[str, Any], wanted: str, own: list[str]) -> list[Trace]:
    """The usable traces that `--signature` names: all of a function, or one of them. own: real signatures.

    Raises: UsageError `unknown_signature`; UnsupportedModel `sparse_signature`.
    """
    name = wanted if wanted in functions else wanted.rpartition(":")[0]
    traces = _traces(meta, name, functions[name]) if name in functions else []
    found = [trace for trace in traces if wanted in (trace.path, trace.name)]
    if not found and (functions or own):
        candidates = [*own, *map(shown, functions)][:LISTED]
        raise UsageError(
            f"The SavedModel has no signature and no traced function {shown(wanted)!r}; it has "
            f"{', '.join(candidates)}.",
            code="unknown_signature",
            details={"candidates": candidates},
        )
    if found and not any(trace.usable for trace in found):
        raise UnsupportedModel(
            f"The function {shown(wanted)!r} takes or gives something else than dense tensors.",
            code="sparse_signature",
            layer=shown(wanted),
            hint="Sparse and ragged tensors, and variables as arguments, have no ONNX form.",
        )
    return [trace for trace in found if trace.usable]


def best(pool: list[Trace]) -> list[Trace]:
    """What is left when each function's traces are narrowed down; more than one is for the user to choose."""
    paths = dict.fromkeys(trace.path for trace in pool)
    return [left for path in paths for left in _narrowed([trace for trace in pool if trace.path == path])]


def _narrowed(pool: list[Trace]) -> list[Trace]:
    least = min(trace.training for trace in pool)
    pool = [trace for trace in pool if trace.training == least]
    usual = min(trace.unusual for trace in pool)
    pool = [trace for trace in pool if trace.unusual == usual]
    general = [trace for trace in pool if all(_covers(trace, other) for other in pool)]
    return general[:1] or pool


def _covers(one: Trace, other: Trace) -> bool:
    """Takes the first whatever the second takes, and in the same way?"""
    return (
        one.values == other.values
        and [leaf.path for leaf in one.inputs] == [leaf.path for leaf in other.inputs]
        and all(a.dtype == b.dtype and at_least(a, b) for a, b in zip(one.inputs, other.inputs, strict=True))
    )


# --- what it takes and gives ----------------------------------------------------------------------------


def _traces(meta: Any, name: str, held: Any) -> list[Trace]:
    bare = held.WhichOneof("kind") == "bare_concrete_function"
    spec = held.bare_concrete_function if bare else held.function
    functions = [spec.concrete_function_name] if bare else list(dict.fromkeys(spec.concrete_functions))
    arguments, defaults = _arguments(spec.function_spec)
    found = []
    for index, function in enumerate(functions):
        concrete = meta.object_graph_def.concrete_functions
        if function not in concrete:
            raise missing(name, function)
        given = list(leaves(concrete[function].canonicalized_input_signature))
        plain = [leaf for leaf in given if not leaf.tensor]
        values = {_argument(leaf, arguments): leaf.value for leaf in plain}
        found.append(
            Trace(
                name,
                name if len(functions) == 1 else f"{name}:{index}",
                function,
                tuple(leaf for leaf in given if leaf.tensor),
                tuple(leaf for leaf in leaves(concrete[function].output_signature) if leaf.tensor),
                values,
                sum(key not in defaults or defaults[key] != value for key, value in values.items()),
            )
        )
    return found


def missing(name: str, function: str) -> CorruptModel:
    """The error for a function that is named and not there."""
    return CorruptModel(
        f"{shown(name)!r} is the function {shown(function)!r}, which the SavedModel does not hold.",
        code="missing_function",
        layer=shown(name),
        hint="The file was damaged, or cut after it was saved; export it again.",
    )


def _arguments(spec: Any) -> tuple[list[str], dict[str, Any]]:
    """Names of the positional arguments, and the defaults that are plain values."""
    fields = {pair.key: pair.value for pair in spec.fullargspec.named_tuple_value.values}
    names = [str(name) for name in _items(fields.get("args"))]
    defaults = _items(fields.get("defaults"))
    known = dict(zip(reversed(names), reversed(defaults), strict=False))
    if "kwonlydefaults" in fields:
        known |= {str(leaf.path[0]): leaf.value for leaf in leaves(fields["kwonlydefaults"]) if leaf.path}
    return names[1:] if names and (spec.is_method or names[0] == "self") else names, known


def _items(structure: Any) -> list[Any]:
    """The plain values of a list or tuple; None for what is none."""
    kind = "" if structure is None else structure.WhichOneof("kind")
    held = getattr(structure, kind).values if kind in ("list_value", "tuple_value") else ()
    return [next(leaves(item), Leaf(())).value for item in held]


def _argument(leaf: Leaf, arguments: list[str]) -> str:
    """The argument that a value belongs to: paths are (0, position, ...) or (1, keyword, ...)."""
    place = leaf.path[1] if len(leaf.path) > 1 else ""
    if isinstance(place, int):
        place = arguments[place] if place < len(arguments) else str(place)
    return "/".join(map(str, (place, *leaf.path[2:])))
