"""SymPy is imported when a symbolic dimension is computed with; `bare` tells when the workaround can go."""

from __future__ import annotations

import subprocess
import sys

import pytest


def in_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_folding_imports_onnx_ir_without_sympy() -> None:
    code = "import sys, folding, folding.pipeline; print('onnx_ir' in sys.modules, 'sympy' in sys.modules)"
    assert in_fresh_process(code) == "True False"


def test_symbolic_arithmetic_still_works() -> None:
    code = (
        "import sys, folding, folding.pipeline, onnx_ir as ir\n"
        "n = ir.SymbolicDim('N')\n"
        "print((n * 2 + n).value, (ir.SymbolicDim('max(N, 3)') // 2).evaluate({'N': 9}),\n"
        "      ir.SymbolicDim(__import__('sympy').Symbol('M')).value, 'sympy' in sys.modules)\n"
        "import sympy; print(sympy.Max(2, 3), sympy.__name__, onnx := ir._core.sympy.Expr is sympy.Expr)"
    )
    assert in_fresh_process(code).splitlines() == ["3*N 4 M True", "3 sympy True"]


@pytest.mark.parametrize("first", ["sympy", "onnx_ir"])
def test_what_was_imported_before_stays_as_it_is(first: str) -> None:
    code = f"import {first}, folding.pipeline, sympy, onnx_ir; print(onnx_ir._core.sympy is sympy)"
    assert in_fresh_process(code) == "True"


def test_onnx_ir_alone_still_imports_sympy() -> None:
    """Fails when onnx_ir defers the import by itself: `folding.deferred_sympy` can be removed then."""
    assert in_fresh_process("import sys, onnx_ir; print('sympy' in sys.modules)") == "True"
