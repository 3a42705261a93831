"""Options and files that can't be meant: r2star-fit, -simulate, -verify and the numbers of r2star itself."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import battery as b
import nibabel as nib
import numpy as np
import pytest

from r2star.cli import app, fit, simulate

TIMES = tuple(map(str, b.ECHO_TIMES_S))


@pytest.fixture
def echoes(tmp_path: Path) -> list[Path]:
    folder = b.write_participant(tmp_path / "bids", "01")
    return [b.image(folder, number) for number in range(1, 5)]


def stack(path: Path, values: np.ndarray) -> Path:
    """All echoes in one file."""
    nib.save(nib.Nifti1Image(values.astype(np.float32), b.AFFINE), path)
    return path


def said(capsys: pytest.CaptureFixture[str], code: str) -> str:
    told = capsys.readouterr()
    return b.only_line(told.err, code)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ("4 9 15 22", "milliseconds"),
        ("4e-6 9e-6 15e-6 22e-6", "seconds are needed"),
        ("1e-6 0.009 0.015 0.022", "seconds are needed"),
        ("0.004 0.004000001 0.015 0.022", "different ones"),
        ("nan 0.009 0.015 0.022", "seconds"),
        ("0.004", "two or more"),
    ],
)
def test_echo_times_that_are_none(
    tmp_path: Path, echoes: list[Path], capsys: pytest.CaptureFixture[str], times: str, words: str
) -> None:
    out = tmp_path / "maps"
    assert fit.main([*map(str, echoes), "--echo-times", *times.split(), "-o", str(out)]) == 2
    assert words in said(capsys, "E522")
    assert not out.exists()


@pytest.mark.parametrize(
    ("times", "code", "named"),
    [
        ("0.004 0.015 0.009 0.022", "W303", "2"),
        ("0.004 0.009 0.010 0.022", "W309", ""),
        ("0.004 0.009 0.015 0.022", "", ""),
    ],
)
@pytest.mark.parametrize("together", [False, True], ids=["a file an echo", "one file"])
def test_echo_times_that_are_not_the_files_are_told(
    tmp_path: Path, echoes: list[Path], capsys: pytest.CaptureFixture[str], times: str, code: str, named: str,
    together: bool,
) -> None:  # fmt: skip
    """As with a dataset, where input is checked before the fit."""
    files = [stack(tmp_path / "all.nii.gz", b.signal())] if together else echoes
    fit.main([*map(str, files), "--echo-times", *times.split(), "-o", str(tmp_path / "maps")])
    told = [line for line in capsys.readouterr().err.splitlines() if "R2S-W30" in line]
    assert bool(told) == bool(code)
    if code:
        (line,) = [one for one in told if code in one]
        assert ("all.nii.gz, echo " if together else "echo-") + named in line


@pytest.mark.parametrize("sigma", ["0", "-1", "nan", "inf"])
def test_a_noise_that_is_none(
    tmp_path: Path, echoes: list[Path], capsys: pytest.CaptureFixture[str], sigma: str
) -> None:
    out = tmp_path / "maps"
    words = [*map(str, echoes), "--echo-times", *TIMES, "-o", str(out), "--noise-sigma", sigma]
    assert fit.main(words) == 2
    assert "--noise-sigma" in said(capsys, "E521")
    assert not out.exists()


def test_an_output_folder_that_is_a_file(
    tmp_path: Path, echoes: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("mine")
    assert fit.main([*map(str, echoes), "--echo-times", *TIMES, "-o", str(tmp_path / "mine")]) == 4
    assert "mine" in said(capsys, "E6")
    assert (tmp_path / "mine").read_text() == "mine"


def no_signal(values: np.ndarray) -> None:
    values[..., 2] = 0


def negative(values: np.ndarray) -> None:
    values[..., 1] *= -1


def not_finite(values: np.ndarray) -> None:
    values[..., 3] = np.nan


def twice(values: np.ndarray) -> None:
    values[..., 2] = values[..., 1]


def twice_with_gaps(values: np.ndarray) -> None:
    values[1, 1, 1, :] = np.nan
    values[..., 3] = values[..., 0]


def rising(values: np.ndarray) -> None:
    values[:] = values[..., ::-1].copy()


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (no_signal, "E301", "echo 3"), (negative, "E301", "echo 2"), (not_finite, "E301", "echo 4"),
        (twice, "E310", "echo 3 holds the same values as echo 2"), (twice_with_gaps, "E310", "echo 4"),
        (rising, "E303", "rises"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("files", ["one", "four"])
def test_echoes_that_hold_no_decay_give_no_map(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[np.ndarray], None],
    code: str,
    words: str,
    files: str,
) -> None:
    values = b.signal()
    spoil(values)
    paths = [tmp_path / f"echo-{number}.nii.gz" for number in range(1, 5)]
    for number, path in enumerate(paths):
        stack(path, values[..., number])
    given = paths if files == "four" else [stack(tmp_path / "all.nii.gz", values)]
    out = tmp_path / "maps"
    assert fit.main([*map(str, given), "--echo-times", *TIMES, "-o", str(out)]) == 1
    assert words in said(capsys, code)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    ["--mem-gb nan", "--mem-gb inf", "--mem-gb -1", "--nprocs 0", "--random-seed 0", "--random-seed -1",
     "--random-seed 4294967296"],
)  # fmt: skip
def test_numbers_that_no_run_can_use(
    tmp_path: Path, echoes: list[Path], capsys: pytest.CaptureFixture[str], words: str
) -> None:
    given = [str(tmp_path / "bids"), str(tmp_path / "out"), "participant", "--fit-only", *words.split()]
    assert app.main(given) == 2
    assert words.split(maxsplit=1)[0] in said(capsys, "E521")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "check the path"), ('{"megre": {"run": true}}', "run is True"), ('{"megre": {"acq": "x"}}', "'acq'")],
)  # fmt: skip
def test_filter_files_that_can_not_be_meant(
    tmp_path: Path, echoes: list[Path], capsys: pytest.CaptureFixture[str], text: str | None, words: str
) -> None:
    path = tmp_path / "filter.json"
    if text is not None:
        path.write_text(text)
    given = [str(tmp_path / "bids"), str(tmp_path / "out"), "participant", "--bids-filter-file", str(path)]
    assert app.main(given) == 2
    assert words in said(capsys, "E506")


def test_the_dataset_of_another_program_is_no_output_folder(
    tmp_path: Path, echoes: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "fmriprep"
    other.mkdir()
    maker = '{"Name": "fMRIPrep output", "DatasetType": "derivative", "GeneratedBy": [{"Name": "fMRIPrep"}]}'
    (other / "dataset_description.json").write_text(maker)
    (other / ".bidsignore").write_text("theirs\n")
    study = tmp_path / "another study"
    b.write_participant(study, "07")
    for folder, name in ((other, "fMRIPrep output"), (study, "battery")):
        before = b.tree(folder)
        assert app.main([str(tmp_path / "bids"), str(folder), "participant", "--fit-only"]) == 2
        assert name in said(capsys, "E525")
        assert b.tree(folder) == before


def test_a_file_in_the_place_of_the_records(
    tmp_path: Path, echoes: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/logs").write_text("mine")
    assert app.main([str(tmp_path / "bids"), str(tmp_path / "out"), "participant", "--fit-only"]) == 4
    assert "out/logs" in said(capsys, "E607")
    assert (tmp_path / "out/logs").read_text() == "mine"


@pytest.mark.parametrize("version", ["none", "0.5.4", "0.6.1", "0.7.0", "1.0"])
def test_ants_is_looked_for_before_any_work(
    tmp_path: Path,
    echoes: list[Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    version: str,
) -> None:
    def installed(name: str) -> str:
        if name != "antspyx":
            return real(name)
        if version == "none":
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", installed)
    assert app.main([str(tmp_path / "bids"), str(tmp_path / "out"), "participant"]) == 4
    line = said(capsys, "E605")
    assert version in line
    assert "antspyx>=0.6.3" in line
    assert not list((tmp_path / "out").glob("sub-*"))
    assert not (tmp_path / "out/status.tsv").exists()


@pytest.mark.parametrize("kind", ["brain", "cohort"])
def test_a_seed_below_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert simulate.main([kind, str(tmp_path / "made"), "--seed", "-1"]) == 2
    assert "--seed -1" in said(capsys, "E510")
    assert not (tmp_path / "made").exists()
