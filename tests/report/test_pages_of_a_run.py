"""Pages as a run leaves them: made, kept, made anew where something changed, and never in the way of a number."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from r2star.cli.reports import _tell
from r2star.errors import EnvironmentFault, InputError

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(
    r2star: Run, write_participant: Callable[..., Path], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    for label in ("01", "02"):
        write_participant(tmp_path / "bids", label)
    broken = tmp_path / "bids" / "sub-02" / "anat" / "sub-02_echo-2_MEGRE.nii.gz"
    broken.write_bytes(broken.read_bytes()[:100])

    def again(*more: str) -> subprocess.CompletedProcess[str]:
        return r2star(
            "app",
            tmp_path / "bids",
            tmp_path / "out",
            "participant",
            "--fit-only",
            "-w",
            tmp_path / "work",
            *more,
        )

    return again


def test_every_participant_gets_a_page_failed_ones_too(run: Run, r2star: Run, tmp_path: Path) -> None:
    assert run().returncode == 1
    out = tmp_path / "out"
    good, bad = (out / f"sub-{label}.html" for label in ("01", "02"))
    assert "SNR, first echo" in good.read_text()
    assert "R2S-E109" in bad.read_text()
    assert str(tmp_path) not in bad.read_text()  # no path of this machine
    assert (out / "logs" / "reports" / "sub-01_timing.html").is_file()

    before = good.read_bytes(), good.stat().st_mtime_ns, bad.read_bytes()
    run()
    assert (good.read_bytes(), good.stat().st_mtime_ns, bad.read_bytes()) == before

    good.write_text("changed")
    verified = r2star("verify", out)
    assert verified.returncode == 1
    assert "CHANGED sub-01.html" in verified.stdout + verified.stderr
    run()
    assert good.read_bytes() == before[0]
    assert r2star("verify", out).returncode == 0


def test_equal_runs_give_equal_pages(run: Run, tmp_path: Path) -> None:
    run()
    first = (tmp_path / "out" / "sub-01.html").read_bytes()
    (tmp_path / "out").rename(tmp_path / "before")
    run("--nprocs", "1")
    assert (tmp_path / "out" / "sub-01.html").read_bytes() == first


def test_a_page_that_can_not_be_written_loses_no_number(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "out" / "sub-01.html"
    page.mkdir(parents=True)  # a folder stands where the page should
    done = run("--participant-label", "01")
    assert done.returncode == 0
    assert "R2S-W530" in done.stderr
    assert (tmp_path / "out" / "sub-01" / "anat" / "sub-01_R2starmap.nii.gz").is_file()
    assert "\tok" in (tmp_path / "out" / "status.tsv").read_text()


def test_a_page_without_room_is_the_error_of_the_run() -> None:
    full = EnvironmentFault("E601", "no room to write", path="sub-01.html")
    with pytest.raises(EnvironmentFault, match="E601"):
        _tell(full, "01")


def test_what_a_page_failed_of_is_told_with_one_advice(capsys: pytest.CaptureFixture[str]) -> None:
    _tell(InputError("E101", "cut short", "a whole file", "copy it again", path="T1w.nii.gz"), "01")
    (line,) = capsys.readouterr().err.splitlines()
    assert "E101, cut short, a whole file (T1w.nii.gz)" in line
    assert line.count("Fix:") == 1
