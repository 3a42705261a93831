"""Pools of processes that have lost their workers or their voice. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any


def kill_workers(pool: ProcessPoolExecutor) -> None:
    """End a pool's processes at once, whatever they are at."""
    for process in list((pool._processes or {}).values()):
        process.kill()


def has_fallen_silent(pool: ProcessPoolExecutor) -> bool:
    """Whether the thread that hands tasks out and tells of their ends is gone: what waits for one would wait for ever.

    It ends without a word to anybody where memory does not suffice to start one more thread.
    """
    manager = getattr(pool, "_executor_manager_thread", None)
    return manager is not None and not manager.is_alive()


def give_up(pool: ProcessPoolExecutor, waiting: Iterable[Future[Any]]) -> None:
    """End a silent pool: its tasks fail as if their worker had died."""
    kill_workers(pool)
    for one in waiting:
        one.set_exception(BrokenProcessPool("the pool fell silent"))
