"""What a table is of: the regions of an atlas or of a participant's own segmentation. May import atlas and images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2star.atlas import load_atlas
from r2star.atlas.labels import read_labels
from r2star.atlas.lookup import WHITE_MATTER
from r2star.atlas.model import Region
from r2star.images import Grid
from r2star.steps.coverage import LabelVolumes, volumes_in_view

#: What white matter is called where lesions are known and left out of it.
NORMAL_APPEARING = "normal_appearing_white_matter"


@dataclass(frozen=True)
class Segmentation:
    """Parts of a table by their name in column ``segmentation``, the table's stem, and volumes where known."""

    stem: str  # "atlas-CIT168", "seg-aseg"
    parts: Mapping[str, Sequence[Region]]
    volumes: LabelVolumes | None


def atlas_segmentation(name: str, to_template: Sequence[Path], grid: Grid) -> Segmentation:
    """An atlas' regions and sub-regions; volumes where the transforms to its template are given."""
    atlas = load_atlas(name)
    volumes = volumes_in_view(read_labels(atlas.labels), to_template, grid) if to_template else None
    parts: dict[str, Sequence[Region]] = {
        atlas.name: atlas.regions,
        f"{atlas.name}subregions": atlas.subregions,
    }
    return Segmentation(f"atlas-{atlas.name}", parts, volumes)


def own_segmentation(described: Path, *, with_lesions: bool) -> Segmentation:
    """A participant's own segmentation, as `adopt_segmentation` describes it.

    Where lesions are asked for, white matter is the normal-appearing one: lesions are left out of it.
    """
    told = json.loads(described.read_text())
    regions = [
        Region(NORMAL_APPEARING if name == WHITE_MATTER and with_lesions else name, side, tuple(indices))
        for name, side, indices in told["regions"]
    ]
    volumes = [
        {int(key): value for key, value in told[kind].items()} for kind in ("expected_mm3", "inside_mm3")
    ]
    return Segmentation(f"seg-{told['name']}", {told["name"]: regions}, LabelVolumes(*volumes))
