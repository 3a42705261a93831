"""What a user sees while units run: on a terminal a live line for each, in a log few lines that stay."""

from __future__ import annotations

import shutil
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

#: In a log no stage is told within this time of the line before it.
_LOG_PAUSE_S = 60.0


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
    """Counts units and stages. Called in the main process by the graph layer.

    A terminal shows one live line for each unit at work, and the whole below; a log gets a unit's begin and end,
    and of a long silence the stage at hand. With ``-v`` both get every stage.
    """

    def __init__(self, units: Sequence[Unit], output_dir: Path, verbosity: int) -> None:
        self._total = len(units)
        self._output_dir = output_dir
        self._verbose = verbosity > 0
        self._start = time.monotonic()
        self._begun: dict[str, float] = {}
        self._done_work = 0.0
        self._work_of: dict[str, float] = {}
        self._work_per_unit = 1.0
        self._n_done = 0
        self._ended: set[str] = set()
        self._next_status = 0.0
        self._at_work: dict[str, str] = {}
        self._painted = 0
        self._last_line = float("-inf")
        self._live = sys.stderr.isatty() and not self._verbose

    def expect(self, work_per_unit: float) -> None:
        """How much the shares of a unit's stages add up to in the graph that starts now."""
        self._work_per_unit = work_per_unit

    def begin_stage(self, unit: str, words: str) -> None:
        """A stage of a unit starts."""
        is_new = unit not in self._begun
        self._begun.setdefault(unit, time.monotonic())
        self._at_work[unit] = words
        if self._live:
            self._paint()
        elif is_new or self._verbose or time.monotonic() - self._last_line > _LOG_PAUSE_S:
            self._say(f"{unit}: {words} ... ({self._time_of_all()})")

    def end_stage(self, units: Sequence[str], share: float) -> None:
        """Work that is ``share`` of a unit's usual work is done, for some units at once."""
        self._done_work += share
        for unit in units:
            self._work_of[unit] = self._work_of.get(unit, 0.0) + share / len(units)

    def end_unit(self, unit: str, error: R2starError | None) -> None:
        """A unit has ended; status.tsv follows, at most every two seconds and a twentieth of the time."""
        self._n_done += 1
        self._ended.add(unit)
        seconds = time.monotonic() - self._begun.get(unit, self._start)
        self._at_work.pop(unit, None)
        self._wipe()
        if error is None:
            self._say(f"{unit}: complete in {duration(seconds)} ({self._count()})")
        else:
            say_error(error)
        if self._live:
            self._paint()
        now = time.monotonic()
        if now > self._next_status:
            write_status(self._output_dir, self._ended)
            self._ended.clear()
            self._next_status = time.monotonic() + max(2.0, 20 * (time.monotonic() - now))

    def seconds(self, unit: str) -> float:
        """Time since a unit's first stage began."""
        return time.monotonic() - self._begun.get(unit, time.monotonic())

    def _count(self) -> str:
        """Units that ended, of all; in a log, where no live line says it, the time that is left too."""
        count = f"{self._n_done}/{self._total}"
        return count if self._live or self._n_done == self._total else f"{count}; {self._time_of_all()}"

    def _time_of_all(self) -> str:
        return _time_left(
            time.monotonic() - self._start,
            self._done_work,
            self._total * self._work_per_unit,
            self._work_per_unit,
        )

    def _time_of(self, unit: str) -> str:
        return _time_left(
            self.seconds(unit), self._work_of.get(unit, 0.0), self._work_per_unit, self._work_per_unit
        )

    def _say(self, text: str) -> None:
        say(text)
        self._last_line = time.monotonic()

    def _paint(self) -> None:
        """Draw the live lines in place of those that stand."""
        self._wipe()
        lines = [f"{unit}: {words} ... ({self._time_of(unit)})" for unit, words in self._at_work.items()]
        if self._total > 1:
            lines.append(f"{self._n_done} of {self._total} units ({self._time_of_all()})")
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("".join(line[:width] + "\n" for line in lines))
        sys.stderr.flush()
        self._painted = len(lines)

    def _wipe(self) -> None:
        if self._painted:
            sys.stderr.write(f"\x1b[{self._painted}F\x1b[0J")
            sys.stderr.flush()
            self._painted = 0


def _time_left(elapsed_s: float, done: float, whole: float, unit: float) -> str:
    """How long it took, and how long it will: told once a tenth of a unit is done."""
    if done < 0.1 * unit:
        return f"{duration(elapsed_s)} elapsed"
    left = elapsed_s / done * (whole - done)
    return f"{duration(elapsed_s)} elapsed, about {duration(max(left, 0.0))} left"


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
