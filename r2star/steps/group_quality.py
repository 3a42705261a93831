"""Step: quality over all units as one table, its outliers, and whether it goes with the group. May import group.

What the region tables tell is there for every unit; what ``desc-quality_stats.tsv`` tells of the brain, where the
first level wrote it.
"""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from r2star.bids.sidecars import write_json
from r2star.group.multiplicity import adjust_holm
from r2star.regions.quality import METRICS, VERDICTS, worst
from r2star.runs.records import Marker
from r2star.steps.group_gather import Gathered
from r2star.steps.group_tables import write_rows

#: Units farther than this many scaled median absolute deviations from the median stand out.
OUTLIER_MADS = 4.0
LEAST_IN_GROUP = 3
#: These follow R2* itself, so that an effect of the group on R2* would look like one on quality: not tested.
FOLLOWS_R2STAR = frozenset({"regions_snr_last_echo", "regions_stderr_per_s", "r2star_stderr_per_s"})

#: From the region tables: metric → (column, how regions are joined, title, unit).
FROM_REGIONS: Mapping[str, tuple[str, str, str, str]] = {
    "regions_snr_first_echo": ("snr_first_echo", "median", "SNR of the regions, first echo", ""),
    "regions_snr_last_echo": ("snr_last_echo", "median", "SNR of the regions, last echo", ""),
    "regions_fit_residual": ("fit_residual", "median", "Fit residual of the regions, share of S0", ""),
    "regions_stderr_per_s": (
        "r2star_stderr_per_s", "median", "Standard error of the regions' R2*", "1/s",
    ),
    "regions_gradient_bias_per_s": (
        "gradient_bias_per_s", "median", "Field gradient bias of the regions", "1/s",
    ),
    "regions_coverage": ("coverage", "min", "Least coverage of a region", ""),
}  # fmt: skip


class CohortQuality(NamedTuple):
    """Metric → values (U,), titles and units of metrics, worst verdict of each unit, outliers, and the tests."""

    values: Mapping[str, Any]
    titles: Mapping[str, tuple[str, str]]
    verdicts: Sequence[str]
    outliers: Sequence[tuple[int, str]]
    tests: Sequence[dict[str, Any]]


def gather_quality(
    gathered: Gathered,
    markers: Mapping[str, Marker],
    output_dir: Path,
    segmentation: str,
    patient: Mapping[str, bool],
) -> CohortQuality:
    """Measures of every unit; ``patient`` says of each participant whose group is known whether it is a patient."""
    values = _of_regions(gathered, segmentation)
    titles = {name: (one[2], one[3]) for name, one in FROM_REGIONS.items()}
    brain, verdicts = _of_brains(gathered, markers, output_dir)
    values |= brain
    titles |= {name: (METRICS[name].title, METRICS[name].unit) for name in brain}
    values = {name: one for name, one in values.items() if np.isfinite(one).any()}
    tests = compare_groups(values, [unit.entities["sub"] for unit in gathered.units], patient)
    return CohortQuality(values, titles, verdicts, find_outliers(values), tests)


