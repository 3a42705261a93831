"""Anatomy from file to file: a head of known place is found, and labels lie in it in any storage order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from r2star.atlas import load_atlas
from r2star.errors import ProcessingError
from r2star.images import Grid, Image, read_image, write_image
from r2star.register.align import coarse_copy, world_points
from r2star.register.grids import pull
from r2star.register.transforms import Affine, Field, map_points, read_composite, write_composite
from r2star.steps import anatomy, resampling
from r2star.steps.derived import adopt_mask

ANGLE = np.deg2rad(7)
#: Template world to the head's world: tilted, and half a metre off.
PLANTED = np.array(
    [
        [np.cos(ANGLE), -np.sin(ANGLE), 0, 500.0],
        [np.sin(ANGLE), np.cos(ANGLE), 0, -12.0],
        [0, 0, 1, 9],
        [0, 0, 0, 1],
    ]
)
NUCLEI = np.array([[-25.0, 3, 0], [25, 3, 0], [-12, -18, 8], [12, -18, 8], [-5, -20, -9], [0, 40, 20]])
FROM_HEAD = Affine(np.linalg.inv(PLANTED))


def las_grid(step_mm: float) -> Grid:
    shape = (int(200 / step_mm), int(236 / step_mm), int(196 / step_mm))
    affine = np.diag([-step_mm, step_mm, step_mm, 1.0])
    affine[:3, 3] = np.array([500.0 + 100, -12 - 136, 9 - 80])
    return Grid(shape, affine)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template's head somewhere else, stored from left to right, with 3 mm voxels."""
    template = read_image(load_atlas("CIT168").t1w)
    image = pull(coarse_copy(template, 3.0), [FROM_HEAD], las_grid(3.0))
    noise = np.random.default_rng(1).normal(size=image.data.shape) * 0.02 * image.data.max()
    return write_image(tmp_path_factory.mktemp("head") / "T1w.nii.gz", np.abs(image.data + noise), image.grid)


@pytest.fixture(scope="module")
def registered(head: Path, tmp_path_factory: pytest.TempPathFactory) -> anatomy.TemplateRegistration:
    out = tmp_path_factory.mktemp("to_template")
    return anatomy.register_t1w_to_template(head, "CIT168", out_dir=out, random_seed=3, sloppy=True)


def test_a_head_half_a_metre_off_is_found_and_told(registered: anatomy.TemplateRegistration) -> None:
    assert [notice.code for notice in registered.notices] == ["W441"]
    assert json.loads(registered.measures.read_text())["verdict"] == "pass"


def test_both_directions_are_those_of_their_names(registered: anatomy.TemplateRegistration) -> None:
    """The transform that resamples the head on the template's grid maps template points into the head."""
    there = map_points(read_composite(registered.image_to_template), NUCLEI)
    expected = NUCLEI @ PLANTED[:3, :3].T + PLANTED[:3, 3]
    assert np.linalg.norm(there - expected, axis=1).max() < 1.5
    back = map_points(read_composite(registered.template_to_image), there)
    assert np.linalg.norm(back - NUCLEI, axis=1).max() < 0.1


def test_a_brain_without_its_skull_is_found(tmp_path: Path) -> None:
    """Larger than the template's, and skull-stripped: the template's head must not be squeezed onto it."""
    atlas, grow = load_atlas("CIT168"), np.diag([1.15, 1.15, 1.15, 1])
    size = Grid((72, 84, 72), np.array([[3.0, 0, 0, -108], [0, 3, 0, -140], [0, 0, 3, -90], [0, 0, 0, 1]]))
    shrink = [Affine(np.linalg.inv(grow))]
    head = np.asarray(pull(coarse_copy(read_image(atlas.t1w), 3.0), shrink, size).data)
    brain = np.asarray(pull(read_image(atlas.brain_mask), shrink, size).data) > 0.5
    noise = np.random.default_rng(1).normal(size=head.shape) * 0.03 * head.max()
    bare = write_image(tmp_path / "T1w.nii.gz", np.where(brain, np.abs(head + noise), 0), size)
    found = anatomy.register_t1w_to_template(bare, "CIT168", out_dir=tmp_path, random_seed=3, sloppy=True)
    assert json.loads(found.measures.read_text())["verdict"] == "pass"
    there = map_points(read_composite(found.image_to_template), NUCLEI)
    assert np.linalg.norm(there - 1.15 * NUCLEI, axis=1).max() < 2.0


