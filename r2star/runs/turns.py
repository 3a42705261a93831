"""Runs that share a work folder take turns with a participant, as its sessions share an anatomy. Imports nothing."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def taking_turns(
    folder: Path, participants: Iterable[str], say: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Hold the participants' lock files (``flock``) while the body runs; wait where another run holds one.

    The system lets go of them when a process dies. They are taken in one order by everybody, so that two runs never
    wait for each other. On a file system without locks nothing is held.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        for participant in sorted(set(participants)):
            handle = stack.enter_context((folder / f"sub-{participant}.turn").open("w"))
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(
                    f"sub-{participant}: waiting for another run that works on a session in the same work folder"
                )
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError:
                continue  # no locks here: the engine's own folder is the only guard
        yield
