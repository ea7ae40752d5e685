"""Users' arrays: read when they are what they say, refused by name before anything is allocated."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from folding.errors import BnfoldError, UsageError
from folding.sources.gates.limits import LIMITS
from folding.sources.gates.npz import read_npz

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def npy(array: np.ndarray = X, **header: object) -> bytes:
    """A member's bytes; `header` says other things than the array."""
    file = io.BytesIO()
    if header:
        told = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **header}
        np.lib.format.write_array_header_1_0(file, told)
        file.write(array.tobytes())
    else:
        np.lib.format.write_array(file, array)
    return file.getvalue()


def packed(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@given(
    arrays.arrays(
        st.sampled_from(["f4", "f8", "f2", "i8", "u1", "?", "U3", "S2", ">f4"]),
        arrays.array_shapes(min_dims=0, min_side=0),
    ),
    st.booleans(),
    st.booleans(),
)
def test_what_numpy_wrote_is_read(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, compressed: bool, fortran: bool
) -> None:
    path = tmp_path_factory.mktemp("npz") / "data.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=np.array(array, order="F" if fortran else "C"))
    found = read_npz(path, "probe")["x"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


def flipped(data: bytes) -> bytes:
    """In the middle of the packed bytes of a compressed member."""
    middle = data.find(b"PK\x01\x02") // 2 + 20
    return data[:middle] + bytes(255 - byte for byte in data[middle : middle + 8]) + data[middle + 8 :]


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "declares a petabyte": (lambda: npy(shape=(1 << 25, 1 << 25)), "declares 4503599627370496 bytes"),
    "declares less": (lambda: npy(shape=(1,)), "declares 4 bytes and stores 24"),
    "negative": (lambda: npy(shape=(-2, -3)), "negative"),
    "many dimensions": (lambda: npy(shape=(1,) * 40 + (6,)), "41 dimensions"),
    "overflows": (lambda: npy(shape=(1 << 62, 4)), "declares"),
    "objects": (lambda: npy(np.array([{}, []], object)), "objects or records"),
    "records": (lambda: npy(np.zeros(2, [("a", "f4"), ("b", "i8")])), "objects or records"),
    "no literal": (lambda: npy().replace(b"'shape': (2, 3)", b"'shape': open('x'"), ""),
    "nested": (lambda: npy().replace(b"(2, 3)", b"(" * 40 + b")" * 3), ""),
    "future": (lambda: b"\x93NUMPY\x09\x00" + npy()[8:], "version"),
    "cut": (lambda: npy()[:-3], "declares 24 bytes and stores 21"),
    "pickle": (lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.", ""),
    "nothing": (lambda: b"", ""),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_that_lies_is_refused_by_name(tmp_path: Path, name: str, method: int) -> None:
    make, words = HOSTILE[name]
    path = packed(tmp_path / "data.npz", {"x.npy": make()}, method)
    with pytest.raises(UsageError, match=r"The probe data cannot be read as \.npz") as caught:
        read_npz(path, "probe")
    assert words in str(caught.value)
    assert caught.value.hint


def test_any_name_is_a_name(tmp_path: Path) -> None:
    """Inputs are called `/model/input:0`, and `x` beside `X`: nothing is written under these names."""
    names = ["/model/input:0", "x", "X", "..", "a/../b"]
    path = packed(tmp_path / "data.npz", {f"{name}.npy": npy() for name in names})
    assert list(read_npz(path, "probe")) == names


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([("x.txt", b"words")], "'x.txt' is no array"),
        ([("x.npy", npy()), ("x.npy", npy())], "two arrays are called 'x.npy'"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_no_array_is_refused(tmp_path: Path, data: list[tuple[str, bytes]], words: str) -> None:
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, held in data:
            archive.writestr(name, held)
    with pytest.raises(UsageError, match=words):
        read_npz(path, "calibration")


def test_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    path = packed(tmp_path / "data.npz", {"x.npy": npy(np.zeros(1 << 20))}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UsageError, match="inflates past 1000000 bytes"):
        read_npz(path, "probe", replace(LIMITS, npz_bytes=1_000_000))


@pytest.mark.parametrize(
    "damage", [flipped, lambda d: d[:-30], lambda d: d[:60], lambda d: d[60:], lambda d: b"rubbish"]
)
def test_damage_is_told(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = packed(tmp_path / "data.npz", {"x.npy": npy(np.arange(999.0))}, zipfile.ZIP_DEFLATED)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BnfoldError):
        read_npz(path, "probe")
