"""Sizes for dynamic dimensions and values for arguments: found by trying them on the unfolded graph.

First one size for all dimensions, small ones first; then one dimension or argument at a time, from the
attempt that came furthest: the runtime names the node at which it stopped.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from folding.ir.types import Feeds
from folding.verify.model import FedSession, Loaded, all_nodes
from folding.verify.probes.generate import Dims, Probe, batch_symbols, make, shape_of, with_batch
from folding.verify.probes.input_ranges import (
    InputSpec,
    accept,
    alternatives,
    attribute,
    inferred,
    stored_array,
)
from folding.verify.probes.operator_reading import Proposal

# By rank of the largest input: spatial sizes of images (deep nets need 32 and more), lengths of sequences.
CANDIDATES = {
    4: (32, 64, 224, 128, 299, 16, 8, 96, 4, 1, 3),
    5: (16, 8, 32, 64, 4, 1),
    3: (16, 32, 8, 64, 128, 4, 1, 3),
}
SHORT = (8, 16, 4, 2, 1, 3, 32, 64, 128)
LONG = (256, 512, 1024, 2048, 4096, 8192, 16000, 16384, 32000)
BATCHES = (1, 2, 4, 8)
# Further sizes, in turn: multiples keep what a network of strides needs; shifts leave other remainders modulo
# small numbers (from 32: 33, 64, 35), where code that counts in blocks goes wrong.
OTHER_SIZES = ((1.0, 1), (2.0, 0), (1.0, 3), (1.5, 0), (1.25, 0), (0.5, 0))
MOST_ELEMENTS = 1 << 22  # of one input of an attempt
ATTEMPTS = 300
SECONDS = 10.0  # of the processor, for attempts that fail
STOPPED_AT = re.compile(r"Name:'([^']*)'")


class NoSizesError(Exception):
    """No tried size ran; carries the last error of the runtime."""


class _SpentError(Exception):
    """Enough was tried."""


def dynamic(specs: Sequence[InputSpec]) -> list[str]:
    """Keys of dynamic dimensions besides the batch: a symbol, or `input:axis` where there is none."""
    keys: list[str] = []
    batch = batch_symbols(specs)
    for spec in specs:
        for axis, dim in enumerate(spec.dims or []):
            if axis and not isinstance(dim, int) and dim not in batch:
                keys.append(dim or f"{spec.name}:{axis}")
    return list(dict.fromkeys(keys))


def derived(loaded: Loaded) -> list[int]:
    """Sizes that the graph itself speaks of: its strides' product, its pads, its reshapes, its slices."""
    strides = 1
    found: set[int] = set()
    for node in all_nodes(loaded.proto.graph):
        steps = attribute(node, "strides", []) if node.op_type != "ConvTranspose" else []
        strides = min(4096, strides * max([1, *(int(step) for step in steps)]))
        for position in (1, 2) if node.op_type in ("Pad", "Reshape", "Slice") else ():
            name = node.input[position] if position < len(node.input) else ""
            value = stored_array(loaded, name) if name else None
            numbers = [int(n) for n in value.ravel()[:16] if n > 3] if value is not None else []
            found.update(n * 2 if node.op_type == "Pad" else n for n in numbers)
    multiples = [strides, 2 * strides, 4 * strides] if strides > 1 else []
    return [n for n in dict.fromkeys([*multiples, *sorted(found)]) if n <= LONG[-1]][:24]


def candidates(specs: Sequence[InputSpec], loaded: Loaded) -> Iterator[Dims]:
    """Assignments worth trying: one size for all, then, for inputs without rank, scalars."""
    keys = dynamic(specs)
    if not keys:
        yield {"": 1, "*": 1}
        yield {"": 2, "*": 1}
        return
    for size in choices(specs, loaded):
        yield {"": 1, "*": size, **dict.fromkeys(keys, size)}
    for size in (8, 4, 16, 32):
        yield {"": size, "*": size, **dict.fromkeys(keys, size)}


def choices(specs: Sequence[InputSpec], loaded: Loaded) -> list[int]:
    """Sizes of one dimension, best first."""
    rank = max(len(spec.dims or []) for spec in specs)
    return list(dict.fromkeys([*CANDIDATES.get(rank, SHORT), *derived(loaded), *LONG]))


@dataclass(frozen=True)
class State:
    """One attempt: sizes, and which of each argument's alternatives. progress: how far it came."""

    sizes: Dims
    chosen: dict[str, int] = field(default_factory=dict)
    progress: int = -1


