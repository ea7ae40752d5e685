"""Sizes for dynamic dimensions: found by trying them on the unfolded graph, small ones first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from folding.sources.base import Feeds
from folding.verify.model import FedSession
from folding.verify.probes.generate import Dims, Probe, make
from folding.verify.probes.input_ranges import InputSpec

# By rank of the largest input: spatial sizes of images (deep nets need 32 and more), lengths of sequences.
CANDIDATES = {
    4: (32, 64, 224, 128, 299, 16, 8, 96, 4, 1, 3),
    5: (16, 8, 32, 64, 4, 1),
    3: (16, 32, 8, 64, 128, 4, 1, 3),
}
SHORT = (8, 16, 4, 2, 1, 3, 32, 64, 128)
OTHER_FACTORS = (2.0, 1.5, 1.25, 0.5)
ATTEMPTS = 24


class NoSizesError(Exception):
    """No tried size ran; carries the last error of the runtime."""


def dynamic(specs: Sequence[InputSpec]) -> list[str]:
    """Keys of dynamic dimensions besides the batch: a symbol, or `input:axis` where there is none."""
    keys: list[str] = []
    for spec in specs:
        for axis, dim in enumerate(spec.dims or []):
            if axis and not isinstance(dim, int):
                keys.append(dim or f"{spec.name}:{axis}")
    return list(dict.fromkeys(keys))


def candidates(specs: Sequence[InputSpec]) -> Iterator[Dims]:
    """Assignments worth trying: one size for all, then, for inputs without rank, scalars."""
    keys = dynamic(specs)
    if not keys:
        yield {"": 1, "*": 1}
        yield {"": 2, "*": 1}
        return
    rank = max(len(spec.dims or []) for spec in specs)
    for size in CANDIDATES.get(rank, SHORT):
        yield {"": 1, "*": size, **dict.fromkeys(keys, size)}
    for size in (8, 4, 16, 32):
        yield {"": size, "*": size, **dict.fromkeys(keys, size)}


def settle(specs: Sequence[InputSpec], session: FedSession, seed: int) -> tuple[Dims, Probe, Feeds]:
    """The first sizes that run, with the probe that ran and its outputs.

    Raises: NoSizesError.
    """
    error: Exception | None = None
    for sizes in candidates(specs):
        probe = make(specs, sizes, seed, "normal", "N(0, 1)")
        try:
            return sizes, probe, session.run(probe.feeds)
        except Exception as exc:  # noqa: BLE001 - the runtime raises its own classes; the last one is told
            error = exc
    raise NoSizesError(str(error).strip()[:400]) from error


def other_sizes(specs: Sequence[InputSpec], sizes: Dims) -> Iterator[Dims]:
    """Further sizes for the same dimensions, larger first; the caller keeps those that run."""
    keys = dynamic(specs)
    for factor in OTHER_FACTORS if keys else ():
        changed = {key: max(1, round(sizes.get(key, sizes["*"]) * factor)) for key in keys}
        if changed != {key: sizes.get(key, sizes["*"]) for key in keys}:
            yield {**sizes, **changed, "*": max(1, round(sizes["*"] * factor))}
