"""Registration in numbers: measures and verdicts of good and of deliberately broken cases, and what they cost.

    python benchmarks/bench_registration.py T1W [T1W ...] --work DIR

Each T1w is a good case. From the first, broken ones are made: half the head missing, stretched beyond any head, noise
without a head, and images left where they were (identity). With ``--compare`` a default whole-brain SyN runs
on each good case for its time and the agreement of its labels.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

from r2star.atlas import load_atlas
from r2star.errors import R2starError
from r2star.images import Grid, Image, read_image, write_image
from r2star.register import engine, measures
from r2star.register.transforms import Affine, write_composite
from r2star.steps import anatomy
from r2star.steps.verdict import measure_chain


def broken_copies(path: Path, work: Path) -> dict[str, Path]:
    image = read_image(path)
    data, grid = np.asarray(image.data, np.float32), image.grid
    half = data.copy()
    half[: data.shape[0] // 2] = 0
    front = data.copy()
    front[:, : data.shape[1] // 2] = 0
    top = data.copy()
    top[:, :, data.shape[2] // 2 :] = 0
    rng = np.random.default_rng(1)
    affine = grid.affine.copy()
    affine[:3, :3] = affine[:3, :3] @ np.diag([1.0, 0.5, 1.0])
    far = grid.affine.copy()
    far[:3, 3] += [500, 0, 0]
    tilted = np.eye(4)
    angle = np.deg2rad(90)
    tilted[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    cases = {
        "left half missing": (half, grid),
        "front half missing": (front, grid),
        "top half missing": (top, grid),
        "noise": (rng.rayleigh(size=data.shape).astype(np.float32), grid),
        "squeezed to half": (data, Grid(grid.shape, affine)),
        "upside down": (data[:, :, ::-1], grid),
        "tilted by 90 degrees": (data, Grid(grid.shape, tilted @ grid.affine)),
        "500 mm off": (data, Grid(grid.shape, far)),
    }
    return {
        name: write_image(work / f"{name.replace(' ', '_')}.nii.gz", values, where)
        for name, (values, where) in cases.items()
    }


def run(name: str, path: Path, work: Path, *, kind: str = "t1w") -> None:
    folder = work / name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    start, cpu = time.perf_counter(), time.process_time()
    try:
        step = anatomy.register_t1w_to_template if kind == "t1w" else anatomy.register_megre_to_template
        result = step(path, "CIT168", out_dir=folder)
        told = json.loads(result.measures.read_text())
        codes = [notice.code for notice in result.notices]
        text = (
            told["verdict"] + " " + " ".join(f"{key}={value:.3f}" for key, value in told["measures"].items())
        )
    except R2starError as error:
        text, codes = str(error), [error.code]
    seconds = f"{time.perf_counter() - start:.0f} s, {time.process_time() - cpu:.0f} s CPU"
    print(f"{name:24s} {seconds:22s} {text} {codes}", flush=True)


def run_identity(path: Path, work: Path) -> None:
    atlas = load_atlas("CIT168")
    values = measure_chain(
        path, atlas, [Affine(np.eye(4))], write_composite(work / "identity.h5", [Affine(np.eye(4))])
    )
    verdict = measures.judge_registration(values)
    print(
        f"{'identity':24s} {'':22s} {verdict} "
        + " ".join(f"{key}={value:.3f}" for key, value in values.items()),
        flush=True,
    )


def compare(path: Path, work: Path) -> None:
    """A default SyN through antspyx at the template's resolution."""
    ants = engine.load_ants(1)
    atlas = load_atlas("CIT168")
    fixed, moving = (
        engine.to_ants(Image(one.data, one.grid)) for one in (read_image(atlas.t1w), read_image(path))
    )
    start, cpu = time.perf_counter(), time.process_time()
    ants.registration(fixed, moving, "SyN", outprefix=str(work / "syn_"))
    print(
        f"default SyN: {time.perf_counter() - start:.0f} s, {time.process_time() - cpu:.0f} s CPU", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("t1w", nargs="*", type=Path)
    parser.add_argument(
        "--megre", nargs="*", type=Path, default=[], help="references for the way without a T1w"
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compare", action="store_true")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    engine.limit_threads(arguments.threads)
    for path in arguments.t1w:
        run(path.name[:20], path, arguments.work)
        if arguments.compare:
            compare(path, arguments.work)
    for path in arguments.megre:
        run(path.name[:20], path, arguments.work, kind="megre")
    if arguments.t1w:
        run_identity(arguments.t1w[0], arguments.work)
        for name, path in broken_copies(arguments.t1w[0], arguments.work).items():
            run(name, path, arguments.work)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
