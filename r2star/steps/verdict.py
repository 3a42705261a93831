"""What a registration between a head and the template, or MEGRE and T1w, is worth: measures, verdict, what is told.

May import register, atlas, images and files.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from r2star.atlas import Atlas
from r2star.errors import Notice, ProcessingError
from r2star.files import write_text_atomically
from r2star.images import Image
from r2star.regions.labelled import volumes_by_region
from r2star.register import grids, measures, resample
from r2star.register.transforms import Link, affine_part, jacobian_determinant
from r2star.steps.canonical import Target, read_canonical, read_target


def measure_chain(image: Path, atlas: Atlas, chain: list[Link], backward: Path) -> measures.Measures:
    """Measures of any transform between a head and the atlas' template, as the registration steps write them."""
    return template_measures(read_target(atlas), read_canonical(image), chain, backward)


def template_measures(target: Target, moving: Image, chain: list[Link], backward: Path) -> measures.Measures:
    """Similarity in the box and in the brain, Jacobian, stretch, volumes of the regions against the atlas'."""
    template, labels = target.t1w, target.labels
    box = grids.box_grid(labels.grid, target.in_regions, 4.0)
    coarse = grids.box_grid(template.grid, np.asarray(target.brain_mask.data) > 0.5, 6.0, 2.0)
    inside = np.asarray(grids.pull(target.brain_mask, [], coarse).data, np.float32) > 0.5
    low = grids.pull(moving, chain, coarse)
    determinant = jacobian_determinant(chain, box)
    moved = resample.resample_labels_array(labels, [backward], moving.grid)
    seen = grids.pull(template, [], coarse).data
    return {
        "box_similarity": measures.local_correlation(
            grids.pull(template, [], box).data,
            grids.pull(moving, chain, box).data,
            np.ones(box.shape, bool),
        ),
        "brain_similarity": measures.local_correlation(seen, low.data, inside, 2),
        "contrast": measures.local_correlation(seen, low.data, inside, 2, signed=True),
        **measures.balance_measures(moving, target.brain_mask, chain),
        "jacobian_min": float(determinant.min()),
        "jacobian_max": float(determinant.max()),
        **measures.scale_measures(affine_part(chain)),
        **measures.volume_measures(
            volumes_by_region(moved, target.atlas.regions, moving.grid.voxel_volume_mm3),
            volumes_by_region(np.asarray(labels.data), target.atlas.regions, labels.grid.voxel_volume_mm3),
        ),
    }


def judge(
    out_dir: Path, name: str, values: measures.Measures, thresholds: measures.Thresholds
) -> tuple[Path, tuple[Notice, ...]]:
    """Write the measures; a doubtful registration is told, a failed one gives no table of plausible numbers."""
    judged = measures.explain(values, thresholds)
    verdict = measures.judge_registration(values, thresholds)
    content = {
        "verdict": verdict,
        "measures": {key: float(value) for key, value in values.items()},
        "verdicts": {measure: own for measure, _, own in judged},
    }
    path = out_dir / f"{name}_measures.json"
    write_text_atomically(path, json.dumps(content, indent=1) + "\n")
    what = name.replace("_", " ")
    told = ", ".join(f"{measure} {value:.3g}" for measure, value, own in judged if own == verdict)
    if verdict == "fail":
        raise ProcessingError(
            "E410",
            f"the registration {what} failed its checks ({told})",
            "images of one head in a plausible place are needed",
            "look at the images: orientation, coverage, another person's T1w",
        )
    if verdict == "doubtful":
        return path, (Notice("W443", f"the registration {what} is doubtful ({told})", "look at the regions"),)
    return path, ()
