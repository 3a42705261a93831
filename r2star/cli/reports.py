"""Participants' pages, after their units; those with pictures in processes of their own: no page loses a number."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from r2star.bids.units import Unit
from r2star.cli.common import say, say_notice
from r2star.errors import EnvironmentFault, Notice, R2starError
from r2star.runs.pools import give_up, has_fallen_silent, kill_workers
from r2star.settings import Settings
from r2star.workflows.logs import log_of_threads

#: A page of a head at 1 mm takes about this much memory, GiB.
MEMORY_GB = 1.5


def write_reports(units: Sequence[Unit], settings: Settings) -> None:
    """Make the pages that are not there, or that show something else than what stands; a failure is a warning.

    Raises
    ------
    EnvironmentFault
        E601 or E602 where there is no room or no right to write a page.
    """
    from r2star.steps.report import has_pictures, is_current

    output_dir, bids_dir = settings.output_dir, settings.bids_dir
    participants = dict.fromkeys(unit.participant for unit in units)
    stale = [one for one in participants if not is_current(output_dir, bids_dir, one)]
    drawn = [one for one in stale if has_pictures(output_dir, one)]
    for participant in stale:
        if participant not in drawn:
            try:
                _write(participant, output_dir, bids_dir)
            except Exception as error:
                _tell(error, participant)
    if drawn:
        say(f"Writing {len(drawn)} report{'s' if len(drawn) > 1 else ''} ...")
        room = max(1, int((settings.mem_gb or MEMORY_GB) / MEMORY_GB))
        _write_apart(drawn, output_dir, bids_dir, min(settings.n_procs, len(drawn), room))


def _write_apart(participants: Sequence[str], output_dir: Path, bids_dir: Path, n_processes: int) -> None:
    """Each page in a process; a signal that ends the run ends them too."""
    pool = ProcessPoolExecutor(n_processes, mp_context=mp.get_context("forkserver"))
    running = {}
    try:
        with log_of_threads():
            for one in participants:
                try:
                    running[pool.submit(_write, one, output_dir, bids_dir)] = one
                except (
                    RuntimeError,
                    OSError,
                ) as error:  # a broken pool, or no memory for a thread or a process
                    _tell(error, one)
            for done in _as_they_end(pool, running):
                failure = done.exception()
                if failure is not None:
                    _tell(failure, running[done])
            pool.shutdown()
    except BaseException:
        kill_workers(pool)
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _as_they_end(pool: ProcessPoolExecutor, running: Iterable[Future[None]]) -> Iterator[Future[None]]:
    """Tasks as they end; where nothing can be heard of them any more they end as if their processes had died."""
    waiting = set(running)
    while waiting:
        ended, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
        yield from ended
        if waiting and has_fallen_silent(pool):
            give_up(pool, waiting)


def _write(participant: str, output_dir: Path, bids_dir: Path) -> None:
    from r2star.steps.report import write_participant_report

    write_participant_report(participant, output_dir, bids_dir)


def _tell(error: BaseException, participant: str) -> None:
    """Warn of a page that could not be made; a full or closed disk is the run's error, as everywhere."""
    if isinstance(error, EnvironmentFault) and error.code in ("E601", "E602"):
        raise error
    if isinstance(error, BrokenProcessPool):
        what = "its process died (killed, or out of memory)"
    elif isinstance(error, R2starError):
        what = f"{error.code}, {error.message}" + (f" ({error.path})" if error.path else "")
    else:
        what = f"{type(error).__name__}: {error}"
    told = f"the report of sub-{participant} could not be made, its numbers stand: {' '.join(what.split())}"
    say_notice(Notice("W530", told, "run again: complete units are kept"))
