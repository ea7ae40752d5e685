"""The report as JUnit XML: one case per comparison, per certificate and per finding about statistics."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from folding.report import Health, NormReport, Report, Verdict, VerificationRow
from folding.report.headline import headline
from folding.report.render import words

FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> str:
    """`testsuites` with the suites `verdict`, `verification`, `certificates`, `health`."""
    suites = [
        suite("verdict", [verdict_case(report)]),
        suite("verification", [row_case(row) for row in report.verification]),
        suite(
            "certificates", [c for norm in report.batch_norms if (c := certificate_case(norm)) is not None]
        ),
        suite("health", [c for norm in report.batch_norms for c in health_cases(norm)]),
    ]
    root = ET.Element("testsuites", name="bnfold")
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(s.get(name, "0")) for s in suites)))
    root.set("time", f"{sum(report.timings.values()):.3f}")
    root.extend(suites)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def plain(text: object) -> str:
    """Without the characters that XML 1.0 cannot hold, not even escaped."""
    return FORBIDDEN.sub("\ufffd", str(text))


def suite(name: str, cases: list[ET.Element]) -> ET.Element:
    """A suite with its counts."""
    element = ET.Element("testsuite", name=f"bnfold.{name}", tests=str(len(cases)))
    for kind, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.find(kind) is not None for case in cases)))
    element.extend(cases)
    return element


def case(group: str, name: str) -> ET.Element:
    """One test case."""
    return ET.Element("testcase", classname=f"bnfold.{group}", name=plain(name), time="0")


def note(element: ET.Element, kind: str, code: str, text: str) -> None:
    """A failure, a skip or output."""
    child = ET.SubElement(element, kind)
    if kind in ("failure", "error"):
        child.set("type", plain(code))
    if kind != "system-out":
        child.set("message", plain(text))
    child.text = plain(text)


def verdict_case(report: Report) -> ET.Element:
    """The one that gates: anything but pass fails it."""
    said = headline(report)
    element = case("verdict", "the artifact is equivalent to the source")
    kind = "system-out" if report.verdict is Verdict.PASS else "failure"
    note(element, kind, report.verdict.value, " ".join((f"{said.title}.", said.detail, said.remedy)).strip())
    return element


def row_case(row: VerificationRow) -> ET.Element:
    """A comparison; rows that are reported only never fail."""
    element = case("verification", f"{row.reference} / {row.provider} / {row.optimization_level}")
    if row.status in ("unavailable", "not_compared"):
        note(element, "skipped", "", row.detail)
    elif row.status == "fail" and row.judged:
        note(element, "failure", "verification_failed", words.row_words(row))
    else:
        note(element, "system-out", "", words.row_words(row))
    return element


def certificate_case(norm: NormReport) -> ET.Element | None:
    """The closed-form proof of one fold."""
    if norm.certificate is None:
        return None
    element = case("certificates", norm.name)
    found = norm.certificate
    text = (
        f"largest relative rounding {found.max_relative_rounding:.3g}, bound {found.bound:.3g}, "
        f"overflow {found.overflow}, underflow {found.underflow}, cancellation {found.cancellation} "
        f"{found.detail}"
    )
    note(element, "system-out" if found.holds else "failure", "certificate", text)
    return element


def health_cases(norm: NormReport) -> list[ET.Element]:
    """Errors fail, warnings pass and say so."""
    return [health_case(norm, finding) for finding in norm.health]


def health_case(norm: NormReport, finding: Health) -> ET.Element:
    """One finding."""
    element = case("health", f"{norm.name}: {finding.code.value}")
    kind = "failure" if finding.severity == "error" else "system-out"
    note(
        element, kind, finding.code.value, f"{finding.severity}: {finding.evidence} {finding.remedy}".strip()
    )
    return element
