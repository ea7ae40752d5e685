"""Calls of library functions: a DAG of bounded depth, whose inlining stays bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from folding.sources.gates.limits import Limits, refuse, shown


def called(node: Any, library: dict[str, Any]) -> Iterator[str]:
    """Names of library functions that the node may run."""
    if node.op in library:
        yield node.op
    for value in node.attr.values():
        kind = value.WhichOneof("value")
        functions = [value.func] if kind == "func" else [*value.list.func] if kind == "list" else []
        for function in functions:
            if function.name in library:
                yield function.name


def check_calls(nodes: list[Any], library: dict[str, Any], limits: Limits) -> None:
    """Functions must form a DAG of bounded depth, whose inlining yields a bounded number of nodes."""
    calls = {name: [c for node in f.node_def for c in called(node, library)] for name, f in library.items()}
    own = {name: len(f.node_def) for name, f in library.items()}
    roots = [c for node in nodes for c in called(node, library)]
    check_expansion(calls, own, roots, len(nodes), limits)


def check_expansion(
    calls: dict[str, list[str]], own: dict[str, int], roots: Iterable[str], base: int, limits: Limits
) -> None:
    """Shared with ONNX's model-local functions.

    Args:
        calls: function -> every call in its body. own: function -> nodes of its body.
        roots: every call of the main graph. base: nodes of the main graph.
    """
    depth: dict[str, int] = {}
    size: dict[str, int] = {}
    for start in calls:
        _measure(start, calls, own, depth, size, limits)
    total = base + sum(size[name] for name in roots)
    if total > limits.expansion:
        refuse(
            "unsafe_function_expansion",
            f"With every call written out, the graph has {total} nodes; at most {limits.expansion} may be.",
            limit=limits.expansion,
            hint="Export the model with its functions inlined where they are small.",
        )


def _measure(
    start: str, calls: dict[str, list[str]], own: dict[str, int], depth: dict[str, int], size: dict[str, int],
    limits: Limits,
) -> None:  # fmt: skip
    open_: set[str] = set()
    stack: list[tuple[str, bool]] = [(start, False)]
    while stack:
        name, ready = stack.pop()
        if ready:
            open_.discard(name)
            depth[name] = 1 + max((depth[c] for c in calls[name]), default=0)
            size[name] = own[name] + sum(size[c] for c in calls[name])
            if depth[name] > limits.function_depth:
                refuse(
                    "unsafe_function_depth",
                    f"Function {shown(name)!r} nests {depth[name]} calls; the limit is "
                    f"{limits.function_depth}.",
                    name=name, limit=limits.function_depth, hint="Flatten nested models before exporting.",
                )  # fmt: skip
            continue
        if name in depth:
            continue
        if name in open_:
            refuse(
                "unsafe_function_recursion", f"Function {shown(name)!r} calls itself.", name=name,
                hint="Recursive functions have no ONNX form; export the model without recursion.",
            )  # fmt: skip
        open_.add(name)
        stack.append((name, True))
        for callee in set(calls[name]):
            if callee in open_:
                refuse(
                    "unsafe_function_recursion", f"Function {shown(callee)!r} calls itself.", name=callee,
                    hint="Recursive functions have no ONNX form; export the model without recursion.",
                )  # fmt: skip
            if callee not in depth:
                stack.append((callee, False))


def reachable(nodes: Iterable[Any], library: dict[str, Any]) -> Iterator[Any]:
    seen: set[str] = set()
    pending: list[Any] = list(nodes)
    while pending:
        node = pending.pop()
        yield node
        for name in called(node, library):
            if name not in seen:
                seen.add(name)
                pending.extend(library[name].node_def)


def reachable_functions(nodes: Iterable[Any], library: dict[str, Any]) -> set[str]:
    """Names of the functions that the nodes may run, directly or through others."""
    found: set[str] = set()
    pending = [name for node in nodes for name in called(node, library)]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending.extend(c for node in library[name].node_def for c in called(node, library))
    return found
