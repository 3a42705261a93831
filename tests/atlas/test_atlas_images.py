"""The images of a user's atlas: do they fit, and where do TemplateFlow's come from."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2star.atlas import load_atlas
from r2star.atlas.settle import settle_atlas
from r2star.errors import UsageError
from r2star.images import Grid, write_image

GRID = Grid((6, 5, 4), np.diag([2.0, 2.0, 2.0, 1.0]))
TOML = """
name = "Mine"
space = "MyTemplate"
[files]
labels = "labels.nii.gz"
t1w = "t1w.nii.gz"
brain_mask = "mask.nii.gz"
weights = "weights.nii.gz"
[[region]]
name = "putamen"
left = [1]
right = [3, 4]
"""
T1W, MASK = "tpl-MyTemplate_res-01_T1w.nii.gz", "tpl-MyTemplate_cohort-2_res-01_desc-brain_mask.nii.gz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An atlas of four labels with weights, all on one grid."""
    folder = tmp_path / "atlas"
    folder.mkdir()
    labels = np.arange(GRID.shape[0] * GRID.shape[1] * GRID.shape[2]).reshape(GRID.shape) % 5
    for name, data in {"labels": labels, "t1w": labels + 1, "mask": labels > 0}.items():
        write_image(folder / f"{name}.nii.gz", data.astype(np.uint8), GRID, dtype=np.uint8)
    write_image(folder / "weights.nii.gz", (labels / 5).astype(np.float32), GRID)
    (folder / "atlas.toml").write_text(TOML)
    return folder


def settle(folder: Path, text: str = TOML) -> Any:
    (folder / "atlas.toml").write_text(text)
    return settle_atlas(str(folder / "atlas.toml"), folder.parent / "settled")


def refused(folder: Path, code: str, text: str = TOML) -> str:
    """The message of an atlas that is refused, which is one line and names the TOML file."""
    with pytest.raises(UsageError) as caught:
        settle(folder, text)
    assert caught.value.code == code
    assert caught.value.path == str(folder / "atlas.toml")
    assert "\n" not in str(caught.value)
    assert not list((folder.parent / "settled").glob("*"))
    return str(caught.value)


def test_weights_are_part_of_the_atlas_and_of_its_hash(folder: Path) -> None:
    name, atlas = settle(folder)
    assert atlas.weights == Path(name).with_name("weights.nii.gz")
    assert load_atlas("CIT168").weights is None
    write_image(folder / "weights.nii.gz", np.full(GRID.shape, 0.5, np.float32), GRID)
    assert load_atlas(folder / "atlas.toml").sha256 != atlas.sha256


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("left = [1]", "left = [11]", "left of region putamen: labels.nii.gz has no label 11, it holds 1–4"),
        ("right = [3, 4]", "right = [3, 4, 9]", "has no label 9"),
    ],
)
def test_labels_that_the_image_lacks_are_refused_by_number(
    folder: Path, old: str, new: str, words: str
) -> None:
    message = refused(folder, "E456", TOML.replace(old, new))
    for word in words.split(", "):
        assert word in message


def test_an_atlas_of_exchanged_sides_is_refused(folder: Path) -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[0], labels[4], labels[5] = 1, 3, 4
    write_image(folder / "labels.nii.gz", labels, GRID, dtype=np.uint8)
    mirrored = TOML.replace("left = [1]\nright = [3, 4]", "left = [3, 4]\nright = [1]")
    told = refused(folder, "E456", mirrored)
    assert "left of putamen lies farther right than right in labels.nii.gz" in told
    settle(folder)


@pytest.mark.parametrize(
    ("name", "grid", "values", "words"),
    [
        ("weights", Grid((6, 5, 5), GRID.affine), 1.0, "files.weights has another grid (6×5×5) than files.labels"),
        ("mask", Grid(GRID.shape, np.diag([2.5, 2, 2, 1])), 1.0, "files.brain_mask"),
        ("t1w", Grid((3, 3, 3), GRID.affine), 1.0, "files.t1w has another grid"),
        ("weights", GRID, 50.0, "files.weights holds values from 50 to 50"),
        ("weights", GRID, -0.5, "files.weights holds values from -0.5"),
        ("weights", GRID, np.nan, "from nan to nan"),
        ("weights", GRID, 0.0, "files.weights is 0 all over region putamen"),
        ("labels", GRID, 1.5, "no labels"),
    ],
)  # fmt: skip
def test_images_that_do_not_fit_are_refused(
    folder: Path, name: str, grid: Grid, values: float, words: str
) -> None:
    write_image(folder / f"{name}.nii.gz", np.full(grid.shape, values, np.float32), grid)
    if name == "labels":
        with pytest.raises(UsageError, match="E457") as caught:
            settle(folder)
        assert words in str(caught.value)
    else:
        assert words in refused(folder, "E457")


