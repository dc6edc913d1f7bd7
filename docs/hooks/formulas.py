r"""Translate the formulas of the registry and of the recipes to LaTeX.

A formula such as "std = sqrt(2 / (n_in + n_out))" is written for terminals and
docstrings. The translator reads it by a small grammar: sums of products, where a space
multiplies and `/` divides the whole product on its left, and words in between. Words
are kept as they are, so every text has a translation.

    >>> from docs.hooks.formulas import latex
    >>> print(latex("std = sqrt(2 / n_in)"))
    \mathrm{std} = \sqrt{\frac{2}{n_{\mathrm{in}}}}
"""

import re
from typing import NamedTuple

TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)
    | (?P<code>`[^`]+`)
    | (?P<word>[A-Za-z]{2,}(?:-[a-z]{2,})+|[A-Za-z]+\d*(?:_[A-Za-z0-9]+)*(?:_(?=\())?)
    | (?P<sign>\.\.\.|\+-|<=|>=|[-+*/^'=~<>,;:|()\[\]])
    )""",
    re.X,
)
GREEK = {
    "alpha", "beta", "gamma", "lambda", "nu", "pi", "sigma", "theta", "Lambda",
}  # fmt: skip
# Functions that LaTeX sets with a space before an argument without brackets.
OPERATORS = {
    "log", "exp", "cos", "sin", "max", "min", "softplus", "Var", "linspace",
}  # fmt: skip
LAWS = {"N": r"\mathcal{N}", "TN": r"\mathcal{TN}", "U": r"\mathcal{U}"}
RELATIONS = {
    "=": "=", "~": r"\sim", "<": "<", ">": ">", "<=": r"\le", ">=": r"\ge",
}  # fmt: skip
# Between these and their neighbours no product is meant.
PROSE = {
    "all", "along", "and", "as", "at", "by", "cut", "else", "first", "for", "last",
    "mod", "of", "on", "or", "other", "the", "times", "uniform", "variance", "where",
    "with",
}  # fmt: skip
# Names with one letter have a subscript after "_", and so have these.
WITH_SUBSCRIPT = {"fan", "init", *GREEK}


class Token(NamedTuple):
    """A token is a piece of a formula, and whether a space stands before it."""

    kind: str
    text: str
    spaced: bool


def latex(formula: str) -> str:
    """Return the LaTeX of a formula, without delimiters."""
    # Two matrices in a row are a product, and no word.
    apart = re.sub(r"\b([A-Z])\1(?=')", r"\1 \1", formula)
    text = _Reader(_tokens(apart)).everything()
    return text.removeprefix(r"\;").removesuffix(r"\;")


def _tokens(formula: str) -> list[Token]:
    tokens, place = [], 0
    text = formula.rstrip()
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            raise ValueError(
                f"{formula!r} has {text[place:]!r}, which the translator to LaTeX "
                "does not know. Add the sign to docs/hooks/formulas.py."
            )
        kind = str(match.lastgroup)
        piece = match[kind]
        tokens.append(Token(kind, piece, match.start(kind) > place))
        place = match.end()
    return tokens


class _Reader:
    """A reader goes through the tokens once, from left to right."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.place = tokens, 0

    def peek(self, ahead: int = 0) -> Token:
        place = self.place + ahead
        return (
            self.tokens[place] if place < len(self.tokens) else Token("end", "", True)
        )

    def take(self) -> Token:
        token = self.peek()
        self.place += 1
        return token

    def is_sign(self, *texts: str) -> bool:
        return self.peek().kind == "sign" and self.peek().text in texts

    def everything(self) -> str:
        return self.list_until(())

    def list_until(self, ends: tuple[str, ...]) -> str:
        """Read expressions, words and separators up to a closing bracket."""
        pieces: list[str] = []
        while self.peek().kind != "end" and not self.is_sign(*ends):
            pieces.append(self.piece())
        text = " ".join(pieces)
        # Words have spaces around them, but not before a comma and not twice.
        return re.sub(r"(?:\\;)? ([,;:]\\;)", r"\1", text).replace(r"\; \;", r"\;")

    def piece(self) -> str:
        if self.is_sign(",", ";"):
            return self.take().text + r"\;"
        if self.is_sign(":"):
            return ":" + self.take().text[1:] + r"\;"
        if self.is_sign(*RELATIONS):
            return RELATIONS[self.take().text]
        if self.is_sign("|") and self.peek(1).spaced:
            self.take()
            return r"\mid"
        if self.is_prose():
            return self.prose()
        return self.sum()

    def is_prose(self) -> bool:
        """Tell whether words begin here: a particle, or two words in a row."""
        token = self.peek()
        if token.kind == "code":
            return True
        if not self.is_word():
            return False
        pair = self.is_word(1) and self.peek(1).text not in PROSE
        return token.text in PROSE or "-" in token.text or pair

    def is_word(self, ahead: int = 0) -> bool:
        token = self.peek(ahead)
        return token.kind == "word" and self.is_plain(token) and not self.calls(ahead)

    def is_plain(self, token: Token) -> bool:
        word = token.text
        known = word in GREEK or word in OPERATORS or word in ("sqrt", "abs", "eps")
        return (
            len(word) > 1 and "_" not in word and not word[-1].isdigit() and not known
        )

    def calls(self, ahead: int = 0) -> bool:
        after = self.peek(ahead + 1)
        return after.text == "(" and not after.spaced

    def prose(self) -> str:
        """Read a run of words, as text with its spaces."""
        words: list[str] = []
        while (
            self.peek().kind == "code"
            or self.is_word()
            or (
                # The article, which is a symbol elsewhere.
                words and self.peek().text == "a" and self.is_word(1)
            )
        ):
            words.append(self.take().text)
        if words == ["mod"]:
            return r"\bmod"
        texts = [
            rf"\texttt{{{_escaped(word[1:-1])}}}"
            if word[0] == "`"
            else rf"\text{{{word}}}"
            for word in words
        ]
        return r"\;" + r"\ ".join(texts) + r"\;"

    def sum(self) -> str:
        pieces = []
        while True:
            if self.is_sign("+", "-"):
                pieces.append(self.take().text)
            elif self.is_sign("+-"):
                self.take()
                pieces.append(r"\pm")
            pieces.append(self.product())
            if not self.is_sign("+", "-", "+-"):
                return " ".join(pieces)

    def product(self) -> str:
        """Read factors; a division has all factors on its left in the numerator."""
        factors = [self.factor()]
        while True:
            if self.is_sign("/"):
                self.take()
                above = _bare(factors)
                factors = [rf"\frac{{{above}}}{{{_bare([self.factor()])}}}"]
            elif self.begins_factor():
                factors.append(self.factor())
            else:
                return r"\,".join(factors)

    def begins_factor(self) -> bool:
        token = self.peek()
        if token.kind == "number":
            return True
        if token.kind == "word":
            return not self.is_prose()
        return token.text in ("(", "[") or (
            token.text == "|" and not self.peek(1).spaced and token.spaced
        )

    def factor(self) -> str:
        base = self.base()
        while self.is_sign("^"):
            self.take()
            base = f"{_powered(base)}^{{{self.exponent()}}}"
            if self.is_sign("(") and not self.peek().spaced:
                base += self.base()
        return base

    def exponent(self) -> str:
        sign = self.take().text if self.is_sign("-") else ""
        return sign + _bare([self.base()])

    def base(self) -> str:
        token = self.take()
        if token.kind == "number":
            return _number(token.text)
        if token.kind == "word":
            return self.word(token.text)
        if token.text == "(":
            return self.bracket("(", ")")
        if token.text == "[":
            return self.square()
        if token.text == "|":
            inside = self.sum()
            self.take()
            return rf"\lvert {inside}\rvert"
        return {"...": r"\dots", "*": r"\ast "}.get(token.text, token.text)

    def bracket(self, opening: str, closing: str) -> str:
        inside = self.list_until((closing,))
        self.take()
        return rf"\left{opening}{inside}\right{closing}"

    def square(self) -> str:
        """Read a row, an interval or a matrix, which is a row of rows."""
        if self.is_sign("["):
            rows = []
            while not self.is_sign("]"):
                if self.is_sign(","):
                    self.take()
                self.take()
                rows.append(self.list_until(("]",)).replace(r",\;", "&"))
                self.take()
            self.take()
            return _matrix(rows)
        # An interval may be half open: [0, scale).
        inside = self.list_until(("]", ")"))
        closing = self.take().text
        if r";\;" in inside:
            rows = inside.split(r";\;")
            return _matrix(rows)
        return rf"\left[{inside}\right{closing}"

    def word(self, word: str) -> str:
        if word == "sqrt":
            return rf"\sqrt{{{self.argument()}}}"
        if word == "abs":
            return rf"\left\lvert {self.argument()}\right\rvert"
        if word == "ceil":
            return rf"\left\lceil {self.argument()}\right\rceil"
        if word in LAWS and self.is_sign("(") and not self.peek().spaced:
            return LAWS[word] + self.base()
        if word == "prod":
            return r"\prod" + self.base()
        if word in OPERATORS:
            name = (
                rf"\{word}"
                if word in ("log", "exp", "cos", "sin", "max", "min")
                else (rf"\operatorname{{{word}}}")
            )
            return name + (self.base() if self.is_sign("(") else " " + self.primed(""))
        return self.primed(self.symbol(word))

    def argument(self) -> str:
        self.take()
        inside = self.list_until((")",))
        self.take()
        return inside

    def symbol(self, word: str) -> str:
        if word.endswith("_"):
            return f"{_letter(word[:-1])}_{{{self.argument()}}}"
        return _letter(word)

    def primed(self, symbol: str) -> str:
        """Read a transpose or a derivative, an index and the arguments of a call."""
        if self.is_sign("'"):
            self.take()
            is_derivative = self.is_sign("(") and not self.peek().spaced
            symbol += "'" if is_derivative else r"^{\top}"
        if self.is_sign("(") and not self.peek().spaced:
            self.take()
            symbol += self.bracket("(", ")")
        elif self.is_sign("[") and not self.peek().spaced:
            self.take()
            symbol += f"[{self.list_until((']',))}]"
            self.take()
        return symbol