def test_labels_lie_where_the_nuclei_are(
    registered: anatomy.TemplateRegistration, head: Path, tmp_path: Path
) -> None:
    """Centroids in world space, left left and right right, on a grid stored from left to right."""
    atlas = load_atlas("CIT168")
    labels = resampling.resample_labels(atlas.labels, (registered.template_to_image,), head, out_dir=tmp_path)
    found, truth = read_image(labels.image, dtype=np.uint16), read_image(atlas.labels, dtype=np.uint16)
    assert found.grid.same_as(read_image(head).grid)
    for region in atlas.regions:
        if region.name in ("putamen", "caudate", "thalamus", "pallidum"):
            here = world_points(found.grid, np.array(center_of_mass(np.isin(found.data, region.indices))))
            there = world_points(truth.grid, np.array(center_of_mass(np.isin(truth.data, region.indices))))
            assert np.linalg.norm(here - (PLANTED[:3, :3] @ there + PLANTED[:3, 3])) < 2.0
            volume = np.isin(found.data, region.indices).sum() * found.grid.voxel_volume_mm3
            assert volume == pytest.approx(np.isin(truth.data, region.indices).sum(), rel=0.2)


def test_the_brain_mask_covers_the_brain(registered: anatomy.TemplateRegistration, head: Path) -> None:
    atlas = load_atlas("CIT168")
    mask = read_image(registered.brain_mask)
    expected = pull(read_image(atlas.brain_mask), [FROM_HEAD], mask.grid)
    one, other = mask.data > 0.5, np.asarray(expected.data) > 0.5
    assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.95


def test_megre_is_put_on_the_t1w(
    registered: anatomy.TemplateRegistration, head: Path, tmp_path: Path
) -> None:
    """Another contrast, moved by a known rigid motion: found to a fraction of a voxel."""
    t1w = read_image(head)
    motion = np.eye(4)
    motion[:3, :3] = [[1, 0, 0], [0, np.cos(0.06), -np.sin(0.06)], [0, np.sin(0.06), np.cos(0.06)]]
    motion[:3, 3] = [4.0, 3.0, -5.0]
    brain = np.asarray(read_image(registered.brain_mask).data) > 0.5
    other = np.where(brain, np.percentile(t1w.data, 99) * 1.2 - t1w.data, 0.2 * np.asarray(t1w.data))
    source = Image(other.astype(np.float32), t1w.grid)
    megre = pull(source, [Affine(motion)], t1w.grid)
    reference = anatomy.combine_echoes(
        (write_image(tmp_path / "e1.nii.gz", megre.data, megre.grid),), out_dir=tmp_path
    )
    found = anatomy.register_megre_to_t1w(
        reference.image, head, registered.brain_mask, out_dir=tmp_path, random_seed=3, sloppy=False
    )
    points = world_points(t1w.grid, np.argwhere(brain)[::500].astype(float))
    # the copy shows at p what the T1w shows at motion(p): T1w points go to the copy by the inverse
    there = map_points(read_composite(found.megre_to_t1w), points)
    expected = points @ np.linalg.inv(motion)[:3, :3].T + np.linalg.inv(motion)[:3, 3]
    assert np.linalg.norm(there - expected, axis=1).max() < 1.0
    assert json.loads(found.measures.read_text())["verdict"] == "pass"


