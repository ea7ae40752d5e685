"""The choice of a blob store by its URL."""

from __future__ import annotations

from service.settings import Settings
from service.store.blobs import Blobs
from service.store.blobs_folder import FolderBlobs


def open_blobs(settings: Settings) -> Blobs:
    """Return the store that the settings name."""
    if settings.blob_url.startswith("s3://"):
        from service.store.blobs_s3 import S3Blobs  # needs boto3, which is optional

        return S3Blobs(settings)
    return FolderBlobs(settings.data_dir.absolute() / "blobs")
