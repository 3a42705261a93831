"""Iron corrects where a T1w put the nuclei: a planted local warp is undone, and what it did is judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from r2star.atlas import load_atlas
from r2star.images import Grid, Image, write_image
from r2star.register.align import world_points
from r2star.register.grids import box_grid, pull
from r2star.register.iron import paint_r2star
from r2star.register.transforms import Affine, Field, map_points, write_composite
from r2star.steps.canonical import read_target
from r2star.steps.refinement import RefinedRegistration, refine_by_iron

#: T1w world to the MEGRE's.
SHIFT = np.eye(4)
SHIFT[:3, 3] = [6.0, -4.0, 3.0]


def planted() -> Field:
    """Both sides' nuclei moved by up to 3 mm."""
    grid = Grid(
        (52, 50, 40), np.diag([4.0, 4, 4, 1]) + np.array([[0, 0, 0, v] for v in (-102, -100, -70, 0)])
    )
    points = world_points(grid, np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    moved = np.zeros((*grid.shape, 3), np.float32)
    for centre, by in (((-22.0, -4, -1), (2.0, -1.5, 1.5)), ((22.0, -4, -1), (1.5, 2.0, -1.5))):
        bump = np.exp(-((points - centre) ** 2).sum(-1) / (2 * 14.0**2))
        moved += (bump[..., None] * by).astype(np.float32)
    return Field(moved, grid)


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> RefinedRegistration:
    """A T1w on which the pallidum looks like what is around it, and its R2*."""
    folder = tmp_path_factory.mktemp("refined")
    target = read_target(load_atlas("CIT168"))
    box = box_grid(target.t1w.grid, target.in_regions, 22.0)
    flat = np.asarray(target.t1w.data, np.float32).copy()
    flat[np.isin(target.labels.data, target.indices["pallidum"])] = 75
    painted = paint_r2star(
        target.labels.data, target.indices, target.t1w.data, np.asarray(target.brain_mask.data) > 0.5
    )
    rng = np.random.default_rng(4)
    images = {}
    for name, values, noise in (("T1w", flat, 2.0), ("R2starmap", painted, 2.0)):
        data = pull(Image(values, target.t1w.grid), [planted()], box).data
        images[name] = (data + noise * rng.normal(size=data.shape)).astype(np.float32)
    megre = Grid(box.shape, SHIFT @ box.affine)
    start = [folder / "from-T1w_to-X_mode-image_xfm.h5", folder / "from-X_to-T1w_mode-image_xfm.h5"]
    for path in start:
        write_composite(path, [Affine(np.eye(4))])
    out = folder / "out"
    out.mkdir()
    return refine_by_iron(
        write_image(folder / "T1w.nii.gz", images["T1w"], box),
        write_image(folder / "R2starmap.nii.gz", images["R2starmap"], megre),
        "CIT168",
        start[0],
        start[1],
        write_composite(folder / "megre_to_t1w.h5", [Affine(SHIFT)]),
        out_dir=out,
    )


def test_the_pallidum_is_found_where_its_iron_is(refined: RefinedRegistration) -> None:
    from r2star.register.transforms import read_composite

    target = read_target(load_atlas("CIT168"))
    inside = np.isin(target.labels.data, target.indices["pallidum"])
    points = world_points(target.labels.grid, np.argwhere(inside)[::7].astype(float))
    before = np.linalg.norm(map_points([planted()], points) - points, axis=1)
    there = map_points(read_composite(refined.t1w_to_template), points)
    after = np.linalg.norm(map_points([planted()], there) - points, axis=1)
    assert np.median(before) > 2
    assert np.median(after) < 0.5
    back = map_points(read_composite(refined.template_to_t1w), there)
    assert np.linalg.norm(back - points, axis=1).max() < 0.15


def test_it_is_judged_and_keeps_the_names(refined: RefinedRegistration) -> None:
    told = json.loads(refined.measures.read_text())
    assert told["verdict"] == "pass"
    assert told["measures"]["iron_similarity"] > 0.35
    names = {Path(path).name for path in (refined.t1w_to_template, refined.template_to_t1w)}
    assert names == {"from-T1w_to-X_mode-image_xfm.h5", "from-X_to-T1w_mode-image_xfm.h5"}
