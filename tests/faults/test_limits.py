"""The machine's limits: full disks, quotas, rights, memory, dead workers. Right code, right words, resumable."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import battery as b
import nibabel as nib
import numpy as np
import pytest

WORDS = ("participant", "--fit-only", "--nprocs", "1")
PAGE = 4096
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
COMMAND = "import sys; from r2star.cli.app import main; sys.exit(main())"


def mount_small(folder: Path, size: int) -> None:
    """A file system in memory of so many bytes; skips where this user can't have one."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size},mode=0777"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts one small disk after another at the same place."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"

    def mount(size: int) -> Path:
        subprocess.run(["umount", place], capture_output=True, check=False)
        mount_small(place, size)
        return place

    yield mount
    subprocess.run(["umount", place], capture_output=True, check=False)


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of error of a run that the environment stopped."""
    assert "Traceback" not in done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR R2S-E6")]
    assert lines, done.stderr
    assert " Fix: " in lines[0]
    return lines[0]


def assert_no_partial_file(out: Path, reference: dict[str, bytes]) -> None:
    """What stands is what belongs there, whole."""
    for name, data in b.stable_tree(out).items():
        assert ".r2star-tmp-" not in name
        assert data == reference[name], name


def fillings() -> list[Any]:
    """Two sizes for the short suite; for the long one every page, in eight parts that can be run apart."""
    every_page = [(what, None, part) for what in ("out", "work") for part in range(8)]
    return [("out", 2, 0), *(pytest.param(*part, marks=pytest.mark.faults) for part in every_page)]


@pytest.mark.parametrize(("what", "steps", "part"), fillings())
def test_a_disk_that_fills_at_any_page(
    tmp_path: Path, r2star: b.Run, small_disk: Callable[[int], Path], what: str, steps: int | None, part: int
) -> None:  # H07
    bids, other, kept = tmp_path / "bids", tmp_path / "place/other", tmp_path / "place/reference"
    b.write_participant(bids, "01")
    assert r2star("app", bids, kept, *WORDS).returncode == 0
    reference = b.stable_tree(kept)
    used = 2 * PAGE * sum(1 for _ in kept.rglob("*"))
    n_full = 0
    sizes = range(PAGE, 10 * used, PAGE)
    for size in sizes[part :: used // PAGE // steps if steps else 8]:
        disk = small_disk(size)
        shutil.rmtree(other, ignore_errors=True)
        out, work = (disk / "out", other) if what == "out" else (other, disk / "work")
        done = r2star("app", bids, out, *WORDS, "-w", work)
        if done.returncode == 0:
            break
        n_full += 1
        assert done.returncode == 4, (size, done.stderr)
        line = one_error(done)
        assert "R2S-E601" in line, line
        assert "room" in line
        if out.exists():
            assert_no_partial_file(out, reference)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        again = r2star("app", bids, out, *WORDS, "-w", work)
        assert again.returncode == 0, again.stderr
        assert b.stable_tree(out) == reference
        assert r2star("verify", out).returncode == 0
    else:
        pytest.fail("no size was enough")
    assert n_full


def test_a_quota_on_the_size_of_files(tmp_path: Path, r2star: b.Run) -> None:
    b.write_participant(tmp_path / "bids", "01")
    words = (tmp_path / "bids", tmp_path / "out", *WORDS)
    assert r2star("app", tmp_path / "bids", tmp_path / "reference", *WORDS).returncode == 0
    limit = 600  # bytes: less than a map

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    done = r2star("app", *words, preexec_fn=lower)
    assert done.returncode == 4, done.stderr
    assert "R2S-E601" in one_error(done)
    assert r2star("app", *words).returncode == 0
    assert b.stable_tree(tmp_path / "out") == b.stable_tree(tmp_path / "reference")


def obey_rights() -> None:
    """Take from root what lets it pass over the rights of files: from the next ``exec`` on it is like any user."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "a capability can't be dropped")


def test_a_folder_without_the_right_to_write(tmp_path: Path, r2star: b.Run) -> None:  # G22
    b.write_participant(tmp_path / "bids", "01")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    refused = r2star("app", tmp_path / "bids", closed / "out", *WORDS, preexec_fn=obey_rights)
    assert refused.returncode == 4
    line = one_error(refused)
    assert "R2S-E602" in line
    assert str(closed / "out") in line
    assert list(closed.iterdir()) == []


