"""``r2star-simulate brain``: what it accepts, what it refuses and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from r2star.cli.simulate import build_parser, main, make_plan

MISUSES = {
    "no subcommand": ([], "E520"),
    "unknown option": (["brain", "{out}", "--tesla", "3"], "E520"),
    "no number": (["brain", "{out}", "--snr", "high"], "E520"),
    "no participants": (["brain", "{out}", "--participants", "0"], "E510"),
    "too many participants": (["brain", "{out}", "--participants", "100"], "E510"),
    "negative seed": (["brain", "{out}", "--seed", "-1"], "E510"),
    "one echo": (["brain", "{out}", "--echoes", "1"], "E510"),
    "echo times in milliseconds": (["brain", "{out}", "--echo-times", "5", "10"], "E510"),
    "echo times unsorted": (["brain", "{out}", "--echo-times", "0.01", "0.005"], "E510"),
    "both kinds of echoes": (["brain", "{out}", "--echoes", "2", "--echo-times", "0.01", "0.02"], "E510"),
    "snr of zero": (["brain", "{out}", "--snr", "0"], "E510"),
    "snr not a number": (["brain", "{out}", "--snr", "nan"], "E510"),
    "voxels too small": (["brain", "{out}", "--resolution-mm", "1", "1", "0.1"], "E510"),
    "no sessions": (["brain", "{out}", "--sessions", "0"], "E510"),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_is_one_line_and_exit_2(misuse: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv, code = MISUSES[misuse]
    out = tmp_path / "out"
    assert main([word.format(out=out) for word in argv]) == 2
    said = capsys.readouterr()
    assert f"R2S-{code}:" in said.err
    assert said.err.count("\n") == 1
    assert not out.exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["brain", str(tmp_path)]) == 2
    assert "R2S-E511" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_options_become_the_plan():
    def plan(*words: str):
        return make_plan(build_parser().parse_args(["brain", "out", *words]))

    default = plan()
    assert default.resolution_mm == (1.0, 1.0, 1.5)
    assert default.echo_times_s == pytest.approx((0.005, 0.0098, 0.0146, 0.0194, 0.0242, 0.029))
    assert (default.t1w_mm, default.snr, default.phase, default.dephasing) == (1.0, 60.0, False, True)
    small = plan("--small")
    assert (small.resolution_mm, small.t1w_mm) == ((2.0, 2.0, 3.0), 2.0)
    assert plan("--sloppy") == small
    assert plan("--small", "--t1w-mm", "3", "--no-t1w").t1w_mm is None
    assert plan("--small", "--resolution-mm", "3", "3", "3").resolution_mm == (3.0, 3.0, 3.0)
    assert plan("--echoes", "2").echo_times_s == (0.005, 0.0098)
    assert plan("--echo-times", "0.005", "0.008").echo_times_s == (0.005, 0.008)
    assert not plan("--b0-gradient", "off").dephasing
    assert plan("--field-strength", "7", "--phase", "--sessions", "3").n_sessions == 3


def test_the_smallest_dataset_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "new" / "bids"
    words = [
        "brain",
        str(out),
        "--participants",
        "1",
        "--resolution-mm",
        "5",
        "5",
        "5",
        "--echoes",
        "2",
        "--no-t1w",
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == ["wrote sub-01", f"truth: {out / 'truth.tsv'}"]
    assert said.err == ""
    images = sorted(path.name for path in (out / "sub-01" / "anat").glob("*.nii.gz"))
    assert images == ["sub-01_echo-1_MEGRE.nii.gz", "sub-01_echo-2_MEGRE.nii.gz"]
