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
from pathlib import Path
from typing import Any

import battery as b
import nibabel as nib
import numpy as np
import pytest
from cases import Case, fitted_case, measured_case
from nursery import Nursery

from r2star.errors import EnvironmentFault
from r2star.runs.records import record_failure

WORDS = ("participant", "--fit-only", "--nprocs", "1")
PAGE = 4096
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
COMMAND = "import sys; from r2star.cli.app import main; sys.exit(main())"


class SmallDisk:
    """A file system in memory over a folder, of a size that can be changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def mount(self, size: int) -> None:
        """Mount it empty, with so many bytes; skips where this user can't."""
        self.unmount()
        self._folder.mkdir(parents=True, exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", self._folder]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")

    def enlarge(self) -> None:
        """Room for everything, with what stands there kept."""
        subprocess.run(["mount", "-o", "remount,size=256m", self._folder], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", self._folder], capture_output=True, check=False)

    def __enter__(self) -> SmallDisk:
        if os.geteuid() != 0 or not shutil.which("mount"):
            pytest.skip("only root can mount a small disk")
        return self

    def __exit__(self, *rest: object) -> None:
        self.unmount()


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of error of a run that the environment stopped."""
    assert "Traceback" not in done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR R2S-E6")]
    assert lines, done.stderr
    assert " Fix: " in lines[0]
    return lines[0]


def assert_no_partial_file(out: Path, reference: dict[str, bytes]) -> None:
    """What stands is what belongs there, whole; a page may tell of the failure."""
    for name, data in b.stable_tree(out).items():
        assert ".r2star-tmp-" not in name
        if name.endswith(".html"):
            assert data.endswith(b"</html>"), name
        else:
            assert data == reference[name], name


def fill(case: Case, folder: Path, part: int, step: int) -> None:
    """Run with 1 + ``part``, 1 + ``part`` + ``step``, ... pages of room in a folder until that is enough."""
    n_full = 0
    with SmallDisk(folder) as disk:
        for pages in range(1 + part, 20_000, step):
            case.clear()
            disk.mount(pages * PAGE)
            done = case.nursery.run(*case.words)
            code, complained = done.wait(), done.stderr
            if code == 0:
                assert b.stable_tree(case.out) == case.reference
                break
            n_full += 1
            assert code == 4, (pages, code, complained)
            assert "Traceback" not in complained, (pages, complained)
            errors = [line for line in complained.splitlines() if line.startswith("ERROR R2S-E6")]
            assert errors, (pages, complained)
            assert "R2S-E601" in errors[0], (pages, errors)
            assert "room" in errors[0]
            assert " Fix: " in errors[0]
            assert_no_partial_file(case.out, case.reference)
            disk.enlarge()
            case.check_mended()
        case.clear()
    print(f"disk: full at {n_full} sizes, enough at {pages} pages")  # noqa: T201
    assert n_full


def fillings(short: int, n: int) -> list[Any]:
    """One size in ``short`` for the short suite; for the long one every page, in parts that can be run apart."""
    return [(short // 2, short), *(pytest.param(part, n, marks=pytest.mark.faults) for part in range(n))]


@pytest.mark.parametrize(("part", "step"), fillings(20, 4))
@pytest.mark.parametrize("what", ["out", pytest.param("work", marks=pytest.mark.faults)])
def test_a_disk_that_fills_at_any_page(
    tmp_path: Path, nursery: Nursery, what: str, part: int, step: int
) -> None:  # H07
    case = fitted_case(nursery, tmp_path)
    case.learn()
    fill(case, getattr(case, what), part, step)


def test_a_failure_after_the_marker_is_forgotten_once_the_unit_is_found_complete(
    tmp_path: Path, nursery: Nursery
) -> None:
    """As where the work folder fills just after the results were published."""
    case = fitted_case(nursery, tmp_path)
    case.learn()
    record_failure(case.out, "sub-01", EnvironmentFault("E601", "no room to write"))
    case.check_mended()


@pytest.mark.faults
@pytest.mark.parametrize("part", range(20))
@pytest.mark.parametrize("what", ["out", "work"])
def test_a_disk_that_fills_while_regions_are_measured(
    tmp_path: Path, nursery: Nursery, what: str, part: int
) -> None:
    case = measured_case(nursery, tmp_path)
    case.learn()
    if what == "out":
        case.keep("brain mask")  # registered already, in a work folder with room
    fill(case, getattr(case, what), part, 20)


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


@pytest.mark.faults
def test_a_limit_on_memory_at_any_stage_of_a_unit(tmp_path: Path, nursery: Nursery) -> None:
    case = measured_case(nursery, tmp_path)
    case.learn()
    told = []
    for spare_mib in (1, 4, 16, 18, 20, 22, 24, 26, 28, 32, 64):
        case.clear()
        done = case.nursery.run(*case.words, spare_memory=spare_mib << 20)
        code, complained = done.wait(), done.stderr
        told.append((spare_mib, code, complained))
        assert "Traceback" not in complained, (spare_mib, complained)
        if code:
            assert code in (1, 4), (spare_mib, code, complained)
            errors = [line for line in complained.splitlines() if line.startswith("ERROR R2S-E6")]
            assert errors, (spare_mib, complained)
            assert "memory" in errors[0], errors
        assert_no_partial_file(case.out, case.reference)
        case.check_mended()
    print("memory:", *told, sep="\n")  # noqa: T201
    assert {code for _, code, _ in told} > {0}


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


def resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


@pytest.mark.faults
@pytest.mark.parametrize("stage", ["fitting R2*", "registering to template", "measuring regions"])
@pytest.mark.parametrize("delay_s", [0.0, 0.6])
def test_the_largest_process_is_killed_as_the_system_does_where_memory_ends(
    tmp_path: Path, nursery: Nursery, stage: str, delay_s: float
) -> None:
    """A limit of a job's memory ends in a SIGKILL to its largest process; here to the largest worker."""
    case = measured_case(nursery, tmp_path, labels=("01", "02"), n_processes=2)
    case.learn()
    case.clear()
    run = nursery.start(*case.words)
    assert any(stage in line for line in run.lines())
    time.sleep(delay_s)
    workers = sorted(workers_of(run.pid), key=resident_bytes)
    if workers:
        os.kill(workers[-1], signal.SIGKILL)
    begin = time.monotonic()
    code = run.wait()
    assert time.monotonic() - begin < 60
    states = b.states(case.out)
    failed = {unit for unit, row in states.items() if row["state"] == "failed_env"}
    assert "Traceback" not in run.stderr
    assert set(states) == {"sub-01", "sub-02"}
    assert {row["state"] for unit, row in states.items() if unit not in failed} <= {"ok", "ok_warn"}
    assert len(failed) <= 1
    assert code == (1 if failed else 0), run.stderr
    for unit in failed:
        assert f"R2S-E608 {unit}: the worker process died in the stage" in run.stderr
        assert " GB. Fix: " in run.stderr
    print(f"largest killed: {stage} + {delay_s} s: {sorted(failed)}")  # noqa: T201
    case.check_mended()


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
