"""The battery's tools: tiny participants with one decay, one of them spoilt per row, and one run over all of them.

Every participant holds the same voxels, so that what is accepted can be held against the unspoilt one. A row is
`Row`: what is done to the participant, and what the run must say of it. `run_battery` runs all rows beside
unspoilt participants, and these alone; `check_row` holds one row against what came.
"""

from __future__ import annotations

import csv
import gzip
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

SHAPE = (6, 5, 4)
AFFINE = np.array([[2.0, 0, 0, -95], [0, 2.0, 0, -84], [0, 0, 3.0, -66], [0, 0, 0, 1]])
ECHO_TIMES_S = (0.004, 0.009, 0.015, 0.022)
GOOD = ("good1", "good2")
#: Files that tell how long something took, or what a run said: they differ between runs.
VOLATILE = ("logs/", "status.tsv")

Run = Callable[..., Any]


@dataclass(frozen=True)
class Row:
    """One row: ``spoil`` changes a participant's ``anat`` folder; the rest is what must be said of it.

    ``file`` is a part of the name of the file that the error, or warning, must name. ``same`` holds where the
    R2* map must be that of the unspoilt participant, bit for bit or to a relative tolerance.
    """

    label: str
    what: str
    spoil: Callable[[Path], object]
    state: str = "failed_input"
    code: str = ""
    file: str = ""
    words: tuple[str, ...] = ()
    same: float | None = None

    @property
    def state_alone(self) -> str:
        """State of the unit where it is named: it can't be passed over then."""
        return "failed_input" if self.state == "skipped" else self.state

    @property
    def exit_alone(self) -> int:
        """Exit code of a run of this unit alone, named by the user."""
        return 0 if self.state in ("ok", "ok_warn") else 1


@dataclass
class Finished:
    """What a run left."""

    bids: Path
    out: Path
    clean: Path
    exit_code: int
    stderr: str
    rows: dict[str, dict[str, str]] = field(default_factory=dict)


def refused(name: str, what: str, spoil: Callable[[Path], object], code: str, file: str, *words: str) -> Row:
    """A row that must fail as bad input."""
    return Row(name, what, spoil, "failed_input", code, file, words)


def fine(name: str, what: str, spoil: Callable[[Path], object], same: float | None = 0.0) -> Row:
    """A row that must be accepted without a word, with the unspoilt numbers."""
    return Row(name, what, spoil, "ok", same=same)


def warned(
    name: str, what: str, spoil: Callable[[Path], object], code: str, same: float | None = 0.0, file: str = ""
) -> Row:
    """A row that must be accepted with a warning."""
    return Row(name, what, spoil, "ok_warn", code, file, same=same)


def signal(r2star_per_s: float = 30.0) -> np.ndarray:
    """Magnitude (X, Y, Z, E), the same in every participant."""
    rng = np.random.default_rng(20140)
    s0, rate = rng.uniform(800, 1200, SHAPE), rng.uniform(0.7, 1.3, SHAPE) * r2star_per_s
    clean = s0[..., None] * np.exp(-rate[..., None] * np.array(ECHO_TIMES_S))
    # multiples of 4, which integers and slopes of powers of 2 hold exactly
    return (4 * np.rint((clean + rng.normal(0, 2, clean.shape)) / 4)).astype(np.float32)


