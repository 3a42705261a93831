"""The tests of each model with what it asks in one sentence, what it found in another, and its table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from r2star.group.analyse import ModelResult
from r2star.group.rows import is_number
from r2star.report.cohort_facts import CohortFacts
from r2star.report.facts import in_prose, plain

_ADJUSTED = {"holm": "Holm", "bh": "Benjamini–Hochberg", "none": "no adjustment"}
_MOST_NAMED = 6
_SIZES = (("hedges_g", "g"), ("standardised_beta", "β"), ("partial_r", "r"))


def make(cohort: CohortFacts) -> dict[str, Any] | None:
    """A block a model."""
    models = [_block(result) for result in cohort.results if any(row.get("family") for row in result.rows)]
    return {"models": models} if models else None


def _block(result: ModelResult) -> dict[str, Any]:
    own = [row for row in result.rows if row.get("family") and ":" not in str(row["model"])]
    others = [row for row in result.rows if row.get("family") and ":" in str(row["model"])]
    return {
        "name": result.spec.name,
        "question": result.spec.question,
        "formula": result.spec.formula_text,
        "finding": finding_of(result),
        "rows": [_shown(row) for row in own],
        "others": [_shown(row) for row in others],
    }


def finding_of(result: ModelResult) -> str:
    """What a model found, in one sentence, without a word on causes."""
    tested = [
        row for row in result.rows
        if row.get("family") and ":" not in str(row["model"]) and is_number(row.get("p_adjusted"))
    ]  # fmt: skip
    if not tested:
        refused = ", ".join(result.refused)
        return f"No test could be made{f' ({refused})' if refused else ''}."
    found = [row for row in tested if row["p_adjusted"] < 0.05]
    how = " and ".join(
        dict.fromkeys(_ADJUSTED.get(str(row["adjustment"]), str(row["adjustment"])) for row in tested)
    )
    if not found:
        return (
            f"None of {len(tested)} tests has p < 0.05 after adjustment ({how}); "
            "that does not show that there is no effect."
        )
    found.sort(key=lambda row: row["p_adjusted"])
    named = "; ".join(_told(row) for row in found[:_MOST_NAMED])
    more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return f"{len(found)} of {len(tested)} tests have p < 0.05 after adjustment ({how}): {named}{more}."


def _told(row: Mapping[str, Any]) -> str:
    term = _term(row)
    value = (
        f" {plain(float(row['estimate']))} {row.get('unit', '')}".rstrip()
        if is_number(row.get("estimate"))
        else ""
    )
    return f"{in_prose(str(row['region'])).lower()}, {term}{value}"


def _term(row: Mapping[str, Any]) -> str:
    return str(row["term"]).replace("_", " ")


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    low, high = row.get("ci_low"), row.get("ci_high")
    sizes = [f"{symbol} {plain(float(row[name]), 2)}" for name, symbol in _SIZES if is_number(row.get(name))]
    known = is_number(low) and is_number(high)
    adjusted = float(row["p_adjusted"]) if is_number(row.get("p_adjusted")) else math.nan
    return {
        "model": str(row["model"]), "region": in_prose(str(row["region"])), "term": _term(row), "n": row.get("n", ""),
        "estimate": plain(float(row["estimate"])) if is_number(row.get("estimate")) else "",
        "interval": f"{plain(float(row['ci_low']))} to {plain(float(row['ci_high']))}" if known else "",
        "unit": str(row.get("unit", "")), "effect": next(iter(sizes), ""),
        "p": shown_p(float(row["p"])) if is_number(row.get("p")) else "n/a",
        "p_adjusted": shown_p(adjusted), "sort_p": "" if math.isnan(adjusted) else f"{adjusted:.6g}",
        "found": adjusted < 0.05, "status": str(row.get("status", "")),
    }  # fmt: skip


def shown_p(p: float) -> str:
    """A p value as papers write it.

    >>> shown_p(0.0321), shown_p(1e-9), shown_p(math.nan)
    ('0.032', '< 0.001', 'n/a')
    """
    if not math.isfinite(p):
        return "n/a"
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def families(results: Sequence[ModelResult]) -> dict[str, tuple[str, int]]:
    """Family → (adjustment, number of tests), over all models."""
    found: dict[str, tuple[str, int]] = {}
    for result in results:
        for row in result.rows:
            if row.get("family") and row.get("family_size"):
                key = f"{result.spec.name}: {row['family']}"
                found[key] = (str(row["adjustment"]), int(row["family_size"]))
    return found
