"""GraphDef files: frozen graphs and bare inference graphs, `.pb` or `.pbtxt`."""

from __future__ import annotations

from pathlib import Path

from folding.errors import CorruptModel
from folding.ir import protobuf_wire
from folding.options import FoldOptions
from folding.sources.base import Upload, only
from folding.sources.tensorflow.convert.program_format import ProgramFormat
from folding.sources.tensorflow.graph import protobuf_io
from folding.sources.tensorflow.graph.program import NoWeights, Program
from folding.sources.tensorflow.graph.tf_graph import VARIABLE_OPS, TfGraph
from folding.sources.tensorflow.infer import signature
from folding.sources.tensorflow.rewrite import lookup_tables

_HEAD = 1 << 16


class GraphDefFormat(ProgramFormat):
    """The `Format` for a GraphDef on its own."""

    name = "graphdef"

    def sniff(self, upload: Upload) -> bool:
        """One file of the upload begins like a GraphDef."""
        return bool(graph_files(upload))

    def program(self, upload: Upload, options: FoldOptions) -> Program:
        """The graph, which must hold its own weights."""
        graph = read_graph(only(graph_files(upload), "graphs"))
        held = [name for name, node in graph.nodes.items() if node.op in VARIABLE_OPS]
        program = Program(
            graph,
            NoWeights(),
            framework=f"tensorflow (producer {graph.versions.producer})",
            purpose="training" if held else "frozen",
        )
        program.tables = lookup_tables.read(graph, [upload.root / name for name in upload.files])
        signature.complete_ports(program, options)
        needed = graph.ancestors([port.tensor for port in program.outputs], control=False)
        unbound = sorted(name for name in held if name in needed)
        if unbound:
            raise CorruptModel(
                f"The graph has {len(unbound)} variables ({', '.join(unbound[:4])}, ...) and "
                "no values for them.",
                code="missing_weights",
                layer=unbound[0],
                hint="Give it together with its checkpoint (.index and .data files) in one "
                "folder or archive, or freeze it.",
                details={"missing": unbound[:100]},
            )
        return program


def read_graph(path: Path) -> TfGraph:
    """Parse and gate a GraphDef."""
    graph_def = protobuf_io.parse(path, "GraphDef")
    trains = any(node.op in VARIABLE_OPS for node in graph_def.node)
    protobuf_io.gate("graphdef", "check_graphdef", graph_def, purpose="training" if trains else "frozen")
    if not graph_def.node:
        raise CorruptModel(f"{path.name!r} holds a graph without nodes.", code="empty_graph")
    return TfGraph(graph_def)


def graph_files(upload: Upload) -> list[Path]:
    """The files of an upload that begin like a GraphDef."""
    return upload.matching(looks_like_graphdef)


def looks_like_graphdef(path: Path) -> bool:
    """By content: text `node {`, or a protobuf whose first field is a NodeDef (name and op are strings)."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    if protobuf_io.looks_like_text(head[:4096]):
        text = head.lstrip()
        return text.startswith((b"node", b"versions", b"library")) or b"\nnode {" in head
    buffer = memoryview(head)
    at = 0
    try:
        while at < len(buffer):
            tag, at = protobuf_wire.read_varint(buffer, at, len(buffer))
            if tag not in (0x0A, 0x12, 0x18, 0x22):  # node, library, version, versions
                return False
            value, at = protobuf_wire.read_varint(buffer, at, len(buffer))
            if tag == 0x18:
                continue
            if tag == 0x0A:
                return _is_node(buffer, at, min(at + value, len(buffer)))
            at += value
    except protobuf_wire.WireError:
        return False
    return False


def _is_node(buffer: memoryview, at: int, end: int) -> bool:
    """name (1) and op (2), both plain text."""
    texts = []
    for number in (0x0A, 0x12):
        if at >= end or buffer[at] != number:
            return False
        length, at = protobuf_wire.read_varint(buffer, at + 1, end)
        texts.append(bytes(buffer[at : min(at + length, end)]))
        at += length
    return (
        all(text and text.isascii() and text.decode().isprintable() for text in texts)
        and b" " not in texts[1]
    )


FORMAT = GraphDefFormat()
