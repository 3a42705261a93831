"""Each misuse gets one clear line, the right exit code, and leaves other units and the disk alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from battery import only_line, states

Run = Callable[..., object]


@pytest.fixture
def dataset(tmp_path: Path, write_participant: Callable[..., Path]) -> Path:
    for label in ("01", "02"):
        write_participant(tmp_path / "bids", label)
    return tmp_path / "bids"


def test_no_such_participant(dataset: Path, tmp_path: Path, r2star: Run) -> None:
    done = r2star("app", dataset, tmp_path / "out", "participant", "--fit-only", "--participant-label", "99")
    assert done.returncode == 2
    assert "99" in only_line(done.stderr)
    assert "sub-0" in only_line(done.stderr) or "01" in only_line(done.stderr)


def test_empty_dataset(tmp_path: Path, r2star: Run) -> None:
    (tmp_path / "bids").mkdir()
    done = r2star("app", tmp_path / "bids", tmp_path / "out", "participant", "--fit-only")
    assert done.returncode == 3
    assert "no sub-* folder" in only_line(done.stderr)


def test_missing_dataset(tmp_path: Path, r2star: Run) -> None:
    done = r2star("app", tmp_path / "nowhere", tmp_path / "out", "participant")
    assert done.returncode == 2
    assert "no such folder" in only_line(done.stderr)
    assert not (tmp_path / "out").exists()


def test_output_is_input(dataset: Path, r2star: Run) -> None:
    before = sorted(dataset.rglob("*"))
    done = r2star("app", dataset, f"{dataset}/sub-01/..", "participant")
    assert done.returncode == 2
    assert "output folder is the input folder" in only_line(done.stderr)
    assert sorted(dataset.rglob("*")) == before


def test_unknown_option(dataset: Path, tmp_path: Path, r2star: Run) -> None:
    done = r2star("app", dataset, tmp_path / "out", "participant", "--fits", "arlo")
    assert done.returncode == 2
    assert "--fits" in only_line(done.stderr)


@pytest.mark.parametrize("named", [True, False])
def test_missing_echo_time(dataset: Path, tmp_path: Path, r2star: Run, named: bool) -> None:
    sidecar = dataset / "sub-01/anat/sub-01_echo-2_MEGRE.json"
    sidecar.write_text("{}")
    words = ["--participant-label", "01"] if named else []
    done = r2star("app", dataset, tmp_path / "out", "participant", "--fit-only", *words)
    assert done.returncode == 1
    line = only_line(done.stderr)
    assert "EchoTime" in line
    assert "sub-01_echo-2_MEGRE" in line
    rows = states(tmp_path / "out")
    assert rows["sub-01"]["state"] == "failed_input"
    assert named or rows["sub-02"]["state"].startswith("ok")


def test_echoes_of_different_shapes_leave_the_other_unit_alone(
    dataset: Path, tmp_path: Path, r2star: Run
) -> None:
    reference = r2star("app", dataset, tmp_path / "clean", "participant", "--fit-only")
    assert reference.returncode == 0, reference.stderr
    path = dataset / "sub-01/anat/sub-01_echo-3_MEGRE.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, :, :-1], image.affine), path)
    done = r2star("app", dataset, tmp_path / "out", "participant", "--fit-only")
    assert done.returncode == 1
    line = only_line(done.stderr)
    assert "6×5×4" in line
    assert "6×5×3" in line
    names = (
        "sub-02_R2starmap.nii.gz",
        "sub-02_desc-stderr_R2starmap.nii.gz",
        "sub-02_desc-fitstatus_dseg.nii.gz",
    )
    for name in names:
        one, other = ((tmp_path / kind / "sub-02/anat" / name).read_bytes() for kind in ("clean", "out"))
        assert one == other
    assert not list((tmp_path / "out").rglob("sub-01_*.nii.gz"))


def test_a_truncated_echo_is_named_and_leaves_no_partial_file(
    dataset: Path, tmp_path: Path, r2star: Run
) -> None:
    path = dataset / "sub-02/anat/sub-02_echo-1_MEGRE.nii.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = r2star("app", dataset, tmp_path / "out", "participant", "--fit-only")
    assert done.returncode == 1
    line = only_line(done.stderr)
    assert "R2S-E1" in line
    assert path.name in line
    assert "sub-02" in line
    rows = states(tmp_path / "out")
    assert (rows["sub-01"]["state"], rows["sub-02"]["state"]) == ("ok", "failed_input")
    assert not list((tmp_path / "out").rglob(".r2star-tmp-*"))
    assert not list((tmp_path / "out/logs/locks").iterdir())


def test_one_echo_only_is_an_error_if_named_and_skipped_if_found(
    dataset: Path, tmp_path: Path, r2star: Run
) -> None:
    for number in (2, 3):
        for path in (dataset / "sub-01/anat").glob(f"*echo-{number}*"):
            path.unlink()
    named = r2star(
        "app", dataset, tmp_path / "a", "participant", "--fit-only", "--participant-label", "sub-01"
    )
    assert named.returncode == 1
    found = r2star("app", dataset, tmp_path / "b", "participant", "--fit-only")
    assert found.returncode == 0, found.stderr
    assert states(tmp_path / "b")["sub-01"]["state"] == "skipped"


def test_results_of_other_settings_are_not_mixed_unless_forced(
    dataset: Path, tmp_path: Path, r2star: Run
) -> None:
    out = tmp_path / "out"
    assert r2star("app", dataset, out, "participant", "--fit-only").returncode == 0
    before = json.loads((out / "logs/units/sub-01.json").read_text())
    other = r2star("app", dataset, out, "participant", "--fit-only", "--fit", "loglinear")
    assert other.returncode == 2
    assert "fit_method" in only_line(other.stderr)
    assert json.loads((out / "logs/units/sub-01.json").read_text()) == before
    assert (
        r2star("app", dataset, out, "participant", "--fit-only", "--fit", "loglinear", "--force").returncode
        == 0
    )
    after = json.loads((out / "logs/units/sub-01.json").read_text())
    assert after["settings"]["fit_method"] == "loglinear"
    assert after["outputs"] != before["outputs"]


def test_a_second_run_does_nothing_and_a_changed_file_is_done_again(
    dataset: Path, tmp_path: Path, r2star: Run
) -> None:
    out = tmp_path / "out"
    assert r2star("app", dataset, out, "participant", "--fit-only").returncode == 0
    marker = out / "logs/units/sub-01.json"
    before = marker.stat().st_mtime_ns
    again = r2star("app", dataset, out, "participant", "--fit-only")
    assert again.returncode == 0
    assert "Nothing to do" in again.stdout
    assert marker.stat().st_mtime_ns == before
    assert r2star("verify", out).returncode == 0

    damaged = out / "sub-01/anat/sub-01_R2starmap.nii.gz"
    bytes_before = damaged.read_bytes()
    damaged.write_bytes(bytes_before[:-1] + bytes([bytes_before[-1] ^ 1]))
    (out / "sub-02/anat/sub-02_S0map.nii.gz").unlink()
    verified = r2star("verify", out)
    assert verified.returncode == 1
    assert "CHANGED sub-01/anat/sub-01_R2starmap.nii.gz" in verified.stdout
    assert "MISSING sub-02/anat/sub-02_S0map.nii.gz" in verified.stdout
    assert r2star("app", dataset, out, "participant", "--fit-only").returncode == 0
    assert damaged.read_bytes() == bytes_before
    assert r2star("verify", out).returncode == 0


def test_a_read_only_input_is_enough_and_stays_as_it_is(dataset: Path, tmp_path: Path, r2star: Run) -> None:
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    for path in [dataset, *dataset.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = r2star("app", dataset, tmp_path / "out ü x", "participant", "--fit-only")
    for path in [dataset, *dataset.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before


def dies_within(group: int, seconds: float) -> bool:
    """Whether the last process of a group is gone after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_with_its_children_and_the_next_run_goes_on(
    tmp_path: Path, write_participant: Callable[..., Path], r2star: Run, number: signal.Signals, code: int
) -> None:
    for label in ("01", "02", "03", "04"):
        write_participant(tmp_path / "bids", label)
    out = tmp_path / "out"
    script = "import sys; from r2star.cli.app import main; sys.exit(main())"
    words = [sys.executable, "-c", script, str(tmp_path / "bids"), str(out), "participant", "--fit-only"]
    running = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert running.stdout is not None
    running.stdout.readline()  # the first stage has begun
    running.send_signal(number)
    said, complained = running.communicate(timeout=60)
    assert running.returncode == code, complained
    assert "Traceback" not in complained
    assert "Interrupted" in said
    assert dies_within(running.pid, 10)
    interrupted = states(out)
    assert set(interrupted) == {"sub-01", "sub-02", "sub-03", "sub-04"}
    assert "interrupted" in {row["state"] for row in interrupted.values()}
    assert not list((out / "logs/locks").iterdir())
    assert r2star("app", tmp_path / "bids", out, "participant", "--fit-only").returncode == 0
    assert {row["state"] for row in states(out).values()} == {"ok"}
