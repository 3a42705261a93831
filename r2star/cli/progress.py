"""What a user sees while units run: a line per stage and unit with the time left; quiet in a log file."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from r2star.bids.units import Unit
from r2star.cli.common import say, say_error
from r2star.errors import R2starError
from r2star.runs.status import write_status


class Interrupted(BaseException):
    """A signal asked the run to end; ``exit_code`` is 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn TERM and INT into `Interrupted`, raised where the main thread is."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Progress:
    """Counts units and stages. Called in the main process by the graph layer."""

    def __init__(self, units: Sequence[Unit], output_dir: Path, verbosity: int) -> None:
        self._total = len(units)
        self._output_dir = output_dir
        self._verbose = verbosity > 0
        self._start = time.monotonic()
        self._begun: dict[str, float] = {}
        self._done_work = 0.0
        self._work_per_unit = 1.0
        self._n_done = 0
        self._ended: set[str] = set()
        self._next_status = 0.0
        self._live = sys.stderr.isatty()

    def expect(self, work_per_unit: float) -> None:
        """How much the shares of a unit's stages add up to in the graph that starts now."""
        self._work_per_unit = work_per_unit

    def begin_stage(self, unit: str, words: str) -> None:
        """A stage of a unit starts."""
        self._begun.setdefault(unit, time.monotonic())
        self._say(f"{unit}: {words} ... ({self._time_left()})")

    def end_stage(self, share: float) -> None:
        """Work that is ``share`` of a unit's usual work is done."""
        self._done_work += share

    def end_unit(self, unit: str, error: R2starError | None) -> None:
        """A unit has ended; status.tsv follows, at most every two seconds and a twentieth of the time."""
        self._n_done += 1
        self._ended.add(unit)
        seconds = time.monotonic() - self._begun.get(unit, self._start)
        self._clear()
        if error is None:
            say(f"{unit}: complete in {duration(seconds)} ({self._n_done}/{self._total})")
        else:
            say_error(error)
        now = time.monotonic()
        if now > self._next_status:
            write_status(self._output_dir, self._ended)
            self._ended.clear()
            self._next_status = time.monotonic() + max(2.0, 20 * (time.monotonic() - now))

    def seconds(self, unit: str) -> float:
        """Time since a unit's first stage began."""
        return time.monotonic() - self._begun.get(unit, time.monotonic())

    def _time_left(self) -> str:
        elapsed = time.monotonic() - self._start
        if self._done_work < 0.1 * self._work_per_unit:
            return f"{duration(elapsed)} elapsed"
        left = elapsed / self._done_work * (self._total * self._work_per_unit - self._done_work)
        return f"{duration(elapsed)} elapsed, about {duration(max(left, 0.0))} left"

    def _say(self, text: str) -> None:
        if self._live and not self._verbose:
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()
        else:
            say(text)

    def _clear(self) -> None:
        if self._live and not self._verbose:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(7), duration(192), duration(7260)
    ('7 s', '3 min 12 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
