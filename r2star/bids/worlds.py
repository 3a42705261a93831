"""Images of other programs, and whose world they lie in: that of the T1w or of the MEGRE images, on whatever grid.

By the ``space-`` of the name, else by the sidecar's ``Sources``, else by the grid that it shares, else by its kind
(a segmentation is made on the T1w, a mask or map on the MEGRE). May import images (grids alone), errors and its
siblings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from r2star.bids.entities import IMAGE_EXTENSIONS, BidsName, natural_key, parse_name, printable
from r2star.bids.metadata import read_json, require_regular_file
from r2star.bids.units import Role, Unit, World
from r2star.errors import InputError, Notice
from r2star.images import read_grid

#: Spaces that are one of this participant's images.
OWN_SPACES: Mapping[str, World] = {"T1w": "T1w", "MEGRE": "MEGRE"}
#: Where a file lies of which nothing tells it.
_USUAL: Mapping[Role, World] = {
    "segmentation": "T1w", "brain_mask": "MEGRE", "lesions": "MEGRE", "map": "MEGRE",
}  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """An image of another program, with its name taken apart and the dataset that it is from."""

    path: Path
    name: BidsName
    root: Path


def files_of(root: Path, participant: str) -> list[Candidate]:
    """All images of a participant, up to two folders below its own, hidden files left out."""
    top = root / f"sub-{participant}"
    found = []
    for folder, folders, files in os.walk(top):
        depth = len(Path(folder).relative_to(top).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and depth < 2)
        for file in sorted(files, key=natural_key):
            name = parse_name(file)
            if name and name.extension in IMAGE_EXTENSIONS and name.entities.get("sub") == participant:
                found.append(Candidate(Path(folder) / file, name, root))
    return found


def world_of(one: Candidate, role: Role, unit: Unit) -> tuple[World, tuple[Notice, ...]]:
    """In whose world a file lies, and a warning where nothing but its kind tells it."""
    shown = one.path.name
    require_regular_file(one.path, printable(one.path.relative_to(one.root).as_posix()))
    space = one.name.entities.get("space")
    if space is not None and space not in OWN_SPACES:
        raise InputError(
            "E471", f"it lies in space-{space}", "a file in the space of the T1w or of the MEGRE is needed",
            "bring it to the participant's T1w", path=shown,
        )  # fmt: skip
    told = [OWN_SPACES[space]] if space is not None else _sources(one.path)
    if "T1w" in told[:1] and unit.t1w is None:
        raise InputError(
            "E471", "it lies on a T1w, and this participant has none", "the T1w is needed to bring it over",
            "add the T1w, or bring the file to the MEGRE", path=shown,
        )  # fmt: skip
    if told:
        return told[0], ()
    grid = read_grid(one.path).canonical()
    megre = (unit.magnitude or unit.real)[0].path
    for world, path in (("MEGRE", megre), ("T1w", unit.t1w)):
        if path is not None and read_grid(path, assume_orientation=True).canonical().same_as(grid, 0.01):
            return ("T1w" if world == "T1w" else "MEGRE"), ()
    usual: World = "MEGRE" if unit.t1w is None else _USUAL[role]
    fix = "name the file space-T1w or space-MEGRE, or give its sidecar Sources"
    return usual, (Notice("W471", f"taken to lie in the world of the {usual}", fix, shown),)


def _sources(path: Path) -> list[World]:
    """The images of the participant that a file's sidecar names as its sources or reference."""
    sidecar = sidecar_of(path)
    if sidecar is None:
        return []
    content, _ = read_json(sidecar, sidecar.name)
    told = [content.get(key) for key in ("SpatialReference", "Sources", "RawSources")]
    texts = [text for value in told for text in (value if isinstance(value, list) else [value])]
    return [
        world
        for text in texts
        for key, world in OWN_SPACES.items()
        if isinstance(text, str) and text.rpartition("_")[2].partition(".")[0] == key
    ]


def sidecar_of(path: Path) -> Path | None:
    """The JSON file of a derivative's own name, if there is one."""
    sidecar = path.with_name(path.name.partition(".")[0] + ".json")
    return sidecar if sidecar.is_file() else None


def lookup_of(path: Path, root: Path) -> Path | None:
    """The label table of a ``dseg``: beside it, or inherited from a folder above, with most of its entities."""
    own = parse_name(path.name)
    folder = path.parent
    while own is not None:
        names = [(parse_name(one.name), one) for one in sorted(folder.glob("*dseg.tsv"))]
        fitting = [
            (len(name.entities), one)
            for name, one in names
            if name is not None and name.entities.items() <= own.entities.items()
        ]
        if fitting:
            return max(fitting, key=lambda item: item[0])[1]
        if folder in (root, folder.parent):
            return None
        folder = folder.parent
    return None
