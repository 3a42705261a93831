"""Where memory does not suffice for one more thread, a pool of processes never answers: nothing may wait for it."""

from __future__ import annotations

import logging
import multiprocessing.queues
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from r2star.cli.common import run_command
from r2star.cli.reports import _as_they_end
from r2star.runs.pools import has_fallen_silent
from r2star.workflows.logs import log_of_threads, quieten_engine
from r2star.workflows.plugin import Slot
from r2star.workflows.watcher import fault_of

NO_THREAD = "can't start new thread"
#: What these tests are about; older versions of pytest put their own hook in the place of the log's.
dies_of_it = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def slot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A slot whose pool finds no memory for the thread that sends tasks to the worker."""

    def refuse(self: object) -> None:
        raise RuntimeError(NO_THREAD)

    quieten_engine()
    monkeypatch.setattr(multiprocessing.queues.Queue, "_start_thread", refuse)
    with log_of_threads():
        one = Slot(str(tmp_path), {})
        yield one
        one.close(kill=True)


def wait_for_silence(slot: Slot) -> None:
    end = time.monotonic() + 60
    while slot._pool is None or not has_fallen_silent(slot._pool):
        assert time.monotonic() < end
        time.sleep(0.01)


@dies_of_it
def test_a_task_of_a_silent_pool_fails_as_one_of_a_dead_worker(slot: Slot) -> None:
    future = slot.submit("no node", updatehash=False, taskid=1)
    wait_for_silence(slot)  # from Python 3.12 on the pool itself tells of it before it falls silent
    slot.give_up_if_silent()
    assert isinstance(future.exception(timeout=0), BrokenProcessPool)
    slot.give_up_if_silent()  # once is enough


@dies_of_it
def test_pages_of_a_silent_pool_end_too(slot: Slot) -> None:
    future = slot.submit("no node", updatehash=False, taskid=1)
    assert slot._pool is not None
    (ended,) = _as_they_end(slot._pool, [future])
    assert isinstance(ended.exception(timeout=0), BrokenProcessPool)


@pytest.mark.parametrize(
    "line", ["MemoryError", f"RuntimeError: {NO_THREAD}", "OSError: [Errno 12] Cannot allocate memory"]
)
def test_memory_that_ran_out_is_told_as_such(line: str) -> None:
    fault = fault_of(f"Traceback (most recent call last):\n{line}\n", "the engine stopped", 2.0)
    assert (fault.code, fault.state) == ("E603", "failed_env")
    assert "2.0 GB" in fault.message


def test_a_command_without_memory_for_a_thread(capsys: pytest.CaptureFixture[str]) -> None:
    def command(arguments: list[str]) -> int:
        raise RuntimeError(NO_THREAD)

    assert run_command(command, []) == 4
    assert "R2S-E603" in capsys.readouterr().err


def test_another_fault_of_a_command_is_not_taken_for_it() -> None:
    def command(arguments: list[str]) -> int:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        run_command(command, [])


def test_what_ends_a_thread_goes_to_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quieten_engine(tmp_path / "engine.log")
    before = threading.excepthook
    with log_of_threads():
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    assert threading.excepthook is before
    assert "ZeroDivisionError" in (tmp_path / "engine.log").read_text()
    assert capsys.readouterr() == ("", "")
    for handler in logging.getLogger("nipype").handlers:
        handler.close()
    quieten_engine()