def test_an_image_that_cannot_be_read_is_refused_with_the_description(folder: Path) -> None:
    (folder / "weights.nii.gz").write_bytes(b"")
    assert "weights.nii.gz can't be used: the file is empty" in refused(folder, "E457")


def with_templateflow(folder: Path) -> str:
    """The same atlas with its template named as TemplateFlow does."""
    return TOML.replace('"t1w.nii.gz"', f'{{ templateflow = "{T1W}" }}').replace(
        '"mask.nii.gz"', f'{{ templateflow = "{MASK}" }}'
    )


@pytest.fixture
def home(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TemplateFlow's folder with both images, and a client that must not be asked."""
    home = tmp_path / "home"
    for name, target in ((T1W, "tpl-MyTemplate"), (MASK, "tpl-MyTemplate/cohort-2")):
        (home / target).mkdir(parents=True, exist_ok=True)
        (folder / ("t1w" if name == T1W else "mask")).with_suffix(".nii.gz").rename(home / target / name)
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(home))
    monkeypatch.setitem(sys.modules, "templateflow", None)  # importing it is an ImportError
    return home


def stub(monkeypatch: pytest.MonkeyPatch, get: Callable[..., Any]) -> None:
    """A client whose ``get`` is a function of ours."""
    module, api = types.ModuleType("templateflow"), types.ModuleType("templateflow.api")
    api.get = get  # type: ignore[attr-defined]
    module.api = api  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "templateflow", module)
    monkeypatch.setitem(sys.modules, "templateflow.api", api)


def test_images_that_templateflow_keeps_need_no_client(folder: Path, home: Path) -> None:
    (folder / "atlas.toml").write_text(with_templateflow(folder))
    atlas = load_atlas(folder / "atlas.toml")
    assert atlas.t1w == home / "tpl-MyTemplate" / T1W
    assert atlas.brain_mask == home / "tpl-MyTemplate/cohort-2" / MASK


def test_a_settled_atlas_needs_templateflow_no_more(folder: Path, home: Path) -> None:
    name, atlas = settle(folder, with_templateflow(folder))
    home.rename(home.with_name("gone"))
    assert load_atlas(name) == atlas
    assert atlas.t1w == Path(name).with_name(T1W)


def test_what_is_not_there_is_one_line_that_names_it(folder: Path, home: Path) -> None:
    (home / "tpl-MyTemplate" / T1W).write_bytes(b"")  # as the client marks what it did not fetch
    message = refused(folder, "E458", with_templateflow(folder))
    assert T1W in message
    assert "not installed" in message
    assert str(home) in message


def test_the_client_is_asked_for_exactly_the_image(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = home / "tpl-MyTemplate" / T1W
    fetched = home / "fetched" / T1W
    fetched.parent.mkdir()
    kept.rename(fetched)
    asked = []

    def get(template: str, **query: Any) -> list[Path]:
        asked.append((template, query))
        return [fetched.with_name("tpl-MyTemplate_res-01_desc-other_T1w.nii.gz"), fetched]

    stub(monkeypatch, get)
    _, atlas = settle(folder, with_templateflow(folder))
    assert atlas.t1w.read_bytes() == fetched.read_bytes()
    query = {"atlas": None, "label": None, "desc": None, "resolution": 1, "suffix": "T1w"}
    assert asked[0] == ("MyTemplate", query | {"extension": ".nii.gz", "raise_empty": False})


def fail_without_network(*_: Any, **__: Any) -> None:
    raise ConnectionError("Max retries exceeded\nwith url: nothing answered")


@pytest.mark.parametrize(
    ("get", "words"),
    [(fail_without_network, "can't get"), (lambda *_, **__: [], f"TemplateFlow has no {T1W}")],
)
def test_a_client_without_network_or_image_is_one_line(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, get: Callable[..., Any], words: str
) -> None:
    (home / "tpl-MyTemplate" / T1W).unlink()
    stub(monkeypatch, get)
    message = refused(folder, "E458", with_templateflow(folder))
    assert words in message
    assert T1W in message


@pytest.mark.parametrize(
    "name", ["T1w.nii.gz", "../tpl-X_T1w.nii.gz", "tpl-X/tpl-X_T1w.nii.gz", "tpl-X_T1w.json"]
)
def test_only_names_of_templateflow_are_taken(folder: Path, home: Path, name: str) -> None:
    assert "no file name" in refused(folder, "E458", with_templateflow(folder).replace(T1W, name))


def test_a_hash_is_verified_here_too(folder: Path, home: Path) -> None:
    text = with_templateflow(folder).replace(f'"{T1W}"', f'"{T1W}", sha256 = "{"0" * 64}"')
    assert "SHA-256 differs" in refused(folder, "E455", text)


def test_the_client_is_not_imported_where_nobody_asks_for_it() -> None:
    code = (
        "import sys, r2star.cli.app, r2star.workflows.run; from r2star.atlas import load_atlas; load_atlas('CIT168');"
        "sys.exit('templateflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
