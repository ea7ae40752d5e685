"""From what people type to what the library takes: shapes, feeds, data files, options."""

from __future__ import annotations

import ast
import glob
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folding.errors import UsageError

if TYPE_CHECKING:
    from folding.ir.types import Feeds
    from folding.options import FoldOptions
    from service.addresses.address import Address

Dims = list[int | str | None]


def shape(text: str) -> tuple[str, Dims]:
    """`NAME=1,224,224,3`; `?` is an unknown dimension, a word a symbolic one, `NAME` alone keeps the shape.

    >>> shape("images:0=?,224,224,3")
    ('images:0', [None, 224, 224, 3])
    >>> shape("x")
    ('x', [])
    """
    name, equals, dims = text.rpartition("=")
    if not equals:
        return text, []
    if not name:
        raise UsageError(f"--input {text!r} has no name", hint="write --input NAME=1,224,224,3")
    inner = (
        dims.strip().strip("[]()").replace("x", ",") if _only_numbers(dims) else dims.strip().strip("[]()")
    )
    return name, [_dim(part, text) for part in inner.split(",") if part.strip()]


def _only_numbers(dims: str) -> bool:
    return all(c in "0123456789x?,- []()" for c in dims)


def _dim(part: str, text: str) -> int | str | None:
    part = part.strip()
    if part in ("?", "-1", "None", "null"):
        return None
    if part.isdecimal():
        return int(part)
    if part.isidentifier():
        return part
    raise UsageError(
        f"--input {text!r}: {part!r} is no dimension",
        hint="a dimension is a number, ? for an unknown one, or a name",
    )


def rename(text: str) -> tuple[str, str]:
    """`OLD=NEW`; names of tensors may hold colons and slashes, and no equals sign.

    >>> rename("serving_default_x:0=image")
    ('serving_default_x:0', 'image')
    """
    old, equals, new = text.rpartition("=")
    if not equals or not old or not new:
        raise UsageError(f"{text!r} is not OLD=NEW", hint="for example --rename-input serving_default_x:0=x")
    return old, new


def feed(text: str) -> tuple[str, Any]:
    """`NAME=VALUE`, where VALUE is JSON or a Python literal; anything else is taken as a string.

    >>> feed("is_training=False"), feed("keep_prob=1.0"), feed("mode=eval")
    (('is_training', False), ('keep_prob', 1.0), ('mode', 'eval'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--feed {text!r} is not NAME=VALUE", hint="for example --feed is_training=false")
    return name, literal(value)


def numbers(text: str) -> tuple[str, list[float]]:
    """`NAME=1,2.5`: a number, or one for each channel.

    >>> numbers("x=123.7,116.3"), numbers("x=255")
    (('x', [123.7, 116.3]), ('x', [255.0]))
    """
    name, equals, value = text.rpartition("=")
    try:
        found = [float(part) for part in value.strip("[]() ").split(",")]
    except ValueError:
        found = []
    if not equals or not name or not found:
        raise UsageError(f"{text!r} is not NAME=NUMBERS", hint="for example --input-mean x=123.7,116.3,103.5")
    return name, found


def literal(value: str) -> Any:
    """JSON, else a Python literal, else the text itself."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value)
        except (ValueError, SyntaxError):
            continue
        if isinstance(found, bool | int | float | str | list):
            return found
    return value


def arrays(path: Path | None, option: str) -> Feeds | None:
    """The arrays of an .npz by input name; never unpickles.

    Raises: UsageError when the file is not an .npz or holds no arrays.
    """
    npz(path, option)
    if path is None:
        return None
    from folding.sources.gates.npz import read_npz

    return read_npz(path, f"{option} {path}")


def npz(path: Path | None, option: str) -> None:
    """What can be said of an .npz without reading the arrays in it; the sandbox does that.

    Raises: UsageError for a file that is none, or has nothing in it.
    """
    if path is None:
        return
    import zipfile

    from folding.sources.gates.archive.budget import READ_ERRORS
    from folding.sources.gates.archive.zip_members import check_zip_directory

    try:
        with path.open("rb") as file:
            bare = file.read(6) == b"\x93NUMPY"
        if bare:
            raise UsageError(f"{option} {path}: one bare array without a name", hint=_npz_hint(option))
        if zipfile.is_zipfile(path):
            check_zip_directory(path)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, *READ_ERRORS) as error:
        raise UsageError(
            f"{option} {path}: not an .npz of plain arrays ({error})", hint=_npz_hint(option)
        ) from None
    if not names:
        raise UsageError(f"{option} {path}: no arrays in it", hint=_npz_hint(option))


