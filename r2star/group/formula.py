"""Formulas and contrasts from text, by a small parser: no text is ever run. Imports errors only.

Formula: ``spline(age, df=3) + sex + site + group * log(ferritin) + (1 | participant)``.
Contrast: ``0.5*course[SP] + 0.5*course[PP] - course[RR]``. Anything else is an error that shows the place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from r2star.errors import UsageError

#: The functions of a formula: name → names of its options, with the default value of each.
FUNCTIONS: dict[str, dict[str, int]] = {
    "spline": {"df": 3},  # natural cubic spline, knots at quantiles
    "log": {},  # natural logarithm
    "centre": {},  # minus the mean over all
    "patients": {},  # minus the patients' mean in patients, 0 in controls
}

_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|([^\W\d][\w.]*)|(\"[^\"\n]*\"|`[^`\n]*`)|(.))", re.UNICODE)
_LONGEST = 2000


@dataclass(frozen=True)
class Variable:
    """A column and the functions applied to it, inner ones first: ``patients(log(x))`` → (log, patients)."""

    column: str
    functions: tuple[str, ...] = ()
    spline_df: int = 0

    @property
    def label(self) -> str:
        """The text that a reader of the results sees.

        >>> Variable("lesion_volume_ml", ("log", "patients")).label
        'patients(log(lesion_volume_ml))'
        """
        text = self.column
        for name in self.functions:
            text = f"{name}({text}, df={self.spline_df})" if name == "spline" else f"{name}({text})"
        return text


@dataclass(frozen=True)
class Term:
    """A product of variables: one is a main effect, two or more an interaction."""

    variables: tuple[Variable, ...]

    @property
    def label(self) -> str:
        """``group:age``."""
        return ":".join(variable.label for variable in self.variables)


@dataclass(frozen=True)
class Formula:
    """The terms of the right-hand side; an intercept is always there. ``random`` names a random intercept."""

    terms: tuple[Term, ...]
    random: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that the formula needs, in order of appearance."""
        names = [variable.column for term in self.terms for variable in term.variables]
        return tuple(dict.fromkeys(names + ([self.random] if self.random else [])))


@dataclass(frozen=True)
class Contrast:
    """A linear combination of coefficients by label: (weight, label) pairs."""

    label: str
    parts: tuple[tuple[float, str], ...]


def parse_formula(text: str) -> Formula:
    """Parse a right-hand side; ``a * b`` is ``a + b + a:b``.

    Raises
    ------
    UsageError
        R2S-E710, with the place of what is not understood.

    >>> [term.label for term in parse_formula("spline(age, df=3) + group * sex").terms]
    ['spline(age, df=3)', 'group', 'sex', 'group:sex']
    >>> parse_formula("years + (1 | participant)").random
    'participant'
    """
    return _Parser(text).formula()


def parse_contrast(text: str) -> Contrast:
    """Parse a linear combination of coefficients.

    >>> parse_contrast('0.5*course[SP] + 0.5*course[PP] - course["RR"]').parts
    ((0.5, 'course[SP]'), (0.5, 'course[PP]'), (-1.0, 'course[RR]'))
    """
    return _Parser(text).contrast()


