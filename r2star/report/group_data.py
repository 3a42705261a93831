"""What the figures of the second level show, as arrays. May import group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from r2star.group.analyse import ModelResult
from r2star.group.design import DesignRules
from r2star.group.rows import CohortData

R2STAR_LABEL = "R2* (1/s)"


@dataclass(frozen=True)
class AgeCurve:
    """A norm by age: expected value, its standard error and the SD of controls, all (K,)."""

    ages: Any
    expected: Any
    expected_se: Any
    sd: Any


@dataclass(frozen=True)
class FigureData:
    """What the figures show: the cohort, the two sides, the norms, the results, and who was left out why."""

    data: CohortData
    left: Mapping[str, Any]
    right: Mapping[str, Any]
    norms: Mapping[str, AgeCurve]
    results: Sequence[ModelResult]
    rules: DesignRules
    flow: Sequence[tuple[str, int, str]] = ()
    missing: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    label: str = R2STAR_LABEL

    def result(self, name: str) -> ModelResult | None:
        """The result of a model, if it was run."""
        return next((result for result in self.results if result.spec.name.partition("@")[0] == name), None)