def _matrix(rows: list[str]) -> str:
    return r"\begin{bmatrix}" + r" \\ ".join(rows) + r"\end{bmatrix}"


def _number(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text
    power = f"10^{{{int(exponent)}}}"
    return power if mantissa == "1" else rf"{mantissa} \cdot {power}"


def _letter(word: str) -> str:
    """Return a letter, a Greek letter or an upright name, with its subscript."""
    if match := re.fullmatch(r"([A-Za-z])(\d+)", word):
        return f"{match[1]}_{{{match[2]}}}"
    name, _, index = word.partition("_")
    if index and (len(name) == 1 or name in WITH_SUBSCRIPT):
        short = len(index) < 3 and index != "in"
        below = index if short else rf"\mathrm{{{_escaped(index)}}}"
        return f"{_letter(name)}_{{{below}}}"
    if word in GREEK:
        return rf"\{word}"
    if word == "eps":
        return r"\varepsilon"
    return word if len(word) == 1 else rf"\mathrm{{{_escaped(word)}}}"


def _bare(factors: list[str]) -> str:
    r"""Join factors; a single one loses its \left( \right), which a bar replaces."""
    text = r"\,".join(factors)
    match = re.fullmatch(r"\\left\((.*)\\right\)", text)
    if match is None or len(factors) != 1 or not _is_balanced(match[1]):
        return text
    return match[1]


def _is_balanced(inside: str) -> bool:
    depth = 0
    for side in re.findall(r"\\left|\\right", inside):
        depth += 1 if side == r"\left" else -1
        if depth < 0:
            return False
    return True


def _powered(base: str) -> str:
    # A transpose that is raised to a power has two superscripts.
    return f"{{{base}}}" if "^" in base and not base.startswith(r"\left") else base


def _escaped(word: str) -> str:
    return word.replace("_", r"\_")
