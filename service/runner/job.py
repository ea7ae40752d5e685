"""Child side of one job: read the options, call `folding`, write what came of it into `out/`."""

from __future__ import annotations

import json
import re
import time
import traceback
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from folding.errors import BnfoldError, CorruptModel, InternalError, UnsafeModel, UsageError
from folding.options import FoldOptions
from folding.progress import Event
from folding.sources.gates.npz import read_npz
from service.errors import StorageFull
from service.process.machine_faults import as_machine_fault

# How frameworks word it when an allocation failed in C++.
_OUT_OF_MEMORY = re.compile(
    r"bad[ _]alloc|failed to allocate memory|out of memory|OOM when allocating|Cannot allocate memory", re.I
)
# How libraries word it when the machine is at fault: NumPy, TensorFlow and protobuf lose the error number.
_MACHINE = re.compile(
    r"No space left on device|Disk quota exceeded|Input/output error|Read-only file system"
    r"|Too many open files|\d+ requested and \d+ written",
    re.I,
)
_EVENT_SECONDS = 0.05


class Sender(Protocol):
    """Where messages to the parent go."""

    def send(self, **message: Any) -> None:
        """One message."""


def run_job(job: dict[str, Any], channel: Sender) -> None:
    """Run it; whatever happens is told in one last message (or by the way the process dies)."""
    try:
        dispatch(job, channel)
        channel.send(done={})
    except MemoryError:
        channel.send(memory={})
    except RecursionError:
        error = UnsafeModel(
            "The model nests deeper than can be followed.", code="unsafe_recursion",
            hint="Flatten nested models or functions before exporting.",
        )  # fmt: skip
        channel.send(error=_scrubbed(error, job))
    except BnfoldError as error:
        if (fault := _machine_fault(error)) is not None:
            channel.send(error=_scrubbed(fault, job))
        elif _OUT_OF_MEMORY.search(error.message) and error.error_code in ("internal", "unsupported_model"):
            channel.send(memory={})
        else:
            channel.send(error=_scrubbed(error, job))
    except Exception as error:  # noqa: BLE001  the one place where a job's unforeseen failure becomes a code
        traceback.print_exc()
        if _OUT_OF_MEMORY.search(str(error)):
            channel.send(memory={})
        elif (fault := _machine_fault(error)) is not None:
            channel.send(error=_scrubbed(fault, job))
        else:
            channel.send(error=_scrubbed(_unforeseen(error, Path(job["input"])), job))


def _machine_fault(error: Exception) -> BnfoldError | None:
    """What the machine has to do with a failure, None for nothing; memory has a message of its own."""
    fault = as_machine_fault(error, "the job's work")
    if fault is None and (match := _MACHINE.search(str(error))) is not None:
        fault = StorageFull(f"The disk is full or failing ({match[0]}): the job's work.")
    return None if fault is None or "out of memory" in fault.message else fault


def _unforeseen(error: Exception, source: Path) -> BnfoldError:
    """A failure that nobody thought of: the file's fault if that is no valid ONNX, else ours."""
    if (reason := _against_the_standard(source)) is not None:
        return CorruptModel(
            f"The model is not valid ONNX: {reason}", code="invalid_onnx", stage="read",
            hint="`onnx.checker.check_model(path, full_check=True)` says more; export the model again.",
        )  # fmt: skip
    where = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in where if "/folding/" in frame.filename or "/service/" in frame.filename]
    at = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    return InternalError(
        f"{type(error).__name__} at {at}: {str(error)[:500]}",
        hint="This is a defect of bnfold. Please report it with the model's structure.",
    )


def _against_the_standard(source: Path) -> str | None:
    """What onnx's own checker and its strict shape inference have against the file, None for nothing.

    Asked only when a job has failed already: it would refuse models that every runtime takes.
    """
    import onnx

    from folding.sources.onnx.importer import looks_like_onnx

    if not source.is_file() or not looks_like_onnx(source):
        return None
    try:
        onnx.checker.check_model(str(source), full_check=True)
    except Exception as error:  # noqa: BLE001  whatever it is called, the checker has something against it
        return " ".join(str(error).split())[:300]
    return None


def _scrubbed(error: BnfoldError, job: dict[str, Any]) -> dict[str, Any]:
    """The error without paths of this machine: the job's folder and the installation become `…`."""
    text = json.dumps(error.to_dict(), default=str)
    source = json.dumps(job["input"])[1:-1]
    text = text.replace(source, Path(job["input"]).name)
    if job.get("second"):
        text = text.replace(json.dumps(job["second"])[1:-1], Path(job["second"]).name)
    text = text.replace(json.dumps(job["folder"])[1:-1] + "/", "")
    text = re.sub(r"(?:/[\w.+@-]+)+/(?:site-packages|python3\.\d+)/", "…/", text)
    scrubbed: dict[str, Any] = json.loads(text)
    return scrubbed


def dispatch(job: dict[str, Any], channel: Sender) -> None:
    from folding import pipeline, verify_report

    out, work = Path(job["folder"], "out"), Path(job["folder"], "work")
    options = _options(job["options"])
    if job["kind"] == "inspect":
        inspection, stats = pipeline.inspect(Path(job["input"]), options, workdir=work)
        (out / "report.json").write_text(inspection.to_json())
        with (out / "stats.npz").open("wb") as file:
            np.savez(file, **stats)  # type: ignore[arg-type]
        return
    if job["kind"] == "verify":
        compare = verify_report.compare if job.get("whole_report") else pipeline.verify
        found = compare(
            Path(job["input"]),
            Path(job["second"]),
            options,
            probe=_arrays(job.get("probe"), "probe"),
            certificate=bool(job.get("certificate")),
            listener=_listener(channel),
            workdir=work,
        )
        (out / "report.json").write_text(found.model_dump_json(by_alias=True))
        return
    report = pipeline.fold(
        Path(job["input"]),
        out / "model.onnx",
        options,
        calibration=_arrays(job.get("calibration"), "calibration"),
        probe=_arrays(job.get("probe"), "probe"),
        recalibrated=out / "recalibrated.onnx" if job.get("recalibrated") else None,
        listener=_listener(channel),
        workdir=work,
    )
    report = report.model_copy(update={"sandbox": job["sandbox"]})
    (out / "report.json").write_text(report.to_json())


def _options(data: dict[str, Any]) -> FoldOptions:
    try:
        return FoldOptions.model_validate(data)
    except ValueError as error:
        raise UsageError(f"The options are not valid: {error}", hint="See `bnfold fold --help`.") from error


def _listener(channel: Sender) -> Any:
    last: dict[str, float] = {}

    def listen(event: Event) -> None:
        now = time.monotonic()
        inside = event.fraction is not None and 0.0 < event.fraction < 1.0
        if inside and now - last.get(event.stage, 0.0) < _EVENT_SECONDS:
            return
        last[event.stage] = now
        channel.send(event={"stage": event.stage, "fraction": event.fraction, "message": event.message[:500]})

    return listen


def _arrays(path: str | None, what: str) -> dict[str, np.ndarray] | None:
    return None if path is None else read_npz(Path(path), what)
