"""Files about the project agree with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import r2star

ROOT = Path(__file__).parents[2]


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert (
        re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [project["version"]] == [r2star.__version__]
    )


def test_the_oldest_lock_holds_the_lower_bounds() -> None:
    """Each direct dependency stands in the lock at a version that begins with its lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (ROOT / "requirements-oldest.lock").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z0-9-]+)==([0-9.]+)", lock, re.MULTILINE))
    bounds = dict(re.match(r"([a-z0-9-]+)>=([0-9.]+)", one).groups() for one in project["dependencies"])  # type: ignore[union-attr]
    assert len(bounds) > 10
    assert {name: locked[name] for name in bounds if not f"{locked[name]}.".startswith(bounds[name])} == {}
