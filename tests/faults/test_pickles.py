"""Nothing of the work folder is ever run: planted pickles are refused, damaged results are made again."""

from __future__ import annotations

import gzip
import os
import pickle
import stat
from collections import OrderedDict
from pathlib import Path

import battery as b
import numpy as np
import pytest

from r2star.bids.units import Unit
from r2star.workflows.pickles import load_known
from r2star.workflows.step import Step


class Planted:
    """A pickle of this touches a file when it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch '{self.canary}'",))


def test_known_classes_come_back_and_others_are_refused(tmp_path: Path) -> None:
    kept = OrderedDict(unit=Unit("01"), path=tmp_path, times=[0.004, 0.009])
    assert load_known(pickle.dumps(kept)) == kept
    canary = tmp_path / "canary"
    unknown = (Planted(canary), os.system, eval, Path.unlink, np.zeros(2), Step.run, pickle.loads)
    for one in unknown:
        with pytest.raises(pickle.UnpicklingError):
            load_known(pickle.dumps(one))
    assert not canary.exists()


@pytest.mark.parametrize(
    "path", ["Path.home", "json.loads", "write_text_atomically", "annotations.__class__", "Unit.__init__"]
)
def test_what_a_known_module_imports_is_not_known(path: str) -> None:
    for module in ("r2star.bids.units", "r2star.errors", "r2star.workflows.stage"):
        with pytest.raises(pickle.UnpicklingError):
            load_known(
                f"\x80\x04\x8c{chr(len(module))}{module}\x8c{chr(len(path))}{path}\x93.".encode("latin-1")
            )


def test_planted_pickles_are_never_run(tmp_path: Path, r2star: b.Run) -> None:  # S08
    b.write_participant(tmp_path / "bids", "01")
    words = ("participant", "--fit-only", "--nprocs", "1", "-w", tmp_path / "work")
    assert r2star("app", tmp_path / "bids", tmp_path / "first", *words).returncode == 0
    canary = tmp_path / "canary"
    content = b'{"version": "1.11.0"}\n' + pickle.dumps(Planted(canary))
    results = list((tmp_path / "work").rglob("*.pklz"))
    assert len(results) > 5
    for path in results:
        path.write_bytes(gzip.compress(content))
        path.with_suffix(".pkl").write_bytes(pickle.dumps(Planted(canary)))
        np.save(path.with_suffix(".npy"), np.array([Planted(canary)], object), allow_pickle=True)
    again = r2star("app", tmp_path / "bids", tmp_path / "second", *words)
    assert again.returncode == 0, again.stderr
    assert not canary.exists()
    assert b.stable_tree(tmp_path / "first") == b.stable_tree(tmp_path / "second")


def test_a_changed_file_in_the_work_folder_is_made_again(tmp_path: Path, r2star: b.Run) -> None:
    b.write_participant(tmp_path / "bids", "01")
    words = ("participant", "--fit-only", "--nprocs", "1", "-w", tmp_path / "work")
    assert r2star("app", tmp_path / "bids", tmp_path / "first", *words).returncode == 0
    for name in ("R2starmap.nii.gz", "noise.json", "S0map.json"):
        (path,) = (tmp_path / "work").rglob(name)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    again = r2star("app", tmp_path / "bids", tmp_path / "second", *words)
    assert again.returncode == 0, again.stderr
    assert b.stable_tree(tmp_path / "first") == b.stable_tree(tmp_path / "second")


def test_the_work_folder_is_private(tmp_path: Path, r2star: b.Run) -> None:
    b.write_participant(tmp_path / "bids", "01")
    work = tmp_path / "work"
    words = ("participant", "--fit-only", "--nprocs", "1", "-w", work)
    assert r2star("app", tmp_path / "bids", tmp_path / "out", *words, umask=0).returncode == 0
    assert stat.S_IMODE((work / "r2star").stat().st_mode) == 0o700
