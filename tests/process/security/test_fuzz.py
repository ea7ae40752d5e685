"""Generated models: the gates end at once with a known code, and what passes them ends well."""

# Assertions on errors are made where the error is caught: either end is right, and each is judged.
# ruff: noqa: PT017

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from folding.errors import BnfoldError, InternalError, catalogue
from folding.sources.gates import archive, graphdef, keras_archive
from folding.sources.gates import onnx as onnx_gate
from tests.process.security import mutants, strategies
from tests.process.security.corpus import Case
from tests.process.security.harness import run_all

GATE_SECONDS = 2.0
HEALTH = {"missing_from_checkpoint", "non_finite", "negative_variance"}

# name -> (strategy, file name, gate)
FORMATS: dict[str, tuple[Callable[[], SearchStrategy[bytes]], str, Callable[[Path], None]]] = {
    "onnx": (strategies.onnx_models, "model.onnx", lambda p: onnx_gate.check_onnx(p, p.parent)),
    "tensorflow": (strategies.graph_defs, "model.pb", lambda p: graphdef.check_graphdef(p.read_bytes())),
    "keras": (strategies.keras_archives, "model.keras", keras_archive.check_keras_archive),
}


class Blob(bytes):
    """A file's bytes with a repr that fits into a report."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


def known(code: str | None) -> bool:
    # A framework may abort on some model: that ends one runner, by a documented code, and nothing else.
    return code == "ok" or str(code).removeprefix("crash:") in catalogue.ERRORS or code in HEALTH


def fuzz(kind: str, folder: Path, examples: int, runs: int, **more: Any) -> None:
    """`examples` through the gate, the first `runs` that pass it through the whole pipeline."""
    strategy, name, gate = FORMATS[kind]
    passed: dict[bytes, None] = {}
    probe = folder / name
    probe.write_bytes(strategies.SOUND[kind]())
    gate(probe)  # imports what it needs, and lets a sound model through

    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), **more
    )
    @given(strategy().map(Blob))
    def through_the_gate(data: bytes) -> None:
        probe.write_bytes(data)
        began = time.monotonic()
        try:
            gate(probe)
        except BnfoldError as error:
            assert not isinstance(error, InternalError)
            assert known(error.error_code), error.error_code
            assert error.hint, error.message
        except Exception as error:
            (folder / f"surprise-{name}").write_bytes(data)
            raise AssertionError(f"{type(error).__name__}: {error}") from error
        else:
            passed[data] = None
        assert time.monotonic() - began < GATE_SECONDS

    through_the_gate()
    assert passed, "the gate lets nothing through: the generator tests nothing"
    cases = []
    for index, data in enumerate(list(passed)[:runs]):
        home = folder / f"{index:05}"
        home.mkdir()
        (home / name).write_bytes(data)
        cases.append(Case(f"{kind}/{index:05}", home / name, frozenset()))
    _judge(cases, folder)


def _judge(cases: list[Case], folder: Path) -> None:
    scratch = folder / "scratch"
    scratch.mkdir()
    ends = run_all(cases, scratch, corpus=folder, seconds=30.0)
    wrong = {
        case.name: (ends.codes.get(case.name), ends.messages.get(case.name), str(case.path))
        for case in cases
        if not known(ends.codes.get(case.name)) or ends.classes.get(case.name) == "InternalError"
    }
    if wrong:
        pytest.fail("\n".join(f"{name}: {code}: {text}" for name, (code, text, _) in wrong.items()))


@pytest.mark.parametrize("kind", list(FORMATS))
def test_short(kind: str, tmp_path: Path) -> None:
    """The same examples in every run."""
    fuzz(kind, tmp_path, examples=100, runs=25, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", list(FORMATS))
def test_long(kind: str, tmp_path: Path) -> None:
    """Other examples in every run; BNFOLD_FUZZ_EXAMPLES says how many."""
    examples = int(os.environ.get("BNFOLD_FUZZ_EXAMPLES", "3000"))
    fuzz(kind, tmp_path, examples=examples, runs=examples // 3)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=strategies.tars())
def test_no_archive_leaves_its_folder(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("tar")
    source, into = home / "model.tar", home / "a" / "b"
    source.write_bytes(data)
    try:
        files = archive.extract(source, into)
    except BnfoldError as error:
        assert known(error.error_code)
    else:
        assert sorted(files) == list(files)
        assert all((into / name).is_file() and not (into / name).is_symlink() for name in files)
    outside = {p for p in home.rglob("*") if not p.is_relative_to(into)} - {source, home / "a"}
    assert outside == set()
    assert all(p.lstat().st_nlink == 1 for p in into.rglob("*") if p.is_file())


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", list(mutants.MAKERS))
def test_mutants_of_real_files(kind: str, tmp_path: Path) -> None:
    """Everything that TensorFlow and Keras wrote, with a few fields changed, through the whole pipeline.

    BNFOLD_FUZZ_EXAMPLES says how many, BNFOLD_FUZZ_FIRST from which number on.
    """
    if kind in mutants.NEED_FIXTURES and not mutants.FIXTURES.is_dir():
        pytest.skip(f"{mutants.FIXTURES} is not there")
    pytest.importorskip("tensorflow")
    first, count = (
        int(os.environ.get(f"BNFOLD_FUZZ_{name}", default))
        for name, default in (("FIRST", 0), ("EXAMPLES", 300))
    )
    numbers = range(first, first + count)
    cases = [
        Case(f"{kind}/{number:05}", mutants.write(kind, number, tmp_path / f"{number:05}"), frozenset())
        for number in numbers
    ]
    _judge(cases, tmp_path)
