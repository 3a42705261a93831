"""Step: calibrations and norms by name or by file, and iron in rows. May import iron, regions and errors."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from r2star.errors import UsageError
from r2star.iron.calibration import Calibration, convert_to_iron, parse_calibration
from r2star.iron.norms import Norms, parse_norms
from r2star.regions.summary import RegionSummary


def calibration_names() -> tuple[str, ...]:
    """Names of the calibrations that come along.

    >>> calibration_names()
    ('gelman1999-hallgren1958', 'langkammer2010')
    """
    return _names("calibrations")


def load_calibration(name_or_path: str) -> Calibration:
    """A calibration by name, or by the path of its TOML file (which ends in ``.toml``).

    Raises
    ------
    UsageError
        R2S-E733 where there is none, R2S-E730 where it can't be right.

    >>> load_calibration("gelman1999-hallgren1958").slope_per_s_per_mg_per_kg
    0.109
    """
    content, path = _read("calibrations", name_or_path)
    return parse_calibration(content, path)


def calibration_file(name_or_path: str) -> Path:
    """The TOML file of a calibration, by name or path.

    >>> calibration_file("langkammer2010").name
    'langkammer2010.toml'
    """
    if name_or_path.endswith(".toml"):
        return Path(name_or_path).absolute()
    return Path(str(resources.files("r2star.iron") / "calibrations" / f"{name_or_path}.toml"))


def load_norms(name_or_path: str) -> Norms:
    """Norms by name, or by the path of a TOML file.

    >>> sorted(load_norms("hallgren1958").curves)
    ['caudate', 'pallidum', 'putamen']
    """
    content, path = _read("norms", name_or_path)
    return parse_norms(content, path)


def _names(folder: str) -> tuple[str, ...]:
    files = (resources.files("r2star.iron") / folder).iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def _read(folder: str, name_or_path: str) -> tuple[Mapping[str, Any], str]:
    try:
        if name_or_path.endswith(".toml"):
            return tomllib.loads(Path(name_or_path).read_text(encoding="utf-8")), name_or_path
        if name_or_path in _names(folder):
            text = (resources.files("r2star.iron") / folder / f"{name_or_path}.toml").read_text(
                encoding="utf-8"
            )
            return tomllib.loads(text), name_or_path
    except OSError as error:
        raise UsageError(
            "E733", f"can't be read ({error.strerror})", "a TOML file", path=name_or_path
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError("E733", f"is no TOML: {error}", "a TOML file", path=name_or_path) from None
    known = ", ".join(_names(folder))
    raise UsageError(
        "E733",
        f"no {folder.removesuffix('s')} {name_or_path!r}",
        f"one of {known}, or the path of a .toml file",
    )


def iron_columns(calibration: Calibration, columns: Mapping[str, Any], regions: Any) -> dict[str, Any]:
    """Iron columns of a region table from its columns of numbers; text of ``calibration`` where iron is given."""
    import numpy as np

    iron = convert_to_iron(
        calibration,
        columns["r2star_median_per_s"],
        columns["r2star_stderr_per_s"],
        columns["volume_mm3"],
        regions,
    )
    named = np.where(np.isfinite(iron.mg_per_kg), calibration.name, "n/a").astype(object)
    return {
        "iron_mg_per_kg": iron.mg_per_kg,
        "iron_stderr_mg_per_kg": iron.stderr_mg_per_kg,
        "iron_mass_ug": iron.mass_ug,
        "calibration": named,
        "extrapolated": iron.extrapolated,
    }


def with_iron(calibration: Calibration, summaries: Sequence[RegionSummary]) -> list[RegionSummary]:
    """Rows with their iron; W475 where it lies outside the calibration's range."""
    import numpy as np

    columns = {
        "r2star_median_per_s": np.array([one.r2star_per_s["median"] for one in summaries]),
        "r2star_stderr_per_s": np.array([one.r2star_stderr_per_s for one in summaries]),
        "volume_mm3": np.array([one.volume_mm3 for one in summaries]),
    }
    found = iron_columns(calibration, columns, [one.region for one in summaries])
    beyond, named = found["extrapolated"], found["calibration"]
    return [
        replace(
            one,
            iron_mg_per_kg=float(found["iron_mg_per_kg"][k]),
            iron_stderr_mg_per_kg=float(found["iron_stderr_mg_per_kg"][k]),
            iron_mass_ug=float(found["iron_mass_ug"][k]),
            calibration="" if named[k] == "n/a" else str(named[k]),
            warnings=(*one.warnings, "W475") if beyond[k] else one.warnings,
        )
        for k, one in enumerate(summaries)
    ]
