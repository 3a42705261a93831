"""No command opens a network connection: no telemetry, no update check, no download. Seen by tracing system calls."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def sockets(folder: Path, command: str, *arguments: object) -> tuple[int, list[str]]:
    """The exit code of a command, and its system calls that concern sockets of the internet's families."""
    log = folder / f"{command}.strace"
    code = f"import sys; from r2star.cli.{command} import main; sys.exit(main())"
    trace = ["strace", "-f", "-qq", "-e", "trace=%network", "-o", str(log)]
    words = [*trace, sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    lines = log.read_text().splitlines()
    return done.returncode, [line for line in lines if "AF_INET" in line or "AF_NETLINK" in line]


@pytest.mark.slow
def test_no_command_opens_a_connection(tmp_path: Path, write_participant: Callable[..., Path]) -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    bids, out = tmp_path / "bids", tmp_path / "out"
    write_participant(bids, "01")
    level = ("participant", "--fit-only", "--nprocs", 1, "-w", tmp_path / "work")
    assert sockets(tmp_path, "app", bids, out, *level) == (0, [])
    assert (out / "status.tsv").read_text().splitlines()[1].startswith("sub-01\tok")
    assert sockets(tmp_path, "verify", out) == (0, [])
    assert sockets(tmp_path, "simulate", "cohort", tmp_path / "cohort", "--seed", 1) == (0, [])
    tables = tmp_path / "cohort" / "derivatives" / "r2star"
    assert sockets(tmp_path, "app", tmp_path / "cohort", tables, "group") == (0, [])
    assert (tables / "group.html").is_file()


def test_the_trace_would_see_a_connection(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    log = tmp_path / "log"
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()"
    command = ["strace", "-f", "-qq", "-e", "trace=%network", "-o", str(log), sys.executable, "-c", code]
    subprocess.run(command, check=True)
    assert "AF_INET" in log.read_text()
