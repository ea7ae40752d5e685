"""Files of model hubs that speak the interface of huggingface.co: `hf://organization/model[@revision]/file`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from folding.errors import TemporaryFailure, UsageError
from service.addresses.address import Address, missing_package


class Hub:
    """Through huggingface_hub (extra `hub`): its login, its endpoint (HF_ENDPOINT), its cache."""

    def fetch(self, address: Address, folder: Path) -> Path:
        """Copy the file into `folder`; a path that ends in a slash is a folder of the repository."""
        library, (repository, revision, name) = _library(), _split(address)
        try:
            if address.is_folder:
                pattern = [f"{name.rstrip('/')}/*"]
                library.snapshot_download(
                    repository, revision=revision, allow_patterns=pattern, local_dir=folder
                )
            else:
                library.hf_hub_download(repository, name, revision=revision, local_dir=folder)
        except Exception as error:
            raise _ours(error, address) from error
        path = folder / name.rstrip("/")
        if not path.exists():
            raise UsageError(f"There is nothing at {address.shown}.", code="address_unreadable")
        return path

    def send(self, file: Path, address: Address) -> None:
        """Commit the file to the repository."""
        library, (repository, revision, name) = _library(), _split(address)
        try:
            library.upload_file(
                path_or_fileobj=file, path_in_repo=name, repo_id=repository, revision=revision,
                commit_message=f"Add {name}",
            )  # fmt: skip
        except Exception as error:
            raise _ours(error, address) from error


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise missing_package("hf", "huggingface_hub", extra="hub") from None
    return huggingface_hub


def _split(address: Address) -> tuple[str, str | None, str]:
    """Return repository, revision and path in it."""
    model, _, name = unquote(address.path).partition("/")
    model, _, revision = model.partition("@")
    if not model or not name.strip("/"):
        raise UsageError(f"{address.shown} names no file.", code="bad_address",
                         hint="Write hf://organization/model/file.")  # fmt: skip
    return f"{address.host}/{model}", revision or None, name


def _ours(error: Exception, address: Address) -> Exception:
    """Return the error that a failure of the hub amounts to."""
    names = {kind.__name__ for kind in type(error).__mro__}
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    refused = {"RepositoryNotFoundError", "EntryNotFoundError", "RevisionNotFoundError", "GatedRepoError",
               "HFValidationError", "RemoteEntryNotFoundError"}  # fmt: skip
    status = getattr(getattr(error, "response", None), "status_code", None)
    if names & refused or status in (401, 403, 404):
        return UsageError(
            f"{address.shown}: {said}", code="address_unreadable",
            hint="Check organization, model and file; a private model needs HF_TOKEN.",
        )  # fmt: skip
    return TemporaryFailure(f"{address.shown}: {said}", code="address_unreachable")