@pytest.mark.parametrize("suffix", [".nii.gz", ".json"])
def test_a_file_without_the_right_to_read_it(tmp_path: Path, r2star: b.Run, suffix: str) -> None:
    folder = b.write_participant(tmp_path / "bids", "01")
    b.image(folder, 2, suffix).chmod(0o000)
    words = (tmp_path / "bids", tmp_path / "out", *WORDS)
    done = r2star("app", *words, preexec_fn=obey_rights)
    assert done.returncode == 1, done.stderr
    assert "R2S-E220" in done.stderr
    assert f"echo-2_MEGRE{suffix}" in done.stderr
    b.image(folder, 2, suffix).chmod(0o644)
    assert r2star("app", *words, preexec_fn=obey_rights).returncode == 0


def test_a_user_without_a_home(tmp_path: Path, r2star: b.Run) -> None:  # H15, H18
    b.write_participant(tmp_path / "bids", "01")
    kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
    bare = {**kept, "HOME": "/nonexistent", "LC_ALL": "C"}
    for number, environment in enumerate((kept, bare)):
        out = tmp_path / f"out {number} ü"
        done = r2star("app", tmp_path / "bids", out, *WORDS, env=environment, preexec_fn=obey_rights)
        assert done.returncode == 0, done.stderr
    one, other = (b.stable_tree(tmp_path / f"out {number} ü") for number in (0, 1))
    assert one == other


def test_a_memory_limit_is_told_and_never_waited_for(tmp_path: Path, r2star: b.Run) -> None:  # H10
    folder = b.write_participant(tmp_path / "bids", "01")
    b.write_participant(tmp_path / "bids", "02")
    large = nib.Nifti1Image(np.zeros((1, 1, 1), np.float32), b.AFFINE).header
    large.set_data_shape((1000, 1000, 250))
    large["vox_offset"], large["magic"] = 352, b"n+1"
    b.image(folder, 2).unlink()
    with b.image(folder, 2, ".nii").open("wb") as file:  # a gigabyte of nothing
        file.write(large.binaryblock)
        file.truncate(352 + 1000 * 1000 * 250 * 4)

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    begin = time.monotonic()
    done = r2star("app", tmp_path / "bids", tmp_path / "out", *WORDS, preexec_fn=lower)
    assert time.monotonic() - begin < 60
    line = one_error(done)
    assert done.returncode in (1, 4)
    assert "memory" in line
    assert "GiB" in line or "GB" in line
    assert b.states(tmp_path / "out")["sub-01"]["state"] == "failed_env"


def workers_of(pid: int) -> list[int]:
    """Processes below a process, the nearest first."""
    found, queue = [], [pid]
    while queue:
        parent = queue.pop(0)
        path = Path(f"/proc/{parent}/task/{parent}/children")
        children = [int(word) for word in path.read_text().split()] if path.exists() else []
        found += children
        queue += children
    return found


def test_a_killed_worker_fails_its_unit_alone_within_seconds(tmp_path: Path, r2star: b.Run) -> None:
    for label in ("01", "02", "03"):
        b.write_participant(tmp_path / "bids", label)
    slow = b.image(tmp_path / "bids/sub-01/anat", 2)
    slow.unlink()
    values = np.random.default_rng(1).normal(500, 9, (256, 256, 160)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, b.AFFINE), slow)
    words = [sys.executable, "-c", COMMAND, str(tmp_path / "bids"), str(tmp_path / "out"), *WORDS]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    while "checking inputs" not in running.stdout.readline():
        pass
    end = time.monotonic() + 30
    killed = False
    while not killed and time.monotonic() < end:
        time.sleep(0.1)
        for pid in workers_of(running.pid):
            try:
                opened = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
            except OSError:
                continue
            if str(slow) in opened:
                os.kill(pid, signal.SIGKILL)
                killed = True
    assert killed
    begin = time.monotonic()
    _, complained = running.communicate(timeout=60)
    assert time.monotonic() - begin < 60
    assert running.returncode == 1
    assert "R2S-E608 sub-01" in complained
    assert "worker process died" in complained
    assert "GB" in complained
    states = {unit: row["state"] for unit, row in b.states(tmp_path / "out").items()}
    assert states == {"sub-01": "failed_env", "sub-02": "ok", "sub-03": "ok"}
