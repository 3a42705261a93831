"""What the cohort's page shows: plain values and the results of the models. May import group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2star.group.analyse import ModelResult


@dataclass(frozen=True)
class Covariate:
    """One line of the cohort table: values of controls and of patients, as text."""

    name: str
    unit: str
    controls: str
    patients: str
    missing: str


@dataclass(frozen=True)
class UnitQuality:
    """A unit in the table of quality: its measures by name, its verdict, the page that it links to, if there is one."""

    label: str
    group: str
    verdict: str
    values: Mapping[str, float]
    outlying: frozenset[str] = frozenset()
    page: str = ""


@dataclass(frozen=True)
class CohortFacts:
    """Everything that is shown of a cohort."""

    version: str
    n_units: int
    n_participants: int
    n_controls: int
    n_patients: int
    n_unknown: int
    reference: str
    covariates: Sequence[Covariate] = ()
    quality: Sequence[UnitQuality] = ()
    metrics: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    quality_tests: Sequence[Mapping[str, Any]] = ()
    results: Sequence[ModelResult] = ()
    figures: Mapping[str, tuple[Path, str, str]] = field(default_factory=dict)
    exclusions: Sequence[tuple[str, str, str]] = ()
    missing: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    notices: Sequence[Mapping[str, str]] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)
