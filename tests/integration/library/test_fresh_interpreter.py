"""What a fresh interpreter loads for an import, and that the order of imports changes nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest


def printed(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module",
    ["folding", "folding.pipeline", "folding.report", "folding.options", "folding.rules", "folding.norms"],
)
def test_importing_the_library_is_light(module: str) -> None:
    heavy = {"tensorflow", "tf2onnx", "tf_keras", "keras", "onnxruntime", "fastapi", "service", "sqlalchemy"}
    code = f"import sys, {module}; print(','.join(sorted({heavy!r} & set(sys.modules))))"
    assert printed(code) == ""


@pytest.mark.parametrize(
    "first",
    [
        "import folding.verify",
        "import folding.verify.pipeline",
        "from folding.verify import pipeline",
        "import folding",
    ],
)
def test_verify_is_the_function_whatever_is_imported_first(first: str) -> None:
    code = f"{first}\nimport folding, folding.pipeline, folding.verify.verdict\nfrom folding import verify\n"
    assert printed(code + "print(verify is folding.verify is folding.pipeline.verify)") == "True"
