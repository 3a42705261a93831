"""Sessions without a T1w share the registration of the first one's MEGRE, whichever job they run in."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest

from r2star.cli.app import build_parser, settings_from
from r2star.cli.participant import is_complete
from r2star.cli.preparation import find_asked_units, settle
from r2star.register.transforms import affine_part, read_composite

Run = Callable[..., subprocess.CompletedProcess[str]]
ANGLE = np.deg2rad(5)
#: How the head lies in the second session, in the world of the first.
MOTION = np.array(
    [
        [np.cos(ANGLE), -np.sin(ANGLE), 0, 3.0],
        [np.sin(ANGLE), np.cos(ANGLE), 0, -4.0],
        [0, 0, 1, 6.0],
        [0, 0, 0, 1],
    ]
)


class Finished(NamedTuple):
    bids: Path
    out: Path
    words: list[object]
    alone: dict[str, bytes]


def outputs(out: Path, session: str) -> dict[str, bytes]:
    """All results of a session by name, the times in their sidecars apart."""
    folder = out / f"sub-01/ses-{session}/anat"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.suffix != ".json"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, r2star: Run) -> Finished:
    """A head scanned twice, moved and with other noise; first the first session alone, as if there were no other."""
    root = tmp_path_factory.mktemp("sessions")
    bids, out = root / "bids", root / "out"
    made = r2star("simulate", "brain", bids, "--participants", 1, "--small", "--no-t1w", "--seed", 5)
    assert made.returncode == 0, made.stderr
    shutil.rmtree(bids / "derivatives")
    rng = np.random.default_rng(11)
    for path in sorted((bids / "sub-01/anat").iterdir()):
        for session in ("1", "2"):
            target = (
                bids / f"sub-01/ses-{session}/anat/{path.name.replace('sub-01', f'sub-01_ses-{session}')}"
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            if session == "2" and path.name.endswith(".nii.gz"):
                image = nib.load(path)
                data = np.asarray(image.dataobj, np.float32)
                noisy = np.abs(data + rng.normal(0, 0.01 * np.percentile(data, 99), data.shape))
                nib.save(nib.Nifti1Image(noisy.astype(np.float32), MOTION @ image.affine), target)
    shutil.rmtree(bids / "sub-01/anat")
    second = bids / "sub-01/ses-2"
    second.rename(root / "later")
    words = [bids, out, "participant", "-w", root / "work", "--nprocs", 2, "--omp-nthreads", 1, "--sloppy"]
    done = r2star("app", *words)
    assert done.returncode == 0, done.stderr
    alone = outputs(out, "1")
    (root / "later").rename(second)
    return Finished(bids, out, words, alone)


def test_a_later_session_is_placed_by_the_first_which_stays_as_it_was(
    finished: Finished, r2star: Run
) -> None:
    done = r2star("app", *finished.words, "--session-label", "2")
    assert done.returncode == 0, done.stderr
    done = r2star("app", *finished.words)
    assert "2 already complete and unchanged" in done.stdout
    first, second = ({name.replace(f"_ses-{n}", ""): data for name, data in outputs(finished.out, n).items()}
                     for n in ("1", "2"))  # fmt: skip
    assert outputs(finished.out, "1") == finished.alone
    warp = "sub-01_from-MNI152NLin2009cAsym_to-MEGRE_mode-image_xfm.h5"
    assert sorted(first) == sorted(second)
    assert warp in first
    chains = [
        read_composite(finished.out / f"sub-01/ses-{n}/anat/{warp.replace('sub-01', f'sub-01_ses-{n}')}")
        for n in ("1", "2")
    ]
    # of the second session, the first link is the motion; the rest is the first session's, to the bit
    found = affine_part(chains[1][:1])
    assert np.abs(found[:3, :3] - np.linalg.inv(MOTION)[:3, :3]).max() < 0.01
    assert len(chains[1]) == len(chains[0]) + 1
    for one, other in zip(chains[0], chains[1][1:], strict=True):
        for name, value in vars(one).items():
            assert np.array_equal(
                getattr(value, "affine", value), getattr(vars(other)[name], "affine", vars(other)[name])
            )
    labels = [
        np.asarray(
            nib.load(finished.out / f"sub-01/ses-{n}/anat/sub-01_ses-{n}_atlas-CIT168_dseg.nii.gz").dataobj
        )
        for n in ("1", "2")
    ]
    same = (labels[0] == labels[1])[(labels[0] > 0) | (labels[1] > 0)]
    assert (
        same.mean() > 0.8
    )  # the voxels move with the head; half a voxel of 2 × 2 × 3 mm is a fifth of a nucleus


def test_the_second_session_names_what_it_was_made_from(finished: Finished) -> None:
    marker = json.loads((finished.out / "logs/units/sub-01_ses-2.json").read_text())
    assert {name.split("/")[1] for name in marker["inputs"]} == {"ses-1", "ses-2"}
    assert "W207" in {notice["code"] for notice in marker["notices"]}
    path = finished.out / "sub-01/ses-2/anat/sub-01_ses-2_desc-quality_stats.tsv"
    with path.open() as handle:
        parts = {row["part"] for row in csv.DictReader(handle, delimiter="\t")}
    assert {"MEGRE_to_reference", "MEGRE_to_template"} <= parts


def test_a_changed_session_is_redone_with_what_depends_on_it(finished: Finished) -> None:
    settings = settle(settings_from(build_parser().parse_args(list(map(str, finished.words)))))

    def to_redo() -> list[str | None]:
        return [unit.session for unit in find_asked_units(settings) if not is_complete(unit, settings)]

    assert to_redo() == []
    for session, redone in (("2", ["2"]), ("1", ["1", "2"])):
        sidecar = finished.bids / f"sub-01/ses-{session}/anat/sub-01_ses-{session}_echo-1_MEGRE.json"
        before = sidecar.read_text()
        sidecar.write_text(before + "\n")
        assert to_redo() == redone
        sidecar.write_text(before)
