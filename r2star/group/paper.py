"""The two-step way of the published study, kept for replication. May import numpy, and what lies in this folder.

First the age slope of the controls is taken off everyone, then determinants are sought in patients, by
stepwise selection. Both steps have known faults (measured on simulated cohorts by
benchmarks/bench_group_recovery.py): the straight line bends duration effects low where ageing levels off,
and selection inflates what it selects. The joint model has neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.group.ols import LinearFit, estimate_contrast, fit_ols, rank_deficient

Array = NDArray[Any]

P_ENTER = 0.05
P_REMOVE = 0.10


@dataclass(frozen=True)
class StepwiseFit:
    """The selected candidates and the regression on them, intercept first; ``None`` with none selected."""

    selected: tuple[int, ...]
    fit: LinearFit | None


def correct_for_age(outcome: Array, age_years: Array, control: Array) -> tuple[Array, float]:
    """Take the controls' straight line off: y − b·(age − mean age of controls), and b.

    Parameters
    ----------
    outcome, age_years
        (N,) finite values.
    control
        (N,) True for controls; three or more.
    """
    if control.sum() < 3:
        raise ValueError("a line through the controls needs three of them")
    if control.all():
        raise ValueError("there are no patients")
    if np.ptp(age_years[control]) == 0:
        raise ValueError("the controls are all of one age")
    centred = age_years - age_years[control].mean()
    fit = fit_ols(np.column_stack([np.ones(int(control.sum())), centred[control]]), outcome[control])
    slope = float(fit.beta[1])
    return outcome - slope * centred, slope


def select_stepwise(
    candidates: Array, outcome: Array, p_enter: float = P_ENTER, p_remove: float = P_REMOVE
) -> StepwiseFit:
    """Forward selection with backward removal by classical p values (enter at ≤ 0.05, remove at ≥ 0.10).

    Parameters
    ----------
    candidates
        (N, K) finite columns.
    outcome
        (N,) finite values.
    """
    chosen: list[int] = []
    seen: set[tuple[int, ...]] = set()
    while tuple(sorted(chosen)) not in seen:
        seen.add(tuple(sorted(chosen)))
        trials = {
            k: _p_values(candidates, outcome, [*chosen, k])[-1]
            for k in range(candidates.shape[1])
            if k not in chosen
        }
        best = min(trials, key=lambda k: trials[k], default=-1)
        if best >= 0 and trials[best] <= p_enter:
            chosen.append(best)
        while chosen:
            p = _p_values(candidates, outcome, chosen)
            if max(p) < p_remove:
                break
            del chosen[int(np.argmax(p))]
    ordered = tuple(sorted(chosen))
    if not ordered:
        return StepwiseFit((), None)
    return StepwiseFit(ordered, fit_ols(_with_intercept(candidates[:, list(ordered)]), outcome))


def _with_intercept(columns: Array) -> Array:
    return np.column_stack([np.ones(columns.shape[0]), columns])


def _p_values(candidates: Array, outcome: Array, chosen: list[int]) -> list[float]:
    matrix = _with_intercept(candidates[:, chosen])
    if rank_deficient(matrix).any() or matrix.shape[0] <= matrix.shape[1]:
        return [1.0] * len(chosen)
    fit = fit_ols(matrix, outcome)
    weights = np.eye(matrix.shape[1])[1:]
    return [p if np.isfinite(p := estimate_contrast(fit, each, robust=False).p) else 1.0 for each in weights]
