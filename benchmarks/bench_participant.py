"""One full-size simulated participant through the command line: time, memory, R2* against truth, Dice by region.

1 mm T1w; MEGRE 1 × 1 × 1.5 mm, 6 echoes, SNR 60. Time is of the whole process; memory is the largest sum of resident
sizes (proportional set size) over the process and its children.

    python -m benchmarks.bench_participant [--participants 1] [--seed 1] [--keep DIR]
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

LIMITS = {
    "caudate": 3.0, "putamen": 3.0, "pallidum": 3.0, "thalamus": 3.0, "red_nucleus": 6.0, "substantia_nigra": 6.0,
}  # fmt: skip


def run(command: str, *arguments: object) -> None:
    """Run a command of the program to its end."""
    subprocess.run([sys.executable, "-c", code_of(command), *map(str, arguments)], check=True)


def code_of(command: str) -> str:
    """Python code that runs an entry point."""
    return f"import sys; from r2star.cli.{command} import main; sys.exit(main())"


def run_measured(*arguments: object) -> tuple[float, float]:
    """Seconds and peak memory (GiB, of the whole process tree) of a participant-level run."""
    start = time.monotonic()
    running = subprocess.Popen([sys.executable, "-c", code_of("app"), *map(str, arguments)])
    peak = 0.0
    while running.poll() is None:
        peak = max(peak, sum(resident_gib(pid) for pid in tree_of(running.pid)))
        time.sleep(0.25)
    if running.returncode:
        sys.exit(f"the run failed with exit code {running.returncode}")
    return time.monotonic() - start, peak


def tree_of(root: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, queue = [], [root]
    while queue:
        found.append(queue.pop())
        queue += parents.get(found[-1], [])
    return found


def resident_gib(pid: int) -> float:
    """Proportional set size, so that pages shared by forks count once."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024**2
    except OSError:
        pass
    return 0.0


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a TSV file."""
    with path.open() as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def compare(bids: Path, out: Path, participant: str) -> list[tuple[str, str, float, float, float, float]]:
    """Region, side, planted R2*, found median, error in % and Dice."""
    truth = [row for row in read_rows(bids / "truth.tsv") if row["participant_id"] == participant]
    table = out / participant / "anat" / f"{participant}_atlas-CIT168_desc-R2star_stats.tsv"
    found = {
        (row["region"], row["hemisphere"]): row for row in read_rows(table) if row["segmentation"] == "CIT168"
    }
    planted = np.asarray(
        nib.load(bids / f"derivatives/truth/{participant}/anat/{participant}_seg-truth_dseg.nii.gz").dataobj
    )
    labels = np.asarray(nib.load(out / f"{participant}/anat/{participant}_atlas-CIT168_dseg.nii.gz").dataobj)
    rows = []
    for row in truth:
        indices = [int(index) for index in row["index"].split("+")]
        one, other = np.isin(planted, indices), np.isin(labels, indices)
        dice = 2 * np.sum(one & other) / max(1, one.sum() + other.sum())
        value, true = (
            float(found[row["region"], row["hemisphere"]]["r2star_median_per_s"]),
            float(row["r2star_per_s"]),
        )
        rows.append((row["region"], row["hemisphere"], true, value, 100 * (value / true - 1), float(dice)))
    return rows


def report(rows: list[tuple[str, str, float, float, float, float]]) -> None:
    """A table for people, and whether each region is within its limit."""
    print(f"{'region':<22}side  truth/s  median/s  error %   Dice  limit")
    for region, side, true, value, error, dice in rows:
        limit = LIMITS.get(region)
        verdict = "" if limit is None else f"{limit:.0f} % {'ok' if abs(error) <= limit else 'MISSED'}"
        print(f"{region:<22}{side:<4}{true:9.2f}{value:10.2f}{error:9.2f}{dice:7.3f}  {verdict}")


def main() -> None:
    """Simulate, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--participants", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-t1w", action="store_true")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        bids, out = root / "bids", root / "out"
        extra = ["--no-t1w"] if options.no_t1w else []
        run("simulate", "brain", bids, "--participants", options.participants, "--seed", options.seed, *extra)
        seconds, peak = run_measured(bids, out, "participant", "-w", root / "work")
        for number in range(options.participants):
            report(compare(bids, out, f"sub-{number + 1:02d}"))
        print(
            f"whole command: {seconds:.0f} s, {peak:.2f} GiB at most, for {options.participants} participant(s)"
        )


if __name__ == "__main__":
    main()
