"""Step: with a T1w, let the R2* map of a unit correct where the T1w alone put the nuclei.

May import register, atlas and images.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from r2star.atlas import load_atlas
from r2star.errors import Notice
from r2star.images import Image
from r2star.register import engine, grids, measures, stages
from r2star.register.iron import paint_r2star
from r2star.register.transforms import Warp, jacobian_determinant, read_composite, write_composite
from r2star.steps.canonical import Target, read_canonical, read_target
from r2star.steps.verdict import judge

#: R2* beyond this counts as this when it drives a registration: veins and calcifications, not nuclei.
HIGHEST_R2STAR_PER_S = 80.0


class RefinedRegistration(NamedTuple):
    """A T1w's registration to the template as one unit uses it."""

    t1w_to_template: Path
    template_to_t1w: Path
    measures: Path  # JSON
    notices: tuple[Notice, ...]


def refine_by_iron(
    t1w: Path,
    r2star_map: Path,
    atlas: str,
    t1w_to_template: Path,
    template_to_t1w: Path,
    megre_to_t1w: Path,
    out_dir: Path,
    n_threads: int = 1,
    lesion_mask: Path | None = None,
) -> RefinedRegistration:
    """Warp once more around the atlas' regions, T1w against template and R2* against painted R2* together.

    Pallidum, red nucleus and substantia nigra hardly show on a T1w. ``r2star_map`` (1/s) lies on the MEGRE's grid,
    ``lesion_mask`` on any grid of the T1w's world.
    """
    threads = engine.limit_threads(n_threads)
    target = read_target(load_atlas(atlas))
    start = Warp(read_composite(t1w_to_template), read_composite(template_to_t1w))
    iron, to_megre = iron_pair(r2star_map, target), read_composite(megre_to_t1w)
    focus = Image(target.in_regions, target.labels.grid)
    found = stages.refine_focused(
        start, focus, stages.Pair(target.t1w, read_canonical(t1w)), iron, to_megre, n_threads=n_threads,
        lesions=None if lesion_mask is None else read_canonical(lesion_mask),
    )  # fmt: skip
    names = (t1w_to_template.name, template_to_t1w.name)
    forward = write_composite(out_dir / names[0], found.fixed_to_moving)
    backward = write_composite(out_dir / names[1], found.moving_to_fixed)
    box = grids.box_grid(target.labels.grid, target.in_regions, 4.0)
    determinant = jacobian_determinant(found.fixed_to_moving, box)
    values = {
        "jacobian_min": float(determinant.min()),
        "jacobian_max": float(determinant.max()),
        "iron_similarity": measures.local_correlation(
            grids.pull(iron.fixed, [], box).data,
            grids.pull(iron.moving, [*found.fixed_to_moving, *to_megre], box).data,
            np.ones(box.shape, bool),
        ),
    }
    told, doubts = judge(out_dir, "T1w_and_iron_to_template", values, measures.T1W_TO_TEMPLATE)
    notices = doubts if threads is None else (threads, *doubts)
    return RefinedRegistration(forward, backward, told, notices)


def iron_pair(r2star_map: Path, target: Target) -> stages.Pair:
    """The R2* map, with what can be no tissue set to the nearest that can, against the painted template."""
    brain = np.asarray(target.brain_mask.data) > 0.5
    painted = paint_r2star(target.labels.data, target.indices, np.asarray(target.t1w.data, np.float32), brain)
    found = read_canonical(r2star_map)
    values = np.clip(
        np.nan_to_num(np.asarray(found.data, np.float32), posinf=0, neginf=0), 0, HIGHEST_R2STAR_PER_S
    )
    return stages.Pair(Image(painted, target.t1w.grid), Image(values, found.grid), 1.0)
