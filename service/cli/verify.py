"""`bnfold verify A B`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from folding.progress import Listener
from folding.report import Report, Verdict, Verification
from service.cli import describe, failures, native, parse
from service.cli.invocation import Invocation


@dataclass(frozen=True)
class Asked:
    """What is compared, and how. page: a report of the whole comparison is wanted, with both graphs."""

    a: Path
    b: Path
    options: Any
    probe: Path | None
    certificate: bool
    page: bool
    timeout: float


def run(
    a: Path,
    b: Path,
    certificate: bool,
    report: Path | None,
    html: Path | None,
    probe: Path | None,
    invocation: Invocation,
) -> int:
    """Compare and print; 0 when the verdict is pass, 3 otherwise."""
    output, options = invocation.output(), invocation.options()
    parse.existing(b, "model")
    parse.npz(probe and parse.existing(probe), "--probe")
    work = _here if invocation.unsandboxed else _isolated
    with native.quiet(), parse.model(a) as model, output.progress(("verify",)) as listener:
        asked = Asked(model, b, options, probe, certificate, html is not None, invocation.timeout)
        found, whole = work(asked, listener)
    describe.verification(found, output)
    body = found.model_dump_json(indent=2)
    output.document(body)
    if report is not None:
        report.write_text(body + "\n", encoding="utf-8")
    if html is not None and whole is not None:
        from folding.report.render import render

        html.write_text(render(whole, "html"), encoding="utf-8")
    return failures.OK if found.verdict is Verdict.PASS else failures.NOT_VERIFIED


def _here(asked: Asked, listener: Listener) -> tuple[Verification, Report | None]:
    from folding import pipeline, verify_report

    compare = verify_report.compare if asked.page else pipeline.verify
    found = compare(
        asked.a,
        asked.b,
        asked.options,
        probe=parse.arrays(asked.probe, "--probe"),
        certificate=asked.certificate,
        listener=listener,
    )
    return (_proof(found), found) if isinstance(found, Report) else (found, None)


def _isolated(asked: Asked, listener: Listener) -> tuple[Verification, Report | None]:
    from service.cli import isolated

    with isolated.job(
        "verify",
        asked.a,
        asked.options,
        listener,
        probe=asked.probe,
        timeout=asked.timeout,
        second=asked.b,
        certificate=asked.certificate,
        whole_report=asked.page,
    ) as result:
        if not asked.page:
            return Verification.model_validate(result.report), None
        whole = Report.model_validate(result.report).model_copy(update={"sandbox": result.sandbox})
        return _proof(whole), whole


def _proof(whole: Report) -> Verification:
    """The verification inside a report."""
    shared = {name: getattr(whole, name) for name in Verification.model_fields if name in Report.model_fields}
    return Verification(**{**shared, "rows": whole.verification})
