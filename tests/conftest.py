"""Settings of the whole suite: long sweeps, tests that share a worker, numbers seeded by a test's name."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import numbers

pytest_plugins = ["tests.support.service_fixtures"]

LONG = "a long sweep: `make sweeps`, `make fuzz`, `make killsweep`, or pytest -m slow"

# Folders whose tests share one service, browser or server: one worker runs all of such a folder. Elsewhere a
# worker runs all of a module, so that its fixtures are made once.
TOGETHER = (
    "tests/integration/contract/",
    "tests/integration/docs/",
    "tests/integration/pipelines/",
    "tests/process/faults/",
)


# Two workers end together only if the long groups begin first and the many short ones fill the end.
ORDER = (
    "tests/e2e/test_journey.py",
    "tests/integration/docs/test_commands.py",
    "tests/e2e/",
    "tests/integration/pipelines/",
    "tests/process/",
    "tests/integration/",
    "tests/unit/",
)


# First of all hooks: pytest-xdist reads the marks in its own.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip long sweeps unless they are asked for, and say which tests must run on the same worker."""
    long = "slow" in config.getoption("markexpr", "")
    for item in items:
        if not long and item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.skip(reason=LONG))
        if item.get_closest_marker("xdist_group") is None:
            module = item.nodeid.split("::")[0]
            group = next((folder for folder in TOGETHER if module.startswith(folder)), module)
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: _place(item.nodeid))


def _place(nodeid: str) -> int:
    """Return when the test's folder has its turn."""
    return next((place for place, folder in enumerate(ORDER) if nodeid.startswith(folder)), len(ORDER))


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Begin the generator of a module before the module is imported."""
    if isinstance(collector, pytest.Module):
        numbers.begin(collector.name)


@pytest.fixture(autouse=True)
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Return a generator seeded by the test's name; `tests.support.numbers` hands it to helpers."""
    return numbers.begin(request.node.name)
