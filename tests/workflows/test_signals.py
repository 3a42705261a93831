"""Signals that wait: none is lost, whenever it comes, and none is raised inside."""

from __future__ import annotations

import signal
import threading

import pytest

from r2star.workflows.signals import HeldSignals


class Told(BaseException):
    """What the program's own handler raises."""


@pytest.fixture(autouse=True)
def handler():
    def tell(number: int, frame: object) -> None:
        raise Told

    before = signal.signal(signal.SIGTERM, tell)
    yield tell
    signal.signal(signal.SIGTERM, before)


def signalled(wake: threading.Event, reached: list[str], deliver: bool) -> None:
    """A TERM inside; what is reached after it, and after its delivery."""
    with HeldSignals(wake) as held:
        signal.raise_signal(signal.SIGTERM)
        reached.append("after the signal")
        if deliver:
            held.deliver()
            reached.append("after its delivery")


@pytest.mark.parametrize("deliver", [True, False])
def test_a_signal_waits_for_delivery_or_the_end_and_wakes_who_waits(handler, deliver: bool) -> None:
    wake, reached = threading.Event(), []
    with pytest.raises(Told):
        signalled(wake, reached, deliver)
    assert reached == ["after the signal"]
    assert wake.is_set()
    assert signal.getsignal(signal.SIGTERM) is handler


def test_without_a_signal_nothing_is_told(handler) -> None:
    with HeldSignals(threading.Event()) as held:
        held.deliver()
    assert signal.getsignal(signal.SIGTERM) is handler
