"""`python -m service.openapi [--check]`: writes (or compares) `openapi/openapi.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PATH = Path(__file__).parents[1] / "openapi" / "openapi.json"


def document() -> str:
    """The contract as text, keys sorted, so that a diff shows what changed."""
    from service.app import create_app
    from service.settings import Settings

    return json.dumps(create_app(Settings()).openapi(), indent=1, sort_keys=True) + "\n"


def main() -> int:
    """0, or 1 when `--check` finds a difference."""
    text = document()
    if "--check" in sys.argv[1:]:
        same = PATH.exists() and PATH.read_text() == text
        if not same:
            print(f"{PATH.name} is out of date: run `make openapi`", file=sys.stderr)
        return 0 if same else 1
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
