"""What every sensitivity analysis is given, and how its rows begin. May import numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.group.design import DesignRules
from r2star.group.joint import RegionFit
from r2star.group.model import ColumnRule, Hypothesis, ModelSpec
from r2star.group.rows import CohortData, Row, counted

Array = NDArray[Any]


@dataclass(frozen=True)
class Context:
    """What every sensitivity analysis gets: the model, its data and rules, and the main fits by region."""

    spec: ModelSpec
    data: CohortData
    rules: DesignRules
    columns: Mapping[str, ColumnRule]
    fits: Mapping[str, RegionFit]
    seed: int = 20140


def base_row(context: Context, analysis: str, region: str, test: Hypothesis) -> Row:
    """The names of a row of an analysis."""
    contrast = test.contrast.label if test.contrast else ""
    return {
        "model": f"{context.spec.name}:{analysis}",
        "region": region,
        "term": test.label,
        "contrast": contrast,
    }


def weights_of_test(fit: RegionFit, test: Hypothesis) -> Array | None:
    """Weights on the full design of a single-coefficient test; None where it is a joint one or names nothing."""
    if test.contrast is not None:
        return fit.design.contrast(test.contrast.parts)
    columns = fit.design.columns_of(test.term)
    return np.eye(len(fit.design.names))[columns[0]] if len(columns) == 1 else None


def counted_row(context: Context, analysis: str, fit: RegionFit, test: Hypothesis) -> Row:
    """The names and the counts of a row that used the same units as the main model."""
    row = base_row(context, analysis, fit.region, test)
    return counted(row, context.data.patient[fit.design.rows], context.data.patient.size)
