"""The formulas of the registry become LaTeX that means the same."""

import doctest

import pytest

import jinit
from docs.hooks import formulas
from docs.hooks.formulas import latex
from jinit.recipes._recipe import RECIPES


@pytest.mark.parametrize("text, expected", [
    ("std = sqrt(2 / (n_in + n_out))",
     r"\mathrm{std} = \sqrt{\frac{2}{n_{\mathrm{in}} + n_{\mathrm{out}}}}"),
    # A division takes all factors on its left, and one on its right.
    ("cos(2 pi t f / n) / norm",
     r"\frac{\cos\left(\frac{2\,\pi\,t\,f}{n}\right)}{\mathrm{norm}}"),
    ("1 / n x", r"\frac{1}{n}\,x"),
    ("(a - b) h / (H - 1)", r"\frac{\left(a - b\right)\,h}{H - 1}"),
    ("i (N / pi) (N - 1)", r"i\,\left(\frac{N}{\pi}\right)\,\left(N - 1\right)"),
    ("(n / d)^(1 + (l / L)^0.3)",
     r"\left(\frac{n}{d}\right)^{1 + \left(\frac{l}{L}\right)^{0.3}}"),
    ("base^(-i / m)", r"\mathrm{base}^{- \frac{i}{m}}"),
    ("10^-3 + 2e-6", r"10^{-3} + 2 \cdot 10^{-6}"),
    # A prime is a transpose, before the arguments of a call a derivative.
    ("WW' = f'(0)", r"W\,W^{\top} = f'\left(0\right)"),
    ("[[W, -W], [-W, W]]", r"\begin{bmatrix}W& - W \\ - W& W\end{bmatrix}"),
    ("[W; -W]", r"\begin{bmatrix}W \\  - W\end{bmatrix}"),
    ("[0, scale)", r"\left[0,\; \mathrm{scale}\right)"),
    ("e_(l mod n)", r"e_{l \bmod n}"),
    ("w_ij = W_centre", r"w_{ij} = W_{\mathrm{centre}}"),
    ("fold_in(key, i)", r"\mathrm{fold\_in}\left(\mathrm{key},\; i\right)"),
    ("log U(1, t_max - 1)",
     r"\log \,\mathcal{U}\left(1,\; t_{\mathrm{max}} - 1\right)"),
    ("|w| <= abs(b)", r"\lvert w\rvert \le \left\lvert b\right\rvert"),
    ("[a | b]", r"\left[a \mid b\right]"),
    ("x +-2", r"x \pm 2"),
    # Words break a product: the 1 is over n alone.
    ("first layer 1 / n", r"\text{first}\ \text{layer}\; \frac{1}{n}"),
    ("the part, or x", r"\text{the}\ \text{part},\;\text{or}\; x"),
    ("gain H / n", r"\frac{\mathrm{gain}\,H}{n}"),
])  # fmt: skip
def test_a_formula_in_latex(text, expected):
    assert latex(text) == expected


def every_formula():
    yield from (entry.formula for entry in jinit.registry.values())
    for entry in RECIPES.values():
        yield from (law.law for law in entry.make(**entry.example).laws)


@pytest.mark.parametrize("text", sorted({*every_formula()}))
def test_every_formula_keeps_its_numbers_and_its_brackets(text):
    result = latex(text)
    assert result.count("{") == result.count("}")
    assert result.count(r"\left") == result.count(r"\right")
    for number in formulas.re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", text):
        assert number in result


def test_a_sign_that_is_not_known_is_an_error():
    with pytest.raises(ValueError, match="does not know. Add the sign"):
        latex("a # b")


def test_the_example_of_the_translator():
    assert doctest.testmod(formulas).failed == 0
