"""Methods of the second level in sentences, from the models that were run, with references."""

from __future__ import annotations

from typing import Any

from r2star.report.cohort.effects import families
from r2star.report.cohort_facts import CohortFacts
from r2star.report.methods import references_in

_SENSITIVITIES = {
    "robust": "Huber's M-estimation [Huber 1964]",
    "random_site": "a random intercept of site in place of its fixed effects",
    "combat": "ComBat harmonisation of sites [Fortin 2018]",
    "leave_one_site": "each site left out in turn",
    "imputation": "multiple imputation of missing covariates, joined by Rubin's rules [Rubin 1987]",
}
_KINDS = {
    "joint": "one linear model a region over all participants at their first session, with HC3 standard errors "
    "[MacKinnon 1985]; covariates that only patients have were centred in patients and set to 0 in controls",
    "longitudinal": "a mixed model a region with a random intercept of the participant, by restricted maximum "
    "likelihood",
    "paper": "the two-step way of the source study (R2* corrected for age by a line fitted to controls, then stepwise "
    "regression in patients) [Ropele 2014], for replication only: its bias is known",
}  # fmt: skip
_ADJUSTMENTS = {
    "holm": "Holm [Holm 1979]",
    "bh": "Benjamini and Hochberg [Benjamini 1995]",
    "none": "nothing",
}


def make(cohort: CohortFacts) -> dict[str, Any] | None:
    """The text and its references."""
    text = cohort_methods(cohort)
    return {"text": text, "references": references_in([text])}


def cohort_methods(cohort: CohortFacts) -> str:
    """The methods of the second level in one paragraph: exactly the models that were run."""
    sentences = [
        f"Region tables of {cohort.n_units} units of {cohort.n_participants} participants were analysed with r2star "
        f"{cohort.version}; the reference group was {cohort.reference}."
    ]
    for kind in dict.fromkeys(result.spec.kind for result in cohort.results):
        named = [result.spec for result in cohort.results if result.spec.kind == kind]
        listed = "; ".join(f"{spec.name} ({spec.formula_text})" for spec in named)
        sentences.append(f"By {_KINDS.get(kind, kind)}, these models were fitted: {listed}.")
    splines = any("spline(" in result.spec.formula_text for result in cohort.results)
    if splines:
        sentences.append("Splines are natural cubic.")
    used = dict.fromkeys(name for result in cohort.results for name in result.spec.sensitivity)
    if used:
        told = "; ".join(_SENSITIVITIES.get(name, name.replace("_", " ")) for name in used)
        sentences.append(f"Sensitivity analyses: {told}.")
    ways: dict[str, list[str]] = {}
    for family, (adjustment, size) in families(cohort.results).items():
        ways.setdefault(adjustment, []).append(f"{family} ({size})")
    for adjustment, named_families in ways.items():
        sentences.append(
            f"p values were adjusted by {_ADJUSTMENTS.get(adjustment, adjustment)} within each family of tests "
            f"(size): {', '.join(named_families)}."
        )
    if cohort.quality_tests:
        sentences.append(
            f"Quality was compared between the groups in {len(cohort.quality_tests)} measures by Welch's t test, "
            "adjusted by Holm [Holm 1979]."
        )
    if cohort.settings.get("iron"):
        sentences.append(f"Iron was derived from R2* by the calibration {cohort.settings['iron']}.")
    return " ".join(sentences)
