"""The engine's log never stands between a user and the one line that tells what is wrong."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from r2star.workflows.logs import quieten_engine


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    yield
    for handler in logging.getLogger("nipype").handlers:
        with contextlib.suppress(OSError):  # what a full disk did not take
            handler.close()
    quieten_engine()


def test_warnings_go_to_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quieten_engine(tmp_path / "logs/engine.log")
    logging.getLogger("nipype.workflow").warning("a node failed")
    assert "a node failed" in (tmp_path / "logs/engine.log").read_text()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["full", "closed"])
def test_a_log_that_cannot_be_written_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / "engine.log"
    if kind == "full":
        path.symlink_to("/dev/full")  # every write finds no room
    else:
        path.mkdir()
    quieten_engine(path)
    logging.getLogger("nipype.workflow").warning("a node failed")
    assert capsys.readouterr() == ("", "")
