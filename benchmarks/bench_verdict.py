"""The verdict on MEGRE and T1w, calibrated: measures of good pairs beside those of deliberately broken ones.

    python benchmarks/bench_verdict.py [--people 3] [--seed 7] [--t1w FILE ...] [--megre FILE ...] --work DIR

Good: simulated people as they are, with thick slices and noise, as a slab (also with zeros around it), with large
lesions. Broken: mirrored data under the same header, half of the MEGRE blanked, and every T1w with the MEGRE of all
other people. Further T1w and MEGRE files (the latter root mean squares over echoes), each of somebody else, are paired
with all others. ``--only sub-01`` takes that T1w alone. Rows are Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from r2star.errors import ProcessingError
from r2star.images import Grid, read_image, write_image
from r2star.register import engine
from r2star.simulate.brain import BrainPlan
from r2star.steps import anatomy
from r2star.steps.simulate import write_brains

MEASURES = ("peak_contrast", "mirror_contrast", "warp_gain", "side_balance", "half_balance")


@dataclass(frozen=True)
class Head:
    """Files of one person; either image may be absent."""

    name: str
    t1w: Path | None
    mask: Path | None
    megre: Path | None


def simulated(number: int, seed: int, work: Path) -> list[Head]:
    """People with T1w, brain mask and MEGRE."""
    bids = work / "bids"
    if not bids.exists():
        write_brains(bids, BrainPlan(), n_participants=number, seed=seed)
    return [read_person(bids, f"sub-{k + 1:02d}", work) for k in range(number)]


def read_person(bids: Path, name: str, work: Path) -> Head:
    """One simulated person, registered to the template for the mask."""
    folder = work / name
    folder.mkdir(exist_ok=True)
    echoes = tuple(sorted(bids.glob(f"{name}/anat/*_MEGRE.nii.gz")))
    t1w = next(bids.glob(f"{name}/anat/*_T1w.nii.gz"))
    return Head(name, t1w, brain_of(t1w, folder), anatomy.combine_echoes(echoes, out_dir=folder).image)


def brain_of(t1w: Path, folder: Path) -> Path:
    """The brain mask of a T1w by registration to the template."""
    folder.mkdir(exist_ok=True)
    known = folder / "space-T1w_brain_mask.nii.gz"
    if not known.exists():
        anatomy.register_t1w_to_template(t1w, "CIT168", out_dir=folder)
    return known


def variants(path: Path, folder: Path) -> Iterator[tuple[str, bool, Path]]:
    """Name, whether it is good, and file of what can be made of a MEGRE."""
    image = read_image(path)
    data, grid = np.asarray(image.data, np.float32), image.grid
    rng = np.random.default_rng(1)
    noise = 0.08 * np.percentile(data, 90) * rng.normal(size=data.shape)
    thick = np.diag([1.0, 1, 2, 1])
    third = data.shape[2] // 3
    lesions = np.where(gaussian_filter(rng.normal(size=data.shape), 6) > 0.012, 1.6 * data, data)
    slab = grid.affine.copy()
    slab[:3, 3] += slab[:3, 2] * third
    along = [
        np.arange(n).reshape([-1 if k == axis else 1 for k in range(3)]) < n // 2
        for axis, n in enumerate(data.shape)
    ]
    in_slab = abs(np.arange(data.shape[2]) - data.shape[2] // 2) < third // 2
    cases = {
        "as it is": (True, data, grid),
        "thick and noisy": (
            True, np.abs(gaussian_filter(data, (0, 0, 0.8)) + noise)[:, :, ::2],
            Grid((*data.shape[:2], len(range(0, data.shape[2], 2))), grid.affine @ thick),
        ),
        "slab": (True, data[:, :, third : 2 * third], Grid((*data.shape[:2], third), slab)),
        "zeros around a slab": (True, np.where(in_slab, data, 0), grid),
        "lesions": (True, lesions, grid),
        "mirrored": (False, data[::-1], grid),
        "without its left": (False, np.where(along[0], 0, data), grid),
        "without its back": (False, np.where(along[1], 0, data), grid),
        "without its front": (False, np.where(along[1], data, 0), grid),
        "without its bottom": (False, np.where(along[2], 0, data), grid),
        "without its top": (False, np.where(along[2], data, 0), grid),
        "mirrored slab": (False, data[::-1, :, third : 2 * third], Grid((*data.shape[:2], third), slab)),
    }  # fmt: skip
    for name, (good, values, where) in cases.items():
        yield name, good, write_image(folder / f"{name.replace(' ', '_')}.nii.gz", values, where)


def judge(head: Head, megre: Path, name: str, *, good: bool, work: Path) -> bool:
    """One row; whether the verdict is right (a good pair may be doubtful, a broken one must fail)."""
    assert head.t1w is not None
    assert head.mask is not None
    folder = work / "pair"
    folder.mkdir(exist_ok=True)
    try:
        anatomy.register_megre_to_t1w(megre, head.t1w, head.mask, out_dir=folder)
    except ProcessingError as problem:
        if problem.code != "E410":
            raise
    told = json.loads((folder / "MEGRE_to_T1w_measures.json").read_text())
    values = " | ".join(f"{told['measures'][key]:.2f}" for key in MEASURES)
    right = told["verdict"] != "fail" if good else told["verdict"] == "fail"
    wrong = "" if right else " **wrong**"
    print(
        f"| {head.name} T1w, {name} | {'good' if good else 'broken'} | {values} | {told['verdict']}{wrong} |",
        flush=True,
    )
    return right


def main() -> None:
    """Print the table and how many verdicts were right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--t1w", nargs="*", type=Path, default=[])
    parser.add_argument("--megre", nargs="*", type=Path, default=[])
    parser.add_argument("--only", metavar="NAME")
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    engine.limit_threads(1)
    heads = simulated(options.people, options.seed, options.work)
    for path in options.t1w:
        heads.append(Head(path.name[:12], path, brain_of(path, options.work / path.name), None))
    heads += [Head(f"real {k + 1}", None, None, path) for k, path in enumerate(options.megre)]
    print(f"| pair | truth | {' | '.join(MEASURES)} | verdict |\n|---|---|{'---:|' * len(MEASURES)}---|")
    right = []
    for one in (head for head in heads if head.t1w and options.only in (None, head.name)):
        for name, good, path in variants(one.megre, options.work) if one.megre else ():
            right.append(judge(one, path, f"MEGRE {name}", good=good, work=options.work))
        for other in (head for head in heads if head.megre and head is not one):
            right.append(judge(one, other.megre, f"MEGRE of {other.name}", good=False, work=options.work))
    print(f"\n{sum(right)} of {len(right)} verdicts right")


if __name__ == "__main__":
    main()