class Search:
    """Attempts on one session."""

    def __init__(self, specs: Sequence[InputSpec], session: FedSession, seed: int) -> None:
        self.specs, self.session, self.seed = specs, session, seed
        self.loaded = session.loaded
        nodes = all_nodes(self.loaded.proto.graph)
        self.order = {node.name: i for i, node in enumerate(nodes) if node.name}
        self.error: Exception | None = None
        self.attempts, self.deadline = 0, time.process_time() + SECONDS

    def alternatives(self, sizes: Dims) -> dict[str, list[Proposal]]:
        """What each argument may hold at these sizes."""
        if not any(spec.readers or spec.kind == "int" for spec in self.specs):
            return {}
        sizes = with_batch(self.specs, sizes)
        own = {spec.name: shape_of(spec, sizes) for spec in self.specs if not spec.sequence}
        wanted = [spec for spec in self.specs if spec.readers or spec.kind == "int"]
        shapes = inferred(self.loaded, own) if any(spec.readers for spec in wanted) else {}
        return {spec.name: alternatives(self.loaded, spec, own.get(spec.name, ()), shapes) for spec in wanted}

    def attempt(self, state: State, options: dict[str, list[Proposal]]) -> tuple[Probe, Feeds] | State:
        """Run one probe: what it answers, or how far it came. Raises: _SpentError."""
        sizes = state.sizes
        shapes = [shape_of(spec, with_batch(self.specs, sizes)) for spec in self.specs]
        if any(math.prod(shape) > MOST_ELEMENTS for shape in shapes):
            return replace(state, progress=-2)
        if self.attempts >= ATTEMPTS or (self.error is not None and time.process_time() > self.deadline):
            raise _SpentError
        self.attempts += 1
        for spec in self.specs:
            if spec.name in options:
                found = options[spec.name]
                accept(spec, found[state.chosen.get(spec.name, 0) % len(found)])
        probe = make(self.specs, sizes, self.seed, "normal", "N(0, 1)")
        try:
            return probe, self.session.run(probe.feeds)
        except Exception as exc:  # noqa: BLE001 - the runtime raises its own classes; the last one is told
            self.error = exc
        stopped = STOPPED_AT.findall(str(self.error))
        return replace(state, progress=max((self.order.get(name, -1) for name in stopped), default=-1))

    def neighbours(self, state: State, options: dict[str, list[Proposal]]) -> Iterator[State]:
        """States that differ in one argument, or in one dimension."""
        for name, found in options.items():
            for i in range(len(found)):
                if i != state.chosen.get(name, 0):
                    yield replace(state, chosen={**state.chosen, name: i})
        keys = dynamic(self.specs)
        for key in [*keys, ""]:
            values = choices(self.specs, self.loaded) if key else BATCHES
            for size in values:
                if size != state.sizes.get(key):
                    yield replace(state, sizes={**state.sizes, key: size})


def choose_sizes(specs: Sequence[InputSpec], session: FedSession, seed: int) -> tuple[Dims, Probe, Feeds]:
    """The first sizes that run, with the probe that ran and its outputs; arguments are set in `specs`.

    Raises: NoSizesError.
    """
    search = Search(specs, session, seed)
    best = State({})
    try:
        for sizes in candidates(specs, session.loaded):
            options = search.alternatives(sizes)
            result = search.attempt(State(sizes), options)
            if not isinstance(result, State):
                return sizes, *result
            best = max(best, result, key=lambda state: state.progress) if best.sizes else result
        while True:
            options = search.alternatives(best.sizes)
            for state in search.neighbours(best, options):
                moved = search.alternatives(state.sizes) if state.sizes != best.sizes else options
                result = search.attempt(state, moved)
                if not isinstance(result, State):
                    return state.sizes, *result
                if result.progress > best.progress:
                    best = result
                    break
            else:
                break
    except _SpentError:
        pass
    error = search.error
    raise NoSizesError(str(error).strip()[:400]) from error


def other_sizes(specs: Sequence[InputSpec], sizes: Dims) -> Iterator[Dims]:
    """Further sizes for the same dimensions; the caller keeps those that run.

    A shifted size differs from dimension to dimension, so that two that were equal no longer are.
    """
    keys = dynamic(specs)
    known = {key: sizes.get(key, sizes["*"]) for key in keys}
    for factor, shift in OTHER_SIZES if keys else ():
        changed = {
            key: max(1, round(size * factor) + (shift + 2 * i if shift else 0))
            for i, (key, size) in enumerate(known.items())
        }
        if changed != known:
            yield {**sizes, **changed, "*": max(1, round(sizes["*"] * factor) + shift)}
