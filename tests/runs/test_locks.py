"""One live run per unit; dead ones are taken over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r2star.errors import LockedError
from r2star.files import sweep_temporary
from r2star.runs import locks


def test_a_held_unit_is_refused_and_a_released_one_is_free(tmp_path: Path) -> None:
    with locks.UnitLocks(tmp_path) as first, locks.UnitLocks(tmp_path) as second:
        first.acquire("sub-01")
        second.acquire("sub-02")
        with pytest.raises(LockedError) as caught:
            second.acquire("sub-01")
        assert caught.value.exit_code == 75
        assert str(os.getpid()) in str(caught.value)
        first.release("sub-01")
        second.acquire("sub-01")
    assert list(tmp_path.iterdir()) == []


def test_a_dead_process_on_this_host_is_taken_over(tmp_path: Path) -> None:
    script = (
        "import os; from pathlib import Path; from r2star.runs.locks import UnitLocks\n"
        f"locks = UnitLocks(Path({str(tmp_path)!r})).__enter__()\n"
        "locks.acquire('sub-01'); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert (tmp_path / "sub-01.lock").exists()
    with locks.UnitLocks(tmp_path) as mine:
        mine.acquire("sub-01")
        assert locks.read_owner(tmp_path / "sub-01.lock")["pid"] == os.getpid()


@pytest.mark.parametrize(("age_s", "free"), [(0.0, False), (locks.STALE_AFTER_S + 5, True)])
def test_another_host_counts_as_dead_only_after_a_long_silence(
    tmp_path: Path, age_s: float, free: bool
) -> None:
    path = tmp_path / "sub-01.lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "start": "1"}))
    then = time.time() - age_s
    os.utime(path, (then, then))
    with locks.UnitLocks(tmp_path) as mine:
        if free:
            mine.acquire("sub-01")
        else:
            with pytest.raises(LockedError):
                mine.acquire("sub-01")


def test_of_many_takers_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "sub-01.lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "start": "1"}))
    os.utime(path, (0, 0))
    script = (
        "import sys, time; from pathlib import Path; from r2star.runs.locks import UnitLocks\n"
        "from r2star.errors import LockedError\n"
        f"with UnitLocks(Path({str(tmp_path)!r})) as locks:\n"
        "    while time.time() < float(sys.argv[1]): pass\n"
        "    try: locks.acquire('sub-01')\n"
        "    except LockedError: sys.exit(75)\n"
        "    time.sleep(1.5)\n"
    )
    start = str(time.time() + 1.0)
    processes = [subprocess.Popen([sys.executable, "-c", script, start]) for _ in range(6)]
    assert sorted(process.wait() for process in processes) == [0, 75, 75, 75, 75, 75]


@pytest.mark.parametrize("call", ["link", "unlink"])
def test_what_a_kill_leaves_of_a_lock_in_the_making_can_be_swept(tmp_path: Path, call: str) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from r2star.runs.locks import UnitLocks\n"
        f"os.{call} = lambda *names, **options: os.kill(os.getpid(), signal.SIGKILL)\n"
        "UnitLocks(Path(sys.argv[1])).acquire('sub-01')"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(sweep_temporary(tmp_path)) == 1
    with locks.UnitLocks(tmp_path) as held:
        held.acquire("sub-01")  # its owner is dead, if there is one
    assert list(tmp_path.iterdir()) == []


def test_a_dead_lock_that_was_moved_aside_goes_after_a_long_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = tmp_path / ".sub-01.lock.dead.7.8"
    aside.write_text("{}")
    with locks.UnitLocks(tmp_path):
        assert aside.exists()
    monkeypatch.setattr(locks, "STALE_AFTER_S", -1.0)
    with locks.UnitLocks(tmp_path):
        assert not aside.exists()
