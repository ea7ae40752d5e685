"""Artifacts in OCI registries: `oci://host/repository:tag`, or `@sha256:…` of a manifest in the tag's place.

The manifest has one layer for the ONNX file and one for each of its companions: report, provenance statement.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx

from folding.errors import TemporaryFailure, UsageError
from service.addresses.address import Address, missing_package

MODEL = "application/vnd.onnx.model"
KINDS = {
    ".onnx": MODEL,
    ".report.json": "application/vnd.bnfold.report+json",
    ".attestation.json": "application/vnd.dsse.envelope.v1+json",
}
_TITLE = "org.opencontainers.image.title"
_MOST_LAYERS = 100


class Oci:
    """Through oras (extra `oci`); the login is that of docker and podman."""

    def fetch(self, address: Address, folder: Path) -> Path:
        """Download the one ONNX file of a manifest; its bytes must have the digest of its layer."""
        client = _client(address)
        try:
            container = client.get_container(_target(address))
            client.auth.load_configs(container)
            layer = _model_layer(client.get_manifest(container), address)
            target = folder / "model.onnx"
            client.download_blob(container, layer["digest"], str(target))
        except UsageError:
            raise
        except Exception as error:
            raise _ours(error, address) from error
        found = f"sha256:{hashlib.sha256(target.read_bytes()).hexdigest()}"
        if found != layer["digest"]:
            raise UsageError(
                f"{address.shown} delivers bytes of the digest {found}; its manifest says {layer['digest']}.",
                code="digest_mismatch", hint="The registry, or somebody between, changed the file.",
            )  # fmt: skip
        return target

    def send(self, file: Path, address: Address, companions: Sequence[Path] = ()) -> None:
        """Push the file and its companions under one manifest."""
        client = _client(address)
        try:
            answer = client.push(
                _target(address), files=[f"{path}:{_kind(path)}" for path in (file, *companions)],
                disable_path_validation=True, quiet=True, manifest_annotations=_annotations(file),
            )  # fmt: skip
            answer.raise_for_status()
        except Exception as error:
            raise _ours(error, address) from error


def companions_of(report: Any, file: Path) -> list[Path]:
    """Write the report, and a signed provenance statement where it is proved, beside the artifact."""
    from service import provenance

    written = [file.with_name(f"{file.name}.report.json")]
    written[0].write_text(report.to_json() + "\n", encoding="utf-8")
    if report.verdict == "pass":
        envelope = provenance.sign(provenance.statement(report), provenance.local_key())
        written.append(file.with_name(f"{file.name}.attestation.json"))
        written[1].write_text(provenance.to_json(envelope), encoding="utf-8")
    return written


def _client(address: Address) -> Any:
    try:
        from oras.provider import Registry
    except ImportError:
        raise missing_package("oci", "oras", extra="oci") from None
    scheme = "http" if _is_local(address.host) else "https"
    try:  # oras tries five times, for a minute, where nobody answers
        httpx.get(f"{scheme}://{address.host}/v2/", timeout=10.0)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise TemporaryFailure(
            f"{address.shown} cannot be reached: {error or type(error).__name__}.",
            code="address_unreachable", hint="Check the registry's name and your network, and try again.",
        ) from error  # fmt: skip
    return Registry(insecure=scheme == "http")


def _is_local(host: str) -> bool:
    """Return whether a registry is on this machine: those speak http, as docker assumes too."""
    name = host.rpartition(":")[0] or host
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _target(address: Address) -> str:
    path = unquote(address.path)
    if ":" not in path.rpartition("/")[2]:
        raise UsageError(
            f"{address.shown} has neither tag nor digest.", code="bad_address",
            hint="Write oci://host/repository:tag or oci://host/repository@sha256:...",
        )  # fmt: skip
    return f"{address.host}/{path}"


def _kind(path: Path) -> str:
    return next((kind for end, kind in KINDS.items() if path.name.endswith(end)), "application/octet-stream")


def _annotations(file: Path) -> dict[str, str]:
    return {_TITLE: file.name, "org.opencontainers.image.vendor": "bnfold"}


def _model_layer(manifest: dict[str, Any], address: Address) -> dict[str, Any]:
    """Return the layer of the ONNX file. Raises: UsageError when there is none, or several."""
    layers = manifest.get("layers") or []
    found = [
        layer for layer in layers[:_MOST_LAYERS]
        if layer.get("mediaType") == MODEL
        or str((layer.get("annotations") or {}).get(_TITLE, "")).endswith(".onnx")
    ]  # fmt: skip
    if len(found) != 1:
        raise UsageError(
            f"{address.shown} holds {len(found)} ONNX files in {len(layers)} layers, and one is expected.",
            code="address_unreadable", hint="Push the model as a layer of its own.",
        )  # fmt: skip
    return dict(found[0])


def _ours(error: Exception, address: Address) -> Exception:
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, OSError) and ("ConnectionError" in names or "Timeout" in names):
        return TemporaryFailure(f"{address.shown}: {said}", code="address_unreachable")
    if status in (429, 500, 502, 503, 504):
        return TemporaryFailure(f"{address.shown} answers {status}.", code="address_unreachable")
    return UsageError(
        f"{address.shown}: {said}", code="address_unreadable",
        hint="Check repository and tag; `docker login` or `podman login` gives credentials.",
    )  # fmt: skip
