"""`bnfold verify A B`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from folding.progress import Listener
from folding.report import Verdict, Verification
from service.cli import describe, failures, native, parse
from service.cli.fold import fold_options
from service.cli.output import Output


def run(
    a: Path,
    b: Path,
    certificate: bool,
    report: Path | None,
    probe: Path | None,
    unsandboxed: bool,
    timeout: float,
    as_json: bool,
    quiet: bool,
    given: dict[str, Any],
) -> int:
    """Compare and print; 0 when the verdict is pass, 3 otherwise."""
    output = Output(as_json, quiet)
    options = fold_options(given)
    parse.existing(b, "model")
    parse.npz(probe and parse.existing(probe), "--probe")
    work = _here if unsandboxed else _isolated
    with native.quiet(), parse.model(a) as model, output.progress(("verify",)) as listener:
        found = work(model, b, options, probe, certificate, timeout, listener)
    describe.verification(found, output)
    body = found.model_dump_json(indent=2)
    output.document(body)
    if report is not None:
        report.write_text(body + "\n", encoding="utf-8")
    return failures.OK if found.verdict is Verdict.PASS else failures.NOT_VERIFIED


def _here(
    a: Path, b: Path, options: Any, probe: Path | None, certificate: bool, timeout: float, listener: Listener
) -> Verification:
    from folding import pipeline

    feeds = parse.arrays(probe, "--probe")
    return pipeline.verify(a, b, options, probe=feeds, certificate=certificate, listener=listener)


def _isolated(
    a: Path, b: Path, options: Any, probe: Path | None, certificate: bool, timeout: float, listener: Listener
) -> Verification:
    from service.cli import isolated

    with isolated.job(
        "verify", a, options, listener, probe=probe, timeout=timeout, second=b, certificate=certificate
    ) as result:
        return Verification.model_validate(result.report)
