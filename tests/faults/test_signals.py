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


@pytest.mark.parametrize("after_s", [1.0, pytest.param(4.0, marks=pytest.mark.faults)])
def test_a_signal_in_a_registration(
    tmp_path: Path, r2star: Callable[..., object], after_s: float
) -> None:  # H01
    bids, out, work = tmp_path / "bids", tmp_path / "out", tmp_path / "work"
    made = r2star("simulate", "brain", bids, "--participants", 1, "--small", "--seed", 3)
    assert made.returncode == 0, made.stderr
    words = [str(bids), str(out), "participant", "-w", str(work), "--nprocs", "1", "-v"]
    running = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert running.stdout is not None
    for line in running.stdout:
        if "registering" in line:
            break
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
