"""What an atlas is: label images, a lookup and a template, described by one TOML file. May import errors only.

(first form: these types are the contract)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Region:
    """One region of one hemisphere: the labels that make it up, joined."""

    name: str                   # lower case with underscores: "substantia_nigra"
    hemisphere: str             # "L" or "R"
    indices: tuple[int, ...]    # label numbers in the label image


@dataclass(frozen=True)
class Atlas:
    """Label image, regions and template of one space. Files lie on one grid unless stated."""

    name: str                   # BIDS label: "CIT168"
    space: str                  # "MNI152NLin2009cAsym"
    labels: Path                # uint8/uint16 label image; label numbers are unique over structures and sides
    t1w: Path                   # whole-head T1w template
    brain_mask: Path            # of the template
    regions: tuple[Region, ...]
    subregions: tuple[Region, ...] = ()     # second segmentation: pallidum_external, thalamic nuclei, ...
    license: str = ""
    source: str = ""
    citation: str = ""
    sha256: str = ""            # of labels, template and description together


def load_atlas(name_or_path: str) -> Atlas:
    """Load an atlas that comes with the package by name, or any other by its TOML file."""
    raise NotImplementedError
