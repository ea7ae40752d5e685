"""Settings of the whole suite: long sweeps, tests that share a worker, numbers seeded by a test's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support import numbers

pytest_plugins = ["tests.support.service_fixtures"]

LONG = "a long sweep: `make sweeps`, `make fuzz`, `make killsweep`, or pytest -m slow"

# Folders whose tests share one service, browser or server: one worker runs all of such a folder. Elsewhere a
# worker runs all of a module, so that its fixtures are made once.
TOGETHER = (
    "tests/integration/contract/",
    "tests/integration/distribution/",
    "tests/integration/docs/",
    "tests/integration/pipelines/",
    "tests/process/faults/",
)


# Two workers end together only if the long groups begin first and the many short ones fill the end.
ORDER = (
    "tests/e2e/test_pages.py",
    "tests/integration/docs/test_commands.py",
    "tests/e2e/",
    "tests/integration/pipelines/",
    "tests/process/",
    "tests/integration/",
    "tests/unit/",
)


class Groups(LoadScopeScheduling):
    """A worker runs all of a group, in the order of the items.

    `--dist loadgroup` of pytest-xdist 3.8 would do, but it writes a field of an item that pytest 9.2 does not
    read: every test is then a group of its own, and every fixture of a module is made by every worker.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.split("::")[0]
        return next((folder for folder in TOGETHER if module.startswith(folder)), module)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    """Give each group to one worker, the first groups first."""
    config.option.loadscopereorder = False
    return Groups(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip long sweeps unless they are asked for, and let long groups begin first."""
    long = "slow" in config.getoption("markexpr", "")
    for item in items:
        if not long and item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.skip(reason=LONG))
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
