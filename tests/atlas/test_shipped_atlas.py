"""Every atlas in the package is unharmed, with its sides right; CIT168 also plausible and true to its sources."""

from __future__ import annotations

import tomllib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from r2star.atlas import Atlas, load_atlas, packaged_atlases
from r2star.atlas.check import check_images
from r2star.atlas.labels import read_labels
from r2star.atlas.schema import sha256_of
from r2star.images import read_grid

DESIGN_REGIONS = (
    "caudate", "putamen", "pallidum", "accumbens",
    "thalamus", "red_nucleus", "substantia_nigra", "subthalamic_nucleus",
)  # fmt: skip

ORIGIN_MM = np.array([-96, -132, -78])

# mL per side in a 1.9 L template, from the source papers' figures and this template's size, generous
PLAUSIBLE_ML = {
    "caudate": (4.5, 8.0), "putamen": (5.5, 9.0), "pallidum": (1.4, 2.6), "accumbens": (0.4, 1.0),
    "thalamus": (8.0, 11.0), "red_nucleus": (0.25, 0.6), "substantia_nigra": (0.5, 1.2),
    "subthalamic_nucleus": (0.1, 0.35),
}  # fmt: skip


@pytest.fixture(scope="module")
def atlas():
    return load_atlas("CIT168")


@pytest.fixture(scope="module")
def labels(atlas):
    return np.asarray(nib.load(atlas.labels).dataobj)


@pytest.fixture(scope="module", params=packaged_atlases())
def shipped(request: pytest.FixtureRequest) -> Atlas:
    """Each atlas of the package: one that is added is tested by these as it is."""
    return load_atlas(request.param)


def test_files_have_the_hashes_of_the_description(shipped: Atlas):
    table = tomllib.loads((shipped.labels.parents[1] / f"{shipped.name}.toml").read_text(encoding="utf-8"))
    for key, described in table["files"].items():
        file = getattr(shipped, key)
        assert sha256_of(file) == described["sha256"], key
        assert file.stat().st_size < 5e6
    assert shipped.license
    assert shipped.citation


def test_labels_lie_in_the_template_and_on_their_side(shipped: Atlas):
    image = read_labels(shipped.labels)
    assert read_grid(shipped.t1w).same_as(read_grid(shipped.brain_mask))
    for region in (*shipped.regions, *shipped.subregions):
        voxels = np.argwhere(np.isin(image.data, region.indices))
        x_mm = (voxels @ image.grid.affine[:3, :3].T + image.grid.affine[:3, 3])[:, 0]
        assert x_mm.size, region
        on_its_side = x_mm < 0.5 if region.hemisphere == "L" else x_mm > -0.5
        assert on_its_side.mean() > 0.98, region


def test_all_lie_on_the_template_grid(atlas):
    affine = np.array([[1, 0, 0, -96], [0, 1, 0, -132], [0, 0, 1, -78], [0, 0, 0, 1]], float)
    for file in (atlas.labels, atlas.t1w, atlas.brain_mask):
        image = nib.load(file)
        assert image.shape == (193, 229, 193)
        np.testing.assert_array_equal(image.get_sform(), affine)
        np.testing.assert_array_equal(image.get_qform(), affine)
        assert image.get_data_dtype() == np.uint8


def test_regions_are_those_of_the_result_table(atlas):
    assert tuple(dict.fromkeys(region.name for region in atlas.regions)) == DESIGN_REGIONS
    assert [region.hemisphere for region in atlas.regions] == ["L", "R"] * len(DESIGN_REGIONS)


def test_volumes_are_plausible_and_alike_on_both_sides(atlas, labels):
    volume_ml = {(r.name, r.hemisphere): np.isin(labels, r.indices).sum() / 1000 for r in atlas.regions}
    for name, (low, high) in PLAUSIBLE_ML.items():
        left, right = volume_ml[name, "L"], volume_ml[name, "R"]
        assert low < left < high, (name, left)
        assert low < right < high, (name, right)
        assert abs(left - right) < 0.1 * (left + right) / 2


