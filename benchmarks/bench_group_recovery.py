"""Does the second level find what was planted? Recovery over simulated cohorts of the published study's size.

For each region and effect: bias in Monte-Carlo standard errors, coverage of the 95 % interval, rejection of planted
nulls; for the joint model, for a random site, and for the published two-step way. Then one cohort ten times as large.
Run: ``python benchmarks/bench_group_recovery.py --cohorts 1000``; ``--out FILE.json`` keeps the numbers.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np

from r2star.group.design import DesignRules, build_design
from r2star.group.formula import parse_formula
from r2star.group.mixed import fit_random_intercept
from r2star.group.multiplicity import adjust_holm
from r2star.group.ols import estimate_contrast, fit_ols
from r2star.group.paper import correct_for_age, select_stepwise
from r2star.simulate.cohort import Cohort, simulate_cohort
from r2star.simulate.truth import REGIONS

COVARIATES = " + ".join(
    f"patients({name})"
    for name in ("disease_duration_years", "edss", "log(lesion_volume_ml)", "cortical_volume_ml")
)
JOINT = parse_formula(f"spline(age, df=3) + sex + site + group + {COVARIATES}")
WITHOUT_SITE = parse_formula(f"spline(age, df=3) + sex + group + {COVARIATES}")
RULES = DesignRules(references={"group": "control"})
EFFECTS = {
    "group": "group[patient]",
    "disease_duration_years": "patients(disease_duration_years)",
    "edss": "patients(edss)",
    "log_lesion_volume": "patients(log(lesion_volume_ml))",
    "cortical_volume_ml": "patients(cortical_volume_ml)",
}
CANDIDATES = ("disease_duration_years", "edss", "log_lesion_volume", "cortical_volume_ml")


def joint_estimates(cohort: Cohort, region: str) -> dict[str, tuple[float, float, float, float]]:
    design = build_design(JOINT, cohort.participants, cohort.is_patient, RULES)
    fit = fit_ols(design.matrix, cohort.r2star_per_s[region][design.rows, 0])
    found = {}
    for effect, name in EFFECTS.items():
        one = estimate_contrast(fit, np.eye(len(design.names))[design.names.index(name)])
        found[effect] = (one.estimate, one.ci_low, one.ci_high, one.p)
    return found


def mixed_estimates(cohort: Cohort, region: str) -> tuple[dict[str, tuple[float, float, float, float]], bool]:
    design = build_design(WITHOUT_SITE, cohort.participants, cohort.is_patient, RULES)
    outcome = cohort.r2star_per_s[region][design.rows, 0]
    fit = fit_random_intercept(design.matrix, outcome, cohort.participants["site"][design.rows])
    found = {}
    for effect, name in EFFECTS.items():
        one = fit.estimate(np.eye(len(design.names))[design.names.index(name)])
        found[effect] = (one.estimate, one.ci_low, one.ci_high, one.p)
    return found, fit.singular


def paper_estimates(
    cohort: Cohort, region: str
) -> tuple[dict[str, tuple[float, float, float, float]], dict[str, float]]:
    """Regression of all candidates in patients, and what stepwise selection chose."""
    people, patient = cohort.participants, cohort.is_patient
    corrected, _ = correct_for_age(cohort.r2star_per_s[region][:, 0], people["age"], ~patient)
    columns = [
        people["disease_duration_years"],
        people["edss"],
        np.log(people["lesion_volume_ml"]),
        people["cortical_volume_ml"],
    ]
    candidates = np.column_stack(columns)[patient]
    fit = fit_ols(np.column_stack([np.ones(len(candidates)), candidates]), corrected[patient])
    found = {}
    for k, effect in enumerate(CANDIDATES):
        one = estimate_contrast(fit, np.eye(5)[k + 1], robust=False)
        found[effect] = (one.estimate, one.ci_low, one.ci_high, one.p)
    chosen = select_stepwise(candidates, corrected[patient])
    selected = {} if chosen.fit is None else {
        CANDIDATES[k]: float(chosen.fit.beta[place + 1]) for place, k in enumerate(chosen.selected)
    }  # fmt: skip
    return found, selected


class Tally:
    """Errors, coverage and rejections of one way over the cohorts."""

    def __init__(self) -> None:
        self.errors: dict[tuple[str, str], list[float]] = {}
        self.covered: dict[tuple[str, str], list[bool]] = {}
        self.rejected: dict[tuple[str, str], list[bool]] = {}
        self.truths: dict[tuple[str, str], list[float]] = {}

    def add(
        self, region: str, found: dict[str, tuple[float, float, float, float]], truth: dict[str, float]
    ) -> None:
        """Count one cohort."""
        for effect, (estimate, low, high, p) in found.items():
            key = (region, effect)
            self.errors.setdefault(key, []).append(estimate - truth[effect])
            self.covered.setdefault(key, []).append(low <= truth[effect] <= high)
            self.rejected.setdefault(key, []).append(p < 0.05)
            self.truths.setdefault(key, []).append(truth[effect])

    def rows(self) -> list[dict[str, object]]:
        """Bias, coverage and rejections of each region and effect."""
        rows = []
        for (region, effect), errors in self.errors.items():
            error, truth = np.array(errors), float(np.mean(self.truths[region, effect]))
            mc = float(error.std(ddof=1) / math.sqrt(error.size))
            rows.append(
                {
                    "region": region, "effect": effect, "truth": truth, "bias": float(error.mean()),
                    "bias_in_mc_se": float(error.mean()) / mc,
                    "bias_percent": 100 * float(error.mean()) / truth if truth else None,
                    "coverage": float(np.mean(self.covered[region, effect])),
                    "rejected": float(np.mean(self.rejected[region, effect])),
                }
            )  # fmt: skip
        return rows


def recover(n_cohorts: int, *, balanced: bool) -> dict[str, object]:
    joint, mixed, paper = Tally(), Tally(), Tally()
    inflation: dict[tuple[str, str], list[float]] = {}
    singular = []
    for seed in range(n_cohorts):
        cohort = simulate_cohort(seed, balanced=balanced)
        for region in REGIONS:
            truth = cohort.truth["effects_per_s"][region]
            joint.add(region, joint_estimates(cohort, region), truth)
            found, is_singular = mixed_estimates(cohort, region)
            singular.append(is_singular)
            mixed.add(region, found, truth)
            found, selected = paper_estimates(cohort, region)
            paper.add(region, found, truth)
            for effect, estimate in selected.items():
                if truth[effect]:
                    inflation.setdefault((region, effect), []).append(100 * (estimate / truth[effect] - 1))
    chosen = {
        f"{region} {effect}": float(np.mean(values)) for (region, effect), values in sorted(inflation.items())
    }
    return {
        "cohorts": n_cohorts, "balanced": balanced, "joint": joint.rows(), "random_site": mixed.rows(),
        "singular_share": float(np.mean(singular)), "paper": paper.rows(), "stepwise_inflation_percent": chosen,
    }  # fmt: skip


def large_cohort(seed: int = 11) -> dict[str, object]:
    """Ten times the study: each planted effect within 3 standard errors, and the published pattern of findings."""
    cohort = simulate_cohort(seed, n_controls=810, n_patients=970)
    rows, raised = [], {}
    design = build_design(
        parse_formula("spline(age, df=3) + sex + site + group"), cohort.participants, cohort.is_patient, RULES
    )
    for region in REGIONS:
        fit = fit_ols(design.matrix, cohort.r2star_per_s[region][design.rows, 0])
        raised[region] = estimate_contrast(fit, np.eye(len(design.names))[-1])
        truth = cohort.truth["effects_per_s"][region]
        for effect, (estimate, low, high, p) in joint_estimates(cohort, region).items():
            se = (high - low) / 2 / 1.9613
            rows.append({"region": region, "effect": effect, "truth": truth[effect], "estimate": estimate,
                         "off_in_se": (estimate - truth[effect]) / se, "p": p})  # fmt: skip
    adjusted = adjust_holm(np.array([raised[region].p for region in REGIONS]))
    findings = {
        "raised": [r for r, q in zip(REGIONS, adjusted) if q < 0.05 and raised[r].estimate > 0],
        **{
            effect: [row["region"] for row in rows if row["effect"] == effect and row["p"] < 0.05 / 6]
            for effect in CANDIDATES
        },
    }
    return {
        "rows": rows,
        "worst_off_in_se": max(abs(float(row["off_in_se"])) for row in rows),
        "findings": findings,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cohorts", type=int, default=1000)
    parser.add_argument("--unbalanced", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result = recover(options.cohorts, balanced=not options.unbalanced)
    for way in ("joint", "random_site", "paper"):
        print(f"\n{way}: {options.cohorts} cohorts")
        print(
            f"{'region':18}{'effect':26}{'truth':>8}{'bias':>9}{'in SE':>7}{'bias %':>8}{'covered':>9}{'p<.05':>8}"
        )
        for row in result[way]:
            percent = "" if row["bias_percent"] is None else f"{row['bias_percent']:.1f}"
            print(f"{row['region']:18}{row['effect']:26}{row['truth']:8.3f}{row['bias']:9.4f}{row['bias_in_mc_se']:7.1f}"
                  f"{percent:>8}{row['coverage']:9.3f}{row['rejected']:8.3f}")  # fmt: skip
    print(f"\nsingular fits with a random site: {100 * result['singular_share']:.1f} %")
    print("effects that stepwise selection chose are larger than the truth by (%):")
    for name, percent in result["stepwise_inflation_percent"].items():
        print(f"  {name:45}{percent:6.0f}")
    result["large"] = large_cohort()
    print(f"\nten times as large: worst {result['large']['worst_off_in_se']:.2f} standard errors off")
    for finding, regions in result["large"]["findings"].items():
        print(f"  {finding:24}{', '.join(regions) or 'none'}")
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
