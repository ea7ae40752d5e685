"""Lookup tables with constant contents, read off the graph: initializers are never run.

Given:  t = HashTableV2[shared_name=n];  LookupTableImportV2 / InitializeTableV2(t, keys, values)
Result: {n: (keys, values)}
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from folding.sources.tensorflow.graph import TfGraph, const_value, data_inputs, split

_INITIALIZERS = frozenset(
    {"InitializeTableV2", "InitializeTable", "LookupTableImportV2", "LookupTableImport"}
)


def read(graph: TfGraph, folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Keys and values by the table's shared name."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for node in graph.nodes.values():
        if node.op not in _INITIALIZERS:
            continue
        table, keys, values = data_inputs(node)[:3]
        handle = graph.nodes.get(split(table)[0])
        held = [graph.nodes.get(split(ref)[0]) for ref in (keys, values)]
        if handle is None or any(each is None or each.op != "Const" for each in held):
            continue
        arrays = [const_value(each) for each in held]
        shared = handle.attr["shared_name"].s.decode() if "shared_name" in handle.attr else ""
        if arrays[0] is not None and arrays[1] is not None:
            found[shared or handle.name] = (arrays[0], arrays[1])
    return found
