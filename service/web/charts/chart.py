"""A drawing for a page, coloured by its style sheet, and as a file that brings its own colours."""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass

from markupsafe import Markup, escape

# Colours of a file, which no style sheet of a page reaches: light, as documents are.
STYLE = """text { font: 11px system-ui, "Liberation Sans", Arial, sans-serif; fill: #536070 }
.name { font-size: 14px; font-weight: 600; fill: #16202b } .value { fill: #16202b }
.grid { stroke: #d9dfe6 } .axis { stroke: #6d7a88 } .whisker { stroke: #16202b; stroke-width: 1.5 }
.line, .bound { fill: none; stroke: currentcolor; stroke-width: 1.2; opacity: .55 }
.bound { stroke-width: 1.8; opacity: 1; stroke-dasharray: 6 3 }
.mark { fill: currentcolor } .hollow { fill: none; stroke: currentcolor; stroke-width: 2 }
.first { stroke: #a92b1a; stroke-width: 3 } .divergence { stroke: #a92b1a; stroke-dasharray: 5 4 }
.before { fill: #6d7a88 } .after { fill: #0b57a4 } .stored { fill: #6d7a88; opacity: .55 }
.measured { fill: #c05600; opacity: .55 } .zero { stroke: #16202b; stroke-dasharray: 2 2 }
.series-0 { color: #0b57a4 } .series-1 { color: #c05600 }
.series-2 { color: #0a6650 } .series-3 { color: #8a3b8f }"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
# For the file opened by itself: its one style sheet, known by its hash, and nothing else.
CSP = f"default-src 'none'; style-src 'sha256-{_HASH}'; sandbox"
HEAD = 30


@dataclass(frozen=True)
class Chart:
    """A drawing of `width` x `height`. name: of the file. words: what it shows, for screen readers."""

    name: str
    title: str
    words: str
    width: int
    height: int
    body: Markup

    @property
    def inline(self) -> Markup:
        """Return the drawing for a page, whose style sheet colours it."""
        return Markup(
            '<svg class="chart" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img" '
            'aria-label="{words}">{body}</svg>'
        ).format(w=self.width, h=self.height, words=f"{self.title}. {self.words}", body=self.body)

    @property
    def file(self) -> str:
        """Return the drawing as an SVG file: with its title, on white, whatever opens it."""
        return str(
            Markup(
                '<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" '
                'viewBox="0 -{head} {w} {h}">'
                "<title>{title}</title><desc>{words}</desc><style>{style}</style>"
                '<rect x="0" y="-{head}" width="{w}" height="{h}" fill="#ffffff"/>'
                '<text class="name" x="12" y="-10">{title}</text>{body}</svg>'
            ).format(
                w=self.width, h=self.height + HEAD, head=HEAD, title=self.title, words=self.words,
                style=Markup(STYLE), body=self.body,
            )
        )  # fmt: skip


def text(x: float, y: float, words: object, anchor: str = "middle", kind: str = "tick") -> str:
    """Return a line of text as markup; the words are escaped."""
    return (
        f'<text class="{kind}" x="{n(x)}" y="{n(y)}" text-anchor="{anchor}">{escape(printable(words))}</text>'
    )


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a straight line as markup."""
    return f'<line class="{kind}" x1="{n(x1)}" y1="{n(y1)}" x2="{n(x2)}" y2="{n(y2)}"/>'


def bar(kind: str, x: float, y: float, width: float, height: float, told: str = "") -> str:
    """Return a filled rectangle as markup, with its tooltip."""
    title = f"<title>{escape(printable(told))}</title>" if told else ""
    return (
        f'<rect class="{kind}" x="{n(x)}" y="{n(y)}" width="{n(max(0.0, width))}" '
        f'height="{n(max(0.0, height))}">{title}</rect>'
    )


def printable(words: object) -> str:
    """Return the words without control characters, which no XML file may hold."""
    return "".join(c if c.isprintable() or c == " " else "\ufffd" for c in str(words))


def shortened(name: str, room: int) -> str:
    """Return the end of a long name: names differ there, their beginnings are scopes that all share."""
    return name if len(name) <= room else "…" + name[1 - room :]


def n(value: float) -> str:
    """Return a coordinate with at most one decimal.

    >>> n(3.14159), n(20.0)
    ('3.1', '20')
    """
    return f"{value:.1f}".rstrip("0").rstrip(".")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers between two others, about `count` of them.

    >>> ticks(0.0, 1.0), ticks(-3.0, 7.0, 4)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [-2.0, 0.0, 2.0, 4.0, 6.0])
    """
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low] if math.isfinite(low) else []
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda each: abs(each - rough))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12 - math.floor(math.log10(step))) + 0.0 for k in range(first, last + 1)]
