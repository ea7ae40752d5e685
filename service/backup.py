"""Backup and restore of the embedded stores, while the service runs.

Order matters: the database first, then the bytes. Whatever the copied database names was stored before
it was named, and blobs never change, so the copy is consistent. PostgreSQL: `pg_dump` first, then the blobs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path

from service.errors import Unprocessable
from service.files.private_files import private_file, private_folder
from service.wiring import Services

_SECRETS = ("pepper", "provenance.key", "provenance.pub")


def backup(services: Services, target: Path) -> Path:
    """Copy database, blobs and keys into a new folder."""
    if not services.db.sqlite:
        raise Unprocessable(
            "This backs up the embedded stores.", hint="PostgreSQL: pg_dump, then copy the blobs."
        )
    target.mkdir(parents=True, mode=0o700)
    private_file(target / "bnfold.db")
    source = sqlite3.connect(str(services.db.url.database))
    copy = sqlite3.connect(target / "bnfold.db")
    with source, copy:
        source.backup(copy)
    source.close()
    copy.close()
    folder = services.settings.data_dir.absolute()
    for name in _SECRETS:
        if (folder / name).exists():
            shutil.copy2(folder / name, target / name)
    for stat in services.blobs.walk():
        path = services.blobs.path(stat.digest)
        if path is not None:
            _copy(path, target / "blobs" / path.relative_to(folder / "blobs"))
    os.sync()  # a backup that a power cut could take is none
    return target


def restore(source: Path, data_dir: Path) -> None:
    """Make a data folder from a backup. Raises FileExistsError rather than touch an existing one."""
    if (data_dir / "bnfold.db").exists():
        raise FileExistsError(f"{data_dir} holds a database already")
    private_folder(data_dir)
    shutil.copytree(source, data_dir, dirs_exist_ok=True, copy_function=shutil.copy2)
    os.sync()


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):  # collected in the meantime: nothing needs it
        shutil.copy2(path, target)


def main(argv: list[str] | None = None) -> int:
    """`python -m service.backup save|restore FOLDER`, with the settings of the service; exit code."""
    from service.settings import Settings
    from service.wiring import build

    parser = argparse.ArgumentParser(prog="python -m service.backup", description=main.__doc__)
    parser.add_argument("act", choices=("save", "restore"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(argv)
    settings = Settings()
    if given.act == "restore":
        restore(given.folder, settings.data_dir)
        return 0
    services = build(settings)
    try:
        backup(services, given.folder)
    finally:
        services.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
