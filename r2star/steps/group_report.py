"""Step: the cohort's page ``group.html`` beside the participants' pages. May import report and group."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from r2star import __version__
from r2star.errors import Notice
from r2star.files import write_text_atomically
from r2star.group.analyse import ModelResult
from r2star.group.design import is_present
from r2star.report.cohort import SECTIONS
from r2star.report.cohort_facts import CohortFacts, Covariate, UnitQuality
from r2star.report.facts import plain
from r2star.report.group_data import FigureData
from r2star.report.group_figures import FIGURES
from r2star.report.page import render_page, sections_of
from r2star.runs.records import read_marker
from r2star.steps.group_columns import Covariates
from r2star.steps.group_gather import Gathered
from r2star.steps.group_inputs import Inputs
from r2star.steps.group_quality import CohortQuality, gather_quality, write_quality
from r2star.steps.group_visits import Visits

SOFTWARE = ("numpy", "scipy", "statsmodels", "pyarrow", "matplotlib")


def write_group_report(
    inputs: Inputs,
    visits: Visits,
    covariates: Covariates,
    results: Sequence[ModelResult],
    notices: Sequence[Notice],
    shown: FigureData,
    output_dir: Path,
    settings: Mapping[str, str],
) -> Path:
    """Write the tables of quality and ``group.html``; equal inputs give equal files."""
    gathered, base = inputs.gathered, visits.baseline
    markers = {unit.label: read_marker(output_dir, unit.label) for unit in gathered.units}
    people = zip(visits.participant, covariates.patient, covariates.known_group)
    patient = {str(label): bool(is_patient) for label, is_patient, known in people if known}
    complete = {label: one for label, one in markers.items() if one is not None}
    segmentation = inputs.model.outcome.segmentation
    quality = gather_quality(gathered, complete, output_dir, segmentation, patient)
    write_quality(gathered, quality, output_dir / "group")
    known = base & covariates.known_group
    cohort = CohortFacts(
        version=__version__,
        n_units=len(gathered.units),
        n_participants=len({str(label) for label in visits.participant[base]}),
        n_controls=int((known & ~covariates.patient).sum()),
        n_patients=int((known & covariates.patient).sum()),
        n_unknown=int((base & ~covariates.known_group).sum()),
        reference=str(covariates.reference_level),
        covariates=_covariates(inputs, visits, covariates),
        quality=_units(gathered, quality, patient, output_dir),
        metrics={name: quality.titles[name] for name in quality.values},
        quality_tests=quality.tests,
        results=results,
        figures=_figures(output_dir / "group" / "figures"),
        exclusions=[(one.unit, one.reason, Path(one.path).name) for one in gathered.exclusions],
        missing=shown.missing,
        notices=[notice.as_dict() | {"path": ""} for notice in notices],
        settings=settings,
        software={name: metadata.version(name) for name in SOFTWARE},
    )
    return write_text_atomically(output_dir / "group.html", cohort_page(cohort))


def cohort_page(cohort: CohortFacts) -> str:
    """The page of a cohort."""
    sections = sections_of(SECTIONS, cohort, "cohort", "")
    return render_page(
        "group.html", title="Cohort: R2*", cohort=cohort, sections=sections, version=cohort.version
    )


def _units(
    gathered: Gathered, quality: CohortQuality, patient: Mapping[str, bool], output_dir: Path
) -> list[UnitQuality]:
    outlying: dict[int, set[str]] = {}
    for place, metric in quality.outliers:
        outlying.setdefault(place, set()).add(metric)
    units = []
    for place, unit in enumerate(gathered.units):
        person = unit.entities["sub"]
        group = "not known" if person not in patient else "patient" if patient[person] else "control"
        values = {name: float(one[place]) for name, one in quality.values.items()}
        page = f"sub-{person}.html" if (output_dir / f"sub-{person}.html").is_file() else ""
        out = frozenset(outlying.get(place, ()))
        units.append(UnitQuality(unit.label, group, quality.verdicts[place], values, out, page))
    return units


def _figures(folder: Path) -> dict[str, tuple[Path, str, str]]:
    paths = {name: folder / f"{name}.svg" for name in FIGURES}
    return {
        name: (path, FIGURES[name].caption, FIGURES[name].alternative)
        for name, path in paths.items()
        if path.is_file()
    }


def _covariates(inputs: Inputs, visits: Visits, covariates: Covariates) -> list[Covariate]:
    """Controls and patients at their first session; a covariate of patients alone has no values in controls."""
    base = visits.baseline & covariates.known_group
    rows = []
    for name in covariates.sources:
        values = covariates.columns[name]
        rule = inputs.model.columns.get(name)
        sides = [values[base & (covariates.patient == side)] for side in (False, True)]
        only_patients = rule is not None and rule.of_patients
        counted = sides[1:] if only_patients else sides
        missing = sum(int((~is_present(side)).sum()) for side in counted)
        controls = "" if only_patients else _told(sides[0])
        rows.append(
            Covariate(name, _own_unit(rule.unit if rule else ""), controls, _told(sides[1]), str(missing))
        )
    return rows


def _own_unit(unit: str) -> str:
    """The unit of a column as it stands in the table: models may take its logarithm, and name the unit of that.

    >>> _own_unit("log(mL)"), _own_unit("year")
    ('mL', 'year')
    """
    logged = re.fullmatch(r"log\((.+)\)", unit)
    return logged[1] if logged else unit


def _told(values: Any) -> str:
    known = values[is_present(values)]
    if not known.size:
        return "none"
    if values.dtype == object:
        levels, counts = np.unique(known.astype(str), return_counts=True)
        return ", ".join(f"{level} {count}" for level, count in zip(levels, counts))
    spread = f" ± {plain(float(known.std(ddof=1)))}" if known.size > 1 else ""
    return f"{plain(float(known.mean()))}{spread}"
