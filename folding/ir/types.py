"""Types that every room of the library shares."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Float64Array: TypeAlias = npt.NDArray[np.float64]
Feeds: TypeAlias = dict[str, Array]
"""Arrays by name: what a session is fed, and what it answers."""
