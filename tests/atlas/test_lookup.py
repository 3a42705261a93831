"""Label tables: names in many manners become our regions; what is no table is refused by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from r2star.atlas.lookup import freesurfer_lookup, lookup_from_names, read_lookup
from r2star.errors import InputError

FREESURFER = {
    0: "Unknown", 2: "Left-Cerebral-White-Matter", 4: "Left-Lateral-Ventricle", 10: "Left-Thalamus-Proper",
    11: "Left-Caudate", 12: "Left-Putamen", 13: "Left-Pallidum", 16: "Brain-Stem", 17: "Left-Hippocampus",
    18: "Left-Amygdala", 24: "CSF", 26: "Left-Accumbens-area", 41: "Right-Cerebral-White-Matter",
    43: "Right-Lateral-Ventricle", 49: "Right-Thalamus", 50: "Right-Caudate", 51: "Right-Putamen",
    52: "Right-Pallidum", 53: "Right-Hippocampus", 54: "Right-Amygdala", 58: "Right-Accumbens-area",
    **{1000 + number: f"ctx-lh-{number}" for number in range(12)},
}  # fmt: skip


def test_freesurfers_table_gives_freesurfers_regions() -> None:
    assert lookup_from_names(FREESURFER) == freesurfer_lookup()
    swapped = FREESURFER | {11: "Right-Caudate", 50: "Left-Caudate", 12: "Right-Putamen", 51: "Left-Putamen"}
    regions = {(one.name, one.hemisphere): one.indices for one in lookup_from_names(swapped).regions}
    assert regions["caudate", "L"] == (50,)


@pytest.mark.parametrize(
    ("name", "region", "side"),
    [("caudate_L", "caudate", "L"), ("lh.Putamen", "putamen", "L"), ("R GPi", "pallidum_internal", "R"),
     ("Right-Substantia-Nigra", "substantia_nigra", "R"), ("thalamus pulvinar right", "thalamus_pulvinar", "R"),
     ("dentate", "dentate", "LR"), ("Cerebral WM left", "white_matter", "L"), ("7T", "label_7t", "LR")],
)  # fmt: skip
def test_names_in_many_manners(name: str, region: str, side: str) -> None:
    (found,) = lookup_from_names({5: name}).regions
    assert (found.name, found.hemisphere, found.indices) == (region, side, (5,))


def test_labels_of_one_name_are_joined_and_background_is_none() -> None:
    lookup = lookup_from_names({0: "bg", 3: "SN_L", 4: "left substantia nigra", 9: "background"})
    assert [one.indices for one in lookup.regions] == [(3, 4)]
    assert lookup.names == {3: "substantia_nigra_L", 4: "substantia_nigra_L"}


@pytest.mark.parametrize(
    "text",
    [
        "", "label\tname\n1\tx\n", "index\tname\n1\tx\n1\ty\n", "index\tname\n1.5\tx\n", "index\tname\n-1\tx\n",
        'index\tname\n1\t"Left-Caudate\n2\tx\n', 'index\tname\n1\t"Left\n2\tRight"\n3\tx\n',  # one name of two rows
        f"index\tname\n{'9' * 5000}\tx\n", "index\tname\n٣\tx\n", f"index\tname\n1\t{'x' * 200_000}\n",
        "index\tname\tname\n1\tx\ty\n", "index\tindex\tname\n1\t2\ty\n", "index\tname\n1\tcau\x00date\n",
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x_dseg.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"E476.*x_dseg\.tsv"):
        read_lookup(path)


def test_a_table_from_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x_dseg.tsv"
    path.write_bytes("\ufeffindex\tname\tcolor\r\n12\tLeft-Putamen\t#ffffff\r\n".encode())
    assert read_lookup(path) == {12: "Left-Putamen"}


def test_a_table_whose_cells_all_stand_in_quotation_marks_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x_dseg.tsv"
    path.write_text('"index"\t"name"\n"3"\t"Left-Caudate"\n"4"\t"white ""matter"""\n')
    assert read_lookup(path) == {3: "Left-Caudate", 4: 'white "matter"'}
