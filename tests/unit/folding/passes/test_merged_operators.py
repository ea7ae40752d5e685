"""Several nodes that are one operator: pairs, sums of constants, layer norm and GELU written out."""

# ruff: noqa: E501 - a table of graphs is read along its rows

from __future__ import annotations

import pytest

from folding.passes import fuse_decomposed, fuse_pairs, sums
from folding.passes.base import peepholes
from tests.unit.folding.passes.graphs import model
from tests.unit.folding.passes.test_peepholes import X2, X4, check, floats, ints, number

X3 = "main (float[N,5,8] x) => (float[N,5,?] y)"

PAIRS = {
    "rounded twice": (X2 + "{ a = Ceil(x) y = Ceil(a) }", {}, "Ceil"),
    "negated twice": (X2 + "{ p = Cast<to=9>(x) a = Not(p) b = Not(a) y = Cast<to=1>(b) }", {}, "Cast Cast"),
    "log of softmax": (X2 + "{ a = Softmax<axis=1>(x) y = Log(a) }", {}, "Softmax Log"),
    "a softmax that others read": (X2 + "{ a = Softmax<axis=1>(x) b = Log(a) y = Add(a, b) }", {}, "Softmax Log Add"),
    "slices of two axes": (X4 + "{ a = Slice(x, i, j, k) y = Slice(a, j, l, m, i) }",
                           {"i": ints(1), "j": ints(2), "k": ints(1), "l": ints(6), "m": ints(2)}, "Slice"),
    "slices of one axis": (X4 + "{ a = Slice(x, i, j, k) y = Slice(a, i, j, k) }",
                           {"i": ints(1), "j": ints(3), "k": ints(2)}, "Slice Slice"),
    "pads of one value": (X4 + "{ a = Pad(x, p) y = Pad(a, q) }",
                          {"p": ints(0, 0, 1, 0, 0, 0, 2, 0), "q": ints(0, 1, 0, 0, 0, 0, 1, 3)}, "Pad"),
    "pads of two values": (X4 + "{ a = Pad(x, p) y = Pad(a, p, v) }",
                           {"p": ints(0, 0, 1, 0, 0, 0, 2, 0), "v": number(1)}, "Pad Pad"),
    "reduced axes given back": (X4 + "{ a = ReduceSum<keepdims=0>(x, i) y = Unsqueeze(a, j) }",
                                {"i": ints(-1, 2), "j": ints(2, 3)}, "ReduceSum"),
    "other axes given back": (X4 + "{ a = ReduceSum<keepdims=0>(x, i) y = Unsqueeze(a, j) }",
                              {"i": ints(2, 3), "j": ints(0, 1)}, "ReduceSum Unsqueeze"),
    "a product as einsum": (X3 + '{ y = Einsum<equation="bij,jk->bik">(x, w) }', {"w": floats(8, 4)}, "MatMul"),
    "its weights the other way": (X3 + '{ y = Einsum<equation="b i j, k j -> b i k">(x, w) }', {"w": floats(4, 8)}, "MatMul"),
    "an einsum that is none": (X3 + '{ y = Einsum<equation="bij,jk->bki">(x, w) }', {"w": floats(8, 4)}, "Einsum"),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name: str) -> None:
    text, weights, expected = PAIRS[name]
    if name == "an einsum that is none":
        text = text.replace("float[N,5,?] y", "float[N,4,5] y")
    check(peepholes(fuse_pairs.RULES), model(text, **weights), expected)


SUMS = {
    "a vector and a map": (X3 + "{ a = Add(x, v) y = Add(m, a) }", {"v": floats(8), "m": floats(5, 8)}, "Add"),
    "a row and a column": (X3 + "{ a = Add(v, x) y = Add(a, m) }", {"v": floats(8), "m": floats(5, 1)}, "Add"),
    "too large together": ("main (float[N,90,90] x) => (float[N,90,90] y) { a = Add(x, v) y = Add(a, m) }",
                           {"v": floats(90), "m": floats(90, 1)}, "Add Add"),
    "read in between": (X3 + "{ a = Add(x, v) b = Add(a, m) y = Mul(a, b) }", {"v": floats(8), "m": floats(5, 8)}, "Add Add Mul"),
}  # fmt: skip


@pytest.mark.parametrize("name", SUMS)
def test_sums(name: str) -> None:
    text, weights, expected = SUMS[name]
    check(peepholes(sums.RULES), model(text, **weights), expected)


NORM = "m = ReduceMean(x, i) d = Sub(x, m) p = Pow(d, two) v = ReduceMean(p, i) w = Add(v, e) r = Sqrt(w) n = Div(d, r) "
ERF = {"root": number(2**0.5), "one": number(1), "half": number(0.5)}
TANH = {
    "three": number(3),
    "c": number(0.044715),
    "k": number(0.79788),
    "one": number(1),
    "half": number(0.5),
}
CUBIC = "p = Pow(x, three) q = Mul(p, c) r = Add(x, q) s = Mul(r, k) t = Tanh(s) g = Add(t, one) "
GAINS = {"i": ints(-1), "two": number(2), "e": number(1e-5), "g": floats(8), "b": floats(8)}
WRITTEN = {
    "layer norm": (18, X3 + "{" + NORM + "f = Mul(g, n) y = Add(f, b) }", GAINS, "LayerNormalization"),
    "squared by a product": (18, X3 + "{" + NORM.replace("Pow(d, two)", "Mul(d, d)") + "f = Mul(n, g) y = Add(b, f) }",
                             GAINS, "LayerNormalization"),
    "another axis": (18, X3 + "{" + NORM + "f = Mul(g, n) y = Add(f, b) }", {**GAINS, "i": ints(1)}, "ReduceMean Sub Pow ReduceMean Add Sqrt Div Mul Add"),
    "a gain that is a map": (18, X3 + "{" + NORM + "f = Mul(g, n) y = Add(f, b) }", {**GAINS, "g": floats(5, 8)}, "ReduceMean Sub Pow ReduceMean Add Sqrt Div Mul Add"),
    "gelu": (20, X2 + "{ a = Div(x, root) t = Erf(a) g = Add(t, one) m = Mul(x, g) y = Mul(m, half) }", ERF, "Gelu"),
    "gelu, half first": (20, X2 + "{ h = Mul(half, x) a = Div(x, root) t = Erf(a) g = Add(one, t) y = Mul(h, g) }", ERF, "Gelu"),
    "gelu, half of the gate": (20, X2 + "{ a = Div(x, root) t = Erf(a) g = Add(one, t) h = Mul(g, half) y = Mul(h, x) }", ERF, "Gelu"),
    "gelu by tanh": (20, X2 + "{" + CUBIC + "h = Mul(x, half) y = Mul(h, g) }", TANH, "Gelu"),
    "gelu of an older opset": (18, X2 + "{ a = Div(x, root) t = Erf(a) g = Add(t, one) m = Mul(x, g) y = Mul(m, half) }", ERF, "Div Erf Add Mul Mul"),
    "another root": (20, X2 + "{ a = Div(x, root) t = Erf(a) g = Add(t, one) m = Mul(x, g) y = Mul(m, half) }", {**ERF, "root": number(1.5)}, "Div Erf Add Mul Mul"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_written_out(name: str) -> None:
    opset, text, weights, expected = WRITTEN[name]
    check(peepholes(fuse_decomposed.RULES), model(text, opset, **weights), expected)