@pytest.mark.parametrize(("axis", "told"), [(0, "side_balance"), (1, "half_balance")])
def test_half_a_head_is_no_head(
    axis: int, told: str, registered: anatomy.TemplateRegistration, head: Path, tmp_path: Path
) -> None:
    """A MEGRE whose left or back half was blanked finds its T1w, and gives no table of the other half either."""
    image = read_image(head)
    data = np.asarray(image.data, np.float32)
    bright = np.where(data > 0.1 * data.max(), 1.2 * data.max() - data, 0.1 * data)
    np.moveaxis(bright, axis, 0)[: data.shape[axis] // 2] = 0
    megre = write_image(tmp_path / "half.nii.gz", bright, image.grid)
    with pytest.raises(ProcessingError, match=rf"E410.*{told}"):
        anatomy.register_megre_to_t1w(
            megre, head, registered.brain_mask, out_dir=tmp_path, random_seed=3, sloppy=True
        )


def test_another_contrast_is_no_t1w(head: Path, tmp_path: Path) -> None:
    """White matter darker than grey, as on a T2w: local correlation squared would not tell."""
    image = read_image(head)
    data = np.asarray(image.data, np.float32)
    inverted = np.where(data > 0.1 * data.max(), 1.1 * data.max() - data, data)
    path = write_image(tmp_path / "T1w.nii.gz", inverted, image.grid)
    with pytest.raises(ProcessingError, match=r"E410.*contrast -0"):
        anatomy.register_t1w_to_template(path, "CIT168", out_dir=tmp_path, random_seed=3, sloppy=True)


def test_a_masked_lesion_does_not_pull_the_regions(
    registered: anatomy.TemplateRegistration, head: Path, tmp_path: Path
) -> None:
    """A dark mass of 40 mm over the left putamen moves the nuclei by millimetres, masked by a fraction of one."""
    t1w = read_image(head)
    voxels = np.stack(np.meshgrid(*map(np.arange, t1w.grid.shape), indexing="ij"), -1).astype(float)
    middle = PLANTED[:3, :3] @ np.array([-40.0, 2, 6]) + PLANTED[:3, 3]
    ill = np.linalg.norm(world_points(t1w.grid, voxels) - middle, axis=-1) < 20
    sick = write_image(tmp_path / "T1w.nii.gz", np.where(ill, 0.1 * t1w.data, t1w.data), t1w.grid)
    mask = write_image(tmp_path / "lesions.nii.gz", ill, t1w.grid, dtype=np.uint8)
    nuclei = np.array([[-22.0, 8, 0], [-24, -4, 4], [-20, 2, -4], [-26, 4, 2]])

    def moved(lesion_mask: Path | None) -> float:
        out = tmp_path / ("masked" if lesion_mask else "not_masked")
        out.mkdir()
        found = anatomy.register_t1w_to_template(
            sick, "CIT168", out_dir=out, random_seed=3, sloppy=True, lesion_mask=lesion_mask
        )
        there, sound = (
            map_points(read_composite(one.image_to_template), nuclei) for one in (found, registered)
        )
        return float(np.linalg.norm(there - sound, axis=1).mean())

    assert moved(None) > 3
    assert moved(mask) < 0.7


def test_echoes_are_combined_as_a_root_mean_square(tmp_path: Path) -> None:
    grid = Grid((3, 3, 3), np.diag([-1.0, 1, 1, 1]))
    one, two = np.full((3, 3, 3), 3.0), np.full((3, 3, 3), 5.0)
    one[0, 0, 0], two[0, 0, 0] = np.nan, -7
    paths = tuple(write_image(tmp_path / f"{k}.nii.gz", data, grid) for k, data in enumerate((one, two)))
    combined = read_image(anatomy.combine_echoes(paths, out_dir=tmp_path).image)
    assert combined.grid.orientation == "RAS"
    assert combined.data[2, 0, 0] == 0
    np.testing.assert_allclose(combined.data[0], np.sqrt((9 + 25) / 2), rtol=1e-6)


@pytest.mark.slow
def test_a_real_head_of_two_echoes_without_a_t1w(shared_data: Path, tmp_path: Path) -> None:
    """Iron by region from ln(S1/S2)/Δt: the pallidum stands out from putamen and thalamus on both sides."""
    folder = shared_data / "real-2echo" / "sub-01" / "anat"
    echoes = tuple(sorted(folder.glob("*_MEGRE.nii.gz")))
    reference = anatomy.combine_echoes(echoes, out_dir=tmp_path)
    found = anatomy.register_megre_to_template(reference.image, "CIT168", out_dir=tmp_path)
    assert json.loads(found.measures.read_text())["verdict"] == "pass"
    atlas = load_atlas("CIT168")
    labels = read_image(
        resampling.resample_labels(
            atlas.labels, (found.template_to_image,), echoes[0], out_dir=tmp_path
        ).image
    )
    first, second = (np.asarray(read_image(path).data, np.float64) for path in echoes)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2star_per_s = np.log(first / second) / (7.65e-3 - 5.19e-3)
    median = {
        (region.name, region.hemisphere): np.nanmedian(r2star_per_s[np.isin(labels.data, region.indices)])
        for region in atlas.regions
    }
    for side in "LR":
        assert median["pallidum", side] > median["putamen", side] + 5
        assert median["pallidum", side] > median["thalamus", side] + 5
        assert 10 < median["thalamus", side] < 35


def test_a_session_is_placed_by_the_warp_of_another(tmp_path: Path) -> None:
    """Joined chains map points as one after the other does, and keep the other's links to the bit."""
    grid = Grid((5, 6, 7), np.diag([20.0, 20, 20, 1]))
    warp = Field(np.random.default_rng(4).normal(0, 3, (*grid.shape, 3)).astype(np.float32), grid)
    scale = Affine(np.diag([1.1, 0.9, 1.05, 1.0]))
    turn = Affine(PLANTED)
    names = ("from-MEGRE_to-reference", "from-reference_to-MEGRE", "from-MEGRE_to-T", "from-T_to-MEGRE")
    chains = ([turn], [Affine(np.linalg.inv(PLANTED))], [scale, warp], [warp, scale])
    paths = [
        write_composite(tmp_path / f"{name}.h5", chain) for name, chain in zip(names, chains, strict=True)
    ]
    (tmp_path / "out").mkdir()
    joined = anatomy.join_transforms(*paths, out_dir=tmp_path / "out")
    assert (joined.image_to_template.name, joined.template_to_image.name) == (paths[2].name, paths[3].name)
    points = np.random.default_rng(5).uniform(10, 80, (50, 3))
    in_reference = map_points(read_composite(paths[2]), points)
    expected = in_reference @ PLANTED[:3, :3].T + PLANTED[:3, 3]
    assert map_points(read_composite(joined.image_to_template), points) == pytest.approx(expected, abs=1e-9)
    away = (points - PLANTED[:3, 3]) @ PLANTED[:3, :3]  # the inverse of a rotation is its transpose
    expected = map_points(read_composite(paths[3]), away)
    found = map_points(read_composite(joined.template_to_image), points)
    assert found == pytest.approx(expected, abs=1e-4)
    kept, own = read_composite(joined.image_to_template)[1], read_composite(paths[2])[1]
    assert isinstance(kept, Field)
    assert isinstance(own, Field)
    assert np.array_equal(kept.displacement_mm, own.displacement_mm)


def test_lesions_drawn_on_the_megre_come_to_the_t1w(head: Path, tmp_path: Path) -> None:
    """Another contrast in another place: a ball drawn there lies on the T1w where it was, by whole heads alone."""
    t1w = read_image(head)
    motion = np.eye(4)
    motion[:3, :3] = [[1, 0, 0], [0, np.cos(0.08), -np.sin(0.08)], [0, np.sin(0.08), np.cos(0.08)]]
    motion[:3, 3] = [6.0, -5.0, 8.0]
    tissue = np.asarray(t1w.data) > np.percentile(t1w.data, 60)
    contrast = np.where(tissue, np.percentile(t1w.data, 99) * 1.2 - t1w.data, 0.2 * np.asarray(t1w.data))
    ball = las_grid(3.0)
    points = world_points(ball, np.moveaxis(np.indices(ball.shape), 0, -1).astype(float))
    centre = PLANTED[:3, :3] @ np.array([30.0, 10, 30]) + PLANTED[:3, 3]
    planted = (np.linalg.norm(points - centre, axis=-1) < 10).astype(np.float32)
    megre, drawn = (
        pull(Image(data.astype(np.float32), t1w.grid), [Affine(motion)], t1w.grid)
        for data in (contrast, planted)
    )
    given = write_image(tmp_path / "lesions.nii.gz", drawn.data > 0.5, drawn.grid, dtype=np.uint8)
    echo = write_image(tmp_path / "e1.nii.gz", megre.data, megre.grid)
    aligned = anatomy.align_megre_to_t1w(
        anatomy.combine_echoes((echo,), out_dir=tmp_path).image,
        head,
        out_dir=tmp_path,
        random_seed=3,
        sloppy=True,
    )
    mask = adopt_mask(given, head, tmp_path, kind="lesions", transforms=(aligned.megre_to_t1w,))
    found = read_image(mask.image)
    assert found.grid.same_as(t1w.grid)
    there, here = planted > 0.5, np.asarray(found.data) > 0.5
    assert 2 * (there & here).sum() / (there.sum() + here.sum()) > 0.85
    left = adopt_mask(given, head, tmp_path, kind="lesions")
    stays = np.asarray(read_image(left.image).data) > 0.5
    assert 2 * (there & stays).sum() / (there.sum() + stays.sum()) < 0.6, (
        "the test would see a mask that was left"
    )
