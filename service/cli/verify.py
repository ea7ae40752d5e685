"""`bnfold verify A B`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from folding.report import Verdict
from service.cli import describe, failures, native, parse
from service.cli.fold import fold_options
from service.cli.output import Output


def run(
    a: Path,
    b: Path,
    certificate: bool,
    report: Path | None,
    probe: Path | None,
    as_json: bool,
    quiet: bool,
    given: dict[str, Any],
) -> int:
    """Compare and print; 0 when the verdict is pass, 3 otherwise."""
    output = Output(as_json, quiet)
    options = fold_options(given)
    parse.existing(b, "model")
    feeds = parse.arrays(probe and parse.existing(probe), "--probe")
    from folding import pipeline  # heavy: after everything that can be said without it

    with native.quiet(), parse.model(a) as model, output.progress(("verify",)) as listener:
        found = pipeline.verify(model, b, options, probe=feeds, certificate=certificate, listener=listener)
    describe.verification(found, output)
    body = found.model_dump_json(indent=2)
    output.document(body)
    if report is not None:
        report.write_text(body + "\n", encoding="utf-8")
    return failures.OK if found.verdict is Verdict.PASS else failures.NOT_VERIFIED
