"""What is installed: the wheel holds the graph layer, the atlas and the models, and nothing foreign."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    assert wheel.stat().st_size < 6_000_000
    return zipfile.ZipFile(wheel).namelist()


def test_the_wheel_holds_the_graph_layer_and_all_data(names: list[str]) -> None:
    layer = [f"r2star/workflows/{path.name}" for path in REPOSITORY.glob("workflows/*.py")]
    assert len(layer) > 10
    assert set(layer) <= set(names)
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a clone: which files belong to the package is known by git")
    command = ["git", "ls-files", "r2star"]
    tracked = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert set(tracked.stdout.splitlines()) - {"r2star/workflows"} - set(names) == set()


def test_the_wheel_owns_one_top_level_package(names: list[str]) -> None:
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"r2star"}
    assert not [name for name in names if "__pycache__" in name]


def test_licence_and_notices_travel_with_the_wheel(names: list[str]) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)


@pytest.mark.parametrize("command", ["app", "fit", "simulate", "submit", "verify"])
def test_every_command_tells_its_version_and_its_options(command: str) -> None:
    main = importlib.import_module(f"r2star.cli.{command}").main
    for option, expected in (("--version", "r2star"), ("--help", "usage:")):
        code = f"import sys; from r2star.cli.{command} import main; sys.exit(main([{option!r}]))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert expected in done.stdout
    assert callable(main)


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from r2star.cli.app import build_parser, main; build_parser(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"ants", "nipype", "numba", "pandas", "scipy", "nibabel", "matplotlib", "statsmodels"} & set(
        loaded
    )
