"""The steps before anything is registered: the check of a unit's files, and the fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from r2star.bids.units import Unit
from r2star.settings import Settings
from r2star.workflows import interfaces as steps
from r2star.workflows.field import phase_rule, uncorrected_notices
from r2star.workflows.nodes import orientation_rule

#: Warnings of finding a unit that speak of its T1w.
ANATOMY_NOTICES = frozenset({"W205", "W206", "W207"})


def make_check(unit: Unit, settings: Settings, also: Sequence[Path] = ()) -> steps.CheckInputs:
    """The input check, with every echo of the unit and its sidecars; files that are ``also`` read are hashed too."""
    images = ("magnitude", "phase", "real", "imaginary")
    # without a registration, a T1w is not missed
    notices = [one for one in unit.notices if not (settings.fit_only and one.code in ANATOMY_NOTICES)]
    notices += uncorrected_notices(unit, settings)
    paths = {name: [str(echo.path) for echo in getattr(unit, name)] for name in images}
    echoes = (*unit.magnitude, *unit.phase, *unit.real, *unit.imaginary)
    sidecars = [one for echo in echoes for one in echo.sidecar_paths]
    return steps.CheckInputs(
        **{name: value for name, value in paths.items() if value or name == "magnitude"},
        echo_times_s=list(unit.echo_times_s),
        sidecars=[str(path) for path in dict.fromkeys([*sidecars, *also])],
        found_notices=json.dumps([notice.as_dict() for notice in notices]),
        **phase_rule(unit, settings),
        **orientation_rule(settings),
    )


def make_fit(unit: Unit, settings: Settings) -> steps.FitMaps:
    """The fit, with the unit's echo times."""
    return steps.FitMaps(
        echo_times_s=list(unit.echo_times_s),
        method=settings.fit_method,
    )
