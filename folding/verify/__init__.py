"""Proof that an artifact computes what its source computes. See docs/explanation for the reasoning.

`verify_fold` is the pipeline's last stage, `verify` compares any two models, `recheck` checks certificates
again from the source and the artifact alone. Importing this package loads no runtime.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import Verification
from folding.rules.base import Decision
from folding.sources.base import Feeds, Reference


def verify_fold(
    *,
    unfolded: Path,
    artifact: Path,
    reference: Reference | None,
    options: FoldOptions,
    decisions: Sequence[Decision] = (),
    fold_sites: Sequence[str] = (),
    probe: Feeds | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Prove one fold.

    Args:
        unfolded: the graph before folding, as ONNX. artifact: the file that would be published.
        reference: the source framework's own inference, or None.
        decisions: with their certificates; one that does not hold fails the verdict.
        fold_sites: names of values at which the two graphs must agree.
        probe: the user's own inputs by name.

    Returns: the verification. `pass` only when every judged row passes and the evidence reacts.
    Raises: UsageError for a probe that does not fit the model.
    """
    from folding.verify import pipeline

    checked = [d for d in decisions if d.folded and d.certificate is not None]
    return pipeline.examine(
        unfolded,
        artifact,
        reference,
        options,
        sites=fold_sites,
        probe=probe,
        progress=progress,
        certificates=len(checked),
        faults=[
            f"the certificate of {d.norm.name!r} does not hold: {d.certificate.detail}"
            for d in checked
            if d.certificate is not None and not d.certificate.holds
        ],
    )


def verify(
    a: str | Path,
    b: str | Path,
    options: FoldOptions | None = None,
    *,
    probe: Feeds | None = None,
    progress: Progress | None = None,
    workdir: Path | None = None,
) -> Verification:
    """Compare any two models: `a` is the reference (any supported format), `b` an ONNX file.

    Where both come from one graph, shared value names are compared layer by layer as well.

    Raises: ModelError subclasses when `a` cannot be read.
    """
    import tempfile

    from folding import export, sources
    from folding.verify import pipeline

    options, progress = options or FoldOptions(), progress or Progress()
    with tempfile.TemporaryDirectory(prefix="bnfold-", dir=workdir) as scratch:
        imported = sources.load(Path(a), options, Path(scratch), progress)
        path = imported.onnx_path or export.write_plain(imported.model, Path(scratch) / "a.onnx")
        try:
            return pipeline.examine(
                path, Path(b), imported.reference, options, probe=probe, progress=progress
            )
        finally:
            if imported.reference is not None:
                imported.reference.close()


def recheck(
    source: str | Path,
    artifact: str | Path,
    options: FoldOptions | None = None,
    *,
    probe: Feeds | None = None,
    progress: Progress | None = None,
    workdir: Path | None = None,
) -> Verification:
    """Check the certificates again from the two files alone (`bnfold verify --certificate`).

    Raises: ModelError subclasses when `source` cannot be read.
    """
    from folding.verify.steps import recheck_certificates

    return recheck_certificates.recheck(
        Path(source), Path(artifact), options or FoldOptions(), probe, progress, workdir
    )


class _Callable(ModuleType):
    """`folding.verify` is this package and, called, the function of the same name."""

    __call__ = staticmethod(verify)


sys.modules[__name__].__class__ = _Callable
