"""Two runs with one work folder: the second waits for the first's participants, and for nobody else's."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

from r2star.runs.turns import taking_turns


def test_the_second_waits_until_the_first_is_done(tmp_path: Path) -> None:
    order: list[str] = []
    waiting, started = threading.Event(), threading.Event()

    def second() -> None:
        started.wait(10)
        with taking_turns(tmp_path, ["02", "01"], lambda _: waiting.set()):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with taking_turns(tmp_path, ["01"]):
        started.set()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_other_participants_do_not_wait(tmp_path: Path) -> None:
    told: list[str] = []
    with taking_turns(tmp_path, ["01"], told.append), taking_turns(tmp_path, ["02"], told.append):
        pass
    assert told == []


def test_turns_are_given_back_when_the_body_fails(tmp_path: Path) -> None:
    try:
        with taking_turns(tmp_path, ["01"]):
            raise KeyError
    except KeyError:
        pass
    with (tmp_path / "sub-01.turn").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
