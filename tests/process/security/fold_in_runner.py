"""One fold in a sandboxed process of its own, as the command runs it.

`python -m tests.process.security.fold_in_runner SRC DST` prints the level of the sandbox.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
from pathlib import Path

from folding.options import FoldOptions
from folding.progress import ignore_progress
from folding.report import Report
from folding.temporary_folder import temporary_folder
from service.runner.base import JobSpec, Status
from service.runner.config import RunnerConfig
from service.runner.local import LocalRunner, error_of


def fold_in_runner(
    src: Path, dst: Path, options: FoldOptions | None = None, config: RunnerConfig | None = None
) -> Report:
    """Fold `src` into `dst`. Raises: BnfoldError as the job did, or for what befell the process."""
    runner = LocalRunner(config)
    with temporary_folder(dst.absolute().parent) as folder:
        spec = JobSpec(
            job_id="local",
            kind="fold",
            input=src.absolute(),
            out_dir=folder,
            options=(options or FoldOptions()).model_dump(mode="json"),
        )
        outcome = runner.run(spec, on_event=ignore_progress, cancel=threading.Event())
        if outcome.status is not Status.DONE:
            raise error_of(outcome)
        report = Report.model_validate(json.loads((folder / "report.json").read_text()))
        shutil.move(folder / "model.onnx", dst)
        return report


if __name__ == "__main__":
    # bubblewrap's preparations would fill a trace of system calls
    print(fold_in_runner(Path(sys.argv[1]), Path(sys.argv[2]), config=RunnerConfig(bubblewrap=False)).sandbox)