def _of_regions(gathered: Gathered, segmentation: str) -> dict[str, Any]:
    n = len(gathered.units)
    hemisphere = np.array(gathered.rows["hemisphere"].to_pylist(), dtype=object)
    used = hemisphere != "LR"
    if segmentation:
        used &= np.array(gathered.rows["segmentation"].to_pylist(), dtype=object) == segmentation
    owner = np.asarray(gathered.unit_of_row)[used]
    found = {}
    for metric, (column, how, _, _) in FROM_REGIONS.items():
        numbers = np.asarray(gathered.numbers[column], float)[used] if column in gathered.numbers else None
        if numbers is None:
            continue
        order = np.argsort(owner, kind="stable")
        ends = np.searchsorted(owner[order], np.arange(n + 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a unit without a value has NaN
            join = np.nanmedian if how == "median" else np.nanmin
            parts = [numbers[order][low:high] for low, high in pairwise(ends)]
            found[metric] = np.array([join(one) if one.size else math.nan for one in parts], float)
    return found


def _of_brains(
    gathered: Gathered, markers: Mapping[str, Marker], output_dir: Path
) -> tuple[dict[str, Any], list[str]]:
    """Measures of the brain from the units' own tables, and the worst verdict of each; n/a without a table."""
    n = len(gathered.units)
    found: dict[str, Any] = {}
    verdicts = ["n/a"] * n
    for place, unit in enumerate(gathered.units):
        marker = markers.get(unit.label)
        names = [one for one in marker.outputs if one.endswith("_desc-quality_stats.tsv")] if marker else []
        if not names or ".." in Path(names[0]).parts:
            continue
        try:
            text = (output_dir / names[0]).read_text(encoding="utf-8")
        except OSError:
            continue
        rows = list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
        verdicts[place] = worst(row["verdict"] for row in rows if row["verdict"] in VERDICTS)
        for row in rows:
            if row["part"] == "brain" and row["metric"] in METRICS and row["value"] != "n/a":
                found.setdefault(row["metric"], np.full(n, math.nan))[place] = float(row["value"])
    return found, verdicts


def find_outliers(values: Mapping[str, Any]) -> list[tuple[int, str]]:
    """(unit, metric) of what stands out by `OUTLIER_MADS`, farthest first.

    >>> found = find_outliers({"snr": np.array([20.0, 21.0, 19.0, 20.5, 5.0, 19.5])})
    >>> [(unit, metric) for unit, metric in found]
    [(4, 'snr')]
    """
    found = []
    for metric, one in values.items():
        known = one[np.isfinite(one)]
        if known.size < 5:
            continue
        middle = float(np.median(known))
        spread = 1.4826 * float(np.median(np.abs(known - middle)))
        if spread <= 0:
            continue
        with np.errstate(invalid="ignore"):
            distance = np.abs(one - middle) / spread
        found += [(float(distance[k]), int(k), metric) for k in np.flatnonzero(distance > OUTLIER_MADS)]
    return [
        (unit, metric) for _, unit, metric in sorted(found, key=lambda item: (-item[0], item[1], item[2]))
    ]


def compare_groups(
    values: Mapping[str, Any], participants: Sequence[str], patient: Mapping[str, bool]
) -> list[dict[str, Any]]:
    """Whether patients and controls differ in quality: Welch's t on means of participants, Holm over the measures.

    Several units of one participant count once. Without three participants in both groups there is no test.
    """
    people = sorted(set(participants) & set(patient))
    owner = np.array(participants, dtype=object)
    tests = [
        test
        for metric, one in values.items()
        if metric not in FOLLOWS_R2STAR
        and (test := _compare(metric, one, owner, people, patient)) is not None
    ]
    if not tests:
        return []
    adjusted = adjust_holm(np.array([test["p"] for test in tests], float))
    return [test | {"p_adjusted": float(p)} for test, p in zip(tests, adjusted)]


def _compare(
    metric: str, one: Any, owner: Any, people: Sequence[str], patient: Mapping[str, bool]
) -> dict[str, Any] | None:
    """One measure by Welch's t; None where there is nothing to test."""
    from scipy.stats import ttest_ind

    means = {}
    for person in people:
        own = one[owner == person]
        own = own[np.isfinite(own)]
        if own.size:
            means[person] = float(own.mean())
    groups = [
        np.array([value for person, value in means.items() if patient[person] is side])
        for side in (False, True)
    ]
    # what is the same in all, to rounding, can't differ between groups
    alike = any(np.ptp(group) <= 1e-9 * np.abs(one[np.isfinite(one)]).max() for group in groups if group.size)
    if alike or min(group.size for group in groups) < LEAST_IN_GROUP:
        return None
    result = ttest_ind(groups[1], groups[0], equal_var=False)
    pooled = math.sqrt((groups[0].var(ddof=1) + groups[1].var(ddof=1)) / 2)
    difference = float(groups[1].mean() - groups[0].mean())
    return {
        "metric": metric, "n_reference": groups[0].size, "n_patients": groups[1].size,
        "mean_reference": float(groups[0].mean()), "mean_patients": float(groups[1].mean()),
        "difference": difference, "standardised_difference": difference / pooled if pooled > 0 else math.nan,
        "statistic": float(result.statistic), "df": float(result.df), "p": float(result.pvalue),
    }  # fmt: skip


_TEST_COLUMNS = {
    "metric": "What is measured, see quality.json",
    "n_reference": "Controls",
    "n_patients": "Patients",
    "mean_reference": "Mean of controls",
    "mean_patients": "Mean of patients",
    "difference": "Patients - controls",
    "standardised_difference": "Difference in units of the mean SD of both groups",
    "statistic": "Welch's t",
    "df": "Its degrees of freedom",
    "p": "Two-sided p",
    "p_adjusted": "p adjusted over the measures by Holm",
}


def write_quality(gathered: Gathered, quality: CohortQuality, folder: Path) -> None:
    """``quality.tsv``: a row a unit; ``quality-group_tests.tsv``: a row a measure; with their sidecars."""
    columns = ["unit", "verdict", *quality.values]
    rows = [
        [unit.label, quality.verdicts[k], *(values[k] for values in quality.values.values())]
        for k, unit in enumerate(gathered.units)
    ]
    write_rows(columns, rows, folder / "quality.tsv")
    told: dict[str, Any] = {
        "unit": {"Description": "Unit"},
        "verdict": {"Description": "Verdict of its report"},
    }
    for name in quality.values:
        title, unit = quality.titles[name]
        text = METRICS[name].description if name in METRICS else title
        told[name] = {"Description": text} | ({"Units": unit} if unit else {})
    write_json(folder / "quality.json", told)
    path = folder / "quality-group_tests.tsv"
    write_rows(list(_TEST_COLUMNS), [[test[name] for name in _TEST_COLUMNS] for test in quality.tests], path)
    write_json(
        path.with_suffix(".json"), {name: {"Description": text} for name, text in _TEST_COLUMNS.items()}
    )
