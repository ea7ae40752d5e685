"""The client of a bnfold service, with `fold` as the library has it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from bnfold.arguments import Arrays, arrays_of, listener_of, options_of
from bnfold.models import Model, as_path
from bnfold.results import Folded, name_recalibrated, printable
from folding.options import FoldOptions
from folding.progress import Listener
from folding.report import Report, Verdict
from service import client
from service.client import Job


class Client(client.Client):
    """Everything that the HTTP interface offers, and `fold` in one call. Errors are `BnfoldError`s."""

    def fold(
        self,
        src: Model,
        dst: str | os.PathLike[str] | None = None,
        options: FoldOptions | None = None,
        *,
        calibration: Arrays | None = None,
        probe: Arrays | None = None,
        timeout: float = 3600.0,
        progress: bool | Listener | None = None,
        **overrides: Any,
    ) -> Folded:
        """Fold a model on the service; arguments and result as of `bnfold.fold`.

        timeout: seconds to wait for the job's end.
        Raises: BnfoldError subclasses, TimedOut among them. An artifact whose verdict is not `pass` stays on
        the service: the result then has a report and no bytes.
        """
        chosen = options_of(options, overrides)
        with tempfile.TemporaryDirectory(prefix="bnfold-") as name, listener_of(progress) as listener:
            folder = Path(name)
            (folder / "source").mkdir()
            job = self.submit(
                as_path(src, folder / "source"), chosen,
                calibration=_stored(calibration, folder, "calibration"),
                probe=_stored(probe, folder, "probe"),
            )  # fmt: skip
            job = self.wait(job.id, timeout=timeout, listener=listener)
            if job.state != "rejected":
                job.raise_for_state()
            report = printable(Report.model_validate_json(self.report(job.id)))
            second = self._recalibrated(report, job, dst, folder)
            if report.verdict is not Verdict.PASS or job.artifact is None:
                return Folded(report, recalibrated=second)
            target = Path(dst) if dst is not None else folder / "artifact.onnx"
            self.pull(job.artifact.digest, target)
            return Folded(
                report, target.read_bytes(), Path(dst) if dst is not None else None, recalibrated=second
            )

    def _recalibrated(
        self, report: Report, job: Job, dst: str | os.PathLike[str] | None, folder: Path
    ) -> bytes | None:
        """The second artifact's bytes, and its file beside `dst`, where one was made and proved."""
        if report.recalibrated is None or job.recalibrated is None:
            return None
        target = name_recalibrated(report, dst)
        if report.recalibrated.verdict is not Verdict.PASS:
            return None
        path = target if target is not None else folder / "recalibrated.onnx"
        self.pull(job.recalibrated.digest, path)
        return path.read_bytes()


def _stored(arrays: Arrays | None, folder: Path, role: str) -> Path | None:
    """Write arrays as an .npz file for the upload."""
    given = arrays_of(arrays, role)
    if given is None:
        return None
    import numpy as np

    path = folder / f"{role}.npz"
    np.savez(path, **given)  # type: ignore[arg-type]
    return path
