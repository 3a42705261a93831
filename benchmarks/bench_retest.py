"""Test and retest: how much of the difference between sessions of one person is registration.

    python -m benchmarks.bench_retest [--sessions 3] [--seed 4] [--no-t1w] [--keep DIR] [-- OPTION ...]

A simulated person is scanned several times, each time in another pose, with another coil profile and other noise, and
goes through the command line twice: with one anatomy for all sessions, as is the default, and with one for each
(``--subject-anatomical-reference sessionwise``). Beside them stands what is left where no region is placed at all: the
same R2* maps under the planted labels. Each number is the SD over sessions of (median − planted), pooled over the
hemispheres, in 1/s. ``--keep`` goes on where an earlier run stopped; what follows ``--`` goes to the runs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.bench_participant import read_rows, run
from benchmarks.bench_placement import REGIONS, summarise
from benchmarks.heads import ATLAS, Key
from r2star.atlas import load_atlas
from r2star.images import read_image
from r2star.steps.canonical import Target, read_target

ANATOMIES = {"one anatomy": "first-lex", "an anatomy a session": "sessionwise"}
Medians = dict[Key, float]


def planted_rates(bids: Path, session: str) -> Medians:
    """R2* of each region and side as it was painted."""
    return {
        (row["region"], row["hemisphere"]): float(row["r2star_per_s"])
        for row in read_rows(bids / "truth.tsv") if row["session_id"] == session
    }  # fmt: skip


def by_planted_labels(bids: Path, out: Path, stem: str, target: Target) -> Medians:
    """Medians of the fitted map under the labels that were planted."""
    labels = read_image(bids / f"derivatives/truth/{stem}_seg-truth_dseg.nii.gz").data
    rows = summarise(target, np.asarray(labels).astype(np.uint16), out / f"{stem}_R2starmap.nii.gz")
    return {key: float(row.r2star_per_s["median"]) for key, row in rows.items()}


def by_table(out: Path, stem: str) -> Medians:
    """Medians as the program's table gives them."""
    rows = read_rows(out / f"{stem}_atlas-{ATLAS}_desc-R2star_stats.tsv")
    return {(row["region"], row["hemisphere"]): float(row["r2star_median_per_s"]) for row in rows}


def spread(errors: list[Medians], region: str) -> float:
    """SD over sessions, pooled over the hemispheres."""
    sides = [[one[region, side] for one in errors] for side in "LR"]
    return float(np.sqrt(np.mean(np.var(sides, axis=1, ddof=1))))


def main() -> None:
    """Simulate, run both ways, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--no-t1w", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("options", nargs="*", help="for the runs, after --")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = chosen.keep or Path(scratch)
        bids = root / "bids"
        if not bids.exists():
            words = ["--sessions", chosen.sessions, "--interval-years", 0.01, "--seed", chosen.seed]
            words += ["--no-t1w"] if chosen.no_t1w else []
            run("simulate", "brain", bids, "--participants", 1, *words)
        for way in ANATOMIES.values():
            words = ["--subject-anatomical-reference", way, "-w", root / f"work-{way}", *chosen.options]
            run("app", bids, root / way, "participant", *words)
        found = measure(root, chosen.sessions)
    print(f"| region | {' | '.join(found)} |\n|---|{'---:|' * len(found)}")
    for region in REGIONS:
        cells = [f"{spread(errors, region):.2f}" for errors in found.values()]
        print(f"| {region.replace('_', ' ')} | {' | '.join(cells)} |")


def measure(root: Path, n_sessions: int) -> dict[str, list[Medians]]:
    """By what placed the regions: found − planted in each session."""
    target, bids = read_target(load_atlas(ATLAS)), root / "bids"
    found: dict[str, list[Medians]] = {"planted labels": [], **{name: [] for name in ANATOMIES}}
    for session in (f"ses-{number + 1}" for number in range(n_sessions)):
        stem, planted = f"sub-01/{session}/anat/sub-01_{session}", planted_rates(bids, session)
        medians = {"planted labels": by_planted_labels(bids, root / "first-lex", stem, target)}
        medians |= {name: by_table(root / way, stem) for name, way in ANATOMIES.items()}
        for name, values in medians.items():
            found[name].append({key: values[key] - value for key, value in planted.items()})
    return found


if __name__ == "__main__":
    main()
