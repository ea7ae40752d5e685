"""Mutants of real files: any field of their protobufs, any place of their JSON, any part of their HDF5.

The generators of `strategies` know what is dangerous; these know nothing and change whatever is there, in
files that TensorFlow and Keras really wrote. Everything is drawn from one seeded generator, so a number names
a mutant for ever.
"""

from __future__ import annotations

import copy
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.process.security import strategies
from tests.support.paths import ROOT

# Real TensorFlow 1 files; those of the repository's own example are always there.
FIXTURES = ROOT.parent / "shared" / "fixtures"
EXAMPLE = ROOT / "examples" / "tf1_checkpoint"

INTS = (0, 1, 2, 3, 7, -1, -2, 1 << 16, (1 << 31) - 1, -(1 << 31))
LONGS = (*INTS, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, -1.0, 1e38, -1e38, float("inf"), float("nan"), 1e-45)
TEXTS = ("", "x", "../../x", "/etc/passwd", "<script>", "\u202e", "n" * 5000, "a:0", "^a", "\ud800", "a\0b")
JSON = (None, True, 0, -1, 1 << 40, 1e400, "", "Lambda", "os.system", "../x", "\ud800", [], {}, [[[[1]]]])

# --- protobuf -----------------------------------------------------------------------------------------


def mutate_message(message: Any, chance: random.Random, changes: int) -> None:
    """Change `changes` fields somewhere in the tree of messages."""
    for _ in range(changes):
        place = chance.choice(list(_messages(message, 0)))
        fields = [field for field, _ in place.ListFields()]
        if chance.random() < 0.15:  # one that is not set
            fields = [field for field in place.DESCRIPTOR.fields if field.message_type is None] or fields
        if fields:
            _mutate_field(place, chance.choice(fields), chance)


def _messages(message: Any, depth: int) -> Iterator[Any]:
    yield message
    if depth > 12:
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if _is_map(field):
            held = list(value.values()) if field.message_type.fields_by_name["value"].message_type else []
        else:
            held = list(value) if _repeated(field) else [value]
        for each in held[:200]:
            yield from _messages(each, depth + 1)


def _repeated(field: Any) -> bool:
    return bool(field.is_repeated)


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _mutate_field(message: Any, field: Any, chance: random.Random) -> None:
    if _is_map(field):
        held = getattr(message, field.name)
        if held:
            del held[chance.choice(list(held))]
        return
    if _repeated(field):
        _mutate_list(getattr(message, field.name), field, chance)
    elif field.message_type is not None:
        if chance.random() < 0.5:
            message.ClearField(field.name)
    else:
        try:
            setattr(message, field.name, _value(field, getattr(message, field.name), chance))
        except (ValueError, TypeError):
            message.ClearField(field.name)


def _mutate_list(held: Any, field: Any, chance: random.Random) -> None:
    if not held:
        return
    index = chance.randrange(len(held))
    way = chance.choice(("drop", "double", "change"))
    if way == "drop":
        del held[index]
    elif field.message_type is not None:
        if way == "double":
            held.add().CopyFrom(held[index])
        else:
            held[index].CopyFrom(held[chance.randrange(len(held))])
    elif way == "double":
        held.append(held[index])
    else:
        try:
            held[index] = _value(field, held[index], chance)
        except (ValueError, TypeError):
            del held[index]