def write_participant(bids: Path, label: str) -> Path:
    """A participant without fault; returns its ``anat`` folder."""
    folder = bids / f"sub-{label}" / "anat"
    folder.mkdir(parents=True)
    description = {"Name": "battery", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (bids / "dataset_description.json").write_text(json.dumps(description))
    for number, (time, values) in enumerate(zip(ECHO_TIMES_S, np.moveaxis(signal(), -1, 0)), start=1):
        nib.save(nib.Nifti1Image(values, AFFINE), image(folder, number))
        set_json(folder, number, {"EchoTime": time, "MagneticFieldStrength": 3})
    return folder


def stem(folder: Path, number: int | str) -> str:
    return f"{folder.parent.name}_echo-{number}_MEGRE"


def image(folder: Path, number: int | str, suffix: str = ".nii.gz") -> Path:
    return folder / f"{stem(folder, number)}{suffix}"


def set_json(folder: Path, number: int | str, content: dict[str, Any]) -> None:
    image(folder, number, ".json").write_text(json.dumps(content))


def edit_json(folder: Path, number: int, **changes: Any) -> None:
    """Change keys of a sidecar; None takes the key out."""
    content = json.loads(image(folder, number, ".json").read_text()) | changes
    set_json(folder, number, {key: value for key, value in content.items() if value is not None})


def content_of(folder: Path, number: int) -> bytearray:
    """The unpacked bytes of an echo."""
    return bytearray(gzip.decompress(image(folder, number).read_bytes()))


def pack(folder: Path, number: int, content: bytes) -> None:
    image(folder, number).write_bytes(gzip.compress(content, mtime=0))


def poke(folder: Path, number: int, offset: int, form: str, *values: float) -> None:
    """Write header fields of an echo."""
    content = content_of(folder, number)
    struct.pack_into(f"<{form}", content, offset, *values)
    pack(folder, number, bytes(content))


def poke_all(folder: Path, offset: int, form: str, *values: float) -> None:
    for number in range(1, len(ECHO_TIMES_S) + 1):
        poke(folder, number, offset, form, *values)


def rewrite(
    folder: Path, number: int, values: np.ndarray, affine: np.ndarray = AFFINE, **options: Any
) -> None:
    """Another image in the place of an echo."""
    kind = options.get("kind", nib.Nifti1Image)
    new = kind(values, affine)
    if "slope" in options:
        new.header.set_slope_inter(options["slope"], options.get("inter", 0.0))
    nib.save(new, image(folder, number))


def each_echo(change: Callable[[Path, int, np.ndarray], object]) -> Callable[[Path], None]:
    """Apply a change to every echo: it takes the folder, the number and the values."""

    def spoil(folder: Path) -> None:
        for number, values in enumerate(np.moveaxis(signal(), -1, 0), start=1):
            change(folder, number, values)

    return spoil


def tests_of(rows: Sequence[Row], alone: Sequence[str]) -> tuple[Callable[..., None], ...]:
    """Three tests of a table, which is the module's ``ROWS``: each row, the unspoilt ones beside them, each row alone.

    Only the rows labelled ``alone`` are run alone in the short suite; the long one does it with all. ``run`` is the
    fixture of `conftest`.
    """
    always = [() if row.label in alone else pytest.mark.faults for row in rows]
    names = [f"{row.label} {row.what}" for row in rows]

    @pytest.mark.parametrize("row", rows, ids=names)
    def each(run: Finished, row: Row) -> None:
        check_row(row, run)

    def others(run: Finished) -> None:
        assert run.exit_code == 1
        check_others(run)

    @pytest.mark.parametrize(
        "row", [pytest.param(row, id=name, marks=mark) for row, name, mark in zip(rows, names, always)]
    )
    def by_itself(tmp_path: Path, r2star: Run, row: Row) -> None:
        check_alone(tmp_path, r2star, row)

    return each, others, by_itself


def run_battery(root: Path, r2star: Run, rows: Iterable[Row], *options: str) -> Finished:
    """Run unspoilt participants alone, then beside all rows, into two output folders."""
    bids, clean_bids = root / "bids", root / "clean-bids"
    for label in GOOD:
        write_participant(bids, label)
        write_participant(clean_bids, label)
    for row in rows:
        row.spoil(write_participant(bids, row.label))
    words = ("participant", "--fit-only", "--nprocs", "2", *options)
    clean = r2star("app", clean_bids, root / "clean", *words)
    assert clean.returncode == 0, clean.stderr
    done = r2star("app", bids, root / "out", *words)
    assert "Traceback" not in done.stderr + done.stdout
    return Finished(bids, root / "out", root / "clean", done.returncode, done.stderr, states(root / "out"))


def run_alone(root: Path, r2star: Run, row: Row, *options: str) -> Finished:
    """Run one row alone, named."""
    folder = write_participant(root / "bids", row.label)
    row.spoil(folder)
    words = ("participant", "--fit-only", "--nprocs", "1", "--participant-label", row.label, *options)
    done = r2star("app", root / "bids", root / "out", *words)
    assert "Traceback" not in done.stderr + done.stdout
    rows = states(root / "out") if (root / "out/status.tsv").exists() else {}
    return Finished(root / "bids", root / "out", root, done.returncode, done.stderr, rows)


def check_alone(root: Path, r2star: Run, row: Row) -> None:
    """Run one row alone, named, and hold its exit code and its state against what is documented."""
    alone = run_alone(root, r2star, row)
    assert alone.exit_code == row.exit_alone
    assert alone.rows[f"sub-{row.label}"]["state"] == row.state_alone


def only_line(text: str, code: str = "") -> str:
    """The one line of error, with its code, of a run that refused to start."""
    lines = [line for line in text.splitlines() if line.startswith("ERROR")]
    assert len(lines) == 1, text
    assert f"R2S-{code}" in lines[0]
    assert "Traceback" not in text
    return lines[0]


def states(out: Path) -> dict[str, dict[str, str]]:
    """status.tsv by unit."""
    with (out / "status.tsv").open(newline="") as handle:
        return {row["unit"]: row for row in csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)}


