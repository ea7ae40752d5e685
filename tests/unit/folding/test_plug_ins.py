"""Entry points of other packages: order, and errors that name them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from folding import plug_ins, sources
from folding.errors import UnknownFormat, UsageError
from folding.verify import providers
from folding.verify.providers.cpu import Cpu


class OwnProvider(Cpu):
    """A provider of a package."""

    name = "own"


OWN_FORMAT = SimpleNamespace(name="own", sniff=lambda upload: True, load=None, inspect=None)
NO_FORMAT = object()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    points: list[EntryPoint] = []

    def entry_points(*, group: str) -> EntryPoints:
        return EntryPoints(points).select(group=group)

    monkeypatch.setattr(plug_ins, "entry_points", entry_points)
    for cached in (plug_ins.found, plug_ins.load):
        cached.cache_clear()
    yield points
    for cached in (plug_ins.found, plug_ins.load):
        cached.cache_clear()


def point(group: str, name: str, attribute: str) -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{attribute}", group)


def test_a_format_is_asked_after_our_own(installed: list[EntryPoint], tmp_path: Path) -> None:
    installed += [point(plug_ins.SOURCES, "zebra", "NO_FORMAT"), point(plug_ins.SOURCES, "own", "OWN_FORMAT")]
    assert next(iter(sources.formats(single=True))).name == "onnx"
    (tmp_path / "file").write_bytes(b"of no built-in format")
    (tmp_path / "work").mkdir()
    _, kind = sources.recognise(tmp_path / "file", tmp_path / "work")
    assert kind is OWN_FORMAT, "in the order of names: `zebra` was not loaded"


def test_a_provider_is_found_by_name_and_cannot_replace_ours(installed: list[EntryPoint]) -> None:
    installed += [
        point(plug_ins.PROVIDERS, "own", "OwnProvider"),
        point(plug_ins.PROVIDERS, "cpu", "OwnProvider"),
    ]
    assert isinstance(providers.find("own"), OwnProvider)
    assert type(providers.find("cpu")) is Cpu
    providers.require_known(["own", "cpu"])


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("tests.no_such_module:FORMAT", "ModuleNotFoundError"),
        (f"{__name__}:NO_FORMAT", "lacks name, sniff, load"),
    ],
)
def test_a_broken_plug_in_is_named(
    installed: list[EntryPoint], tmp_path: Path, target: str, says: str
) -> None:
    installed.append(EntryPoint("broken", target, plug_ins.SOURCES))
    (tmp_path / "file").write_bytes(b"of no built-in format")
    (tmp_path / "work").mkdir()
    with pytest.raises(UsageError, match=says) as caught:
        sources.recognise(tmp_path / "file", tmp_path / "work")
    assert caught.value.error_code == "plug_in_failed"
    assert "'broken'" in caught.value.message


def test_without_plug_ins_nothing_changes(installed: list[EntryPoint], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"of no built-in format")
    (tmp_path / "work").mkdir()
    with pytest.raises(UnknownFormat) as caught:
        sources.recognise(tmp_path / "file", tmp_path / "work")
    assert "plug-in" not in str(caught.value.hint)
    with pytest.raises(UsageError, match="no execution provider"):
        providers.require_known(["own"])


def test_found_imports_nothing(installed: list[EntryPoint]) -> None:
    installed.append(EntryPoint("broken", "tests.no_such_module:FORMAT", plug_ins.SOURCES))
    names: Any = plug_ins.found(plug_ins.SOURCES)
    assert list(names) == ["broken"]
