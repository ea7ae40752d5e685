"""What has a place in a layered drawing: boxes and the bends of long lines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Items:
    """Rows and, after them, bends: what has a place in a layer. Neighbours one layer up and down."""

    rows: int
    layers: list[list[int]]
    up: list[list[int]]
    down: list[list[int]]
    trunk: dict[int, list[int]]

    def is_bend(self, item: int) -> bool:
        return item >= self.rows