def check_row(row: Row, run: Finished) -> None:
    """What the run said of one row, and what it left on the disk."""
    units = {unit: told for unit, told in run.rows.items() if unit.split("_")[0] == f"sub-{row.label}"}
    assert units, f"no row of {row.label} in status.tsv"
    told = units[f"sub-{row.label}"]
    assert told["state"] == row.state, told
    results = list((run.out / f"sub-{row.label}").rglob("*.nii.gz"))
    if row.state.startswith("failed"):
        assert told["code"] == f"R2S-{row.code}", told
        assert row.file in told["file"], told
        for words in row.words:
            assert words in f"{told['message']} {told['fix']}", told
        assert results == []
        lines = [line for line in run.stderr.splitlines() if f" sub-{row.label}:" in line]
        assert len(lines) == 1
        assert lines[0].startswith(f"ERROR R2S-{row.code} sub-{row.label}: ")
        assert row.file in lines[0]
        assert " Fix: " in lines[0]
    elif row.state == "ok_warn":
        assert row.code in told["warnings"].split(";"), told
    else:
        assert told["warnings"] == "n/a", told
    if row.same is not None:
        assert_same_map(run.out / f"sub-{row.label}/anat/sub-{row.label}_R2starmap.nii.gz", run, row.same)


def assert_same_map(path: Path, run: Finished, tolerance: float) -> None:
    """The R2* map is that of the unspoilt participant, voxel by voxel in canonical order."""
    reference = run.out / f"sub-{GOOD[0]}/anat/sub-{GOOD[0]}_R2starmap.nii.gz"
    found, expected = (nib.as_closest_canonical(nib.load(one)) for one in (path, reference))
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-3)
    np.testing.assert_allclose(
        np.asarray(found.dataobj), np.asarray(expected.dataobj), rtol=tolerance, atol=0, equal_nan=True
    )


def check_others(run: Finished) -> None:
    """The unspoilt participants came out as in a run without the spoilt ones; nothing is half written."""
    for label in GOOD:
        expected = tree(run.clean / f"sub-{label}")
        assert expected
        assert tree(run.out / f"sub-{label}") == expected
    assert not list(run.out.rglob(".r2star-tmp-*"))
    assert not list((run.out / "logs/locks").iterdir())


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stable_tree(out: Path) -> dict[str, bytes]:
    """A whole output but for what tells of times."""
    return {name: data for name, data in tree(out).items() if not name.startswith(VOLATILE)}
