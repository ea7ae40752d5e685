"""The random numbers of the running test, for helpers that have no fixtures of their own.

`tests/conftest.py` begins a generator for every test, seeded by the test's name, and one for every module
while it is collected, for data of a `parametrize`. A test draws the same numbers alone, in any order and in
parallel.
"""

from __future__ import annotations

import zlib
from contextvars import ContextVar

import numpy as np

_running: ContextVar[np.random.Generator] = ContextVar("generator of the running test")


def begin(name: str) -> np.random.Generator:
    """Begin the generator of the test or module of that name."""
    made = np.random.default_rng(zlib.crc32(name.encode()))
    _running.set(made)
    return made


def running_rng() -> np.random.Generator:
    """Return the generator of the running test. LookupError: neither test nor collection runs."""
    return _running.get()
