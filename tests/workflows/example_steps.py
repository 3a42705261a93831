"""Steps and interfaces that the tests of the graph layer run in worker processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Literal, NamedTuple

from r2star.errors import InputError, Notice
from r2star.workflows.step import Step


class Doubled(NamedTuple):
    doubled: Path
    notices: tuple[Notice, ...]


def double(
    numbers: Path,
    out_dir: Path,
    factor: float = 2.0,
    mode: Literal["loud", "quiet"] = "quiet",
    n_threads: int = 1,
) -> Doubled:
    values = [float(word) * factor for word in numbers.read_text().split()]
    if any(value < 0 for value in values):
        raise InputError("E999", "a negative number", "positive ones are needed", "mend it", path=numbers)
    out = out_dir / "doubled.txt"
    out.write_text(" ".join(map(str, values)))
    with (out_dir.parent / "calls.log").open("a") as log:
        log.write(f"{time.time()}\n")
    return Doubled(out, (Notice("W999", "doubled"),))


class Summed(NamedTuple):
    total: Path


def add_up(parts: tuple[Path, ...], out_dir: Path) -> Summed:
    out = out_dir / "total.txt"
    out.write_text(str(sum(float(word) for part in parts for word in part.read_text().split())))
    return Summed(out)


class Nothing(NamedTuple):
    result: Path | None


def die(out_dir: Path, number: int = int(signal.SIGKILL)) -> Nothing:
    os.kill(os.getpid(), number)
    time.sleep(30)
    return Nothing(None)


class Double(Step, function=double):
    """Doubles numbers."""


class AddUp(Step, function=add_up):
    """Adds numbers up."""


class Die(Step, function=die):
    """Is killed like by the out-of-memory killer."""


def count_threads(out_dir: Path, size: int = 600) -> Nothing:
    import numpy as np

    from r2star.fit import fit_decay

    square = np.ones((size, size))
    square @ square
    signal = 1000 * np.exp(-30 * np.array([0.004, 0.008, 0.012])) * np.ones((size * size, 1))
    fit_decay(signal, np.array([0.004, 0.008, 0.012]), "loglinear", n_threads=1)
    import ants

    image = ants.from_numpy(np.ones((40, 40, 40), np.float32))
    ants.smooth_image(image, 2.0)
    out = out_dir / "threads.txt"
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    # an allocator's helpers, of which there are one or two, sleep but for moments
    out.write_text(str(sum(not name.startswith("jemalloc") for name in names)))
    return Nothing(out)


class CountThreads(Step, function=count_threads):
    """Works with BLAS, our kernels and ITK, and counts the threads that are there then."""
