"""Which regions a participant's page shows, by what the unit has published of them. May import report and runs.

Nothing is asked of an atlas' own files, which another machine need not have: regions and label numbers are those of
the unit's table.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.report.facts import Region
from r2star.runs.records import Marker

_TABLE = re.compile(r"(?P<kind>atlas|seg)-(?P<name>[A-Za-z0-9]+)_desc-R2star_stats\.tsv")
_TO_TEMPLATE = re.compile(r"from-(?P<space>[A-Za-z0-9]+)_to-(?P<image>T1w|MEGRE)_mode-image_xfm\.h5")


class PublishedFiles:
    """The outputs that a marker names, by the tail of their name."""

    def __init__(self, marker: Marker, output_dir: Path) -> None:
        self._by_tail = {
            Path(name).name.removeprefix(f"{marker.unit}_"): output_dir / name
            for name in marker.outputs
            if ".." not in Path(name).parts and not Path(name).is_absolute()
        }

    def tails(self, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        """The tails that a pattern fits, in alphabetical order."""
        return [found for tail in sorted(self._by_tail) if (found := pattern.fullmatch(tail))]

    def path(self, tail: str) -> Path | None:
        """The file, if the marker names it and it is there."""
        found = self._by_tail.get(tail)
        return found if found is not None and found.is_file() else None

    def json(self, tail: str) -> dict[str, Any]:
        """A JSON object; empty where there is none."""
        return read_object(self.path(tail))

    def table(self, tail: str) -> list[dict[str, str]]:
        """Rows of a table; none where there is none."""
        path = self.path(tail)
        if path is None:
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def read_object(path: Path | None) -> dict[str, Any]:
    """A JSON object; empty where the file is not there or holds something else."""
    content = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class PublishedRegions:
    """A unit's first atlas, or first segmentation where it has no atlas."""

    stem: str  # "atlas-CIT168", as files are named
    name: str
    rows: Sequence[Mapping[str, str]]
    regions: Sequence[Region]  # numbered from 1
    indices: Sequence[tuple[int, ...]]  # label numbers of each region
    citation: str

    def numbered(self, labels: NDArray[Any]) -> NDArray[np.uint16]:
        """Labels numbered by region, from 1; 0 elsewhere."""
        numbered = np.zeros(labels.shape, np.uint16)
        for region, indices in zip(self.regions, self.indices, strict=True):
            numbered[np.isin(labels, indices)] = region.index
        return numbered


def published_regions(marker: Marker, files: PublishedFiles, output_dir: Path) -> PublishedRegions | None:
    """The regions that a page shows; None for maps alone."""
    tables = files.tails(_TABLE)
    if not tables:
        return None
    shown = _first_asked(tables, [str(one) for one in marker.settings.get("atlases") or ()])
    name, stem = shown["name"], f"{shown['kind']}-{shown['name']}"
    rows = files.table(shown.string)
    sides = [
        row for row in rows
        if row["segmentation"] == name and row["hemisphere"] in ("L", "R") and row["index"] != "n/a"
    ]  # fmt: skip
    about = read_object(output_dir / f"{stem}_description.json") if shown["kind"] == "atlas" else {}
    return PublishedRegions(
        stem,
        name,
        rows,
        [Region(row["region"], row["hemisphere"], number) for number, row in enumerate(sides, start=1)],
        [tuple(int(one) for one in row["index"].split("+")) for row in sides],
        "; ".join(str(one) for one in about.get("ReferencesAndLinks") or () if one),
    )


def _first_asked(tables: Sequence[re.Match[str]], asked: Sequence[str]) -> re.Match[str]:
    """The table of the atlas that was named first; one of a file of the user's bears a name of its own."""
    atlases = [table for table in tables if table["kind"] == "atlas"] or list(tables)
    first = [table for table in atlases if asked and table["name"] == asked[0]]
    own = [table for table in atlases if table["name"] not in asked]
    return (first or own or atlases)[0]


def transforms_to_templates(files: PublishedFiles) -> dict[str, Path]:
    """Space of a template → the transform that draws its image on the participant's."""
    found = {}
    for tail in files.tails(_TO_TEMPLATE):
        path = files.path(tail.string)
        if tail["space"] not in ("T1w", "MEGRE") and path is not None:
            found[tail["space"]] = path
    return found
