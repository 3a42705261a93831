"""One output that is disturbed over and over, and the bytes that it must have in the end."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import battery as b
import coarse
from nursery import Nursery, Started

from r2star.cli.verify import main as verify


class Case:
    """One output that is killed over and over, and the bytes that it must have in the end."""

    def __init__(self, nursery: Nursery, root: Path, units: Sequence[str], *words: object) -> None:
        self.nursery, self.units = nursery, list(units)
        self.out, self.work = root / "out", root / "work"
        self.words = [root / "bids", self.out, *words]
        self.stage_s: dict[str, float] = {}
        self._base: Path | None = None
        self.reference: dict[str, bytes] = {}
        self.told: dict[str, dict[str, str]] = {}

    def run(self) -> Started:
        """A run that nothing disturbs."""
        done = self.nursery.run(*self.words)
        assert done.wait() == 0, done.stderr
        return done

    def learn(self) -> None:
        """The undisturbed run: its bytes, and when each stage begins."""
        begins, begin = [], time.monotonic()
        run = self.nursery.start(*self.words)
        for line in run.lines():
            begins.append((line, time.monotonic() - begin))
        assert run.wait() == 0, run.stderr
        self.reference, self.told = b.stable_tree(self.out), b.states(self.out)
        assert {row["state"] for row in self.told.values()} <= {"ok", "ok_warn"}
        self._lines = [*begins, ("the end", time.monotonic() - begin)]

    def length_s(self, stage: str, end: str = "") -> float:
        """From the first line of a stage to the first one after it with ``end``, or of any other stage."""
        first = next(n for n, (line, _) in enumerate(self._lines) if stage in line)
        last = next(
            (when for line, when in self._lines[first:] if (end in line if end else stage not in line)),
            self._lines[-1][1],
        )
        return max(0.02, last - self._lines[first][1])

    def clear(self) -> None:
        """As before the first run, or as when the folders were kept."""
        for folder in (self.out, self.work):
            shutil.rmtree(folder, ignore_errors=True)
        if self._base is not None:
            shutil.copytree(self._base, self.work, dirs_exist_ok=True)

    def kill(self, stage: str, after_s: float) -> bool:
        """Start a run and kill it after the line of a stage; whether it came to that."""
        run = self.nursery.start(*self.words)
        seen = any(stage in line for line in run.lines())
        if seen:
            time.sleep(after_s)
        return run.kill() == -signal.SIGKILL and seen

    def keep(self, stage: str) -> None:
        """Keep the work folder as it is when a stage begins: `clear` gives it back."""
        self.clear()
        assert self.kill(stage, 0)
        shutil.rmtree(self.out)
        self._base = self.work.with_name("kept")
        shutil.copytree(self.work, self._base)

    def check_killed(self) -> None:
        """What stands is whole and right, and what is called complete is complete."""
        for name, data in b.stable_tree(self.out).items():
            assert ".r2star-tmp-" in name or data == self.reference[name], name
        for unit in self.units:
            marker = self.out / f"logs/units/{unit}.json"
            if marker.exists():
                for name in json.loads(marker.read_text())["outputs"]:
                    assert (self.out / name).read_bytes() == self.reference[name]
        if (self.out / "status.tsv").exists():
            rows = (self.out / "status.tsv").read_text().splitlines()[1:]
            told = [row.split("\t")[0] for row in rows]
            assert len(told) == len(set(told))

    def check_mended(self) -> None:
        """After one more run: every row once, the bytes of the undisturbed run, and nothing else."""
        self.run()
        states = b.states(self.out)
        rows = (self.out / "status.tsv").read_text().splitlines()[1:]
        assert len(rows) == len(self.units)
        assert sorted(states) == self.units
        for unit, row in states.items():
            for column in ("state", "warnings", "code"):
                assert row[column] == self.told[unit][column]
        assert b.stable_tree(self.out) == self.reference
        assert not list(self.out.rglob(".r2star-tmp-*"))
        assert not list((self.out / "logs/locks").iterdir())
        assert not list((self.out / "logs").glob("failures/*"))
        assert verify([str(self.out)]) == 0


def fitted_case(nursery: Nursery, root: Path) -> Case:
    """Two participants of a few voxels without regions; not run yet."""
    for label in ("01", "02"):
        b.write_participant(root / "bids", label)
    words = ("participant", "--fit-only", "--nprocs", "2", "-v")
    return Case(nursery, root, ("sub-01", "sub-02"), *words, "-w", root / "work")


def measured_case(
    nursery: Nursery, root: Path, labels: Sequence[str] = ("01",), n_processes: int = 1
) -> Case:
    """A coarse head without T1w, with regions, under one or several names; not run yet."""
    for label in labels:
        coarse.write_head(root / "bids", label)
    words: tuple[object, ...] = ("participant", "--sloppy", "--atlas", coarse.write_atlas(root / "atlas"))
    # with several threads a unit, as where fewer units are left than processes, ANTs' last digits may differ
    words += ("--nprocs", n_processes, "--omp-nthreads", 1, "-v", "-w", root / "work")
    return Case(nursery, root, [f"sub-{label}" for label in labels], *words)
