"""The inspection of an ONNX model: what it takes and gives, and its batch norms, without folding any."""

from __future__ import annotations

import numpy as np

from folding import health, norms, passes
from folding.export import parameter_count
from folding.norms.base import BatchNorm
from folding.options import FoldOptions
from folding.report import Inspection
from folding.report.norm_rows import norm_report
from folding.rules.base import Decision
from folding.sources.base import Imported

_ROLES = ("moving_mean", "moving_variance", "gamma", "beta")


def inspect_model(imported: Imported, options: FoldOptions) -> tuple[Inspection, dict[str, np.ndarray]]:
    """Inspection and raw statistics (by `<layer>/<role>`) of a model that is loaded and not folded."""
    model, source = imported.model, imported.source
    parameters = parameter_count(model)
    passes.prepare(model, options)
    found = norms.find(model, imported.hints)
    inspection = Inspection(
        format=source.format,
        framework=source.framework,
        digest=source.digest,
        inputs=source.inputs,
        outputs=source.outputs,
        input_candidates=source.inputs,
        output_candidates=source.outputs,
        assumptions=source.assumptions,
        batch_norms=[norm_report(Decision(norm, folded=False), health.assess(norm, None)) for norm in found],
        parameters=parameters,
        notes=source.notes,
    )
    return inspection, _statistics(found)


def _statistics(found: list[BatchNorm]) -> dict[str, np.ndarray]:
    arrays = {}
    for norm in found:
        for role in _ROLES:
            array = getattr(norm, role)
            if array is not None:
                arrays[f"{norm.name}/{role}"] = np.asarray(array)
    return arrays
