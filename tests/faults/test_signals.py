"""A signal in the middle of a registration ends everything within ten seconds; the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import battery as b
import pytest

COMMAND = "import sys; from r2star.cli.app import main; sys.exit(main())"


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def in_a_registration(tmp_path: Path, r2star: Callable[..., object]) -> subprocess.Popen[str]:
    """A run whose worker registers a head."""
    made = r2star("simulate", "brain", tmp_path / "bids", "--participants", 1, "--small", "--seed", 3)
    assert made.returncode == 0, made.stderr
    words = [str(tmp_path / "bids"), str(tmp_path / "out"), "participant", "-w", str(tmp_path / "work")]
    running = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words, "--nprocs", "1", "-v"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert running.stdout is not None
    for line in running.stdout:
        if "registering" in line:
            break
    return running


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker ends with its task")
def test_workers_end_with_a_run_that_is_killed_alone(tmp_path: Path, r2star: Callable[..., object]) -> None:
    """As the system does where memory ends: a worker that went on would write where the next run works."""
    running = in_a_registration(tmp_path, r2star)
    time.sleep(1)
    running.kill()
    begin = time.monotonic()
    while not group_is_gone(running.pid):
        assert time.monotonic() - begin < 5
        time.sleep(0.05)
        running.poll()
    running.communicate()


@pytest.mark.parametrize("after_s", [1.0, pytest.param(4.0, marks=pytest.mark.faults)])
def test_a_signal_in_a_registration(
    tmp_path: Path, r2star: Callable[..., object], after_s: float
) -> None:  # H01
    out = tmp_path / "out"
    running = in_a_registration(tmp_path, r2star)
    time.sleep(after_s)
    begin = time.monotonic()
    running.send_signal(signal.SIGTERM)
    _, complained = running.communicate(timeout=60)
    while not group_is_gone(running.pid):
        assert time.monotonic() - begin < 10
        time.sleep(0.05)
    assert time.monotonic() - begin < 10
    assert running.returncode == 143
    assert "Traceback" not in complained
    assert b.states(out)["sub-01"]["state"] == "interrupted"
    assert not list(out.rglob(".r2star-tmp-*"))
    assert not list((out / "logs/locks").iterdir())
    assert not list(out.rglob("*_stats.tsv"))