def _npz_hint(option: str) -> str:
    return f"write it with numpy.savez('data.npz', **{{'input name': array}}) and pass {option} data.npz"


def options(**given: Any) -> FoldOptions:
    """FoldOptions from the values that were given; None means not given.

    Raises: UsageError naming the first value that does not fit.
    """
    from pydantic import ValidationError

    from folding.options import FoldOptions

    try:
        return FoldOptions(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        flag = "--" + (where or "options").replace("_", "-").split(".")[0]
        words = f"option {where}: {first['msg']}"
        raise UsageError(
            words, hint=f"`bnfold fold --help` tells what {flag} takes", details={"option": where}
        ) from None


def existing(path: Path, what: str = "file") -> Path:
    """The path itself. Raises: UsageError that names similar neighbours when there is no such file."""
    if path.exists():
        return path
    import difflib

    names = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
    near = [str(path.parent / name) for name in difflib.get_close_matches(path.name, names, n=3)]
    hint = f"did you mean {', '.join(near)}?" if near else "check the path"
    raise UsageError(f"no such {what}: {path}", hint=hint)


_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")


@contextmanager
def model(place: Path | Address) -> Iterator[Path]:
    """The model to read: the path itself, or a folder with all files that it stands for.

    What lies at an address is fetched, and removed afterwards. TensorFlow users name a checkpoint by its
    prefix (`model.ckpt-1000`) or by one of its files, those of TensorFlow.js a model by its model.json.
    """
    if not isinstance(place, Path):
        from service.addresses.transfer import fetched

        with fetched(place) as path:
            yield path
        return
    path = place
    if (shards := _shards(path)) is not None:
        with tempfile.TemporaryDirectory(prefix="bnfold-tfjs-") as scratch:
            folder = Path(scratch) / (path.resolve().parent.name or "tfjs")
            for name in (path.name, *shards):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path.parent / name, folder / name)
            yield folder
        return
    if path.name in _SAVED_MODEL and (path.parent / "variables").is_dir():
        yield path.parent  # the weights lie in folders beside the file, which a hook is given alone
        return
    prefix = _checkpoint_prefix(path)
    if prefix is None:
        yield existing(path, "model")
        return
    with tempfile.TemporaryDirectory(prefix="bnfold-ckpt-") as scratch:
        parent, name = prefix
        folder = Path(scratch) / (name or parent.resolve().name or "checkpoint")  # a service shows this name
        folder.mkdir()
        for part in sorted(parent.glob(f"{glob.escape(name)}.*")):
            if _CHECKPOINT_PART.search(part.name) and part.is_file():
                shutil.copy(part, folder)
        yield folder


def _shards(path: Path) -> list[str] | None:
    """The shards beside a model.json of TensorFlow.js; None for every other path."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return None  # the command itself loads no library that reads models, for any other file
    from folding.sources.gates.tfjs import looks_like_model_json, shard_names

    if not looks_like_model_json(path):
        return None
    return [name for name in shard_names(path) if (path.parent / name).is_file()]


_CHECKPOINT_PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


def _checkpoint_prefix(path: Path) -> tuple[Path, str] | None:
    """Folder and name of `dir/model.ckpt`, for that prefix and any of its files; None for everything else.

    The name is empty for `dir/.index`, which `Saver.save(session, "dir/")` writes.
    """
    if path.is_dir():
        return None
    name = _CHECKPOINT_PART.sub("", path.name)
    if name == path.name and path.exists():
        return None  # a file of its own: V1 checkpoint, frozen graph, anything else
    siblings = [path.parent / (name + suffix) for suffix in (".index", ".meta")]
    return (path.parent, name) if any(sibling.is_file() for sibling in siblings) else None
