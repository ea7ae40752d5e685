"""One model has one digest, whoever packed it and however."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from folding.sources.unpack import open_upload

FILES = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data": b"data",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for name, body in FILES.items():
        path = tmp_path / "exported" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return tmp_path / "exported"


def test_a_folder_and_every_archive_of_it_have_one_digest(model: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "flat.tar", "w") as archive:
        for name in reversed(FILES):
            archive.add(model / name, name)
    with tarfile.open(tmp_path / "top.tar.gz", "w:gz") as archive:
        archive.add(model, "a/b/exported")
    with zipfile.ZipFile(tmp_path / "top.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in FILES:
            packed.write(model / name, f"exported/{name}")
    digests = {
        open_upload(path, tmp_path / f"work-{index}").digest
        for index, path in enumerate([model, *(tmp_path / n for n in ("flat.tar", "top.tar.gz", "top.zip"))])
    }
    assert len(digests) == 1


def test_other_bytes_and_other_names_have_another_digest(model: Path, tmp_path: Path) -> None:
    first = open_upload(model, tmp_path).digest
    (model / "variables" / "variables.data").write_bytes(b"datA")
    second = open_upload(model, tmp_path).digest
    (model / "variables" / "variables.data").rename(model / "variables" / "variables.dat")
    assert len({first, second, open_upload(model, tmp_path).digest}) == 3
