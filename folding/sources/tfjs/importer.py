"""TensorFlow.js graph models: `model.json` with its shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from folding.errors import UnsupportedModel
from folding.options import FoldOptions
from folding.sources.base import Upload, only
from folding.sources.gates.limits import corrupt
from folding.sources.gates.tfjs import CODE, TfjsModel, check_model_json, looks_like_model_json
from folding.sources.tensorflow.convert.program_format import ProgramFormat
from folding.sources.tensorflow.graph import protobuf_io
from folding.sources.tensorflow.graph.program import NoWeights, Port, Program
from folding.sources.tensorflow.graph.tf_graph import TfGraph, split
from folding.sources.tensorflow.infer import signature
from folding.sources.tfjs import graph, weights


class TfjsFormat(ProgramFormat):
    """The `Format` for TensorFlow.js."""

    name = "tfjs"

    def sniff(self, upload: Upload) -> bool:
        """One file of the upload is a JSON object with a topology or a weights manifest near an end."""
        return bool(_candidates(upload))

    def program(self, upload: Upload, options: FoldOptions) -> Program:
        """The graph of `model.json` with the constants of its shards."""
        return _program(upload, options)


FORMAT = TfjsFormat()


def _candidates(upload: Upload) -> list[Path]:
    return upload.matching(looks_like_model_json)


def _program(upload: Upload, options: FoldOptions) -> Program:
    path = only(_candidates(upload), "TensorFlow.js models")
    model = check_model_json(path, upload.root, upload.files or (path.name,))
    _graph_model(model)
    graph_def = graph.build(model.document["modelTopology"], weights.read(model, path.parent))
    protobuf_io.gate("graphdef", "check_graphdef", graph_def)
    program = Program(TfGraph(graph_def), NoWeights(), framework=_framework(model.document), purpose="frozen")
    inputs, outputs = _signature(model.document, program.graph)
    signature.complete_ports(program, options, inputs=inputs, outputs=outputs)
    return program


def _graph_model(model: TfjsModel) -> None:
    """Refuse layers models by name: they are Keras configurations. Raises UnsupportedModel."""
    topology = model.document["modelTopology"]
    kind = model.document.get("format") or topology.get("format")
    if kind == "layers-model" or "model_config" in topology or "class_name" in topology:
        raise UnsupportedModel(
            "This is a TensorFlow.js layers model: a Keras configuration, not a graph.",
            code="unsupported_tfjs_layers",
            hint="Give the Keras file, or convert it with `tensorflowjs_converter --input_format="
            "tfjs_layers_model --output_format=tfjs_graph_model`.",
        )


def _framework(document: dict[str, Any]) -> str:
    parts = (document.get("generatedBy"), document.get("convertedBy"))
    told = ", ".join(part for part in parts if isinstance(part, str) and part)[:120]
    return f"tensorflow.js ({told})" if told else "tensorflow.js"


def _signature(document: dict[str, Any], held: TfGraph) -> tuple[list[Port] | None, list[Port] | None]:
    """Ports by the signature's keys; None where the model has no signature."""
    metadata = document.get("userDefinedMetadata")
    told = document.get("signature") or (metadata.get("signature") if isinstance(metadata, dict) else None)
    if not isinstance(told, dict):
        return None, None
    ports = []
    for side in ("inputs", "outputs"):
        named = told.get(side)
        if not isinstance(named, dict) or not named:
            return None, None
        ports.append([_port(json.dumps(key)[1:-1] if not key.isprintable() else key, info, held)
                      for key, info in named.items()])  # fmt: skip
    return ports[0], ports[1]


def _port(key: str, info: Any, held: TfGraph) -> Port:
    tensor = info.get("name") if isinstance(info, dict) else None
    if not isinstance(tensor, str) or split(tensor)[0] not in held.nodes:
        corrupt(f"The signature's {key!r} names no node of the graph.", code=CODE)
    name, index = split(tensor)
    return Port(f"{name}:{index}", key)
