"""Where the nuclei are put, by this program and by a default whole-brain SyN: Dice, R2* against truth, time.

    python -m benchmarks.bench_placement [bumps-1 ventricles-1 ... FOLDER ...] --results FILE [--write]

Heads are those of `benchmarks.heads`: simulated ones by name, or a folder with a T1w and labels. In each, T1w to
template and the last warp with R2* run as the program's own steps, and then `ants.registration(..., "SyN")` with
nothing set, of the same two images, one after the other. Both sides carry the same labels and are measured alike.
Results gather in a file after each side of a head, so that a long list can run in pieces; ``--write`` renews the
table. Ratios of time hold where both sides of a head ran in one piece, with nothing else running.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.heads import ATLAS, Key, Planted, labelled, simulated
from r2star.atlas import load_atlas
from r2star.errors import ProcessingError
from r2star.images import Image, read_image
from r2star.regions.labelled import VoxelMaps
from r2star.regions.summary import RegionSummary, summarise_regions
from r2star.register import engine
from r2star.register.measures import overlap
from r2star.register.resample import resample_labels_array
from r2star.register.transforms import Affine, write_composite
from r2star.steps.anatomy import register_t1w_to_template
from r2star.steps.canonical import Target, read_canonical, read_target
from r2star.steps.refinement import refine_by_iron
from r2star.steps.tables import DEFAULT_RULE

README = Path(__file__).parent / "README.md"
REGIONS = ("caudate", "putamen", "pallidum", "thalamus", "red_nucleus", "substantia_nigra")
DEFAULT_HEADS = ("bumps-1", "bumps-2", "bumps-3", "ventricles-1", "ventricles-2", "ventricles-3")
Labels = np.ndarray


def ours(head: Planted, target: Target, work: Path, n_threads: int) -> tuple[Labels, str]:
    """Labels on the head, as the steps of a unit with a T1w place them, and the verdicts."""
    found = register_t1w_to_template(head.t1w, ATLAS, work, n_threads=n_threads)
    here = write_composite(work / "from-MEGRE_to-T1w.h5", [Affine(np.eye(4))])
    (work / "refined").mkdir(exist_ok=True)
    better = refine_by_iron(
        head.t1w, head.r2star, ATLAS, found.image_to_template, found.template_to_image, here,
        work / "refined", n_threads=n_threads,
    )  # fmt: skip
    verdicts = [json.loads(path.read_text())["verdict"] for path in (found.measures, better.measures)]
    labels = resample_labels_array(target.labels, [better.template_to_t1w], head.labels.grid)
    return labels, ", ".join(sorted(set(verdicts)))


def syn(head: Planted, target: Target, work: Path, _: int) -> tuple[Labels, str]:
    """Labels as a default SyN of the T1w places them."""
    ants = engine.load_ants(1)
    fixed, moving = engine.to_ants(target.t1w), engine.to_ants(read_canonical(head.t1w))
    found = ants.registration(fixed, moving, "SyN", outprefix=str(work / "syn_"))
    labels = Image(np.asarray(target.labels.data, np.float32), target.labels.grid)
    moved = ants.apply_transforms(
        moving, engine.to_ants(labels), found["invtransforms"], "genericLabel", whichtoinvert=[True, False]
    )
    return np.rint(moved.numpy()).astype(np.uint16), ""


def summarise(target: Target, labels: Labels, r2star: Path) -> dict[Key, RegionSummary]:
    """The rows of the region table, by region and hemisphere, as the program measures them."""
    image = read_image(r2star)
    counts = np.bincount(np.asarray(target.labels.data).ravel().astype(int))
    volume = target.labels.grid.voxel_volume_mm3
    rows = summarise_regions(
        VoxelMaps(np.asarray(image.data, np.float32)), labels, target.atlas.regions,
        voxel_volume_mm3=image.grid.voxel_volume_mm3, rule=DEFAULT_RULE,
        expected_volume_mm3={int(i): float(counts[i]) * volume for i in np.flatnonzero(counts)},
    )  # fmt: skip
    return {(row.region, row.hemisphere): row for row in rows}


def measure(head: Planted, target: Target, labels: Labels) -> dict[str, dict[str, list[float]]]:
    """By region, left and right: Dice, error of the median (%), mean (1/s)."""
    told: dict[str, dict[str, list[float]]] = {}
    for key, row in summarise(target, labels, head.r2star).items():
        if key in head.codes and row.region in REGIONS:
            planted = np.asarray(head.labels.data) == head.codes[key]
            found = told.setdefault(row.region, {"dice": [], "error": [], "mean": []})
            found["dice"].append(overlap(np.isin(labels, row.indices), planted))
            found["error"].append(100 * (float(row.r2star_per_s["median"]) / head.r2star_per_s[key] - 1))
            found["mean"].append(float(row.r2star_per_s["mean"]))
    return told


def run(
    head: Planted, n_threads: int, sides: dict[str, Callable[..., tuple[Labels, str]]]
) -> dict[str, object]:
    """Both sides on one head."""
    target, told = read_target(load_atlas(ATLAS)), {}
    engine.load_ants()  # once a process and on both sides: in neither's time
    for side, place in sides.items():
        with tempfile.TemporaryDirectory() as folder:
            start, processor = time.perf_counter(), time.process_time()
            try:
                labels, verdict = place(head, target, Path(folder), n_threads)
            except ProcessingError as problem:
                told[side] = {"verdict": str(problem)}
                continue
            spent = time.perf_counter() - start, time.process_time() - processor
        told[side] = {"s": spent[0], "cpu_s": spent[1], "verdict": verdict}
        told[side]["regions"] = measure(head, target, labels)
        print(head.name, side, json.dumps(told[side]), flush=True)
    return told


def table(results: dict[str, dict[str, dict]]) -> str:
    """Markdown: one row a head, then all heads by region."""
    lines = [
        "| head | verdict | s, ours / SyN | ratio | ratio of CPU s |",
        "|---|---|---:|---:|---:|",
        *(_row_of_head(name, told["ours"], told["SyN"]) for name, told in results.items()),
        "",
        "| region | Dice of each head, ours | SyN | least gain | error, %: median (worst), ours | SyN |",
        "|---|---|---|---:|---:|---:|",
    ]
    for region in REGIONS:
        sides = {
            side: [
                told[side]["regions"][region] for told in results.values() if region in told[side]["regions"]
            ]
            for side in ("ours", "SyN")
        }
        if not sides["ours"]:
            continue
        dice = {side: [float(np.mean(one["dice"])) for one in found] for side, found in sides.items()}
        errors = {
            side: np.abs(np.concatenate([one["error"] for one in found])) for side, found in sides.items()
        }
        gain = min(one - other for one, other in zip(dice["ours"], dice["SyN"], strict=True))
        cells = [" ".join(f"{value:.3f}" for value in dice[side]) for side in ("ours", "SyN")]
        cells += [
            f"{gain:+.3f}",
            *(f"{np.median(errors[side]):.1f} ({errors[side].max():.1f})" for side in errors),
        ]
        lines.append(f"| {region.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _row_of_head(name: str, one: dict, other: dict) -> str:
    ratios = f"{one['s'] / other['s']:.2f} | {one['cpu_s'] / other['cpu_s']:.2f}"
    return f"| {name} | {one['verdict']} | {one['s']:.0f} / {other['s']:.0f} | {ratios} |"


def largest_difference(one: dict[str, dict[str, dict]], other: dict[str, dict[str, dict]]) -> str:
    """Between two runs of ours, as with other numbers of threads: the largest of any regional mean, %, and of Dice."""
    means, dice = [0.0], [0.0]
    for name in one.keys() & other.keys():
        here, there = (told[name]["ours"]["regions"] for told in (one, other))
        for region, found in here.items():
            means += [
                abs(100 * (a / b - 1)) for a, b in zip(found["mean"], there[region]["mean"], strict=True)
            ]
            dice += [abs(a - b) for a, b in zip(found["dice"], there[region]["dice"], strict=True)]
    return f"largest difference of a regional mean {max(means):.3f} %, of a Dice {max(dice):.4f}"


def write(results: dict[str, dict[str, dict]]) -> None:
    """Renew the table between its marks."""
    text = README.read_text()
    begin, end = "<!-- placement: begin -->", "<!-- placement: end -->"
    head, rest = text.split(begin)
    README.write_text(f"{head}{begin}\n\n{table(results)}\n\n{end}{rest.split(end)[1]}")


def main() -> None:
    """Run the heads that are not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("heads", nargs="*", default=DEFAULT_HEADS)
    parser.add_argument("--results", type=Path, default=Path(tempfile.gettempdir()) / "placement.json")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only-ours", action="store_true", help="keep SyN's results of an earlier run")
    parser.add_argument("--against", type=Path, help="results of another run of ours, with other threads")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    engine.limit_threads(options.threads)
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    sides = {"ours": ours} if options.only_ours else {"ours": ours, "SyN": syn}
    for name in options.heads:
        told = results.setdefault(Path(name).name, {})
        missing = {side: place for side, place in sides.items() if options.only_ours or side not in told}
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as folder:
            head = (
                labelled(Path(name), Path(folder)) if Path(name).is_dir() else simulated(name, Path(folder))
            )
            for side, place in missing.items():
                told |= run(head, options.threads, {side: place})
                options.results.write_text(json.dumps(results, indent=1))
    whole = {
        name: told
        for name, told in results.items()
        if all("s" in told.get(side, {}) for side in ("ours", "SyN"))
    }
    if whole:
        print(table(whole))
    if options.against:
        print(largest_difference(results, json.loads(options.against.read_text())))
    if options.write:
        write(whole)


if __name__ == "__main__":
    main()