def _value(field: Any, old: Any, chance: random.Random) -> Any:
    if isinstance(old, bytes):
        return chance.choice(
            (b"", old[:-1], old[: len(old) // 2], old + b"\0", b"\xff" * len(old), b"SAME", b"\xff\xfe")
        )
    if isinstance(old, str):
        return chance.choice((*TEXTS, old + old, old[:-1]))
    if isinstance(old, bool):
        return not old
    if isinstance(old, float):
        return chance.choice(FLOATS)
    wide = field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64)
    return chance.choice(LONGS if wide else INTS)


# --- JSON and HDF5 ------------------------------------------------------------------------------------


def mutate_json(value: Any, chance: random.Random, changes: int) -> None:
    """Change `changes` places of a tree of dicts and lists."""
    for _ in range(changes):
        place = chance.choice(list(_containers(value)))
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            continue
        key = chance.choice(keys)
        if chance.random() < 0.15:
            del place[key]
        elif chance.random() < 0.3:
            place[key] = copy.deepcopy(chance.choice(list(_containers(value))))
        else:
            place[key] = copy.deepcopy(chance.choice(JSON))  # or a later change makes it hold itself


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        yield value
        for each in list(value.values() if isinstance(value, dict) else value):
            yield from _containers(each)


def mutate_h5(data: bytes, chance: random.Random) -> bytes:
    """Change a dataset's shape, type or name, an attribute, or the configuration in one."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        for _ in range(chance.randint(1, 3)):
            chance.choice((_h5_config, _h5_dataset, _h5_attribute))(file, chance)
    return buffer.getvalue()


def _h5_config(file: Any, chance: random.Random) -> None:
    text = file.attrs.get("model_config")
    if isinstance(text, str | bytes) and text.lstrip()[:1] in ("{", b"{"):
        config = json.loads(text)
        mutate_json(config, chance, chance.randint(1, 3))
        file.attrs["model_config"] = json.dumps(config)


def _h5_dataset(file: Any, chance: random.Random) -> None:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    if not names:
        return
    name = chance.choice(names)
    shape = file[name].shape
    del file[name]
    way = chance.choice(("gone", "shape", "type", "group", "text", "values"))
    if way == "shape":
        file[name] = np.zeros((*reversed(shape), 2), np.float32)
    elif way == "type":
        file[name] = np.zeros(shape, chance.choice(("i8", "f2", "f8", "c8", "?")))
    elif way == "group":
        file.create_group(name)
    elif way == "text":
        file[name] = "text"
    elif way == "values":
        file[name] = np.full(shape, chance.choice(FLOATS), np.float32)


def _h5_attribute(file: Any, chance: random.Random) -> None:
    groups: list[Any] = [file]
    file.visititems(lambda name, item: groups.append(item))
    held = [(group, key) for group in groups for key in group.attrs]
    if held:
        group, key = chance.choice(held)
        del group.attrs[key]
        if chance.random() < 0.7:
            group.attrs[key] = chance.choice(("", "x", 7, np.zeros(3), [b"a/../b", b"/etc/passwd"], "\u202e"))


# --- files --------------------------------------------------------------------------------------------


def _checkpoint(home: Path, chance: random.Random) -> Path:
    from tensorflow.core.protobuf import meta_graph_pb2

    folder = home / "ckpt"
    shutil.copytree(EXAMPLE, folder)
    (meta,) = folder.glob("*.meta")
    _protobuf(meta, meta_graph_pb2.MetaGraphDef(), chance)
    return folder


def _saved_model(home: Path, chance: random.Random) -> Path:
    from tensorflow.core.protobuf import saved_model_pb2

    folder = home / "saved_model"
    shutil.copytree(chance.choice(sorted(FIXTURES.glob("*/saved_model"))), folder)
    _protobuf(folder / "saved_model.pb", saved_model_pb2.SavedModel(), chance)
    return folder


def _frozen(home: Path, chance: random.Random) -> Path:
    from tensorflow.core.framework import graph_pb2

    path = home / "frozen.pb"
    shutil.copyfile(chance.choice(sorted(FIXTURES.glob("*/frozen.pb"))), path)
    return _protobuf(path, graph_pb2.GraphDef(), chance)


def _protobuf(path: Path, message: Any, chance: random.Random) -> Path:
    message.ParseFromString(path.read_bytes())
    mutate_message(message, chance, chance.randint(1, 4))
    path.write_bytes(message.SerializePartialToString())
    return path


def _onnx(home: Path, chance: random.Random) -> Path:
    message = strategies.sound_onnx()
    mutate_message(message, chance, chance.randint(1, 4))
    path = home / "model.onnx"
    path.write_bytes(message.SerializePartialToString())
    return path


def _keras(home: Path, chance: random.Random) -> Path:
    config = strategies.sound_config()
    mutate_json(config, chance, chance.randint(1, 3))
    path = home / "model.keras"
    path.write_bytes(strategies.keras_bytes(config))
    return path


def _h5(home: Path, chance: random.Random) -> Path:
    sources = sorted(FIXTURES.glob("*/model.h5"))
    path = home / "model.h5"
    path.write_bytes(mutate_h5(chance.choice(sources).read_bytes(), chance))
    return path


MAKERS: dict[str, Callable[[Path, random.Random], Path]] = {
    "onnx": _onnx, "keras": _keras, "checkpoint": _checkpoint, "saved_model": _saved_model, "frozen": _frozen,
    "h5": _h5,
}  # fmt: skip
NEED_FIXTURES = frozenset({"saved_model", "frozen", "h5"})


def write(kind: str, number: int, home: Path) -> Path:
    """Mutant `number` of `kind` below `home`."""
    home.mkdir(parents=True)
    return MAKERS[kind](home, random.Random(f"{kind}/{number}"))
