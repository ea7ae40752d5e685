"""The drift at inner values on the probe on which outputs differ most although they pass.

An ill-conditioned model may amplify rounding on one probe only (a logarithm at silence); the drift of the
first probe then shows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from folding.report import DriftRow, VerificationRow
from folding.verify.compare.coverage import worst_passing
from folding.verify.compare.cuts import Cut, alignment, drift_row, floats
from folding.verify.compare.layers import LayerCheck
from folding.verify.context import GraphPair, ProbeSet


def drift_on_worst_probe(
    pair: GraphPair, probes: ProbeSet, rows: Iterable[VerificationRow], check: LayerCheck | None, u: float
) -> tuple[DriftRow, ...]:
    """Return the differences at inner values, in graph order; none where no output differs by much.

    rows: end to end. u: unit roundoff of the artifact's arithmetic.
    """
    worst = worst_passing(rows, u)
    if worst is None or check is None or worst.worst_probe not in probes.answers:
        return ()
    feeds, names = probes.feeds(worst.worst_probe), [row.value for row in check.drift]
    try:
        mine, theirs = (floats(side.session(names).run(feeds)) for side in (pair.source, pair.artifact))
    except Exception:  # noqa: BLE001 - then the drift of the first probe is all there is
        return ()
    found = []
    for name in (n for n in dict.fromkeys(names) if n in mine and n in theirs):
        perm = alignment(mine[name], theirs[name])
        straight = perm is None or perm == tuple(range(mine[name].ndim))
        if not straight or mine[name].shape == theirs[name].shape:
            cut = Cut(name, True, None if straight else perm)
            found.append(drift_row(cut, mine[name], theirs[name]))
    return tuple(found)
