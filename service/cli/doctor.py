"""`bnfold doctor`: what works on this machine, what does not, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from folding.report.figures import size
from service.cli import failures
from service.cli.output import Output
from service.runner import minimum_versions

State = Literal["ok", "warn", "fail"]
ENOUGH_DISK = 2 << 30  # a ResNet-sized job needs source, unfolded graph and artifact side by side
ENOUGH_MEMORY = 2 << 30  # TensorFlow alone takes half a gigabyte


@dataclass(frozen=True)
class Check:
    """One finding. `fail` means that folds do not work, `warn` that something optional is missing."""

    name: str
    state: State
    found: str
    remedy: str = ""


def run(url: str | None, key: str | None, as_json: bool, quiet: bool) -> int:
    """Run every check and print the findings."""
    output = Output(as_json, quiet)
    checks = list(_all(url, key))
    output.table(["check", "state", "found"], [[c.name, c.state, c.found] for c in checks])
    for check in checks:
        if check.remedy and check.state != "ok":
            output.say(f"{check.name}: {check.remedy}")
    failed = [check.name for check in checks if check.state == "fail"]
    output.say(f"not ready: {', '.join(failed)}" if failed else "ready")
    output.document({"ready": not failed, "checks": [asdict(check) for check in checks]})
    return failures.TEMPORARY if failed else failures.OK


def _all(url: str | None, key: str | None) -> Iterator[Check]:
    steps: list[Callable[[], Check | None]] = [
        check_python, check_packages, check_tensorflow, check_providers, check_cuda, check_sandbox,
        check_disk, check_memory,
    ]  # fmt: skip
    for step in steps:
        try:
            if (check := step()) is not None:
                yield check
        except Exception as error:  # noqa: BLE001 - a check that breaks is a finding, not the end
            yield Check(step.__name__.removeprefix("check_"), "fail", f"{type(error).__name__}: {error}")
    if url:
        yield _service(url, key)


def check_python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", "ok" if sys.version_info >= (3, 11) else "fail", found, "use Python 3.11 or newer")


def check_packages() -> Check:
    """What is installed against what pyproject asks for, and against known holes."""
    low = list(minimum_versions.too_old().values())
    for line in metadata.requires("bnfold") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            low.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            low.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if low:
        return Check("packages", "fail", "; ".join(low), "run `make setup` again")
    return Check("packages", "ok", f"bnfold {metadata.version('bnfold')}, every floor met")


def check_tensorflow() -> Check:
    for name in ("tensorflow-cpu", "tensorflow"):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        rest = [n for n in ("tf2onnx", "tf-keras", "keras") if not _installed(n)]
        if rest:
            return Check("tensorflow", "warn", f"{name} {version}, without {', '.join(rest)}", _TF_REMEDY)
        return Check("tensorflow", "ok", f"{name} {version}, tf2onnx {metadata.version('tf2onnx')}")
    return Check("tensorflow", "warn", "not installed: ONNX models only", _TF_REMEDY)


_TF_REMEDY = "install the extra: pip install 'bnfold[tensorflow]'"


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def check_providers() -> Check:
    """Asks each provider module the question that verification asks."""
    from folding.verify import providers

    found = {kind.name: kind().unavailable() for kind in providers.PROVIDERS}
    known = {"cpu": "available"}  # of others it is only known that they are installed; `cuda` is tried below
    words = ", ".join(
        f"{name}: {known.get(name, 'installed') if why is None else why}" for name, why in found.items()
    )
    state: State = "ok" if found.get("cpu", "absent") is None else "fail"
    return Check("providers", state, words, "reinstall onnxruntime")


def check_cuda() -> Check | None:
    """A session on the device in a sandboxed runner: the list of providers only says what is installed."""
    from folding.ort import runtime

    if "CUDAExecutionProvider" not in runtime().get_available_providers():
        return None
    from service.runner.config import RunnerConfig
    from service.runner.device_check import check_device

    state = check_device(RunnerConfig())
    if state.ok:
        return Check("cuda", "ok", "a session ran on the device, inside the sandbox")
    return Check("cuda", "warn", state.detail, "see docs/how-to/cuda.md; folds on `cpu` work without it")


def check_sandbox() -> Check:
    """The level as the canary finds it, by really starting a runner and trying forbidden acts."""
    from service.cli.isolated import make_runner

    runner = make_runner()
    try:
        runner.start()
        level = runner.level()
    finally:
        runner.close()
    remedy = "the kernel offers no Landlock or seccomp here; see docs/how-to/sandbox.md"
    states: dict[str, State] = {"full": "ok", "strong": "ok", "partial": "warn"}
    return Check("sandbox", states.get(level, "fail"), level, remedy)


def check_disk() -> Check:
    folder = Path(os.environ.get("BNFOLD_DATA_DIR", ".")).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    state: State = "ok" if free >= ENOUGH_DISK else "warn"
    return Check("disk", state, f"{size(free)} free in {folder}", "free some space")


def check_memory() -> Check:
    import psutil

    free = psutil.virtual_memory().available
    state: State = "ok" if free >= ENOUGH_MEMORY else "warn"
    return Check("memory", state, f"{size(free)} available", "large models may be stopped for memory")


def _service(url: str, key: str | None) -> Check:
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(f"{url.rstrip('/')}/readyz", headers=headers, timeout=10.0, trust_env=False)
    except httpx.HTTPError as error:
        return Check("service", "fail", f"{url}: {type(error).__name__}", "is it running? `bnfold serve`")
    words = f"{url}: {answer.status_code} {answer.text[:300]}"
    return Check("service", "ok" if answer.status_code == 200 else "fail", words, "see its log")
