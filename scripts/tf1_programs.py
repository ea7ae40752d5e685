"""Write docs/reference/tf1-programs.md: what becomes of every artifact of the TensorFlow 1 fixtures.

python scripts/tf1_programs.py
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "reference" / "tf1-programs.md"
HEAD = """# The TensorFlow 1 programs

Models made by really running the programs of the five threads under TensorFlow 1.15
(`tests/fixtures/tf1`), each through every file that it was saved in. `error` is the largest difference
from TensorFlow 1's own answer, relative to the output's scale. The same rows are tests:
`tests/integration/tensorflow/test_tf1_table.py`. This page is written by `scripts/tf1_programs.py`.

| program | file | outcome | folded | kept | health | error |
|---|---|---|---|---|---|---|
"""


def main() -> None:
    """Run every case and write the page."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.path.insert(0, str(ROOT))
    from tests.integration.tensorflow import tf1

    lines = []
    for case in tf1.cases():
        with tempfile.TemporaryDirectory() as folder:
            lines.append(line(tf1.run(case, Path(folder))))
    TARGET.write_text(HEAD + "".join(lines))
    print(f"{len(lines)} rows in {TARGET.relative_to(ROOT)}")


def line(row: object) -> str:
    """One row of the table."""
    health = sorted({code for codes in row.health.values() for code in codes})  # type: ignore[attr-defined]
    errors = row.errors.values()  # type: ignore[attr-defined]
    worst = f"{max(errors):.0e}" if errors else ""
    case = row.case  # type: ignore[attr-defined]
    outcome = row.outcome if row.outcome == "pass" else f"refused: `{row.outcome}`"  # type: ignore[attr-defined]
    cells = [case.fixture, f"`{case.path}`", outcome, str(row.folded or ""), str(len(row.kept) or "")]  # type: ignore[attr-defined]
    return f"| {' | '.join([*cells, ', '.join(health), worst])} |\n"


if __name__ == "__main__":
    main()
