"""Zip and tar archives, and folders: safe names, bounded bytes, regular files only."""

from folding.sources.gates.archive.budget import READ_ERRORS
from folding.sources.gates.archive.extract import extract, is_archive
from folding.sources.gates.archive.member_names import list_folder
from folding.sources.gates.archive.zip_members import check_zip_directory

__all__ = ["READ_ERRORS", "check_zip_directory", "extract", "is_archive", "list_folder"]
