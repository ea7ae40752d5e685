"""The form of an address."""

from __future__ import annotations

import pytest

from folding.errors import UsageError
from service.addresses.address import SCHEMES, Address, parse
from service.addresses.objects import path_inside

PIN = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/a/net.onnx", Address("s3", "bucket", "a/net.onnx")),
        (f"gs://bucket/net.onnx#{PIN}", Address("gs", "bucket", "net.onnx", "", PIN)),
        ("HTTPS://host:8443/net.onnx?sig=1", Address("https", "host:8443", "net.onnx", "sig=1")),
        ("hf://acme/tiny/net.onnx", Address("hf", "acme", "tiny/net.onnx")),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text", ["net.onnx", "/a/b", "a:b", "C:/models/net.onnx", "folder/s3:/x", "model.ckpt-1000"]
)
def test_paths_are_no_addresses(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    "text",
    ["ftp://host/x", "s3://bucket", "s3:///x", "https://host", "s3://b/../x", "s3://b/%2e%2e/x", "s3://b/x?v=1",
     "s3://b/x#sha256:12", "s3://b/x#part", "hf://acme/tiny", "http://[::1/x", "file:///etc/passwd"],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.error_code == "bad_address"


def test_names() -> None:
    address = parse("s3://bucket/folder/my%20net.onnx")
    assert address is not None
    assert address.name == "my net.onnx"
    assert not address.is_folder
    assert parse("https://user:secret@host/net.onnx").shown == "https://host/net.onnx"  # type: ignore[union-attr]
    assert set(SCHEMES) == {"https", "http", "s3", "gs", "az", "hf", "oci"}


@pytest.mark.parametrize("name", ["", "../x", "a/../../x", "a//b", "./x", "/etc/passwd"])
def test_names_of_objects_stay_in_the_folder(name: str, tmp_path: object) -> None:
    address = parse("s3://bucket/folder/")
    assert address is not None
    with pytest.raises(UsageError):
        path_inside(tmp_path, name, address)  # type: ignore[arg-type]
