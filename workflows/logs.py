"""The engine's own log: to a file or to nowhere, and to the screen only when asked for. Imports nipype late."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

_LOGGERS = ("nipype", "nipype.workflow", "nipype.interface", "nipype.utils", "nipype.filemanip")


class _PatientFile(logging.FileHandler):
    """A log that a full disk may end: the user is told of that in one line, which tracebacks of the log would hide."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line if that can be."""
        with contextlib.suppress(OSError):  # of opening the file
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Say nothing of a line that could not be written."""


def quieten_engine(log_file: Path | None = None, *, show: bool = False) -> None:
    """Send the engine's warnings to ``log_file``; ``show`` leaves everything on the screen."""
    import nipype  # noqa: F401  its loggers are made at import

    handler: logging.Handler = logging.NullHandler()
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        handler = _PatientFile(log_file, delay=True)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO if show else logging.WARNING)
        if not show:
            logger.handlers = [handler] if name == "nipype" else []


@contextlib.contextmanager
def log_of_threads() -> Iterator[None]:
    """What ends a thread goes to the engine's log: what it means is told where the thread is missed."""

    def log(told: threading.ExceptHookArgs) -> None:
        error = told.exc_value or told.exc_type()
        logging.getLogger("nipype").error("a thread ended", exc_info=error)

    before, threading.excepthook = threading.excepthook, log
    try:
        yield
    finally:
        threading.excepthook = before
