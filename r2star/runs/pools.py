"""Whether a pool of processes still tells how its tasks end. Standard library only."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor


def has_fallen_silent(pool: ProcessPoolExecutor) -> bool:
    """Whether the thread that hands tasks out and tells of their ends is gone: what waits for one would wait for ever.

    It ends without a word to anybody where memory does not suffice to start one more thread.
    """
    manager = getattr(pool, "_executor_manager_thread", None)
    return manager is not None and not manager.is_alive()
