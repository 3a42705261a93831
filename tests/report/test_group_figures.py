"""What the figures of the second level show is what the tables say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from r2star.group.analyse import run_model
from r2star.group.formula import parse_formula
from r2star.group.joint import rules_of
from r2star.group.model import ColumnRule, Hypothesis, ModelSpec
from r2star.group.rows import CohortData
from r2star.report.group_data import AgeCurve, FigureData
from r2star.report.group_figures import FIGURES, write_figures
from r2star.simulate.cohort import simulate_cohort

COLUMNS = {
    "group": ColumnRule("group", "category", "exposure"),
    "site": ColumnRule("site", "category"),
    "age": ColumnRule("age", unit="year"),
    "edss": ColumnRule("edss", role="exposure", centre="patients", unit="point"),
}
RULES = rules_of(COLUMNS, "group", "control")


@pytest.fixture(scope="module")
def figures() -> FigureData:
    cohort = simulate_cohort(1, n_controls=30, n_patients=30, n_sites=3)
    n = cohort.is_patient.size
    cohort.participants["age"][:2] = [92.0, 95.0]
    columns = {
        **cohort.participants,
        "course": np.where(cohort.is_patient, cohort.participants["course"], "control").astype(object),
    }
    outcomes = {name: cohort.r2star_per_s[name][:, 0] for name in ("putamen", "pallidum")}
    people = np.array([f"p{k}" for k in range(n)], dtype=object)
    data = CohortData(columns, outcomes, cohort.is_patient, people, np.ones(n, dtype=bool))
    specs = [
        ModelSpec("group", parse_formula("age + site + group"), "", tests=(Hypothesis("group", "group"),)),
        ModelSpec(
            "determinants",
            parse_formula("age + site + group + edss"),
            "",
            tests=(Hypothesis("edss", "edss"),),
        ),
    ]
    results = [run_model(spec, data, RULES, COLUMNS) for spec in specs]
    ages = np.linspace(18, 95, 60)
    curve = AgeCurve(ages, 20 + 0.1 * ages, np.full(60, 0.3), np.full(60, 2.0))
    half = {name: cohort.asymmetry_per_s[name][:, 0] / 2 for name in outcomes}
    left = {name: values + half[name] for name, values in outcomes.items()}
    right = {name: values - half[name] for name, values in outcomes.items()}
    flow = (("units", 62, ""), ("complete units", 60, "2: crashed"))
    return FigureData(data, left, right, {"putamen": curve}, results, RULES, flow, {"edss": (3, 30)})


def _points(axis: object) -> np.ndarray:
    return np.concatenate(
        [np.asarray(each.get_offsets()) for each in axis.collections if len(each.get_offsets()) > 1]
    )  # type: ignore[attr-defined]


def test_age_figure_shows_everyone_and_nobody_as_older_than_89(figures: FigureData) -> None:
    (axis,) = [axis for axis in FIGURES["ages"].draw(figures).axes if axis.get_visible()]
    points = _points(axis)
    assert sorted(points[:, 1]) == pytest.approx(sorted(figures.data.outcomes["putamen"]))
    assert points[:, 0].max() == 89
    assert [label.get_text() for label in axis.get_xticklabels()][-1] == "89+"
    (curve,) = axis.lines
    assert curve.get_xdata().max() <= 89


def test_forest_shows_the_tables_numbers(figures: FigureData) -> None:
    group, edss = FIGURES["forest"].draw(figures).axes[:2]
    rows = {row["region"]: row for row in figures.results[0].rows if row["term"] == "group"}
    shown = [float(each.get_offsets()[0][0]) for each in group.collections]
    assert shown == pytest.approx([rows[region]["hedges_g"] for region in ("putamen", "pallidum")])
    ends = [line.get_xdata() for line in group.lines if len(set(line.get_xdata())) == 2]
    assert np.array(ends) == pytest.approx(
        np.array([[rows[r]["hedges_g_ci_low"], rows[r]["hedges_g_ci_high"]] for r in rows])
    )
    betas = [row["standardised_beta"] for row in figures.results[1].rows if row["term"] == "edss"]
    assert [float(each.get_offsets()[0][0]) for each in edss.collections] == pytest.approx(betas)


def test_partial_residuals_have_the_slope_of_the_model(figures: FigureData) -> None:
    axis = FIGURES["partial_residuals"].draw(figures).axes[0]
    x, y = _points(axis).T
    (row,) = [row for row in figures.results[1].rows if (row["region"], row["term"]) == ("putamen", "edss")]
    assert x @ y / (x @ x) == pytest.approx(row["estimate"])
    line = axis.lines[0]
    assert np.polyfit(line.get_xdata(), line.get_ydata(), 1)[0] == pytest.approx(row["estimate"])


def test_sites_have_no_mean_left_after_adjustment(figures: FigureData) -> None:
    before, after = FIGURES["sites"].draw(figures).axes[:2]
    means = [
        [np.mean(np.asarray(each.get_offsets())[:, 1]) for each in axis.collections]
        for axis in (before, after)
    ]
    assert np.abs(means[1]).max() < 1e-9
    assert np.abs(means[0]).max() > 0.1


def test_courses_and_sides_show_each_participant_once(figures: FigureData) -> None:
    for name, values in (("courses", figures.data.outcomes["putamen"]), ("sides", figures.left["putamen"])):
        axis = FIGURES[name].draw(figures).axes[0]
        assert sorted(_points(axis)[:, 1]) == pytest.approx(sorted(values)), name


def test_what_has_no_data_is_not_drawn_and_an_old_file_of_it_goes(
    figures: FigureData, tmp_path: Path
) -> None:
    (tmp_path / "follow_up.svg").write_text("old")
    written = write_figures(figures, tmp_path)
    assert not (tmp_path / "follow_up.svg").exists()
    assert {path.stem for path in written} == set(FIGURES) - {"follow_up"} | {"figures"}
    again = write_figures(figures, tmp_path / "again")
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]


def test_text_from_tables_is_not_taken_for_markup(figures: FigureData, tmp_path: Path) -> None:
    columns = dict(figures.data.columns)
    columns["course"] = np.where(columns["course"] == "control", "$x^2$<script>", "b_{1}").astype(object)
    data = CohortData(
        columns, figures.data.outcomes, figures.data.patient, figures.data.participant, figures.data.baseline
    )
    write_figures(FigureData(data, {}, {}, {}, [], RULES), tmp_path)
    assert "<script" not in (tmp_path / "courses.svg").read_text()
