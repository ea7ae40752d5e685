"""Skip long sweeps unless they are asked for: `-m slow`, or the make targets that name it."""

from __future__ import annotations

import pytest

pytest_plugins = ["tests.support.service_fixtures"]

LONG = "a long sweep: `make fuzz`, `make killsweep`, or pytest -m slow"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" in config.getoption("markexpr", ""):
        return
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.skip(reason=LONG))
