"""What a large cohort costs, from the markers of units that were run: core hours, storage, files and their traffic.

    python -m benchmarks.estimate_cohort BIDS_DIR OUTPUT_DIR [--work DIR] [--units 60000] [--threads 2]

Every figure is a mean over the complete units of OUTPUT_DIR times the number of units; nothing is assumed but that the
cohort's scans are like those.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

from r2star.runs.records import read_markers


def main() -> None:
    """Read the markers, multiply."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--units", type=int, default=60_000)
    parser.add_argument("--threads", type=int, default=2, help="threads that the units were run with")
    options = parser.parse_args()
    markers, out, n = read_markers(options.output_dir), options.output_dir, options.units
    seconds = mean(marker.timing["total_s"] for marker in markers)
    written = mean(sum((out / name).stat().st_size for name in marker.outputs) for marker in markers)
    folders = mean(len({Path(name).parent for name in marker.outputs}) + 1 for marker in markers)
    inodes = mean(len(marker.outputs) for marker in markers) + folders + 1  # and the marker
    inputs = mean(sum(size_of(options.bids_dir, name) for name in marker.inputs) for marker in markers)
    n_inputs = mean(len(marker.inputs) for marker in markers)
    memory = max(marker.timing["peak_memory_gib"] for marker in markers)
    rows = [
        ("units measured", f"{len(markers)}"),
        ("a unit's steps, s", f"{seconds:.0f}"),
        ("memory of its largest step, GiB", f"{memory:.2f}"),
        (
            f"core hours of {n} units with {options.threads} threads",
            f"{n * seconds * options.threads / 3600:,.0f}",
        ),
        ("days on 1 000 cores", f"{n * seconds * options.threads / 86400 / 1000:.1f}"),
        ("a unit's results, MB", f"{written / 1e6:.0f}"),
        (f"results of {n} units, TB", f"{n * written / 1e12:.2f}"),
        (f"files and folders of {n} units", f"{n * inodes:,.0f}"),
        (f"read from the dataset, TB in {n * n_inputs:,.0f} files", f"{n * inputs / 1e12:.2f}"),
    ]
    if options.work is not None:
        files = [path for path in options.work.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / len(markers)
        rows.append(
            ("work folder of a unit, MB and files", f"{size / 1e6:.0f}, {len(files) / len(markers):.0f}")
        )
    print("| what | figure |\n|---|---:|")
    print("\n".join(f"| {what} | {figure} |" for what, figure in rows))


def size_of(bids_dir: Path, uri: str) -> int:
    """Bytes of an input by its BIDS URI; 0 where it is elsewhere."""
    path = bids_dir / uri.rpartition(":")[2]
    return path.stat().st_size if path.is_file() else 0


if __name__ == "__main__":
    main()
