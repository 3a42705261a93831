"""What is shown while units run: live lines on a terminal, few lines in a log."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from r2star.bids.units import Unit
from r2star.cli import progress as shown
from r2star.cli.progress import Progress
from r2star.errors import ProcessingError

UNITS: list[Unit] = [None, None, None]  # type: ignore[list-item]  # they are only counted


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    return now


def picture(stream: str) -> list[str]:
    """The lines that stand on a screen after a stream was written to it."""
    lines: list[str] = []
    for part in stream.replace("\x1b[0J", "").split("\x1b["):
        up, moved, rest = part.partition("F")
        is_move = bool(moved) and up.isdigit()
        if is_move:
            del lines[len(lines) - int(up) :]
        lines += (rest if is_move else part).splitlines()
    return lines


def test_terminal_shows_one_line_a_unit_with_its_time_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: list[float]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(shown.sys, "stderr", terminal)
    progress = Progress(UNITS, tmp_path, 0)
    progress.begin_stage("sub-01", "checking inputs")
    progress.begin_stage("sub-02", "checking inputs")
    clock[0] += 10
    progress.end_stage(["sub-01"], 0.5)
    progress.begin_stage("sub-01", "fitting")
    assert picture(terminal.getvalue()) == [
        "sub-01: fitting ... (10 s elapsed, about 10 s left)",
        "sub-02: checking inputs ... (10 s elapsed)",
        "0 of 3 units (10 s elapsed, about 50 s left)",
    ]
    progress.end_unit("sub-02", ProcessingError("E410", "no good", unit="sub-02"))
    left = picture(terminal.getvalue())
    assert left[0].startswith("ERROR R2S-E410 sub-02")
    assert [line.partition(":")[0] for line in left[1:]] == ["sub-01", left[-1]]


def test_log_gets_begin_and_end_and_breaks_a_long_silence(
    tmp_path: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(UNITS, tmp_path, 0)
    for words, seconds in (("checking inputs", 5), ("fitting", 70), ("registering", 5), ("measuring", 1)):
        progress.begin_stage("sub-01", words)
        clock[0] += seconds
    progress.end_stage(["sub-01"], 1.0)
    for unit in ("sub-01", "sub-02", "sub-03"):
        progress.end_unit(unit, None)
    told = [line.partition(" ... ")[0] for line in capsys.readouterr().out.splitlines()]
    assert told == [
        "sub-01: checking inputs",
        "sub-01: registering",
        "sub-01: complete in 1 min 21 s (1/3; 1 min 21 s elapsed, about 2 min 42 s left)",
        "sub-02: complete in 1 min 21 s (2/3; 1 min 21 s elapsed, about 2 min 42 s left)",
        "sub-03: complete in 1 min 21 s (3/3)",
    ]


def test_verbose_log_tells_every_stage(
    tmp_path: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(UNITS, tmp_path, 1)
    for words in ("checking inputs", "fitting"):
        progress.begin_stage("sub-01", words)
    assert len(capsys.readouterr().out.splitlines()) == 2
