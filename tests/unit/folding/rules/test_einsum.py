"""Einsum with constant weights: norms on both sides, over one letter of channels or several."""

# Rows are tables, and tables read across.
# ruff: noqa: E501
from __future__ import annotations

import numpy as np
import pytest

from folding.rules.absorbers.einsum import Letters, letters_of
from folding.rules.base import SkipReason
from tests.unit.folding.rules.models import difference, fold, model, norm_arrays

EXACT = 1e-11


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(sum(map(ord, request.node.name)))


# equation, shape of x, of the weights, shape of a scale and shift of the result
AFTER = {
    "a matrix on the right": ("bij,jk->bik", (2, 5, 4), (4, 3), (3,)),
    "channels in the middle": ("bij,jk->bki", (2, 5, 4), (4, 3), (3, 1)),
    "weights first": ("oc,bct->bot", (2, 4, 5), (3, 4), (3, 1)),
    "pointwise convolution": ("bchw,oc->bohw", (2, 4, 5, 6), (3, 4), (3, 1, 1)),
    "heads": ("btd,dhk->bthk", (2, 5, 4), (4, 2, 3), (2, 3)),
    "heads, one letter of them": ("btd,dhk->bthk", (2, 5, 4), (4, 2, 3), (2, 1)),
    "heads apart": ("btd,dhk->bhtk", (2, 5, 4), (4, 2, 3), (2, 1, 3)),
    "two letters summed over": ("bthk,hkd->btd", (2, 5, 2, 3), (2, 3, 4), (4,)),
    "an ellipsis": ("...i,io->...o", (2, 5, 4), (4, 3), (3,)),
    "no arrow": ("bi,io", (2, 4), (4, 3), (3,)),
    "spaces": (" b i , i o -> b o ", (2, 4), (4, 3), (3,)),
    "a letter that only weights have": ("bi,iok->bo", (2, 4), (4, 3, 2), (3,)),
    "shared and kept": ("bgi,gio->bgo", (2, 3, 4), (3, 4, 5), (5,)),
    "an outer product": ("bi,o->bio", (2, 4), (3,), (3,)),
}  # fmt: skip


def operands(equation: str, weights: tuple[int, ...], rank: int) -> str:
    return "w, x" if equation.split(",")[0].strip() == "oc" else "x, w"


@pytest.mark.parametrize("kind", AFTER)
def test_scale_and_shift_of_the_result(kind: str, rng: np.random.Generator) -> None:
    equation, shape, weights, vector = AFTER[kind]
    body = f'e = Einsum<equation="{equation}">({operands(equation, weights, len(shape))}) q = Mul(e, s) y = Add(q, t)'
    arrays = {"w": rng.normal(size=weights), "s": rng.normal(size=vector), "t": rng.normal(size=vector)}
    folded = fold(model(f"T{list(shape)} x", body, arrays))
    assert folded.ops == ["Einsum", "Add"]
    assert difference(folded) < EXACT


# equation, shape of x, of the weights, shape of a scale and shift of x
BEFORE = {
    "a matrix on the right": ("bij,jk->bik", (2, 5, 4), (4, 3), (4,)),
    "weights first": ("oc,bct->bot", (2, 4, 5), (3, 4), (4, 1)),
    "pointwise convolution": ("bchw,oc->bohw", (2, 4, 5, 6), (3, 4), (4, 1, 1)),
    "two letters": ("bthk,hkd->btd", (2, 5, 2, 3), (2, 3, 4), (2, 3)),
    "one of two": ("bthk,hkd->btd", (2, 5, 2, 3), (2, 3, 4), (2, 1)),
    "two letters, turned": ("bhkt,khd->btd", (2, 2, 3, 5), (3, 2, 4), (2, 3, 1)),
    "a number": ("bij,jk->bki", (2, 5, 4), (4, 3), ()),
}


@pytest.mark.parametrize("kind", BEFORE)
def test_scale_and_shift_of_the_input(kind: str, rng: np.random.Generator) -> None:
    equation, shape, weights, vector = BEFORE[kind]
    body = f'q = Mul(x, s) e = Add(q, t) y = Einsum<equation="{equation}">({operands(equation, weights, 0).replace("x", "e")})'
    arrays = {"w": rng.normal(size=weights), "s": rng.normal(size=vector), "t": rng.normal(size=vector)}
    folded = fold(model(f"T{list(shape)} x", body, arrays))
    assert folded.ops == ["Einsum", "Add"]
    assert difference(folded) < EXACT


def test_a_norm(rng: np.random.Generator) -> None:
    body = 'c = Einsum<equation="bchw,oc->bohw">(x, w) y = BatchNormalization(c, g, b, m, v)'
    folded = fold(model("T[2,4,5,6] x", body, {"w": rng.normal(size=(3, 4)), **norm_arrays(3)}))
    assert folded.text == ["y/unbiased = Einsum(x, w)", "y = Add(y/unbiased, c/bias)"]
    assert difference(folded) < EXACT


def test_an_add_stays_itself_when_folded_again(rng: np.random.Generator) -> None:
    body = 'c = Einsum<equation="bchw,oc->bohw">(x, w) y = BatchNormalization(c, g, b, m, v)'
    folded = fold(model("T[2,4,5,6] x", body, {"w": rng.normal(size=(3, 4)), **norm_arrays(3)}))
    again = fold(folded.after)
    assert again.after.SerializeToString() == folded.after.SerializeToString()


STAYS = {
    "along a letter of x": ("bij,jk->bik", (2, 5, 4), (4, 3), (5, 1)),
    "a diagonal": ("bii,ik->bik", (2, 4, 4), (4, 3), (3,)),
    "a sum over a letter of x alone": ("bij,jk->bk", (2, 5, 4), (4, 3), (3,)),
    "along a shared letter that is kept": ("bgi,gio->bgo", (2, 3, 4), (3, 4, 5), (3, 1)),
}


@pytest.mark.parametrize("kind", STAYS)
def test_what_stays(kind: str, rng: np.random.Generator) -> None:
    equation, shape, weights, vector = STAYS[kind]
    body = f'e = Einsum<equation="{equation}">(x, w) q = Mul(e, s) y = Add(q, t)'
    arrays = {"w": rng.normal(size=weights), "s": rng.normal(size=vector), "t": rng.normal(size=vector)}
    folded = fold(model(f"T{list(shape)} x", body, arrays))
    assert len(folded.ops) > 2 or "BatchNormalization" in folded.ops
    assert difference(folded) < EXACT


def test_weights_that_are_computed_are_told(rng: np.random.Generator) -> None:
    body = 'c = Einsum<equation="bchw,oc->bohw">(x, w) y = BatchNormalization(c, g, b, m, v)'
    folded = fold(model("T[2,4,5,6] x, T[3,4] w", body, norm_arrays(3)))
    assert folded.result.decisions[0].reason is SkipReason.RUNTIME_WEIGHTS


@pytest.mark.parametrize(("equation", "expected"), [
    ("...i,io->...o", Letters("ABi", "io", "ABo")),
    ("bi,io", Letters("bi", "io", "bo")),
    ("bij,jk,k->bi", None),
    ("bij,...k->bik", None),
    ("bi,io->o", None),
])  # fmt: skip
def test_letters(equation: str, expected: Letters | None) -> None:
    assert letters_of(equation, 0, 3 if "..." in equation or "ij" in equation else 2) == expected
