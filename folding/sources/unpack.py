"""From what the user gave to an `Upload`: a listing of regular files, whatever the packing."""

from __future__ import annotations

import hashlib
from pathlib import Path

from folding.errors import CorruptModel, UnknownFormat
from folding.sources.base import Upload
from folding.sources.gates import archive
from folding.sources.gates.tfjs import looks_like_model_json, shard_names

_CHUNK = 1 << 20


def open_upload(src: Path, workdir: Path) -> Upload:
    """List a folder, unpack an archive, or take a single file (with its siblings of one checkpoint).

    Raises: UnknownFormat for nothing or an empty file; UnsafeModel and CorruptModel from the extractor.
    """
    if not src.exists():
        siblings = _siblings(src)
        if not siblings:
            raise UnknownFormat(f"There is no file {src.name!r}.", hint="Check the path.")
        return Upload(src, src.parent, siblings, digest_of(src.parent, siblings))
    if src.is_dir():
        files = archive.list_folder(src)
        if not files:
            raise UnknownFormat(f"The folder {src.name!r} is empty.")
        return Upload(src, src, files, digest_of(src, files))
    if src.stat().st_size == 0:
        raise UnknownFormat(f"The file {src.name!r} is empty.", code="empty_file", hint="Upload it again.")
    # A model.json that a hub serves as gzip is one file, not an archive of files.
    if archive.is_archive(src) and not is_keras(src) and not looks_like_model_json(src):
        into = workdir / "unpacked"
        files = archive.extract(src, into)
        if not files:
            raise CorruptModel(f"The archive {src.name!r} has no files.", code="empty_archive")
        return Upload(src, into, files, digest_of(into, files))
    siblings = _siblings(src)
    return Upload(src, src.parent, siblings or (src.name,), file_digest(src))


def is_keras(path: Path) -> bool:
    """A `.keras` file: a zip with `config.json` and `metadata.json` at its top.

    Raises: UnsafeModel for a zip whose directory is too large to be read.
    """
    import zipfile

    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # an end record may as well stand in somebody's weights
            return False
    if not zipfile.is_zipfile(path):
        return False
    archive.check_zip_directory(path)
    try:
        with zipfile.ZipFile(path) as held:
            names = set(held.namelist())
    except (OSError, *archive.READ_ERRORS):
        return False
    return {"config.json", "metadata.json"} <= names


def _siblings(src: Path) -> tuple[str, ...]:
    """Files of one checkpoint (its prefix, `.meta` or `.index`), or a model.json and its shards."""
    if src.is_file() and looks_like_model_json(src):
        names = [name for name in shard_names(src) if (src.parent / name).is_file()]
        plain = [name for name in names if not (src.parent / name).is_symlink()]
        return tuple(sorted({src.name, *plain}))
    prefix = src.name
    for suffix in (".meta", ".index"):
        prefix = prefix.removesuffix(suffix)
    if not src.parent.is_dir() or (src.is_file() and prefix == src.name):
        return ()
    found = [
        path.name for path in src.parent.iterdir()
        if path.is_file() and not path.is_symlink()
        and (path.name in (f"{prefix}.meta", f"{prefix}.index") or path.name.startswith(f"{prefix}.data-"))
    ]  # fmt: skip
    return tuple(sorted(found))


def file_digest(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def digest_of(root: Path, files: tuple[str, ...]) -> str:
    """`sha256:<hex>` of the sorted listing `<digest>  <name>` of the members.

    Names are relative to the innermost folder that holds all of them: a folder, an archive of it and an
    archive of its files are one model, whoever packed it and however.
    """
    top = 0
    parts = [name.split("/") for name in files]
    while parts and all(len(each) > top + 1 and each[top] == parts[0][top] for each in parts):
        top += 1
    listing = hashlib.sha256()
    for name, each in sorted(zip(files, parts, strict=True)):
        listing.update(f"{file_digest(root / name)}  {'/'.join(each[top:])}\n".encode())
    return f"sha256:{listing.hexdigest()}"
