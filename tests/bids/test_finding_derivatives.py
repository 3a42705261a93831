"""Results of other programs: found by their entities, for the right session and run, in the right world, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from r2star.bids.derivatives import with_derivatives
from r2star.bids.queries import check_datasets, dataset_names, read_query
from r2star.bids.units import Derived, EchoFile, Role, Unit
from r2star.bids.worlds import lookup_of
from r2star.errors import UsageError
from r2star.images import Grid, write_image

MEGRE = Grid((6, 5, 4), np.diag([-2.0, 2, 3, 1]))
T1W = Grid((7, 7, 7), np.eye(4))
OTHER = Grid((5, 5, 5), np.diag([2.0, 2, 2, 1]))


def image(path: Path, grid: Grid) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_image(path, np.ones(grid.shape, np.uint8), grid, dtype=np.uint8)


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    folder = tmp_path / "raw" / "sub-01" / "ses-2" / "anat"
    echo = image(folder / "sub-01_ses-2_run-1_echo-1_MEGRE.nii.gz", MEGRE)
    t1w = image(tmp_path / "raw/sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", T1W)
    return Unit("01", session="2", run="1", magnitude=(EchoFile(echo, 1, 0.004, "mag"),), t1w=t1w)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tool").mkdir()
    return tmp_path / "tool"


def find(unit: Unit, root: Path, role: Role, text: str) -> Unit:
    return with_derivatives(unit, [read_query(role, text)], [root])


def only(unit: Unit) -> Derived:
    assert unit.problem is None, unit.problem
    (found,) = unit.derived
    return found


@pytest.mark.parametrize(
    ("name", "grid", "world", "warned"),
    [("space-T1w_label-lesion_mask", OTHER, "T1w", False), ("space-MEGRE_label-lesion_mask", OTHER, "MEGRE", False),
     ("label-lesion_mask", MEGRE, "MEGRE", False), ("label-lesion_mask", T1W, "T1w", False),
     ("label-lesion_mask", OTHER, "MEGRE", True)],
)  # fmt: skip
def test_the_world_is_told_by_the_name_or_the_grid(
    unit: Unit, root: Path, name: str, grid: Grid, world: str, warned: bool
) -> None:
    image(root / f"sub-01/anat/sub-01_{name}.nii.gz", grid)
    found = find(unit, root, "lesions", "label-lesion_mask")
    assert only(found).world == world
    assert [notice.code for notice in found.notices] == (["W471"] if warned else [])


def test_a_sidecar_tells_the_world_and_a_segmentation_is_of_the_t1w(unit: Unit, root: Path) -> None:
    path = image(root / "sub-01/anat/sub-01_desc-aseg_dseg.nii.gz", OTHER)
    found = find(unit, root, "segmentation", "desc-aseg")
    assert (only(found).world, only(found).name) == ("T1w", "aseg")
    assert [notice.code for notice in found.notices] == ["W471"]
    path.with_name("sub-01_desc-aseg_dseg.json").write_text(
        json.dumps({"Sources": ["bids:raw:sub-01/anat/sub-01_echo-1_MEGRE.nii.gz"]})
    )
    again = find(unit, root, "segmentation", "desc-aseg")
    assert (only(again).world, again.notices) == ("MEGRE", ())
    assert len(only(again).others) == 1


def test_files_of_other_sessions_runs_and_spaces_are_not_taken(unit: Unit, root: Path) -> None:
    for name in ("ses-3/anat/sub-01_ses-3_Chimap", "ses-2/anat/sub-01_ses-2_run-2_Chimap",
                 "ses-2/anat/sub-01_ses-2_run-1_space-MNI152NLin6Asym_Chimap", "anat/._sub-01_Chimap"):  # fmt: skip
        image(root / f"sub-01/{name}.nii.gz", MEGRE)
    found = find(unit, root, "map", "Chimap")
    assert found.problem is not None
    assert found.problem.code == "E470"
    own = image(root / "sub-01/ses-2/qsm/sub-01_ses-2_run-1_Chimap.nii.gz", MEGRE)
    assert only(find(unit, root, "map", "Chimap")).path == own


def test_what_lies_on_the_t1w_is_of_the_session_of_that_t1w(unit: Unit, root: Path) -> None:
    for session in ("1", "2"):
        image(root / f"sub-01/ses-{session}/anat/sub-01_ses-{session}_space-T1w_desc-aseg_dseg.nii.gz", OTHER)
    assert only(find(unit, root, "segmentation", "desc-aseg")).path.name.startswith("sub-01_ses-1_")


@pytest.mark.parametrize(("space", "kept"), [("MEGRE", True), ("T1w", False), (None, False)])
def test_lesions_of_another_session_count_for_the_t1w_where_they_are_drawn_on_its_megre(
    unit: Unit, root: Path, space: str | None, kept: bool
) -> None:
    echo = image(unit.magnitude[0].path.with_name("sub-01_ses-1_echo-1_MEGRE.nii.gz"), MEGRE)
    first = replace(unit, session="1", run=None, magnitude=(EchoFile(echo, 1, 0.004, "mag"),))
    (root / "sub-01").mkdir()
    if space is not None:
        image(root / f"sub-01/ses-1/anat/sub-01_ses-1_space-{space}_label-lesion_mask.nii.gz", OTHER)
    found = find(replace(unit, lesioned=first), root, "lesions", "label-lesion_mask")
    assert found.problem is None
    assert (found.lesioned is not None) == kept
    if found.lesioned is not None:
        (mask,) = found.lesioned.derived
        assert mask.path in found.files
        assert not found.derived, "its own session has none"


def test_what_is_missing_is_a_problem_or_a_warning(unit: Unit, root: Path) -> None:
    (root / "sub-01").mkdir()
    for role, text in (("segmentation", "dseg"), ("brain_mask", "desc-brain_mask")):
        problem = find(unit, root, role, text).problem
        assert problem is not None
        assert (problem.code, problem.unit, problem.exit_code) == ("E470", unit.label, 1)
    for role, text, code in (("lesions", "label-lesion_mask", "W473"), ("map", "Chimap", "W474")):
        found = find(unit, root, role, text)
        assert found.problem is None
        assert [notice.code for notice in found.notices] == [code]


def test_two_that_answer_are_refused_by_name(unit: Unit, root: Path) -> None:
    for desc in ("aseg", "aparcaseg"):
        image(root / f"sub-01/anat/sub-01_desc-{desc}_dseg.nii.gz", T1W)
    problem = find(unit, root, "segmentation", "dseg").problem
    assert problem is not None
    assert problem.code == "E472"
    assert "desc-aseg_dseg" in problem.message
    assert "desc-aparcaseg_dseg" in problem.message
    assert only(find(unit, root, "segmentation", "desc-aseg_dseg")).name == "aseg"


def test_template_space_and_a_missing_t1w_are_refused(unit: Unit, root: Path) -> None:
    image(root / "sub-01/anat/sub-01_space-MNI152NLin6Asym_dseg.nii.gz", OTHER)
    problem = find(unit, root, "segmentation", "space-MNI152NLin6Asym_dseg").problem
    assert problem is not None
    assert problem.code == "E471"
    image(root / "sub-01/anat/sub-01_space-T1w_dseg.nii.gz", OTHER)
    without = Unit(**{**vars(unit), "t1w": None})
    problem = find(without, root, "segmentation", "dseg").problem
    assert problem is not None
    assert problem.code == "E471"


def test_a_folder_is_searched_alone_and_its_name_is_the_setting(
    unit: Unit, root: Path, tmp_path: Path
) -> None:
    image(root / "sub-01/anat/sub-01_desc-brain_mask.nii.gz", MEGRE)
    other = tmp_path / "other"
    own = image(other / "sub-01/anat/sub-01_desc-brain_mask.nii.gz", MEGRE)
    query = read_query("brain_mask", str(other))
    assert query.text == "other"
    assert only(with_derivatives(unit, [query], [root, other])).path == own


def test_a_label_table_is_inherited_from_the_root(root: Path) -> None:
    path = image(root / "sub-01/anat/sub-01_desc-aseg_dseg.nii.gz", T1W)
    assert lookup_of(path, root) is None
    for name in ("desc-aparcaseg_dseg.tsv", "dseg.tsv", "desc-aseg_dseg.tsv"):
        (root / name).write_text("index\tname\n")
    assert lookup_of(path, root) == root / "desc-aseg_dseg.tsv"
    beside = path.with_name("sub-01_desc-aseg_dseg.tsv")
    beside.write_text("index\tname\n")
    assert lookup_of(path, root) == beside


@pytest.mark.parametrize(
    "text", ["", "desc-", "desc-a/b_mask", "foo-x_mask", "a_b_mask", "sub-01_mask.nii.gz", "../x"]
)
def test_what_is_no_query_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="E530"):
        read_query("brain_mask", text)


def test_datasets_are_folders_of_participants(root: Path) -> None:
    for wrong in (root, root / "nowhere"):
        with pytest.raises(UsageError, match="E531"):
            check_datasets([wrong])
    (root / "sub-01").mkdir()
    assert check_datasets([root, root]) == (root,)
    assert list(dataset_names([Path("/a/raw"), Path("/b/x y"), Path("/c/xy")])) == ["raw2", "xy", "xy2"]


def test_a_broken_file_of_another_session_is_not_this_unit_s_problem(unit: Unit, root: Path) -> None:
    own = image(root / "sub-01/ses-2/anat/sub-01_ses-2_space-MEGRE_label-lesion_mask.nii.gz", MEGRE)
    broken = root / "sub-01/ses-3/anat/sub-01_ses-3_space-MEGRE_label-lesion_mask.nii.gz"
    broken.parent.mkdir(parents=True)
    broken.symlink_to("../../../.git/annex/objects/gone")
    assert only(find(unit, root, "lesions", "label-lesion_mask")).path == own
    third = replace(unit, session="3")
    problem = find(third, root, "lesions", "label-lesion_mask").problem
    assert problem is not None
    assert problem.code == "E213"
