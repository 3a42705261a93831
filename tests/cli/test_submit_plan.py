"""Which participants a second submission leaves alone: what a task would find complete, with the same words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from r2star import __version__
from r2star.cli.preparation import find_asked_units, inputs_of, settle
from r2star.cli.submit import main
from r2star.files import sha256_of
from r2star.images import Grid, write_image
from r2star.runs.records import Marker, write_marker
from r2star.settings import Settings

Write = Callable[..., Path]

CALIBRATION = """\
name = "ours"
slope_per_s_per_mg_per_kg = 0.1
intercept_per_s = 15.0
field_tesla = 3.0
tissue = "in_vivo"
valid_for = ["in_vivo"]
regions = ["putamen"]
range_mg_per_kg = [0.0, 300.0]
source = "made up"
"""


@pytest.fixture
def settings(tmp_path: Path, write_participant: Write) -> Settings:
    bids, tool = tmp_path / "bids", tmp_path / "tool"
    grid = Grid((6, 5, 4), np.diag([2.0, 2.0, 3.0, 1.0]))
    for session in ("1", "2"):
        folder = write_participant(bids, "01" if session == "1" else "02")
        for path in sorted(folder.iterdir()):
            target = (
                path.parents[1]
                / f"ses-{session}"
                / "anat"
                / path.name.replace("_echo", f"_ses-{session}_echo")
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        folder.rmdir()
        own = f"sub-0{session}/ses-{session}/anat"
        (tool / own).mkdir(parents=True)
        mask = tool / own / f"sub-0{session}_ses-{session}_space-MEGRE_label-lesion_mask.nii.gz"
        write_image(mask, np.ones(grid.shape, np.uint8), grid, dtype=np.uint8)
    (tmp_path / "ours.toml").write_text(CALIBRATION)
    return Settings(
        bids, tmp_path / "out", tmp_path / "work", derivatives=(tool,), lesions="label-lesion_mask",
        iron=str(tmp_path / "ours.toml"), anatomical_reference="sessionwise",
    )  # fmt: skip


def _complete(settings: Settings, participant: str) -> None:
    """Leave the marker that a task with these settings leaves."""
    settled = settle(settings)
    for unit in find_asked_units(settled):
        if unit.participant == participant:
            hashes = {name: sha256_of(path) for name, path in inputs_of(unit, settled).items()}
            write_marker(settings.output_dir, Marker(
                unit.label, unit.entities, "ok", __version__, settled.result_settings(), settled.result_key, hashes, {},
            ))  # fmt: skip


def _words(settings: Settings) -> list[str]:
    ours = [str(settings.bids_dir), str(settings.output_dir), "--dry-run", "--"]
    passed = ["--lesions", str(settings.lesions), "--derivatives", str(settings.derivatives[0])]
    return [*ours, *passed, "--subject-anatomical-reference", "sessionwise"]


def test_what_a_task_left_complete_is_not_submitted_again(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """With files of other programs and a calibration of one's own, by whose content results are known."""
    _complete(settings, "01")
    words = [*_words(settings), "--iron", str(settings.iron)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "Participants: 1 to run, 1 complete, 0 waiting or running." in said
    assert not (settings.output_dir.parent / "out_work").exists()
    other = settings.iron
    assert other is not None
    Path(other).write_text(CALIBRATION.replace("15.0", "14.0"))
    assert main(words) == 2
    assert "other settings (content)" in capsys.readouterr().err


def test_a_mask_that_came_later_is_a_change(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    (mask,) = settings.derivatives[0].glob("sub-01/ses-1/anat/*.nii.gz")
    aside = mask.rename(mask.with_suffix(".away"))
    plain = replace(settings, iron=None)
    _complete(plain, "01")
    words = _words(settings)
    assert main(words) == 0
    assert "1 to run, 1 complete" in capsys.readouterr().out
    aside.rename(mask)
    assert main(words) == 0
    assert "2 to run, 0 complete" in capsys.readouterr().out