class _Parser:
    """Recursive descent over the tokens: (kind, text, position)."""

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            raise UsageError("E710", f"a formula of {len(text)} characters", f"at most {_LONGEST} are read")
        self.text, self.place = text, 0
        kinds = ("number", "name", "quoted", "sign")
        self.tokens: list[tuple[str, str, int]] = []
        for match in _TOKEN.finditer(text.rstrip()):
            kind = kinds[(match.lastindex or 4) - 1]
            self.tokens.append((kind, match.group(match.lastindex or 4), match.start(match.lastindex or 4)))

    def formula(self) -> Formula:
        terms: list[Term] = []
        random = ""
        while True:
            if self._peek("("):
                random = self._random(random)
            else:
                terms += self._product()
            if self._done():
                return Formula(tuple(dict.fromkeys(terms)), random)
            self._expect("+")

    def contrast(self) -> Contrast:
        parts: list[tuple[float, str]] = []
        sign = -1.0 if self._take("-") else 1.0
        while True:
            weight = sign * self._number("*") if self._kind() == "number" else sign
            parts.append((weight, self._coefficient()))
            if self._done():
                return Contrast(self.text.strip(), tuple(parts))
            sign = -1.0 if self._take("-") else 1.0
            if sign > 0:
                self._expect("+")

    def _product(self) -> list[Term]:
        """``a``, ``a:b`` or ``a * b * c``."""
        terms = [self._interaction()]
        while self._take("*"):
            other = self._interaction()
            terms += [other] + [Term(term.variables + other.variables) for term in terms]
        return terms

    def _interaction(self) -> Term:
        variables = [self._variable()]
        while self._take(":"):
            variables.append(self._variable())
        return Term(tuple(variables))

    def _variable(self) -> Variable:
        name = self._name()
        if not self._take("("):
            return Variable(name)
        if name not in FUNCTIONS:
            self._fail(f"no function {name!r}; there are {', '.join(FUNCTIONS)}", back=2)
        inner = self._variable()
        if "spline" in inner.functions:
            self._fail("spline() can't stand inside another function")
        degrees = self._options(name)
        self._expect(")")
        return Variable(inner.column, (*inner.functions, name), degrees)

    def _options(self, function: str) -> int:
        value = FUNCTIONS[function].get("df", 0)
        while self._take(","):
            option = self._name()
            if option not in FUNCTIONS[function]:
                self._fail(f"{function}() has no option {option!r}", back=1)
            self._expect("=")
            number = self._number("")
            if number != int(number) or not 1 <= number <= 10:
                self._fail("df must be a whole number from 1 to 10", back=1)
            value = int(number)
        return value

    def _random(self, known: str) -> str:
        self._expect("(")
        if known or self._number("") != 1:
            self._fail("only one random intercept, (1 | column), is understood", back=1)
        self._expect("|")
        name = self._name()
        self._expect(")")
        return name

    def _coefficient(self) -> str:
        label = self._plain_coefficient()
        while self._take(":"):
            label += ":" + self._plain_coefficient()
        return label

    def _plain_coefficient(self) -> str:
        variable = self._variable()
        if not self._take("["):
            return variable.label
        kind, text, _ = self._next()
        if kind == "sign":
            self._fail('a level was expected; levels with other signs go into quotes: course["a-b"]', back=1)
        while kind != "quoted" and not self._done() and self._kind() in {"number", "name"}:
            text += self._next()[1]  # a level such as 3T is two tokens
        self._expect("]")
        return f"{variable.label}[{text.strip(chr(34))}]"

    def _name(self) -> str:
        kind, text, _ = self._next()
        if kind == "name" or (kind == "quoted" and text[0] == "`"):
            return text.strip("`")
        self._fail("a column name was expected", back=1)
        raise AssertionError

    def _number(self, then: str) -> float:
        kind, text, _ = self._next()
        if kind != "number":
            self._fail("a number was expected", back=1)
        if then:
            self._expect(then)
        return float(text)

    def _done(self) -> bool:
        return self.place >= len(self.tokens)

    def _kind(self) -> str:
        return "" if self._done() else self.tokens[self.place][0]

    def _peek(self, sign: str) -> bool:
        return not self._done() and self.tokens[self.place][:2] == ("sign", sign)

    def _take(self, sign: str) -> bool:
        found = self._peek(sign)
        self.place += found
        return found

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            self._fail(f"{sign!r} was expected")

    def _next(self) -> tuple[str, str, int]:
        if self._done():
            self._fail("more was expected")
        self.place += 1
        return self.tokens[self.place - 1]

    def _fail(self, why: str, back: int = 0) -> None:
        index = max(self.place - back, 0)
        column = self.tokens[index][2] + 1 if index < len(self.tokens) else len(self.text) + 1
        raise UsageError(
            "E710",
            f"formula {self.text!r}: {why}, at character {column}",
            fix="use column names, +, :, *, spline(x, df=3), log(x), centre(x), patients(x) and (1 | column)",
        )
