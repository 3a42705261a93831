"""``r2star-fit`` on whole heads from file to file, beside what nibabel alone needs to load and save the same.

``python benchmarks/bench_files.py [--rounds 3] [--write]``. Each side is a process of its own, timed with its start, in
turns; memory is the largest resident size of the process. r2star-fit reads and checks every echo to its end, fits,
writes six maps and reads them again; nibabel loads the echoes as float32 and saves the same six maps.
``--write`` puts the table into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- files: begin -->", "<!-- files: end -->"
#: name → shape, voxel size (mm), echoes, type, one 4D file or one file an echo
HEADS = {
    "1 mm, 8 echoes int16": ((192, 240, 160), 1.0, 8, np.int16, False),
    "1 mm, 12 echoes int16": ((192, 240, 160), 1.0, 12, np.int16, False),
    "0.7 mm, 12 echoes int16": ((256, 300, 192), 0.7, 12, np.int16, False),
    "0.7 mm, 12 echoes float32 in one 4D file": ((256, 300, 192), 0.7, 12, np.float32, True),
}
FIT = "import sys; from r2star.cli.fit import main; sys.exit(main())"
NIBABEL = """
import sys
from pathlib import Path
import nibabel as nib
import numpy as np
source, maps, target = map(Path, sys.argv[1:])
echoes = [np.asarray(nib.load(path).dataobj, np.float32) for path in sorted(source.glob("*.nii.gz"))]
for path in sorted(maps.glob("*.npy")):
    nib.save(nib.Nifti1Image(np.load(path), np.eye(4)), target / f"{path.stem}.nii.gz")
"""


def simulate(name: str, folder: Path) -> list[float]:
    """Write the echoes of a head with noise and air around it; their times, s."""
    shape, size_mm, n_echoes, kind, in_one = HEADS[name]
    rng = np.random.default_rng(0)
    x, y, z = (
        np.linspace(-1, 1, n, dtype=np.float32).reshape(s)
        for n, s in zip(shape, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)))
    )
    s0 = np.where(
        (x / 0.8) ** 2 + (y / 0.85) ** 2 + (z / 0.9) ** 2 < 1, 800 + 200 * np.sin(9 * x) * np.cos(7 * y), 0
    )
    rate = 25 + 15 * np.sin(5 * z)
    times = [0.003 + 0.030 / n_echoes * echo for echo in range(n_echoes)]
    affine = np.diag([size_mm, size_mm, size_mm, 1])
    volumes = []
    for number, time_s in enumerate(times):
        noise = 12 * rng.standard_normal((2, *shape), dtype=np.float32)
        echo = np.hypot(s0 * np.exp(-rate * np.float32(time_s)) + noise[0], noise[1]).astype(kind)
        if in_one:
            volumes.append(echo)
        else:
            nib.save(nib.Nifti1Image(echo, affine), folder / f"echo-{number:02}.nii.gz")
    if in_one:
        nib.save(nib.Nifti1Image(np.stack(volumes, -1), affine), folder / "all.nii.gz")
    return times


def run(*command: object) -> tuple[float, float, float]:
    """Seconds, seconds of processors, and largest resident size (GiB) of a process."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", *map(str, command)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"a benchmarked process failed ({status})")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def measure(name: str, rounds: int) -> str:
    """One line of the table, after a round that warms the caches."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch, each) for each in ("echoes", "maps", "arrays", "saved")]
        for folder in folders:
            folder.mkdir()
        echoes, maps, arrays, saved = folders
        # not here: a process is charged with the memory of the one that started it
        with ProcessPoolExecutor(1) as pool:
            times = pool.submit(simulate, name, echoes).result()
        fit = (FIT, *sorted(echoes.glob("*")), "--echo-times", *times, "-o", maps)
        run(*fit)
        for path in maps.glob("*.nii.gz"):
            np.save(arrays / path.name.replace(".nii.gz", ".npy"), np.asarray(nib.load(path).dataobj))
        map_bytes = sum(path.stat().st_size for path in arrays.glob("*.npy"))
        rows = np.array([(*run(*fit), *run(NIBABEL, echoes, arrays, saved)) for _ in range(rounds)])
    ours, own_cpu, memory, theirs, their_cpu, their_memory = np.median(rows, axis=0)
    return (
        f"| {name} | {ours:.2f} | {theirs:.2f} | {np.median(rows[:, 0] / rows[:, 3]):.2f} "
        f"| {own_cpu:.2f} | {their_cpu:.2f} | {memory:.2f} | {their_memory:.2f} | {map_bytes / 2**30:.2f} |"
    )


def main() -> None:
    """Measure and print; with ``--write`` keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", nargs="+", choices=list(HEADS), default=list(HEADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    lines = [
        f"{os.cpu_count()} CPUs ({platform.machine()}), load {os.getloadavg()[0]:.1f} before, "
        f"medians of {options.rounds} rounds.",
        "",
        "| head | r2star-fit, s | nibabel, s | ratio | r2star-fit, CPU s | nibabel, CPU s "
        "| r2star-fit, GiB | nibabel, GiB | the maps, GiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    for name in options.heads:
        lines.append(measure(name, options.rounds))
        print(lines[-1], flush=True)
    if options.write:
        head, rest = README.read_text(encoding="utf-8").split(BEGIN)
        text = "\n".join(lines)
        README.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
