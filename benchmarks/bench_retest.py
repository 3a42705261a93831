"""Test and retest: how much of the difference between sessions of one person is registration.

    python -m benchmarks.bench_retest [--sessions 3] [--seed 4] [--keep DIR]

One simulated person is scanned several times, each time in another pose and with other noise, and goes through the
command line; all sessions share the first T1w. Each region's median is measured on the same R2* maps with the planted
labels, with the labels of the shared T1w alone, and with those of the program, which R2* corrects in each session.
Each number is the SD over sessions of (median − planted), pooled over hemispheres, in 1/s.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.bench_participant import read_rows, run, run_measured
from benchmarks.bench_placement import REGIONS, summarise
from benchmarks.heads import ATLAS, Key
from r2star.atlas import load_atlas
from r2star.images import read_grid, read_image
from r2star.register.resample import resample_labels_array
from r2star.steps.canonical import Target, read_target

PLACES = ("planted labels", "the T1w alone", "T1w and R2*")


def errors(bids: Path, out: Path, work: Path, session: str, target: Target) -> dict[str, dict[Key, float]]:
    """By placement: found − planted of each region and hemisphere."""
    stem = f"sub-01/{session}/anat/sub-01_{session}"
    r2star, labels = out / f"{stem}_R2starmap.nii.gz", out / f"{stem}_atlas-{ATLAS}_dseg.nii.gz"
    to_megre = out / f"{stem}_from-T1w_to-MEGRE_mode-image_xfm.h5"
    shared = [path for path in work.rglob("from-*_to-T1w_mode-image_xfm.h5") if is_shared(path)]
    if len(shared) != 1:
        raise SystemExit(
            f"one registration of the T1w was looked for in {work}, and {len(shared)} were found"
        )
    placed = (
        read_image(bids / f"derivatives/truth/{stem}_seg-truth_dseg.nii.gz").data,
        resample_labels_array(target.labels, [to_megre, *shared], read_grid(r2star)),
        read_image(labels).data,
    )
    planted = {
        (row["region"], row["hemisphere"]): float(row["r2star_per_s"])
        for row in read_rows(bids / "truth.tsv") if row["session_id"] == session
    }  # fmt: skip
    found = {}
    for place, where in zip(PLACES, placed, strict=True):
        rows = summarise(target, np.asarray(where).astype(np.uint16), r2star)
        found[place] = {
            key: float(rows[key].r2star_per_s["median"]) - value for key, value in planted.items()
        }
    return found


def is_shared(path: Path) -> bool:
    """Whether this is what a T1w's own registration wrote, not what a unit made of it."""
    return "from-MEGRE" not in path.name and not any("refine" in part for part in path.parts)


def main() -> None:
    """Simulate, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        bids, out, work = root / "bids", root / "out", root / "work"
        if not bids.exists():
            words = ["--sessions", options.sessions, "--interval-years", "0.01", "--seed", options.seed]
            run("simulate", "brain", bids, "--participants", 1, *words)
        run_measured(bids, out, "participant", "-w", work)
        target = read_target(load_atlas(ATLAS))
        found = [errors(bids, out, work, f"ses-{k + 1}", target) for k in range(options.sessions)]
    print(f"| region | {' | '.join(PLACES)} |\n|---|{'---:|' * len(PLACES)}")
    for region in REGIONS:
        cells = []
        for place in PLACES:
            sides = [[one[place][region, side] for one in found] for side in "LR"]
            cells.append(f"{np.sqrt(np.mean(np.var(sides, axis=1, ddof=1))):.3f}")
        print(f"| {region.replace('_', ' ')} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
