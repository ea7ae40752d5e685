"""Moving statistics measured on the user's own data: to diagnose the stored ones, or to replace them.

Every batch norm is run in training mode (it normalizes with the statistics of the data, so that the layers
behind it see what they saw in training), and its input's mean and variance are collected over all of the
data:

    mean = E[m_b]          variance = E[v_b] + E[(m_b - mean)^2] = E[v_b + m_b^2] - mean^2

over chunks b with their mean m_b and variance v_b: the total variance, not the mean of variances. Chunks are
as large as memory allows; where all the data fits into one, the result is exactly that of one full batch.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from folding.calibrate.compare import Compared, compare, output_changes, table_row
from folding.calibrate.data import chunk_size, fit
from folding.calibrate.measure import Moments, can_measure, measure, twin
from folding.calibrate.rewrite import rewrite
from folding.calibrate.sessions import outputs
from folding.ir.types import Feeds
from folding.norms.base import BatchNorm
from folding.options import FoldOptions
from folding.progress import Progress
from folding.sources.base import Imported

__all__ = ["Calibrated", "Compared", "Moments", "run"]


@dataclass
class Calibrated:
    """What `run` hands back.

    norms: to go on with. rewritten: whether the model now holds the measured statistics.
    """

    norms: list[BatchNorm]
    summary: dict[str, Any]
    rewritten: bool = False
    compared: dict[int, Compared] = field(default_factory=dict)  # by id of a norm in `norms`

    def comparison(self, norm: BatchNorm) -> Compared | None:
        """The comparison of one layer, None where it was not measured or had no statistics before."""
        return self.compared.get(id(norm))


def run(
    imported: Imported, norms: list[BatchNorm], calibration: Feeds, options: FoldOptions, progress: Progress
) -> Calibrated:
    """Measure every batch norm on the data; with `options.recalibrate`, put the result into the model.

    Without it nothing changes: the comparison only tells (health code `lagging`).

    Raises:
        UsageError: `calibration_data` when the arrays do not fit the model's inputs.
        UnsupportedModel: `calibration_failed` when the graph cannot be run in training mode.
    """
    model = imported.model
    data, ignored = fit(model, calibration)
    samples = len(next(iter(data.values())))
    measurable = [norm for norm in norms if can_measure(model, norm)]
    with tempfile.TemporaryDirectory(prefix="bnfold-calibrate-") as folder:
        chunk = chunk_size(model, data, samples)
        moments = measure(model, measurable, data, chunk, Path(folder), progress)
        before = outputs(model, data, chunk, Path(folder) / "before.onnx", progress, 0.6)
        trial = model.clone()
        rewrite(trial, [twin(trial, norm) for norm in measurable], moments)
        after = outputs(trial, data, chunk, Path(folder) / "after.onnx", progress, 0.8)
    changes = output_changes(model, before, after)
    shift = max((row["relative_rms"] for row in changes.values()), default=0.0)
    result = Calibrated(list(norms), {})
    rows = []
    replaced = (
        dict(zip(map(id, measurable), rewrite(model, measurable, moments), strict=True))
        if options.recalibrate
        else {}
    )
    for position, norm in enumerate(norms):
        final = replaced.get(id(norm), norm)
        result.norms[position] = final
        found = moments.get(id(norm))
        if found is None:
            rows.append({"name": norm.name, "measured": False})
            continue
        compared = compare(norm, found, samples, shift)
        if compared is not None and not options.recalibrate:
            result.compared[id(final)] = compared
        rows.append(table_row(norm, found, compared))
    result.rewritten = bool(replaced)
    result.summary = {
        "samples": samples,
        "chunk": chunk,
        "applied": options.recalibrate,
        "ignored_arrays": ignored,
        "layers": rows,
        "outputs": changes,
    }
    progress.report("calibrate", 1.0, f"{len(moments)} layers measured on {samples} examples")
    return result
