"""Where `scripts/chart-tools.sh` put helm and the schemas of Kubernetes."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def tools() -> Path:
    """Return the folder of the tools; it may not be there."""
    return Path(os.environ.get("BNFOLD_CHART_TOOLS") or Path(sys.prefix) / "chart-tools")


def reason_no_chart_tools() -> str | None:
    """Return why the chart cannot be tested here, None when it can."""
    missing = [name for name in ("helm", "kubernetes-schemas.zip") if not (tools() / name).exists()]
    return f"no {' and no '.join(missing)} in {tools()}: run `make test-tools`" if missing else None
