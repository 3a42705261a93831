"""What pages show, works: Python is run, commands are parsed, model and atlas files are read."""

from __future__ import annotations

import doctest
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import COMMANDS, parser_of
from nibabel import Nifti1Image

from r2star.atlas import load_atlas
from r2star.errors import R2starError
from r2star.iron.calibration import parse_calibration
from r2star.steps.group_inputs import read_model_file

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=fence)\s*$", re.MULTILINE | re.DOTALL
)


def blocks(*languages: str) -> list[object]:
    """Fenced blocks of all pages in some languages, as parameters of a test."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match["language"].strip() in languages:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(match["text"], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def pages_with_python() -> list[object]:
    pages = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = [match["text"] for match in FENCE.finditer(text) if match["language"].strip() == "python"]
        if found:
            pages.append(pytest.param(found, id=str(page.relative_to(ROOT))))
    return pages


@pytest.mark.parametrize("found", pages_with_python())
def test_python_is_an_example_that_runs(
    found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a page share their names, as a reader would type them one after the other."""
    monkeypatch.chdir(tmp_path)
    assert all(">>>" in text for text in found), (
        "write Python as doctests, or as a cell that runs at the build"
    )
    test = doctest.DocTestParser().get_doctest("\n".join(found), {}, "page", None, None)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def commands(text: str) -> Iterator[list[str]]:
    """The program's own commands in a block: continued lines joined, pipes and variables left alone."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = re.split(r"[|;&<>]|2>", line.split(" #")[0])[0]
        found = re.search(r"(?:^|\s|/)(r2star(?:-[a-z]+)?)(\s.*)?$", words)
        if (
            found
            and found[1] in COMMANDS
            and not words.lstrip().startswith(("#", "python", "git", "docker build"))
        ):
            yield [found[1], *shlex.split(found[2] or "")]


@pytest.mark.parametrize("text", blocks("sh", "bash"))
def test_commands_are_such_as_the_program_takes(text: str) -> None:
    for command, *arguments in commands(text):
        try:
            parser_of(command).parse_args(arguments)
        except R2starError as error:
            pytest.fail(f"{command} {' '.join(arguments)}: {error}")
        except SystemExit:  # --help and --version
            continue


@pytest.mark.parametrize("text", blocks("toml"))
def test_files_are_such_as_the_program_takes(text: str, tmp_path: Path) -> None:
    content = tomllib.loads(text)
    if "region" in content:
        for named in content["files"].values():
            name = named["templateflow"] if isinstance(named, dict) else named
            Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)).to_filename(tmp_path / name)
        (tmp_path / "atlas.toml").write_text(text, encoding="utf-8")
        assert load_atlas(tmp_path / "atlas.toml").name == content["name"]
    elif "slope_per_s_per_mg_per_kg" in content:
        assert parse_calibration(content).name == content["name"]
    else:
        (tmp_path / "model.toml").write_text(text, encoding="utf-8")
        assert read_model_file(tmp_path / "model.toml").models
