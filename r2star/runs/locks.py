"""One live run per unit: lock files with a stated rule of takeover. Standard library, files and errors only.

A lock is a file made with ``O_EXCL`` that names host, process and start. It is touched while its run lives. Another run
takes it over when the process is known to be dead (same host), or when nothing touched it for `STALE_AFTER_S`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType

from r2star.errors import EnvironmentFault, LockedError
from r2star.files import AtomicFile

HEARTBEAT_S = 20.0
STALE_AFTER_S = 300.0


class UnitLocks:
    """The locks that this run holds; a context manager that keeps them fresh and gives them back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: set[Path] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._touch_all, daemon=True)

    def __enter__(self) -> UnitLocks:
        self._folder.mkdir(parents=True, exist_ok=True)
        _forget_dead(self._folder)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for path in list(self._held):
            self.release(path.stem)

    def acquire(self, unit: str) -> None:
        """Take a unit's lock; `LockedError` where another live run holds it."""
        path = self._folder / f"{unit}.lock"
        for _ in range(3):
            if self._create(path):
                self._held.add(path)
                return
            owner = read_owner(path)
            if owner is not None and not is_stale(path, owner):
                break
            _take_away(path, owner)
        raise LockedError(
            "E604",
            f"another run works on this unit ({_describe(owner)})",
            "a unit has one run at a time",
            f"wait for it; if it is dead, the lock is taken over {STALE_AFTER_S:.0f} s after its last sign of life",
            path=path,
            unit=unit,
        )

    def release(self, unit: str) -> None:
        """Give a unit's lock back."""
        path = self._folder / f"{unit}.lock"
        if path in self._held:
            self._held.discard(path)
            path.unlink(missing_ok=True)

    def _create(self, path: Path) -> bool:
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "start": _process_start(os.getpid())}
        try:
            # what a kill leaves of it goes with the next run's sweep of temporary files
            with AtomicFile(path) as file:
                file.write(json.dumps(owner).encode())
                os.link(file.temporary, path)  # atomic, and the lock is never seen empty
        except FileExistsError:
            return False
        except OSError as error:
            raise EnvironmentFault(
                "E602",
                f"a lock can't be written ({error.strerror})",
                "the right to write is needed",
                "check rights and space",
                path=path,
            ) from error
        return True

    def _touch_all(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            for path in list(self._held):
                try:
                    os.utime(path)
                except OSError:
                    continue  # the next beat tries again


def read_owner(path: Path) -> dict[str, object] | None:
    """Who holds a lock; None where the lock is gone or unreadable."""
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _describe(owner: dict[str, object] | None) -> str:
    known = owner or {}
    return f"process {known.get('pid', '?')} on {known.get('host', '?')}"


def is_stale(path: Path, owner: dict[str, object]) -> bool:
    """Whether a lock's run is dead: its process is gone (same host), or it gave no sign of life for long."""
    if owner.get("host") == socket.gethostname():
        return _process_start(int(str(owner.get("pid", 0)))) != owner.get("start")
    try:
        return time.time() - path.stat().st_mtime > STALE_AFTER_S
    except OSError:
        return True


def _take_away(path: Path, owner: dict[str, object] | None) -> None:
    """Move a dead lock aside under a name of its own, so that only one of several takers wins."""
    aside = path.with_name(f".{path.name}.dead.{os.getpid()}.{time.monotonic_ns()}")
    try:
        path.rename(aside)
    except OSError:
        return
    if owner is not None and read_owner(aside) != owner:
        # another taker was faster and this is its fresh lock: give it back
        with contextlib.suppress(OSError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def _forget_dead(folder: Path) -> None:
    """Remove locks that were moved aside by a run that was killed just then."""
    for path in folder.glob(".*.lock.dead.*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_ctime > STALE_AFTER_S:
                path.unlink()


def _process_start(pid: int) -> str:
    """A process' start time in clock ticks, which tells a recycled number from the old process; '' if it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
