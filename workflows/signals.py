"""Signals that wait for a good moment. Standard library only."""

from __future__ import annotations

import signal
import threading
from typing import Any

HELD = (signal.SIGTERM, signal.SIGINT)


class HeldSignals:
    """Within it TERM and INT wait for `deliver`, or for its end; ``wake`` is set when one arrives.

    The engine has bare excepts: an exception that a handler raises inside one would be lost, and the run go on.
    """

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._before: dict[int, Any] = {}
        self.arrived: int | None = None

    def __enter__(self) -> HeldSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hold) for number in HELD}
        return self

    def _hold(self, number: int, frame: Any) -> None:
        self.arrived = number
        self._wake.set()

    def deliver(self) -> None:
        """Give a signal that has arrived to whom it was meant for."""
        if self.arrived is not None:
            number, self.arrived = self.arrived, None
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(self, *error: object) -> None:
        self._restore()
        self.deliver()
