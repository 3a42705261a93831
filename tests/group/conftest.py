"""A small study whose tables a test may spoil."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from r2star.errors import R2starError
from r2star.settings import GroupOptions
from r2star.simulate.cohort import simulate_cohort
from r2star.steps.cohort import write_cohort
from r2star.steps.group import GroupOutputs, analyse_group

MODEL = Path(__file__).with_name("model.toml").read_text()


class Study:
    """A dataset that a test may spoil."""

    def __init__(self, folder: Path) -> None:
        self.bids, self.output = folder, folder / "derivatives" / "r2star"
        self.table = folder / "participants.tsv"
        self.model = folder / "model.toml"
        self.model.write_text(MODEL)

    def run(self, **options: object) -> GroupOutputs:
        asked = GroupOptions(**{"model_file": self.model} | options)  # type: ignore[arg-type]
        return analyse_group(self.bids, self.output, asked, figures=False)

    def fails(self, kind: type[R2starError], code: str, **options: object) -> R2starError:
        with pytest.raises(kind) as caught:
            self.run(**options)
        assert caught.value.code == code
        assert not (self.output / "group").exists()
        return caught.value

    def edit(self, change: Callable[[list[list[str]]], None]) -> None:
        """Change participants.tsv as rows of cells; the header is the first."""
        rows = [line.split("\t") for line in self.table.read_text().splitlines()]
        change(rows)
        self.table.write_text("\n".join("\t".join(row) for row in rows) + "\n")

    def set(self, row: int, column: str, text: str) -> None:
        """Set a cell by the row's number in the file."""
        self.edit(lambda rows: rows[row - 1].__setitem__(rows[0].index(column), text))

    def unit(self, number: int) -> tuple[Path, Path]:
        """Marker and region table of a unit."""
        label = f"sub-{number:04d}"
        return (
            self.output / f"logs/units/{label}.json",
            self.output / label / "anat" / f"{label}_seg-simulated_desc-R2star_stats.tsv",
        )

    def rewrite(self, number: int, change: Callable[[str], str]) -> None:
        """Change a region table and its hash in the marker."""
        marker, table = self.unit(number)
        table.write_text(change(table.read_text()))
        content = json.loads(marker.read_text())
        content["outputs"] = {
            name: hashlib.sha256(table.read_bytes()).hexdigest() for name in content["outputs"]
        }
        marker.write_text(json.dumps(content))

    def mark(self, number: int, **changes: object) -> None:
        marker, _ = self.unit(number)
        marker.write_text(json.dumps(json.loads(marker.read_text()) | changes))

    def rows(self, name: str = "group_stats.tsv") -> list[dict[str, str]]:
        with (self.output / "group" / name).open(newline="") as handle:
            return list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort")
    write_cohort(simulate_cohort(2, n_controls=12, n_patients=12, n_sites=2), out)
    return out


@pytest.fixture
def study(written: Path, tmp_path: Path) -> Study:
    return Study(Path(shutil.copytree(written, tmp_path / "my study é")))