def test_regions_lie_where_anatomy_puts_them(atlas, labels):
    centre = {
        (r.name, r.hemisphere): np.argwhere(np.isin(labels, r.indices)).mean(0) + ORIGIN_MM
        for r in (*atlas.regions, *atlas.subregions)
    }
    for side, sign in (("L", -1), ("R", 1)):
        lateral = {name: sign * xyz[0] for (name, hemisphere), xyz in centre.items() if hemisphere == side}
        assert lateral["putamen"] > lateral["pallidum"] > lateral["caudate"] > lateral["thalamus"] - 5
        assert lateral["pallidum_external"] > lateral["pallidum_internal"]
        assert lateral["nigra_reticulata"] > lateral["nigra_compacta_vta"]
        assert centre["thalamus_pulvinar", side][1] < centre["thalamus_mediodorsal", side][1]
        assert centre["thalamus_mediodorsal", side][1] < centre["thalamus_anterior", side][1]
        assert (
            centre["thalamus_ventral_laterodorsal", side][2]
            > centre["thalamus_ventral_lateroventral", side][2]
        )
        assert centre["red_nucleus", side][2] > centre["substantia_nigra", side][2]
        assert centre["accumbens", side][2] < centre["caudate", side][2]


def test_every_label_is_named_and_every_name_has_voxels(shipped: Atlas):
    labels = np.asarray(read_labels(shipped.labels).data)
    assert set(shipped.label_names()) == set(np.unique(labels).tolist()) - {0}
    check_images(shipped, Path(f"{shipped.name}.toml"))


def test_label_names_take_the_finest_region(atlas):
    names = atlas.label_names()
    assert list(names) == sorted(names)
    assert names[8] == "red_nucleus_L"
    assert names[105] == "pallidum_external_R"
    assert names[24] == "thalamus_ventral_laterodorsal_L"


def test_brain_mask_is_one_piece_without_holes_and_holds_the_regions(atlas, labels):
    from scipy import ndimage

    mask = np.asarray(nib.load(atlas.brain_mask).dataobj)
    assert set(np.unique(mask)) == {0, 1}
    assert ndimage.label(mask)[1] == 1
    assert np.array_equal(ndimage.binary_fill_holes(mask), mask == 1)
    assert 1.8e6 < mask.sum() < 2.0e6
    in_regions = np.isin(labels, [index for region in atlas.regions for index in region.indices])
    assert np.all(mask[in_regions] == 1)


def test_labels_are_those_of_the_source(atlas, labels, shared_data: Path):
    cit168 = np.asarray(
        nib.load(shared_data / "atlas" / "CIT168_space-MNI152NLin2009cAsym_dseg.nii.gz").dataobj
    )
    np.testing.assert_array_equal(labels[cit168 > 0], cit168[cit168 > 0])

    published = np.asarray(
        nib.load(shared_data / "atlas" / "MIAL67_space-MNI152NLin2009cAsym_dseg.nii.gz").dataobj
    )
    nuclei = (labels > 20) & (labels < 28) | (labels > 120)
    ours = np.where(labels > 100, labels.astype(int) - 113, labels.astype(int) - 20)[nuclei]
    np.testing.assert_array_equal(published[nuclei], ours)  # a smaller thalamus, the same nuclei
    assert 0.75 < nuclei.sum() / (published > 0).sum() < 0.85


def test_template_and_mask_are_those_of_the_source(atlas, shared_data: Path):
    brain = np.asarray(nib.load(shared_data / "atlas" / "MNI152NLin2009cAsym_desc-brain_T1w.nii.gz").dataobj)
    mask = np.asarray(nib.load(atlas.brain_mask).dataobj) == 1
    t1w = np.asarray(nib.load(atlas.t1w).dataobj).astype(float)
    assert np.all(mask[brain > 0])
    assert (mask & (brain == 0)).sum() < 0.01 * mask.sum()
    assert np.corrcoef(t1w[brain > 0], brain[brain > 0])[0, 1] > 0.999


def test_read_labels_rounds_what_is_almost_whole_and_refuses_the_rest(tmp_path: Path):
    from r2star.errors import UsageError

    values = np.array([0, 3.0000458, 5.9999999, 116]).reshape(4, 1, 1)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "labels.nii.gz")
    assert read_labels(tmp_path / "labels.nii.gz").data.ravel().tolist() == [0, 3, 6, 116]

    for bad in (2.5, -1.0, 70000.0):
        nib.save(nib.Nifti1Image(np.where(values == 0, bad, values), np.eye(4)), tmp_path / "bad.nii.gz")
        with pytest.raises(UsageError, match="E457"):
            read_labels(tmp_path / "bad.nii.gz")
