"""Battery, part G: the dataset as a whole, participants, places and names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import battery as b
import nibabel as nib
import numpy as np
import pytest

WORDS = ("participant", "--fit-only", "--nprocs", "1")


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dataset") / "bids"
    for label in ("001", "002"):
        b.write_participant(root, label)
    return root


def test_empty_and_foreign_folders(tmp_path: Path, r2star: b.Run) -> None:  # G01
    (tmp_path / "empty").mkdir()
    (tmp_path / "other/stuff").mkdir(parents=True)
    (tmp_path / "no images/sub-01/anat").mkdir(parents=True)
    for folder, code in (("empty", "E502"), ("other", "E502"), ("no images", "E503")):
        done = r2star("app", tmp_path / folder, tmp_path / "out", *WORDS)
        assert done.returncode == 3
        b.only_line(done.stderr, code)
    assert not list((tmp_path / "out").rglob("sub-*"))


def test_an_unknown_participant_stops_all(tmp_path: Path, bids: Path, r2star: b.Run) -> None:  # G03
    done = r2star("app", bids, tmp_path / "out", *WORDS, "--participant-label", "001", "2")
    assert done.returncode == 2
    assert "sub-002" in b.only_line(done.stderr, "E504")
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_labels_are_text(tmp_path: Path, bids: Path, r2star: b.Run) -> None:  # G08
    done = r2star("app", bids, tmp_path / "out", *WORDS)
    assert done.returncode == 0, done.stderr
    assert set(b.states(tmp_path / "out")) == {"sub-001", "sub-002"}


@pytest.mark.parametrize("place", ["", "sub-001/..", "sub-001", "sub-001/anat", "sub-001/new/out"])
@pytest.mark.parametrize("what", ["output", "work"])
def test_the_input_is_no_place_for_results(
    tmp_path: Path, bids: Path, r2star: b.Run, place: str, what: str
) -> None:  # G19
    before = b.tree(bids)
    folders = sorted(bids.rglob("*"))
    target = bids / place
    out, work = (target, tmp_path / "work") if what == "output" else (tmp_path / "out", target)
    done = r2star("app", bids, out, *WORDS, "-w", work)
    assert done.returncode == 2
    b.only_line(done.stderr, "E523")
    assert b.tree(bids) == before
    assert sorted(bids.rglob("*")) == folders


def test_a_link_to_the_input_is_the_input(tmp_path: Path, bids: Path, r2star: b.Run) -> None:
    (tmp_path / "alias").symlink_to(bids)
    done = r2star("app", bids, tmp_path / "alias", *WORDS)
    assert done.returncode == 2
    b.only_line(done.stderr, "E523")


def test_derivatives_inside_the_dataset_are_fine_and_leave_the_rest_alone(
    tmp_path: Path, bids: Path, r2star: b.Run
) -> None:  # G21
    copy = tmp_path / "study with spaces ü"
    shutil.copytree(bids, copy)
    before = b.tree(copy)
    out = copy / "derivatives/r2star"
    assert r2star("app", copy, out, *WORDS).returncode == 0
    after = {name: data for name, data in b.tree(copy).items() if not name.startswith("derivatives/")}
    assert after == before
    again = r2star("app", copy, out, *WORDS)
    assert again.returncode == 0
    assert "Nothing to do" in again.stdout


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"megre": []}', '{"megre": {"nonsense": 1}}', '{"megre": {"run": {"a": 1}}}', '{"m'],
)
def test_filter_files_that_say_nothing(tmp_path: Path, bids: Path, r2star: b.Run, content: str) -> None:
    (tmp_path / "filter.json").write_text(content)
    done = r2star("app", bids, tmp_path / "out", *WORDS, "--bids-filter-file", tmp_path / "filter.json")
    assert done.returncode == 2
    assert "filter.json" in b.only_line(done.stderr, "E506")


def test_an_output_that_is_a_file(tmp_path: Path, bids: Path, r2star: b.Run) -> None:
    (tmp_path / "out").write_text("mine")
    done = r2star("app", bids, tmp_path / "out", *WORDS)
    assert done.returncode == 4
    b.only_line(done.stderr, "E602")
    assert (tmp_path / "out").read_text() == "mine"


def test_what_depends_on_a_changed_voxel_is_made_again_and_nothing_else(
    tmp_path: Path, r2star: b.Run
) -> None:  # H11
    folder = b.write_participant(tmp_path / "bids", "01")
    b.write_participant(tmp_path / "bids", "02")
    out, work = tmp_path / "out", tmp_path / "work"
    assert r2star("app", tmp_path / "bids", out, *WORDS, "-w", work).returncode == 0
    untouched = {path: path.stat().st_mtime_ns for path in (out / "sub-02").rglob("*")}
    values = b.signal()[..., 1]
    values[3, 3, 2] += 4
    status = b.image(folder, 2).stat()
    b.rewrite(folder, 2, values)
    os.utime(b.image(folder, 2), ns=(status.st_atime_ns, status.st_mtime_ns))  # content counts, not time
    done = r2star("app", tmp_path / "bids", out, *WORDS, "-w", work)
    assert done.returncode == 0, done.stderr
    assert "1 already complete" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in (out / "sub-02").rglob("*")} == untouched
    fresh = r2star("app", tmp_path / "bids", tmp_path / "fresh", *WORDS)
    assert fresh.returncode == 0
    assert b.stable_tree(tmp_path / "fresh") == b.stable_tree(out)
    one, other = (
        np.asarray(nib.load(out / f"sub-{label}/anat/sub-{label}_R2starmap.nii.gz").dataobj)
        for label in ("01", "02")
    )
    assert np.argwhere(one != other).tolist() == [[3, 3, 2]]


@pytest.mark.faults
def test_a_thousand_participants_with_thirty_faults(tmp_path: Path, r2star: b.Run) -> None:  # G28
    import test_echoes_and_values
    import test_files_and_headers
    import test_geometry

    tables = (test_files_and_headers.ROWS, test_geometry.ROWS, test_echoes_and_values.ROWS)
    rows = [row for table in tables for row in table if row.state == "failed_input"][::3][:30]
    assert len(rows) == 30
    bids = tmp_path / "bids"
    first = b.write_participant(bids, "s000")
    for number in range(1, 970):
        folder = bids / f"sub-s{number:03d}/anat"
        folder.mkdir(parents=True)
        for path in first.iterdir():
            (folder / path.name.replace("s000", f"s{number:03d}")).hardlink_to(path)
    for row in rows:
        row.spoil(b.write_participant(bids, row.label))
    done = r2star("app", bids, tmp_path / "out", "participant", "--fit-only", "--nprocs", "2")
    assert done.returncode == 1
    told = b.states(tmp_path / "out")
    assert len(told) == 1000
    assert sum(row["state"] == "ok" for row in told.values()) == 970
    for row in rows:
        assert told[f"sub-{row.label}"]["code"] == f"R2S-{row.code}"
        assert told[f"sub-{row.label}"]["state"] == "failed_input"
