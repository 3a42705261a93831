"""Columns and a formula → a design matrix with named columns. May import numpy and errors.

A number's column is float with NaN for missing; a category's is text with ``""`` for missing. A row is
used where every column that the formula needs is there; a covariate inside ``patients()`` is not needed
of controls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.errors import UsageError
from r2star.group.formula import Formula, Term, Variable

Array = NDArray[Any]


@dataclass(frozen=True)
class Spline:
    """A natural cubic spline, linear outside its outer knots (Hastie, Tibshirani & Friedman 2009, 5.2.1)."""

    knots: tuple[float, ...]

    @classmethod
    def fitted_to(cls, values: Array, df: int) -> Spline:
        """Outer knots at the ends, ``df − 1`` inner knots at equal quantiles: the space of R's ``ns(x, df)``.

        >>> Spline.fitted_to(np.arange(10.0), 3).knots
        (0.0, 3.0, 6.0, 9.0)
        """
        if not np.size(values):
            return cls((0.0,) * (df + 1))
        return cls(tuple(float(knot) for knot in np.quantile(values, np.linspace(0, 1, df + 1))))

    def basis(self, values: Array) -> Array:
        """(N,) → (N, df) without intercept, scaled to the range of the knots to be well conditioned."""
        first, last = self.knots[0], self.knots[-1]
        scale = (last - first) or 1.0
        x = (np.asarray(values, dtype=float) - first) / scale
        knots = (np.array(self.knots) - first) / scale
        cubes = np.maximum(x[:, None] - knots, 0.0) ** 3
        slopes = (cubes[:, :-1] - cubes[:, -1:]) / np.where(
            knots[-1] > knots[:-1], knots[-1] - knots[:-1], 1.0
        )
        return np.column_stack([x, slopes[:, :-1] - slopes[:, -1:]])


@dataclass(frozen=True)
class Design:
    """A design matrix: (N, P) over the used rows, one name and one term a column; the first is the intercept.

    ``rows`` says which of the table's rows are used; ``active`` (N, P) where a column applies at all (a
    ``patients()`` covariate does not in controls); ``reference_levels`` the level that each category is
    compared with.
    """

    matrix: Array
    names: tuple[str, ...]
    terms: tuple[str, ...]
    rows: Array
    active: Array
    reference_levels: dict[str, str] = field(default_factory=dict)
    splines: dict[str, Spline] = field(default_factory=dict)

    def columns_of(self, term: str) -> list[int]:
        """Indices of the columns of a term."""
        return [k for k, each in enumerate(self.terms) if each == term]

    def contrast(self, parts: Sequence[tuple[float, str]]) -> Array | None:
        """(P,) weights of a linear combination; ``None`` where a part names nothing that can be estimated."""
        weights = np.zeros(len(self.names))
        for weight, label in parts:
            if label in self.names:
                weights[self.names.index(label)] += weight
            elif not self._is_reference(label):
                return None
        return weights

    def _is_reference(self, label: str) -> bool:
        return any(label == f"{column}[{level}]" for column, level in self.reference_levels.items())


@dataclass(frozen=True)
class DesignRules:
    """What a model file says of columns: which level is the reference, and who is a patient."""

    references: Mapping[str, str] = field(default_factory=dict)
    centring: Mapping[str, str] = field(default_factory=dict)  # column → "all" or "patients"


def complete_rows(
    formula: Formula, columns: Mapping[str, Array], patient: Array, rules: DesignRules
) -> Array:
    """(N,) True where every needed value is there."""
    usable = np.ones(patient.size, dtype=bool)
    for term in formula.terms:
        of_patients = any("patients" in _functions(variable, rules) for variable in term.variables)
        for variable in term.variables:
            needed = patient if of_patients else np.ones_like(patient)
            usable &= ~needed | is_present(_column(columns, variable.column))
    return usable & (is_present(_column(columns, formula.random)) if formula.random else True)


def build_design(
    formula: Formula,
    columns: Mapping[str, Array],
    patient: Array,
    rules: DesignRules = DesignRules(),
    *,
    rows: Array | None = None,
    splines: Mapping[str, Spline] | None = None,
) -> Design:
    """Build the design matrix of a formula over the complete rows (of ``rows`` where given).

    Raises
    ------
    UsageError
        R2S-E711 for a column that is not there, R2S-E712 for a spline of a category or a logarithm of ≤ 0.

    >>> table = {"age": np.array([30.0, 40, 50, 60]), "sex": np.array(["f", "m", "m", "f"], dtype=object)}
    >>> from r2star.group.formula import parse_formula
    >>> design = build_design(parse_formula("age + sex"), table, np.zeros(4, dtype=bool))
    >>> design.names, design.matrix[:, 2].tolist()
    (('intercept', 'age', 'sex[m]'), [0.0, 1.0, 1.0, 0.0])
    """
    used = complete_rows(formula, columns, patient, rules)
    if rows is not None:
        used &= rows
    builder = _Builder(
        {name: np.asarray(values)[used] for name, values in columns.items()}, patient[used], rules
    )
    builder.splines.update(splines or {})
    for term in formula.terms:
        builder.add(term)
    return Design(
        np.column_stack(builder.blocks), tuple(builder.names), tuple(builder.terms), used,
        np.column_stack(builder.active), builder.reference_levels, builder.splines,
    )  # fmt: skip


class _Builder:
    """Collects the columns term by term."""

    def __init__(self, columns: Mapping[str, Array], patient: Array, rules: DesignRules) -> None:
        self.columns, self.patient, self.rules = columns, patient, rules
        self.blocks = [np.ones((patient.size, 1))]
        self.active = [np.ones((patient.size, 1), dtype=bool)]
        self.names, self.terms = ["intercept"], ["intercept"]
        self.reference_levels: dict[str, str] = {}
        self.splines: dict[str, Spline] = {}

    def add(self, term: Term) -> None:
        block, active, names = (
            np.ones((self.patient.size, 1)),
            np.ones((self.patient.size, 1), dtype=bool),
            [""],
        )
        for variable in term.variables:
            values, applies, labels = self._coded(variable)
            block = (block[:, :, None] * values[:, None, :]).reshape(
                len(block), block.shape[1] * values.shape[1]
            )
            active = (
                (active[:, :, None] & applies[:, None, None]).repeat(values.shape[1], 2).reshape(block.shape)
            )
            names = [f"{left}:{right}" if left else right for left in names for right in labels]
        self.blocks.append(block)
        self.active.append(active)
        self.names += names
        self.terms += [term.label] * len(names)

    def _coded(self, variable: Variable) -> tuple[Array, Array, list[str]]:
        values, everyone = self.columns[variable.column], np.ones_like(self.patient)
        if values.dtype == object:
            if variable.functions:
                raise UsageError(
                    "E712", f"{variable.label}: {variable.column!r} is a category", "a number is needed"
                )
            return self._dummies(variable.column, values, everyone)
        functions = _functions(variable, self.rules)
        applies = self.patient if "patients" in functions else everyone
        number = np.asarray(values, dtype=float)
        for function in functions:
            if function == "spline":
                spline = self.splines.setdefault(variable.label, Spline.fitted_to(number, variable.spline_df))
                labels = [f"{variable.label}[{k + 1}]" for k in range(variable.spline_df)]
                return spline.basis(number), applies, labels
            number = _transformed(function, number, self.patient, applies, variable.label)
        return number[:, None], applies, [variable.label]

    def _dummies(self, column: str, values: Array, everyone: Array) -> tuple[Array, Array, list[str]]:
        levels = sorted(set(values.tolist()))
        reference = self.rules.references.get(column, "")
        if reference not in levels:
            # nobody has it: any other level serves, and contrasts with it are refused
            reference = levels[0] if levels else ""
        self.reference_levels[column] = reference
        others = [level for level in levels if level != reference]
        coded = (
            np.array([values == level for level in others], dtype=float).reshape(len(others), values.size).T
        )
        return coded, everyone, [f"{column}[{level}]" for level in others]


def _functions(variable: Variable, rules: DesignRules) -> tuple[str, ...]:
    """The written functions, or the centring that the model file gives the column."""
    centring = {"all": "centre", "patients": "patients"}.get(rules.centring.get(variable.column, ""), "")
    if not centring or set(variable.functions) & {"centre", "patients", "spline"}:
        return variable.functions
    return (*variable.functions, centring)


def _transformed(function: str, number: Array, patient: Array, applies: Array, label: str) -> Array:
    if function == "log":
        if (number[applies] <= 0).any():
            raise UsageError("E712", f"{label}: a value of 0 or less has no logarithm", fix="leave out log()")
        return np.log(np.where(number > 0, number, np.nan))
    if function == "centre":
        return number - number.mean()
    centre = number[patient].mean() if patient.any() else 0.0
    return np.where(patient, number - centre, 0.0)


def _column(columns: Mapping[str, Array], name: str) -> Array:
    if name not in columns:
        near = ", ".join(sorted(columns))
        raise UsageError("E711", f"no column {name!r}", f"there are {near}", "correct the model file")
    return np.asarray(columns[name])


def is_present(values: Array) -> Array:
    """(N,) True where a column has a value: a finite number, or text."""
    return np.asarray(values != "") if values.dtype == object else np.isfinite(values)
