"""The same bytes, whatever the threads, processes, chunks, order, place and number of runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import battery as b
import numpy as np
import pytest

from r2star.fit import METHODS
from r2star.images import write_image
from r2star.images.grid import Grid
from r2star.steps import fit


def run(root: Path, name: str, r2star: b.Run, *options: str) -> dict[str, bytes]:
    """A whole run in a folder of its own; everything that it wrote but times."""
    done = r2star("app", root / "bids", root / name, "participant", "--fit-only", *options)
    assert done.returncode == 0, done.stderr
    return b.stable_tree(root / name)


def write_dataset(root: Path) -> None:
    for label in ("01", "02", "03"):
        b.write_participant(root / "bids", label)


@pytest.mark.parametrize(
    "threads", [(8,), pytest.param((1, 2, 4, 8, 16), marks=pytest.mark.faults)], ids=["8", "1 to 16"]
)
def test_threads_order_and_place_change_no_byte(
    tmp_path: Path, r2star: b.Run, threads: tuple[int, ...]
) -> None:
    """H23, G25."""
    write_dataset(tmp_path)
    first = run(tmp_path, "first", r2star, "--nprocs", "1", "--omp-nthreads", "1")
    assert len(first) > 30
    # made in another order, at another place with spaces and letters beyond ASCII
    other = tmp_path / "an öther place"
    for label in ("03", "02", "01"):
        shutil.copytree(tmp_path / f"bids/sub-{label}", other / f"bids/sub-{label}")
    shutil.copy(tmp_path / "bids/dataset_description.json", other / "bids")
    for number in threads:
        found = run(other, f"threads-{number}", r2star, "--nprocs", "2", "--omp-nthreads", str(number))
        assert found == first


def test_pages_and_figures_are_the_same_bytes_in_any_process(tmp_path: Path, r2star: b.Run) -> None:
    """What a process draws by chance (hash seeds), or has from its user (language, time zone), shows nowhere."""
    bids, out = tmp_path / "cohort", tmp_path / "cohort/derivatives/r2star"
    made = r2star("simulate", "cohort", bids, "--controls", 8, "--patients", 8, "--seed", 2)
    assert made.returncode == 0, made.stderr
    found = []
    for seed, language, zone in (("1", "C", "UTC"), ("2", "C.UTF-8", "Asia/Kathmandu")):
        chance = {**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": language, "TZ": zone}
        done = r2star("app", bids, out, "group", env=chance)
        assert done.returncode == 0, done.stderr
        found.append({name: data for name, data in b.tree(out).items() if name.startswith("group")})
    assert {Path(name).suffix for name in found[0]} >= {".svg", ".html", ".tsv", ".json"}
    assert [name for name in found[0] if found[0][name] != found[1].get(name)] == []


@pytest.mark.faults
def test_one_by_one_gives_the_bytes_of_all_at_once(tmp_path: Path, r2star: b.Run) -> None:
    write_dataset(tmp_path)
    first = run(tmp_path, "first", r2star, "--nprocs", "2")
    for label in ("03", "sub-01", "02"):  # G04: with and without the key
        run(tmp_path, "one by one", r2star, "--nprocs", "1", "--participant-label", label)
    assert b.stable_tree(tmp_path / "one by one") == first


@pytest.mark.parametrize("method", list(METHODS))
def test_chunks_and_threads_change_no_bit_of_a_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    rng = np.random.default_rng(3)
    times = (0.004, 0.008, 0.012, 0.016, 0.020)
    s0, rate = rng.uniform(100, 900, (2, 17, 13, 11))
    grid = Grid((17, 13, 11), np.diag([2.0, 2.0, 2.0, 1.0]))
    echoes = []
    for number, time in enumerate(times):
        values = s0 * np.exp(-rate / 10 * time) + rng.normal(0, 20, s0.shape)
        values[rng.random(s0.shape) < 0.02] = np.nan
        echoes.append(write_image(tmp_path / f"echo-{number}.nii.gz", values, grid))
    noise = tmp_path / "noise.json"
    noise.write_text('{"sigma": 20.0}')
    found = []
    for number, (slab_bytes, n_threads) in enumerate(
        [(2**26, 1), (2**26, 4), (13 * 17 * 4 * 5, 1), (9000, 3)]
    ):
        monkeypatch.setattr(fit, "SLAB_BYTES", slab_bytes)
        out = tmp_path / f"out-{number}"
        out.mkdir()
        fit.fit_maps(tuple(echoes), times, out, method=method, n_threads=n_threads, noise=noise)
        found.append(b.tree(out))
    assert all(one == found[0] for one in found[1:])
