"""What `import folding` offers is the same at run time as for a type checker."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module, metadata
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, parser

import folding
import folding.verify.pipeline  # loads the package that has the name of the public function
from folding.errors import UnsafeModel
from folding.report import Verdict


def declared() -> dict[str, str]:
    """Name -> module, as the TYPE_CHECKING block of `folding/__init__.py` imports them."""
    tree = ast.parse(Path(inspect.getfile(folding)).read_text())
    blocks = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return {
        alias.name: node.module or ""
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("name", folding.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(folding, name) is not None


@pytest.mark.parametrize("name", sorted(declared()))
def test_run_time_gives_what_the_type_checker_reads(name: str) -> None:
    found, meant = getattr(folding, name), getattr(import_module(declared()[name]), name)
    assert found is meant or inspect.signature(found) == inspect.signature(meant)


def test_entries_are_declared_for_the_type_checker() -> None:
    assert set(folding.__all__) - {"__version__"} == set(declared())


def test_version_is_the_installed_one() -> None:
    assert folding.__version__ == metadata.version("bnfold")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'fold_everything'"):
        folding.fold_everything  # noqa: B018


def save(path: Path) -> Path:
    text = '<ir_version: 9, opset_import: ["" : 18]>\ng (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }'
    onnx.save(parser.parse_model(text), str(path))
    return path


def test_verify_takes_its_documented_keywords(tmp_path: Path) -> None:
    path, heard = save(tmp_path / "a.onnx"), []
    listener = lambda *event: heard.append(event)  # noqa: E731
    assert folding.verify(path, path, listener=listener).verdict is Verdict.PASS
    assert heard
    assert folding.verify(path, path, certificate=True).verdict is not Verdict.FAIL


def test_verify_checks_the_second_file_before_a_runtime_loads_it(tmp_path: Path) -> None:
    model = onnx.load(save(tmp_path / "a.onnx"))
    tensor = TensorProto(name="w", dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    model.graph.initializer.append(tensor)
    model.graph.node.append(helper.make_node("Identity", ["w"], ["unused"]))
    (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnsafeModel):
        folding.verify(tmp_path / "a.onnx", tmp_path / "b.onnx")
