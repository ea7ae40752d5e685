"""Transpose elimination: choose once, for whole regions, in which order of axes values are stored.

Given:  x -Transpose-> Conv -Transpose-> Add -> Relu -Transpose-> Conv ...   (what NHWC sources look like)
Result: x -Transpose-> Conv -> Add' -> Relu -> Conv ...                       (axes and constants rewritten)

Instead of pushing Transposes one by one past their neighbours, each operator that does not care gets one
of two layouts, such that the Transposes left are fewest (a minimum cut; a value needed in the other layout
by many readers pays once). Linear in nodes but for the cut, whose cost is that of the Transposes that stay.
"""

from __future__ import annotations

import onnx_ir as ir

from folding.ir.edit import open_graphs
from folding.passes.layout.cut import INFINITE, SINK, SOURCE, Network
from folding.passes.layout.permutable import pin
from folding.passes.layout.permutation import Perm, inverse
from folding.passes.layout.regions import Region, Root, accepts, fixed_layouts, roots, survey
from folding.passes.layout.rewrite import moves_by, rewrite

_NODE, _SIZE = 1000, 900  # a Transpose less counts more than a smaller one


def eliminate_transposes(model: ir.Model) -> bool:
    """Rewrite every region in which fewer (or smaller) Transposes suffice. True when one was."""
    changed = False
    for graph in open_graphs(model):
        for region in survey(graph).regions:
            changed |= _improve(region)
    return changed


def _improve(region: Region) -> bool:
    found = roots(region)
    layouts = fixed_layouts(found)
    if not layouts or not region.transposes:
        return False
    chosen = _choose(region, found, layouts)
    largest = max(root.size for root in found)
    if _cost(found, chosen, largest) >= sum(root.transposes * _weight(root, largest) for root in found):
        return False
    if [part for part in region.parts if pin(part, moves_by(region, part, chosen))]:
        return True  # not moved: the next round looks for what is best without those nodes
    rewrite(region, found, chosen)
    return True


def _weight(root: Root, largest: int) -> int:
    return _NODE + _SIZE * root.size // largest


def _cost(found: list[Root], layout: dict[ir.Node, Perm], largest: int) -> int:
    """Transposes needed, weighted: per value one for each layout asked for that it is not made in."""
    total = 0
    for root in found:
        home = layout[root.part.node] if root.part is not None else inverse(root.frame)
        asked: set[Perm] = set()
        outputs: list[Perm] = []
        for demand in root.demands:
            if demand.part is not None:
                asked.add(layout[demand.part.node])
            elif not accepts(demand, home):
                asked.add(inverse(demand.frame))
            if demand.user is None:
                outputs.append(inverse(demand.frame))
        repeated = len(outputs) - len(set(outputs))  # two outputs cannot be one value
        total += (len(asked - {home}) + repeated) * _weight(root, largest)
    return total


def _choose(region: Region, found: list[Root], layouts: list[Perm]) -> dict[ir.Node, Perm]:
    """A layout for every moving operator: the source's side takes the first, the sink's the second."""
    first = layouts[0]
    if len(layouts) == 1:
        return {part.node: first for part in region.parts}
    second = layouts[1]
    network = Network()
    nodes = {part.node: network.node() for part in region.parts}
    largest = max(root.size for root in found)
    for root in found:
        _connect(network, nodes, root, (first, second), _weight(root, largest))
    side = network.source_side()
    return {node: first if side[index] else second for node, index in nodes.items()}


def _connect(
    network: Network, nodes: dict[ir.Node, int], root: Root, pair: tuple[Perm, Perm], weight: int
) -> None:
    """One root: cost once if it is made in the first layout and some reader wants the second, and back."""
    terminals = {pair[0]: SOURCE, pair[1]: SINK}
    home = nodes[root.part.node] if root.part is not None else terminals.get(inverse(root.frame))
    if home is None:
        return  # made in a third layout: costs the same wherever its readers go
    readers = []
    for demand in root.demands:
        if demand.part is not None:
            readers.append(nodes[demand.part.node])
        elif not all(accepts(demand, layout) for layout in pair):
            terminal = terminals.get(inverse(demand.frame))
            readers += [] if terminal is None else [terminal]
    wants_second, wants_first = network.node(), network.node()
    network.edge(home, wants_second, weight)
    network.edge(wants_first, home, weight)
    for reader in set(readers):
        network.edge(wants_second, reader, INFINITE)
        network.edge(reader, wants_first, INFINITE)
