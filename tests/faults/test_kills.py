"""Killed at any write, at any time: one more run gives every row once, and the bytes of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import battery as b
import pytest
from nursery import check_gone

COMMAND = "import sys; from r2star.cli.app import main; sys.exit(main())"
STAGES = ("checking inputs", "fitting R2*", "writing results")

#: Runs one step in children of itself, each of which is killed at another of the calls that change the disk.
DRIVER = '''
import json, os, signal, sys
from pathlib import Path
from r2star.bids.find import find_units
from r2star.runs.status import write_status
from r2star.steps.fit import fit_maps
from r2star.steps.inputs import check_inputs
from r2star.steps.publish import publish_unit

stage, bids, root, kills = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
part, parts = map(int, sys.argv[5:])
unit = find_units(bids)[0]
echoes = tuple(echo.path for echo in unit.magnitude)
CHANGING = ("write", "fsync", "replace", "rename", "link", "unlink", "mkdir", "open")

def run(work):
    out = work / "out"
    for folder in ("check", "fit", "publish", "out"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    if stage == "checking inputs":
        check_inputs(echoes, unit.echo_times_s, work / "check", sidecars=unit.magnitude[0].sidecar_paths)
    elif stage == "fitting R2*":
        fit_maps(echoes, unit.echo_times_s, work / "fit")
    else:
        made = Path(os.environ["MADE"])
        files = tuple(sorted((made / "fit").iterdir()))
        record = work / "record.json"
        publish_unit(unit, files, (made / "check/hashes.json",), (), str(out), str(bids), "{}", "key", work / "publish")
        write_status(out)

def child(work, kill_at):
    """Exit status of a child that is killed at its call number ``kill_at``; 0 is never."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    count = 0
    def counted(function):
        def call(*arguments, **options):
            nonlocal count
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return call
    for name in CHANGING:
        setattr(os, name, counted(getattr(os, name)))
    run(work)
    (root / "count").write_text(str(count))
    os._exit(0)

def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != ".status.lock"}

assert child(root / "warm-up", 0) == 0  # compiled kernels are kept
assert child(root / "reference", 0) == 0
reference, calls = tree(root / "reference"), int((root / "count").read_text())
assert calls > 5 and reference
n_killed = 0
for number in range(part, kills, parts):
    work, kill_at = root / f"killed-{number}", 1 + number * calls // kills if kills < calls else 1 + number % calls
    assert os.WTERMSIG(child(work, kill_at)) == signal.SIGKILL
    n_killed += 1
    for name, data in tree(work).items():  # whole or not at all
        assert ".r2star-tmp-" in name or data == reference[name], name
    assert child(work, 0) == 0
    # publishing sweeps the folders of results; what was left among the records goes as the next run begins
    kept = ("out/sub-",) if stage == STAGE_3 else ()
    found = {name: data for name, data in tree(work).items() if ".r2star-tmp-" not in name or name.startswith(kept)}
    assert found == reference, sorted(set(found) ^ set(reference))
print(n_killed, calls)
'''.replace("STAGE_3", repr(STAGES[2]))


def parts_of_kills() -> list[Any]:
    """Six kills for the short suite; for the long one 200 a stage, in five parts that can be run apart."""
    return [(6, 0, 1), *(pytest.param(200, part, 5, marks=pytest.mark.faults) for part in range(5))]


@pytest.mark.parametrize(("kills", "part", "parts"), parts_of_kills())
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_every_write_of_a_stage(
    tmp_path: Path, stage: str, kills: int, part: int, parts: int
) -> None:
    b.write_participant(tmp_path / "bids", "01")
    words = [sys.executable, "-c", DRIVER]
    environment = {**os.environ, "MADE": str(tmp_path / "made/reference")}
    if stage == STAGES[2]:
        for earlier in STAGES[:2]:
            made = subprocess.run(
                [*words, earlier, tmp_path / "bids", tmp_path / "made", "0", "0", "1"],
                capture_output=True, text=True, check=False, env=environment,
            )  # fmt: skip
            assert made.returncode == 0, made.stderr
    done = subprocess.run(
        [*words, stage, tmp_path / "bids", tmp_path / "runs", str(kills), str(part), str(parts)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) == kills // parts


def start(bids: Path, out: Path, work: Path) -> subprocess.Popen[str]:
    words = [
        sys.executable,
        "-c",
        COMMAND,
        str(bids),
        str(out),
        "participant",
        "--fit-only",
        "--nprocs",
        "2",
        "-v",
    ]
    return subprocess.Popen(
        [*words, "-w", str(work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL to all of a run's processes at once, as a node that goes down."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    check_gone(process.pid)


def told_stages(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    yield from iter(process.stdout.readline, "")


@pytest.mark.faults
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_random_times_as_a_user_starts_it(tmp_path: Path, r2star: b.Run, stage: str) -> None:
    """A few kills of the command itself; many of a cheaper run stand in ``test_killed_runs``."""
    labels = ("01", "02")
    for label in labels:
        b.write_participant(tmp_path / "bids", label)
    words = ("participant", "--fit-only", "--nprocs", "2")
    assert r2star("app", tmp_path / "bids", tmp_path / "reference", *words).returncode == 0
    reference = b.stable_tree(tmp_path / "reference")
    rng = random.Random(stage)
    for number in range(5):
        out, work = tmp_path / f"out-{number}", tmp_path / f"work-{number}"
        process = start(tmp_path / "bids", out, work)
        for line in told_stages(process):
            if stage in line:
                break
        time.sleep(rng.uniform(0, 0.3))
        kill_group(process)
        for label in labels:
            # a marker vouches for its files, whenever the kill came
            if (out / f"logs/units/sub-{label}.json").exists():
                mine = {name: data for name, data in reference.items() if name.startswith(f"sub-{label}/")}
                assert mine.items() <= b.stable_tree(out).items()
        again = r2star("app", tmp_path / "bids", out, *words, "-w", work)
        assert again.returncode == 0, again.stderr
        assert sorted(b.states(out)) == [f"sub-{label}" for label in labels]
        assert b.stable_tree(out) == reference
        assert not list(out.rglob(".r2star-tmp-*"))
        assert r2star("verify", out).returncode == 0


def test_what_a_kill_left_among_the_records_goes_with_the_next_run(tmp_path: Path, r2star: b.Run) -> None:
    b.write_participant(tmp_path / "bids", "01")
    out = tmp_path / "out"
    words = ("participant", "--fit-only", "--nprocs", "1")
    assert r2star("app", tmp_path / "bids", out, *words).returncode == 0
    logs = ("logs", *(f"logs/{name}" for name in ("units", "settings", "failures", "reports", "locks")))
    folders = ("", *logs, "sub-01/anat")
    for folder in folders:
        (out / folder).mkdir(exist_ok=True)
        (out / folder / ".r2star-tmp-0123").write_text("half")
    (out / "sub-01/anat/sub-01_S0map.nii.gz").unlink()
    assert r2star("app", tmp_path / "bids", out, *words).returncode == 0
    assert not list(out.rglob(".r2star-tmp-*"))
