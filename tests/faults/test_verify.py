"""``r2star-verify`` finds every byte that is not as it was written."""

from __future__ import annotations

import random
from pathlib import Path

import battery as b
import pytest

from r2star.cli import verify


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, r2star: b.Run) -> Path:
    root = tmp_path_factory.mktemp("verify")
    b.write_participant(root / "bids", "01")
    spoilt = b.write_participant(root / "bids", "02")
    b.edit_json(spoilt, 2, EchoTime=None)
    done = r2star("app", root / "bids", root / "out", "participant", "--fit-only", "--nprocs", "1")
    assert done.returncode == 1
    return root / "out"


#: Records of a run's course, which vouch for nothing.
NO_RESULTS = ("logs/failures/", "logs/settings/", "logs/reports/", "logs/engine.log", "logs/.status.lock")


@pytest.mark.parametrize("flips", [4, pytest.param(200, marks=pytest.mark.faults)])
def test_any_flipped_bit_of_any_file_is_found(
    out: Path, capsys: pytest.CaptureFixture[str], flips: int
) -> None:
    assert verify.main([str(out)]) == 0
    rng = random.Random(5)
    files = [name for name in b.tree(out) if not name.startswith(NO_RESULTS)]
    assert {"status.tsv", "dataset_description.json", ".bidsignore", "logs/units/sub-01.json"} <= set(files)
    for name in files:
        data = (out / name).read_bytes()
        for _ in range(flips):
            changed = bytearray(data)
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            (out / name).write_bytes(bytes(changed))
            assert verify.main([str(out)]) == 1, name
            assert f"CHANGED {name}" in capsys.readouterr().out
        (out / name).write_bytes(data)
        (out / name).rename(out / "aside")
        code, said = verify.main([str(out)]), capsys.readouterr()
        (out / "aside").rename(out / name)
        if name != "logs/root_files.json":
            assert code != 0
            assert name in said.out or "R2S-E528" in said.err
    assert verify.main([str(out)]) == 0
