"""What an atlas is: label images, a lookup and a template, described by one TOML file. May import errors.

An atlas is added without code, by a TOML file (the ones beside this module load by name)::

    name = "MyAtlas"                    # BIDS label, becomes atlas-MyAtlas
    space = "MNI152NLin2009cAsym"       # BIDS name of the template's space
    source = "..."                      # optional, as are license and citation: text, kept with the results

    [files]                             # relative to this file and inside its folder
    labels = "my_labels.nii.gz"         # whole numbers, unique over structures and hemispheres
    t1w = { path = "t1w.nii.gz", sha256 = "..." }     # whole-head template; the hash is optional
    brain_mask = "mask.nii.gz"          # of the template, on the labels' grid
                                        # leave both out to take a packaged template of that space
    weights = "probability.nii.gz"      # optional: 0 to 1, how surely a voxel belongs to its label
                                        # { templateflow = "tpl-..." } instead of a path: an image of TemplateFlow's

    [[region]]                          # one table per region, in the order of the result table
    name = "putamen"                    # lower case with underscores
    left = [1]                          # label numbers, joined; leave a hemisphere out that has none
    right = [101]

    [[subregion]]                       # optional second segmentation, same keys; may share labels
    name = "pallidum_external"
    left = [5]
    right = [105]
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2star.atlas import schema
from r2star.errors import UsageError

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Region:
    """One region of one hemisphere: the labels that make it up, joined."""

    name: str  # lower case with underscores: "substantia_nigra"
    hemisphere: str  # "L" or "R"
    indices: tuple[int, ...]  # label numbers in the label image


@dataclass(frozen=True)
class Atlas:
    """Label image, regions and template of one space. Files lie on one grid unless stated."""

    name: str  # BIDS label: "CIT168"
    space: str  # "MNI152NLin2009cAsym"
    labels: Path  # uint8/uint16 label image; label numbers are unique over structures and sides
    t1w: Path  # whole-head T1w template
    brain_mask: Path  # of the template
    regions: tuple[Region, ...]
    subregions: tuple[Region, ...] = ()  # second segmentation: pallidum_external, thalamic nuclei, ...
    license: str = ""
    source: str = ""
    citation: str = ""
    sha256: str = ""  # of labels, template and description together
    weights: Path | None = None  # how surely a voxel belongs to its label, 0 to 1

    def label_names(self) -> dict[int, str]:
        """Number and name of every label, ascending, as ``atlas-<name>_dseg.tsv`` lists them.

        A label takes the name of the smallest region or sub-region that holds it, with its hemisphere.

        >>> names = load_atlas("CIT168").label_names()
        >>> names[2], names[106]
        ('caudate_L', 'pallidum_internal_R')
        """
        coarse_first = sorted((*self.regions, *self.subregions), key=lambda region: -len(region.indices))
        names = {
            index: f"{region.name}_{region.hemisphere}" for region in coarse_first for index in region.indices
        }
        return dict(sorted(names.items()))


def packaged_atlases() -> tuple[str, ...]:
    """Names of the atlases that come with the package.

    >>> "CIT168" in packaged_atlases()
    True
    """
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def packaged_template(space: str) -> Atlas | None:
    """An atlas that comes with the package, by its space; None where there is none."""
    found = (_from_toml(_FOLDER / f"{name}.toml") for name in packaged_atlases())
    return next((atlas for atlas in found if atlas.space == space), None)


def load_atlas(name_or_path: str | Path) -> Atlas:
    """Load an atlas that comes with the package by name, or any other by its TOML file.

    Raises
    ------
    UsageError
        The name is unknown (E450), the file is no TOML (E451), a key is unknown, missing or of the wrong type
        (E452), a path leaves the file's folder (E453) or does not exist (E454), a hash differs (E455),
        label numbers are no whole numbers or stand twice (E456), or TemplateFlow's image can't be had (E458).

    >>> atlas = load_atlas("CIT168")
    >>> atlas.space, atlas.regions[0]
    ('MNI152NLin2009cAsym', Region(name='caudate', hemisphere='L', indices=(2,)))
    """
    given = str(name_or_path)
    if given in packaged_atlases():
        return _from_toml(_FOLDER / f"{given}.toml")
    if not given.endswith(".toml"):
        raise UsageError(
            "E450", f"unknown atlas {given!r}", f"known are {', '.join(packaged_atlases())}, or a .toml file",
            schema.nearest(given.upper(), packaged_atlases())
            or "name one of them, or describe your own in a TOML file",
        )  # fmt: skip
    return _from_toml(Path(given))


def _from_toml(path: Path) -> Atlas:
    table = schema.read_toml(path)
    optional = frozenset({"source", "license", "citation", "subregion"})
    needed = frozenset({"name", "space", "files", "region"})
    schema.check_keys(table, "the top level", needed | optional, needed, path)
    space = schema.bids_label(table, "space", path)
    files = _files(table["files"], space, path)
    regions, subregions = (
        _regions(table["region"], "region", path),
        _regions(table.get("subregion", []), "subregion", path),
    )
    if not regions:
        raise UsageError("E452", "the atlas has no region", fix="add a [[region]] table", path=path)
    return Atlas(
        name=schema.bids_label(table, "name", path),
        space=space,
        labels=files["labels"],
        t1w=files["t1w"],
        brain_mask=files["brain_mask"],
        weights=files.get("weights"),
        regions=regions,
        subregions=subregions,
        license=schema.text(table, "license", path),
        source=schema.text(table, "source", path),
        citation=schema.text(table, "citation", path),
        sha256=_digest(path, *files.values()),
    )


def _files(table: object, space: str, path: Path) -> dict[str, Path]:
    """Labels, template, its mask, and weights if any; template and mask of the package where neither is named."""
    if not isinstance(table, dict):
        raise UsageError("E452", f"files = {table!r}", "a table [files] was needed", path=path)
    templates = {"t1w", "brain_mask"}
    packaged = None if templates & set(table) else packaged_template(space)
    if packaged is None:
        _require_template(table, space, path)
    schema.check_keys(
        table, "[files]", frozenset({"labels", "weights", *templates}), frozenset({"labels"}), path
    )
    files = {} if packaged is None else {"t1w": packaged.t1w, "brain_mask": packaged.brain_mask}
    files |= {key: schema.file_inside(value, key, path) for key, value in table.items()}
    return {key: files[key] for key in ("labels", "t1w", "brain_mask", "weights") if key in files}


def _require_template(table: Mapping[str, Any], space: str, path: Path) -> None:
    """Refuse a description that names but one of template and mask, or neither in a space that needs them."""
    missing = [key for key in ("t1w", "brain_mask") if key not in table]
    if missing:
        raise UsageError(
            "E452", f"[files] has no {', '.join(missing)}",
            f"template and brain mask are needed in space {space}, both",
            "name both images, or leave both out in the space of a packaged atlas (MNI152NLin2009cAsym)", path=path,
        )  # fmt: skip


def _regions(tables: object, kind: str, path: Path) -> tuple[Region, ...]:
    """Regions in the file's order, left before right; no label stands in two of them."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError("E452", f"{kind} is no list of tables", f"[[{kind}]] was needed", path=path)
    regions = tuple(region for table in tables for region in _region_pair(table, kind, path))
    names = [table["name"] for table in tables]
    labels = [index for region in regions for index in region.indices]
    for found, what in ((names, "name"), (labels, "label")):
        twice = sorted({str(one) for one in found if found.count(one) > 1})
        if twice:
            raise UsageError("E456", f"{what} {', '.join(twice)} stands in two [[{kind}]] tables", path=path)
    return regions


def _region_pair(table: Mapping[str, Any], kind: str, path: Path) -> tuple[Region, ...]:
    known = frozenset({"name", "left", "right"})
    schema.check_keys(table, f"[[{kind}]]", known, frozenset({"name"}), path)
    name = schema.region_name(table, path)
    sides = {
        side: schema.label_numbers(table, key, name, path) for side, key in (("L", "left"), ("R", "right"))
    }
    if not any(sides.values()):
        raise UsageError(
            "E452", f"region {name} has no label", fix="add left = [...] or right = [...]", path=path
        )
    return tuple(Region(name, side, indices) for side, indices in sides.items() if indices)


def _digest(*files: Path) -> str:
    """One hash over all files, in order."""
    return hashlib.sha256("".join(schema.sha256_of(file) for file in files).encode()).hexdigest()
