"""Many small participants through the command line: time to the first work, scheduling, memory and states.

Volumes of 12 × 12 × 12 voxels and 3 echoes, 3 % of the participants with faults, maps only, so that what is measured
is what surrounds the numbers. "Scheduling" is the processor time of the main process by unit, its start left out.

    python -m benchmarks.bench_scale [--participants 1000] [--keep DIR] [--write]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.bench_participant import code_of, resident_gib, tree_of

ECHO_TIMES_S = (0.005, 0.010, 0.018)
#: Every so many participants has a fault, of these kinds in turn, with the state that it must end in.
FAULT_EVERY = 33
FAULTS = {"cut": "failed_input", "zero": "failed_input", "one echo": "skipped", "no time": "failed_input"}
README = Path(__file__).parent / "README.md"


def make_dataset(bids: Path, n_participants: int) -> dict[str, str]:
    """Write the dataset; images are hard links to a few originals. Returns the state expected of each unit."""
    rng = np.random.default_rng(1)
    bids.mkdir(parents=True)
    about = {"Name": "scale", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (bids / "dataset_description.json").write_text(json.dumps(about))
    originals = bids / "sourcedata"
    originals.mkdir()
    s0 = rng.uniform(800, 1200, (12, 12, 12))
    for number, echo_time in enumerate(ECHO_TIMES_S, start=1):
        values = (s0 * np.exp(-30 * echo_time) + rng.normal(0, 2, s0.shape)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.diag([2.0, 2, 2, 1])), originals / f"{number}.nii.gz")
        (originals / f"{number}.json").write_text(
            json.dumps({"EchoTime": echo_time, "MagneticFieldStrength": 3})
        )
    expected = {}
    for participant in range(1, n_participants + 1):
        label = f"sub-{participant:05d}"
        folder = bids / label / "anat"
        folder.mkdir(parents=True)
        for number in range(1, len(ECHO_TIMES_S) + 1):
            for ending in (".nii.gz", ".json"):
                os.link(originals / f"{number}{ending}", folder / f"{label}_echo-{number}_MEGRE{ending}")
        expected[label] = "ok"
        if participant % FAULT_EVERY == 0:
            kind = list(FAULTS)[participant // FAULT_EVERY % len(FAULTS)]
            spoil(folder / f"{label}_echo-2_MEGRE", kind)
            expected[label] = FAULTS[kind]
    return expected


def spoil(stem: Path, kind: str) -> None:
    """Give a participant a fault, in a file of its own."""
    image, sidecar = stem.with_suffix(".nii.gz"), stem.with_suffix(".json")
    content = image.read_bytes()
    image.unlink()
    if kind == "cut":
        image.write_bytes(content[:-500])
    elif kind == "zero":
        image.write_bytes(b"")
    elif kind == "no time":
        image.write_bytes(content)
        sidecar.unlink()
        sidecar.write_text("{}")
    else:
        for path in stem.parent.glob("*echo-3*"):
            path.unlink()


def processor_seconds(pid: int) -> float:
    """Processor time of one process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Run:
    """A run that is watched: when each unit ended, the main process' time and everyone's memory then."""

    def __init__(self, *arguments: object) -> None:
        self.start = time.monotonic()
        self.first_work_s = float("nan")
        self.units: list[tuple[float, float]] = []  # time, processor time of the main process
        self.memory: list[tuple[int, float]] = []  # units that have ended, GiB of all processes
        words = [sys.executable, "-u", "-c", code_of("app"), *map(str, arguments)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        watch = threading.Thread(target=self._watch_memory)
        watch.start()
        for line in self.process.stdout or ():
            if np.isnan(self.first_work_s) and "checking inputs" in line:
                self.first_work_s = time.monotonic() - self.start
            if ": complete in" in line:
                self.units.append((time.monotonic() - self.start, processor_seconds(self.process.pid)))
        self.process.wait()
        self.seconds = time.monotonic() - self.start
        watch.join()

    def _watch_memory(self) -> None:
        while self.process.poll() is None:
            self.memory.append((len(self.units), sum(map(resident_gib, tree_of(self.process.pid)))))
            time.sleep(1.0)

    def scheduling_ms(self) -> float:
        """Processor time of the main process by unit, between a tenth and the end of the units."""
        first = self.units[len(self.units) // 10]
        return 1000 * (self.units[-1][1] - first[1]) / (len(self.units) - 1 - len(self.units) // 10)

    def memory_gib(self, low: float, high: float) -> float:
        """Median memory while this share of the units ended."""
        n = len(self.units)
        return float(np.median([gib for done, gib in self.memory if low * n <= done <= high * n]))


def states(out: Path) -> dict[str, str]:
    """The states in status.tsv by unit."""
    with (out / "status.tsv").open() as handle:
        return {row["unit"]: row["state"] for row in csv.DictReader(handle, delimiter="\t")}


def main() -> None:
    """Make the data, run, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--participants", type=int, default=1000)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--write", action="store_true", help="rewrite the table in README.md")
    options = parser.parse_args()
    n = options.participants
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        bids, small = root / "bids", root / "small"
        expected = make_dataset(bids, n)
        make_dataset(small, 10)
        level = ("participant", "--fit-only", "--participant-label", "00003")
        named = [
            Run(data, root / f"named_{data.name}", *level, "-w", root / f"work_{data.name}")
            for data in (small, bids)
        ]
        run = Run(bids, root / "out", "participant", "--fit-only", "-w", root / "work")
        again = Run(bids, root / "out", "participant", "--fit-only", "-w", root / "work")
        late = Run(bids, root / "out", *level, "-w", root / "w2")
        found = states(root / "out")
        wrong = {unit: state for unit, state in found.items() if expected.get(unit) != state}
        n_out, n_work = (sum(1 for _ in (root / name).rglob("*")) for name in ("out", "work"))
    rows = [
        ("first work on one named participant, of 10, s", f"{named[0].first_work_s:.1f}"),
        (f"first work on one named participant, of {n}, s", f"{named[1].first_work_s:.1f}"),
        (f"one named, complete participant beside {n} others: whole command, s", f"{late.seconds:.1f}"),
        ("scheduling a unit (processor time of the main process), ms", f"{run.scheduling_ms():.0f}"),
        ("wall time a unit, ms", f"{1000 * run.seconds / n:.0f}"),
        (
            "memory of all processes, first to second fifth of the units, GiB",
            f"{run.memory_gib(0.1, 0.3):.2f}",
        ),
        ("memory of all processes, last fifth of the units, GiB", f"{run.memory_gib(0.8, 1.0):.2f}"),
        ("second run, which compares every file and does no complete unit again, s", f"{again.seconds:.0f}"),
        ("files and folders a unit: output, work", f"{n_out / n:.1f}, {n_work / n:.1f}"),
        ("states", ", ".join(f"{count} {state}" for state, count in sorted(Counter(found.values()).items()))),
        ("units without a row, or with another state than planted", f"{n - len(found) + len(wrong)}"),
    ]
    lines = ["| what | figure |", "|---|---:|", *(f"| {what} | {figure} |" for what, figure in rows)]
    head = f"{n} participants, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the end."
    text = "\n".join([head, "", *lines])
    print(text)
    if options.write:
        before, _, rest = README.read_text().partition("<!-- scale: begin -->")
        after = rest.partition("<!-- scale: end -->")[2]
        README.write_text(f"{before}<!-- scale: begin -->\n\n{text}\n\n<!-- scale: end -->{after}")


if __name__ == "__main__":
    main()
