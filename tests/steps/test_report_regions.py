"""Which regions a page shows is read from what a unit has published, not from an atlas' own files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from r2star.runs.records import Marker
from r2star.steps.report_regions import PublishedFiles, published_regions, transforms_to_templates

HEAD = "segmentation\tregion\themisphere\tindex\n"
ROWS = (
    "{0}\tpallidum\tL\t5+6\n{0}\tpallidum\tR\t105\n{0}\tpallidum\tLR\t5+6+105\n"
    "{0}\tputamen\tL\tn/a\n{0}\tputamen\tR\t7\n{0}subregions\tpallidum_external\tL\t5\nlesions\tlesions\tLR\tn/a\n"
)


def publish(folder: Path, *stems: str, atlases: tuple[str, ...] = ()) -> Marker:
    """A unit with a table of each atlas or segmentation."""
    names = [f"sub-01/anat/sub-01_{stem}_desc-R2star_stats.tsv" for stem in stems]
    for stem, name in zip(stems, names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(HEAD + ROWS.format(stem.partition("-")[2]))
        (folder / f"{stem}_description.json").write_text(json.dumps({"ReferencesAndLinks": [f"of {stem}"]}))
    return Marker(
        "sub-01", {"sub": "01"}, "complete", "0", {"atlases": list(atlases)}, "key", {}, dict.fromkeys(names, "hash"),
    )  # fmt: skip


def test_regions_are_the_sides_that_have_labels_joined_as_in_the_table(tmp_path: Path) -> None:
    marker = publish(tmp_path, "atlas-Mine", atlases=("mine.toml",))
    shown = published_regions(marker, PublishedFiles(marker, tmp_path), tmp_path)
    assert shown is not None
    found = [(one.name, one.hemisphere, one.index) for one in shown.regions]
    assert found == [("pallidum", "L", 1), ("pallidum", "R", 2), ("putamen", "R", 3)]
    labels = np.array([[0, 5, 6], [105, 7, 9]])
    assert shown.numbered(labels).tolist() == [[0, 1, 1], [2, 3, 0]]
    assert shown.citation == "of atlas-Mine"


@pytest.mark.parametrize(
    ("stems", "asked", "expected"),
    [
        (("atlas-CIT168",), ("CIT168",), "CIT168"),
        (("atlas-CIT168", "atlas-Mine"), ("CIT168", "x.toml"), "CIT168"),
        (("atlas-CIT168", "atlas-Mine"), ("x.toml", "CIT168"), "Mine"),
        (("atlas-CIT168", "atlas-Aseg"), ("aseg.toml", "CIT168"), "Aseg"),
        (("atlas-Mine", "seg-aseg"), ("x.toml",), "Mine"),
        (("seg-aseg",), (), "aseg"),
    ],
)
def test_the_atlas_named_first_is_shown_and_a_segmentation_where_there_is_none(
    tmp_path: Path, stems: tuple[str, ...], asked: tuple[str, ...], expected: str
) -> None:
    marker = publish(tmp_path, *stems, atlases=asked)
    shown = published_regions(marker, PublishedFiles(marker, tmp_path), tmp_path)
    assert shown is not None
    assert shown.name == expected


def test_maps_alone_have_no_regions(tmp_path: Path) -> None:
    marker = publish(tmp_path)
    assert published_regions(marker, PublishedFiles(marker, tmp_path), tmp_path) is None


def test_only_transforms_that_draw_a_template_count(tmp_path: Path) -> None:
    names = ("from-T1w_to-MEGRE", "from-MEGRE_to-T1w", "from-T1w_to-MySpace", "from-MySpace_to-T1w")
    outputs = {f"sub-01/anat/sub-01_{name}_mode-image_xfm.h5": "hash" for name in names}
    for name in outputs:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    marker = Marker("sub-01", {"sub": "01"}, "complete", "0", {}, "key", {}, outputs)
    found = transforms_to_templates(PublishedFiles(marker, tmp_path))
    assert {space: path.name for space, path in found.items()} == {
        "MySpace": "sub-01_from-MySpace_to-T1w_mode-image_xfm.h5"
    }
