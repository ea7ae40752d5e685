"""Every figure that a gate compares with, and why it is that figure.

A limit lies well above what any published model needs and well below what a small hostile file can
make a framework do. Raise one with `dataclasses.replace(LIMITS, ...)` where a deployment needs it; the
gates take the record as an argument and read nothing else.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any, NoReturn

from folding.errors import CorruptModel, UnsafeModel

MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Limits:
    """The figures. Sizes are bytes unless the name says otherwise."""

    # --- archives -------------------------------------------------------------------------------
    # A sharded checkpoint of a large model has some hundred files; 10,000 still lists in well under 1 s.
    archive_members: int = 10_000
    # Trained float weights barely compress; text (.pbtxt, config.json) compresses 20x but is small.
    archive_ratio: int = 4
    # ... therefore an archive may always inflate to this much: below it a bomb does no harm.
    archive_floor: int = 64 * MIB
    # The largest model that one machine of the usual size can convert.
    archive_bytes: int = 20 * GIB
    # POSIX NAME_MAX is 255; deeper or longer paths only occur in attacks on extractors.
    archive_name_bytes: int = 255
    archive_depth: int = 32
    # A zip directory entry is 46 bytes + name: 10,000 entries with long names stay below this.
    archive_directory_bytes: int = 8 * MIB
    # The .xz dictionary of `xz -9` is 64 MiB and needs 65 MiB to decode.
    archive_decoder_bytes: int = 128 * MIB

    # --- users' arrays --------------------------------------------------------------------------
    # Some thousand images of 299 x 299 for a calibration.
    npz_bytes: int = 8 * GIB

    # --- graphs (TensorFlow and ONNX) -----------------------------------------------------------
    # The largest TF1 training graphs (NASNet, with gradients) have some 100,000 nodes.
    nodes: int = 1_000_000
    # Keras nests one function per layer call: published SavedModels reach 8.
    function_depth: int = 32
    functions: int = 20_000
    # Nodes after inlining every call. EfficientNetV2-XL has about 15,000.
    expansion: int = 1_000_000
    # A tensor of 2^34 elements is 64 GiB in float32: no machine that converts it is of ordinary size.
    tensor_elements: int = 1 << 34
    # A constant that declares more elements than it stores (a splat) is inflated by the frameworks.
    # 2^26 elements are 256 MiB in float32; masks and position tables stay below 2^24.
    splat_elements: int = 1 << 26
    # An input whose fixed dimensions alone exceed this could never be probed (1 GiB in float32).
    input_elements: int = 1 << 28
    tensor_rank: int = 32
    # What one node can produce from constant operands alone (Fill, Range, Tile, Expand): as a splat.
    computed_elements: int = 1 << 26
    # What all nodes of an ONNX model make from constants, together: topologies without their weights hold a
    # ConstantOfShape for each. VGG19 has 2^27.1 weights; 2^28 elements are 1 GiB in float32.
    computed_total: int = 1 << 28
    # RNN loops run a few thousand steps; a constant trip count beyond this only burns time.
    loop_trips: int = 1_000_000
    # Product of the constant trip counts of loops inside loops.
    loop_total_trips: int = 10_000_000
    # Depth of If/Loop/Scan bodies inside one another.
    subgraph_depth: int = 16
    attribute_items: int = 1_000_000
    # Names end up in reports, tables and pages.
    name_bytes: int = 4096

    # --- Keras and HDF5 -------------------------------------------------------------------------
    # The configuration of NASNetLarge is 700 KiB.
    config_bytes: int = 64 * MIB
    # Nesting of JSON objects: wrapped layers in nested models reach about 25.
    config_depth: int = 100
    # Layers, counted over nested models.
    config_layers: int = 100_000
    # h5py allocates what a dataset declares: no more than the file can plausibly hold.
    hdf5_ratio: int = 200
    hdf5_bytes: int = 64 * GIB
    hdf5_objects: int = 200_000
    hdf5_depth: int = 64
    # HDF5 attributes live in memory while the file is open; Keras splits them at 64 KiB.
    hdf5_attribute_bytes: int = 64 * MIB


LIMITS = Limits()


def shown(name: object, width: int = 120) -> str:
    """A name as it may stand in a message: one line, no control or direction characters, bounded."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
    clean = "".join(
        c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else f"\\u{ord(c):04x}"
        for c in text[: 4 * width]
    )
    return clean if len(clean) <= width else clean[: width - 1] + "…"


def refuse(code: str, message: str, *, name: object = None, hint: str, **details: Any) -> NoReturn:
    """Raise `UnsafeModel`: `code` is stable, `name` the offender, `hint` the remedy."""
    offender = None if name is None else shown(name)
    if offender is not None:
        details = {"name": offender, **details}
    raise UnsafeModel(message, code=code, hint=hint, stage="read", layer=offender, details=details)


def corrupt(
    message: str,
    *,
    name: object = None,
    hint: str = "Export or upload the model again.",
    code: str | None = None,
) -> NoReturn:
    """Raise `CorruptModel` for bytes that contradict themselves."""
    offender = None if name is None else shown(name)
    details = {} if offender is None else {"name": offender}
    raise CorruptModel(message, code=code, hint=hint, stage="read", layer=offender, details=details)
