"""The notebook of the examples: every cell runs in a fresh interpreter and shows what its text says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.support.paths import EXAMPLES

NOTEBOOK = EXAMPLES / "notebook.ipynb"

# Runs the cells as a kernel does: one namespace; the value of a cell's last expression is shown, as HTML
# where it can. (nbclient and ipykernel would do, and bring 25 packages, a debugger among them.)
RUNNER = """
import ast, contextlib, io, json, sys

namespace, shown = {"__name__": "__main__"}, []
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] != "code":
        continue
    tree = ast.parse("".join(cell["source"]))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), namespace)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace) if last else None
    html = value._repr_html_() if hasattr(value, "_repr_html_") else ""
    shown.append({"printed": printed.getvalue(), "html": html})
print(json.dumps(shown))
"""


def test_every_cell_runs(tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(NOTEBOOK)], cwd=tmp_path, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    text = [cell["printed"] for cell in shown]
    assert "never updated" in text[1], "inspect tells what is wrong"
    assert "untrained" in shown[2]["html"], "the headline of the untrained network, as HTML"
    assert "pass: Equivalent" in shown[3]["html"]
    assert "norm folded into conv ['ok']" in text[4]
    assert "['Conv', 'Relu']" in text[5]


def test_it_is_kept_without_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert notebook["nbformat"] == 4
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
