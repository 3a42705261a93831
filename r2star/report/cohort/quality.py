"""Quality over all units: what stands out, with links, and whether quality goes with the group."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from r2star.report.cohort.effects import shown_p
from r2star.report.cohort_facts import CohortFacts
from r2star.report.facts import plain
from r2star.report.group_style import CONTROL_COLOUR, PATIENT_COLOUR, add_legend, marker, panel_grid, style
from r2star.report.pictures import svg_uri

_OTHER_COLOUR = "#7f7f7f"


def make(cohort: CohortFacts) -> dict[str, Any] | None:
    """A panel a measure, the outliers, the tests against the group, and the table of all units."""
    if not cohort.quality:
        return None
    return {
        "figure": _plot(cohort),
        "tests": [_test(cohort, test) for test in cohort.quality_tests],
        "verdict": confounded(cohort),
        "outliers": [_outlier(cohort, unit) for unit in cohort.quality if unit.outlying],
        "metrics": [(title, unit) for title, unit in (cohort.metrics[name] for name in cohort.metrics)],
        "units": [
            {
                "unit": unit,
                "cells": [
                    {"text": plain(unit.values.get(name, math.nan)), "out": name in unit.outlying}
                    for name in cohort.metrics
                ],
            }
            for unit in cohort.quality
        ],
    }


def confounded(cohort: CohortFacts) -> str:
    """Whether quality differs between the groups, in words."""
    if not cohort.quality_tests:
        return ""
    found = [test for test in cohort.quality_tests if test["p_adjusted"] < 0.05]
    n = len(cohort.quality_tests)
    if not found:
        return (
            f"Quality does not differ between patients and controls in any of {n} measures (Welch's t, Holm, "
            "p ≥ 0.05): there is no sign that it is confounded with the group."
        )
    named = "; ".join(
        f"{_uncapitalised(cohort.metrics[test['metric']][0])} ({plain(test['mean_patients'])} in patients, "
        f"{plain(test['mean_reference'])} in controls, p {_equals(test['p_adjusted'])})"
        for test in sorted(found, key=lambda test: float(test["p_adjusted"]))
    )
    return (
        f"Quality differs between patients and controls in {len(found)} of {n} measures (Welch's t, Holm): {named}. "
        "Effects of the group may be effects of quality: add the measure to the model as a covariate, and look at the "
        "units that stand out."
    )


def _uncapitalised(title: str) -> str:
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


def _equals(p: float) -> str:
    text = shown_p(p)
    return text if text.startswith("<") else f"= {text}"


def _test(cohort: CohortFacts, test: Any) -> dict[str, str]:
    title, unit = cohort.metrics[test["metric"]]
    return {
        "title": title, "unit": unit, "controls": plain(test["mean_reference"]),
        "patients": plain(test["mean_patients"]),
        "difference": plain(test["standardised_difference"], 2), "p": shown_p(test["p"]),
        "p_adjusted": shown_p(test["p_adjusted"]),
    }  # fmt: skip


def _outlier(cohort: CohortFacts, unit: Any) -> dict[str, Any]:
    told = [
        f"{cohort.metrics[name][0]} {plain(unit.values[name])} {cohort.metrics[name][1]}".rstrip()
        + f" (median {plain(_median(cohort, name))})"
        for name in cohort.metrics
        if name in unit.outlying
    ]
    return {"unit": unit, "told": told}


def _median(cohort: CohortFacts, name: str) -> float:
    values = [unit.values.get(name, math.nan) for unit in cohort.quality]
    return float(np.nanmedian(values)) if np.isfinite(values).any() else math.nan


def _plot(cohort: CohortFacts) -> str:
    """Every unit in order along x, a panel a measure; what stands out is ringed."""
    import matplotlib as mpl

    colours = {"control": CONTROL_COLOUR, "patient": PATIENT_COLOUR}
    with mpl.rc_context(style()):
        figure, axes = panel_grid(len(cohort.metrics), columns=3, width=3.0, height=1.6)
        for axis, (name, (title, unit)) in zip(axes, cohort.metrics.items()):
            values = np.array([one.values.get(name, math.nan) for one in cohort.quality])
            places = np.arange(1, values.size + 1)
            tones = [colours.get(one.group, _OTHER_COLOUR) for one in cohort.quality]
            axis.scatter(places, values, s=6, c=tones, alpha=0.7, linewidths=0)
            out = np.array([name in one.outlying for one in cohort.quality])
            axis.scatter(
                places[out], values[out], s=34, facecolors="none", edgecolors="black", linewidths=0.8
            )
            axis.axhline(_median(cohort, name), color="0.5", lw=0.7, zorder=0)
            axis.set_title(title)
            axis.set_xlabel("unit, in the order of the table")
            axis.set_ylabel(unit or "ratio")
        add_legend(
            figure,
            [
                marker(CONTROL_COLOUR, "controls"),
                marker(PATIENT_COLOUR, "patients"),
                marker("#000000", "stands out", filled=False),
            ],
        )
        return svg_uri(figure)
