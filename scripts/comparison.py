"""Write docs/explanation/comparison.md and its figure from the figures of the bench.

python -m bench --sections fold --rounds 0 --json figures.json
python -m scripts.comparison figures.json     keep the figures in docs/explanation/comparison.json, and write
python -m scripts.comparison                  write the page and the figure again from what is kept
"""

# Prose in strings: long lines read better than wrapped ones.
# ruff: noqa: E501, ISC004

from __future__ import annotations

import json
import sys
import time
from html import escape
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "docs" / "explanation" / "comparison.json"
PAGE = KEPT.with_suffix(".md")
FIGURE = ROOT / "docs" / "pictures" / "comparison.svg"
TOOLS = ("bnfold", "onnxsim", "onnxslim", "onnxoptimizer", "onnxscript", "ort_basic", "ort_all")
NAMES = {"ort_basic": "ONNX Runtime, basic", "ort_all": "ONNX Runtime, all"}
PACKAGES = ("onnx", "onnxruntime", "onnxsim", "onnxslim", "onnxoptimizer", "onnxscript")
FIELDS = ("nodes", "batch_norms", "vendor", "deviation", "error")
# As in bench.fold: a hundred times the source's own rounding error against float64, which is large in half precision.
WRONG, AT_LEAST = 100, 1e-4


def keep(figures: Path) -> None:
    """Keep what the page shows of the bench's file, with date and versions."""
    networks = json.loads(figures.read_text())["networks"]
    record = {
        "date": time.strftime("%Y-%m-%d", time.gmtime(figures.stat().st_mtime)),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "networks": {
            network: {tool: {field: row[field] for field in FIELDS} for tool, row in tools.items()}
            for network, tools in networks.items()
        },
    }
    KEPT.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def cell(row: dict[str, Any] | None, source: dict[str, Any]) -> str:
    """Return nodes, and what is the matter with the artifact."""
    if row is None:
        return "–"
    if row["error"] or row["nodes"] is None:
        return "no artifact"
    notes = []
    if row["batch_norms"]:
        notes.append(f"{row['batch_norms']} batch norms left")
    if row["vendor"]:
        notes.append("own operators")
    if row["deviation"] is not None and row["deviation"] > max(WRONG * source["deviation"], AT_LEAST):
        notes.append("**wrong**")
    return f"{row['nodes']:,}" + (f" ({', '.join(notes)})" if notes else "")


def page(record: dict[str, Any]) -> str:
    """Return the text of the page."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(record["versions"].items()))
    lines = [
        "# A comparison with other tools", "",
        "<!-- Written by `python -m scripts.comparison` from the bench's figures; changes here are lost. -->", "",
        "What each tool is for, where another one is the better choice, and what is left of a network after it.", "",
        *CHOICES, "",
        "## Nodes that are left", "",
        f"Made by `python -m bench --sections fold --rounds 0` on {record['date']} with {versions}. Each cell is the "
        "number of nodes in the artifact. *Own operators* run on one runtime only; *wrong* is further from the float64 result than a "
        "hundred times the source's own rounding error.", "",
        "![Nodes that are left by each tool, relative to bnfold](../pictures/comparison.svg)", "",
        "| network | " + " | ".join(NAMES.get(tool, tool) for tool in TOOLS) + " |",
        "|---|" + "---|" * len(TOOLS),
    ]  # fmt: skip
    for network, tools in record["networks"].items():
        lines.append(
            f"| {network} | " + " | ".join(cell(tools.get(tool), tools["source"]) for tool in TOOLS) + " |"
        )
    lines += [
        "",
        "Times are not on this page: they depend on the machine. `make bench` measures conversion, latency and "
        "memory on yours, side by side, in alternating pairs. [What other optimizers make of our patterns]"
        "(../reference/peers.md) has the wrong and invalid artifacts one by one.",
        "",
    ]
    return "\n".join(lines)


CHOICES = [
    "| tool | made for | compared with bnfold |",
    "|---|---|---|",
    "| tf2onnx | converting TensorFlow graphs to ONNX | bnfold uses it for the structure of a graph. It converts operators that hold no batch norm just as well, needs no verification time, "
    "and is the choice where a model has custom operators that you write a handler for. It does not judge statistics and does not compare results |",
    "| onnxsim, onnxslim | making an ONNX graph smaller by folding constants | they take models that have no batch norm at all and are quick; neither proves its result |",
    "| onnxoptimizer | a set of graph passes, one by one | the choice where you want to pick passes yourself |",
    "| onnxscript's optimizer | rewriting rules in Python | the choice for rules of your own; torch.onnx uses it |",
    "| ONNX Runtime's own optimizations | the fastest session on one machine | they run at load time anyway, after any of these tools; files saved at level `all` hold operators of that runtime |",
]


def figure(record: dict[str, Any]) -> str:
    """Return an SVG: for each tool and network the nodes left, relative to bnfold's (1 is the line)."""
    networks = list(record["networks"])
    left, row, top, width, most = 150, 26, 46, 420, 4.0
    height = top + row * len(networks) + 34
    rivals = TOOLS[1:]
    colours = ("#0a6650", "#1d6fb8", "#8a5a00", "#7b3fa0", "#a92b1a", "#536070")

    def x(ratio: float) -> float:
        return round(left + width * min(ratio, most) / most, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 170} {height}" role="img" '
        'font-family="sans-serif" font-size="12" fill="#444">',
        "<title>Nodes that are left by each tool, relative to bnfold</title>",
        f'<rect width="100%" height="100%" fill="#fff"/><text x="{left}" y="20">nodes left, relative to bnfold</text>',
    ]
    for tick in range(int(most) + 1):
        strong = ' stroke-width="2"' if tick == 1 else ""
        parts.append(
            f'<line x1="{x(tick)}" x2="{x(tick)}" y1="{top - 12}" y2="{height - 24}" stroke="#bbb"{strong}/>'
            f'<text x="{x(tick)}" y="{height - 8}" text-anchor="middle">{tick}{"+" if tick == most else ""}</text>'
        )
    for place, network in enumerate(networks):
        y = top + row * place
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(network)}</text>')
        own = record["networks"][network]["bnfold"]["nodes"]
        for tool, colour in zip(rivals, colours, strict=True):
            found = record["networks"][network].get(tool) or {}
            if own and found.get("nodes"):
                ratio = found["nodes"] / own
                title = f"{NAMES.get(tool, tool)} on {network}: {found['nodes']} nodes, bnfold {own}"
                parts.append(
                    f'<circle cx="{x(ratio)}" cy="{y}" r="4" fill="{colour}" fill-opacity="0.75">'
                    f"<title>{escape(title)}</title></circle>"
                )
    for place, (tool, colour) in enumerate(zip(rivals, colours, strict=True)):
        y = top + 18 * place
        parts.append(f'<circle cx="{left + width + 20}" cy="{y}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{left + width + 30}" y="{y + 4}">{escape(NAMES.get(tool, tool))}</text>')
    return "\n".join([*parts, "</svg>", ""])


def write() -> None:
    """Write page and figure from the kept figures."""
    record = json.loads(KEPT.read_text())
    PAGE.write_text(page(record))
    FIGURE.write_text(figure(record))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        keep(Path(sys.argv[1]))
    write()
