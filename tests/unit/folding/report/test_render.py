"""Reports in every form: complete, well-formed, and harmless whatever the model calls its layers."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from folding.errors import UsageError
from folding.report import Report, Verdict
from folding.report.headline import headline
from folding.report.render import KINDS, html, markdown, render, words
from tests.unit.folding.report.samples import EVIL, hostile, report

VOID = {"meta", "line", "rect", "br"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("kind", KINDS)
def test_the_verdict_comes_first_in_every_form(kind: str, verdict: Verdict) -> None:
    text = render(report(verdict), kind)
    body = Page(text).text if kind == "html" else text
    title = headline(report(verdict)).title
    if kind in ("markdown", "card"):
        title = markdown.escape(title)
    if kind == "junit":
        return
    assert title in body
    assert "bn2" not in body[: body.index(title)]


def test_the_page_holds_all_that_it_promises() -> None:
    page = Page(html.render(report()))
    for heading in ("Statistics", "Proof", "Error layer by layer", "Graph before and after",
                    "Runtime hazards",
                    "Certificate", "Source", "How to reproduce", "Latency", "Calibration"):  # fmt: skip
        assert heading in page.text, heading
    for fact in ("never_updated", "run UPDATE_OPS", "graph_output", "Pad_Fusion", "8 x noise", "no CUDA here",
                 "2.00x", "is_training", "float32 [N, 3, ?, 224]", "onnxruntime 1.31.1", "bnfold fold MODEL",
                 "no evidence", "123,456 parameters"):  # fmt: skip
        assert fact in page.text, fact
    assert page.tags.count("svg") >= 15 + 1 + 6
    assert not page.open


def test_the_page_needs_no_network_and_runs_nothing() -> None:
    text = html.render(report())
    page = Page(text)
    assert not {"script", "link", "iframe", "img", "object", "form"} & set(page.tags)
    assert not [n for n, _ in page.attributes if n.startswith("on") or n in ("src", "style", "srcset")]
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    assert "url(" not in text
    assert "http:" not in text
    assert "https:" not in text
    assert html.content_security_policy().replace("'", "&#39;") in text
    assert text.count("<style>") == 1


def test_hostile_names_are_text_in_the_page() -> None:
    clean, dirty = (
        Page(html.render(report(Verdict.FAIL, first_divergence="v3"))),
        Page(html.render(hostile())),
    )
    assert not {"script", "a"} & (set(dirty.tags) - set(clean.tags))
    assert {name for name, _ in dirty.attributes} <= {name for name, _ in clean.attributes}
    assert "alert(1)" in dirty.text


def test_hostile_names_are_text_on_a_terminal() -> None:
    text = render(hostile(), "text")
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "\\x1b[31m" in text


def test_hostile_names_are_text_in_markdown() -> None:
    text, fenced, *_ = re.split(r"^```+(?:sh)?$", render(hostile(), "markdown"), flags=re.MULTILINE)
    assert len(fenced.strip().splitlines()) == 1
    assert "<script" not in text.replace("\\<script", "")
    assert "](javascript" not in text.replace("\\]\\(javascript", "")
    assert not re.search(r"(?<!\\)@\w", text)
    width = None
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line))
        if line.startswith("|"):
            width = width or cells
            assert cells == width, line
        else:
            width = None


@pytest.mark.parametrize("made", [report(), report(Verdict.FAIL), hostile()], ids=["pass", "fail", "hostile"])
def test_junit_is_well_formed_and_counts_are_true(made: Report) -> None:
    root = ET.fromstring(render(made, "junit"))
    cases = root.findall(".//testcase")
    assert int(root.get("tests", "")) == len(cases)
    for kind, attribute in (("failure", "failures"), ("skipped", "skipped")):
        assert int(root.get(attribute, "")) == len(root.findall(f".//{kind}"))
    gate = root.find("testsuite/testcase")
    assert gate is not None
    assert (gate.find("failure") is None) == (made.verdict is Verdict.PASS)


def test_junit_skips_what_was_not_available_and_never_fails_what_is_not_judged() -> None:
    from tests.unit.folding.report.samples import row

    made = report(verification=[row(), row("reported", judged=False), row("unavailable")])
    root = ET.fromstring(render(made, "junit"))
    suite = root.findall("testsuite")[1]
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")


def test_a_report_with_nothing_in_it_renders() -> None:
    made = report(
        batch_norms=[], verification=[], probes=[], drift=[], hazards=[], latency=None, calibration=None,
        artifact=None, timings={}, toolchain={}, options={},
    )  # fmt: skip
    for kind in KINDS:
        assert render(made, kind)
    assert "no batch norm" in Page(html.render(made)).text


def test_numbers_that_are_not_finite_are_words() -> None:
    made = report()
    made.batch_norms[0].stats["gamma"].max = float("inf")
    made.verification[0].outputs[0].max_abs = float("inf")
    made.drift[0].max_rel = float("nan")
    for kind in KINDS:
        text = render(made, kind)
        assert "infinite" in text
        assert "nan" not in text.lower().replace("finance", "")


def test_the_command_repeats_every_option() -> None:
    made = report(options={"seed": 3, "outputs": ["a b"], "feeds": {"k": 1.0}, "strict": True, "rtol": 0.1,
                           "inputs": {"x": [None, 3]}, "require": ["cuda"]})  # fmt: skip
    line = words.command(made)
    for part in ("--seed 3", "--output 'a b'", "--feed k=1.0", "--strict", "--rtol 0.1", "--input",
                 "--require cuda",
                 "--calibrate DATA.npz"):  # fmt: skip
        assert part in line, part


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(UsageError, match="junit"):
        render(report(), "pdf")
    assert EVIL


def test_ten_thousand_layers_stay_a_page_that_opens() -> None:
    made = report()
    made.batch_norms = made.batch_norms * 1000
    text = html.render(made)
    assert len(text) < 12_000_000
    assert "further batch norms" in text
