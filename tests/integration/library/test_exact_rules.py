"""Every row of the tables of all rules in rational arithmetic; the tests of the rules take the small ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "unit" / "folding" / "rules"


@pytest.mark.slow
def test_every_row_of_every_table_is_proved() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", str(RULES)],
        env={**os.environ, "BNFOLD_EXACT_LIMIT": "inf"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:]
