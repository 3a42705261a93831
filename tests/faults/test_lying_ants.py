"""A registration program that lies about its work is caught: the unit fails by name and gives no table."""

from __future__ import annotations

import os
from pathlib import Path

import battery as b
import coarse
import pytest

#: Put on the path of every process of a run: replaces functions of ants once it is imported.
LIAR = """
import importlib.abc, importlib.machinery, os, sys
from pathlib import Path
LIE = os.environ.get("LYING_ANTS", "")

FIELD = b"DisplacementFieldTransform_float_3_3"
PLACE = [0.0] * 3 + [50.0] * 3 + [1.0, 0, 0, 0, 1, 0, 0, 0, 1]
#: Kind, values and fixed values that are not what was asked for.
SHAPES = {
    "an affine of two axes": ([b"AffineTransform_float_2_2"], [1.0, 0, 0, 1, 0, 0], [0.0, 0]),
    "an affine about one number": ([b"AffineTransform_float_3_3"], [1.0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], [9.0]),
    "a field of another shape": ([FIELD], [0.0] * 3 * 60, [4.0, 4, 4, *PLACE]),
    "a field too long": ([FIELD], [0.0] * 3 * 64, [4.0, 4, 4, *PLACE, 7.0]),
    "a field and no affine": ([FIELD], [0.0] * 3 * 64, [4.0, 4, 4, *PLACE]),
}

def lie(ants):
    import numpy as np
    registration, apply_transforms = ants.registration, ants.apply_transforms
    def output_of(words):
        return Path(words[words.index("-o") + 1] + "Composite.h5")
    def start_of(words):
        return Path(words[words.index("-r") + 1])
    def write(words, change):
        import h5py
        target = output_of(words)
        target.write_bytes(start_of(words).read_bytes())
        with h5py.File(target, "r+") as file:
            def visit(name, item):
                if name.endswith("TransformParameters") and item.size >= 12:
                    values = item[...]
                    item[...] = change(values)
            file.visititems(visit)
    def lying_registration(words, *rest, **options):
        if LIE == "nothing":
            return 0
        if LIE == "not finite":
            return write(words, lambda values: values * np.nan)
        if LIE == "identity":
            return write(words, lambda values: np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], values.dtype))
        if LIE == "mirrored":
            return write(words, lambda values: values * np.array([-1.0] * 3 + [1] * 9))
        if LIE == "swollen":
            return write(words, lambda values: values * np.array([3.0] * 9 + [1] * 3))
        if LIE == "far away":
            return write(words, lambda values: values + np.array([0.0] * 9 + [150, 0, 0]))
        if LIE == "no transform":
            import h5py
            h5py.File(output_of(words), "w").close()
            return 0
        if LIE == "empty file":
            output_of(words).touch()
            return 0
        if LIE == "half a file":
            registration(words, *rest, **options)
            whole = output_of(words).read_bytes()
            output_of(words).write_bytes(whole[: len(whole) // 2])
            return 0
        if LIE in SHAPES:
            import h5py
            output_of(words).write_bytes(start_of(words).read_bytes())
            with h5py.File(output_of(words), "r+") as file:
                last = file["TransformGroup"][max(file["TransformGroup"], key=int)]
                for name, values in zip(("Type", "Parameters", "FixedParameters"), SHAPES[LIE]):
                    del last["Transform" + name]
                    last["Transform" + name] = values
            return 0
        if LIE == "exit code":
            return 1
        if LIE == "crash":
            raise RuntimeError("segmentation fault of the program")
        if LIE == "text":
            output_of(words).write_text("no transform")
            return 0
        return registration(words, *rest, **options)
    def lying_resampling(fixed, moving, transformlist, **options):
        moved = apply_transforms(fixed=fixed, moving=moving, transformlist=transformlist, **options)
        if LIE == "empty":
            return moved * 0
        if LIE == "another grid":
            moved.set_origin([place + 5 for place in moved.origin])
        if LIE == "labels not finite":
            return moved * float("nan")
        if LIE == "other labels":
            return moved + 0.0 + 7 * (moved > 0).clone("float")
        return moved
    ants.registration, ants.apply_transforms = lying_registration, lying_resampling

class Loader(importlib.abc.Loader):
    def __init__(self, real):
        self.real = real
    def create_module(self, spec):
        return self.real.create_module(spec)
    def exec_module(self, module):
        self.real.exec_module(module)
        lie(module)

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "ants":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader = Loader(spec.loader)
        return spec

if LIE:
    sys.meta_path.insert(0, Finder())
"""

LIES = {
    "nothing": ("E402", "wrote no"),
    "not finite": ("E404", "not finite"),
    "identity": ("E410", "failed its checks"),
    "mirrored": ("E4", ""),
    "crash": ("E402", "segmentation fault"),
    "text": ("E404", "can't be read"),
    "swollen": ("E4", ""),
    "far away": ("E4", ""),
    "no transform": ("E404", ""),
    "exit code": ("E402", ""),
    "empty file": ("E402", "wrote no"),
    "half a file": ("E404", "can't be read"),
    "an affine of two axes": ("E404", ""),
    "an affine about one number": ("E404", ""),
    "a field of another shape": ("E404", ""),
    "a field too long": ("E404", ""),
    "a field and no affine": ("E404", "affine"),
    "empty": ("E4", ""),
    "another grid": ("E403", "another place"),
    "labels not finite": ("E403", "not finite"),
    "other labels": ("E406", "appeared in resampling"),
}
#: Those whose lie is a file that stands there: it must be named.
FILES = ("text", "no transform", "empty file", "half a file", "an affine", "a field")
LONG = pytest.mark.faults


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head without T1w, off the template's place."""
    root = tmp_path_factory.mktemp("lies")
    coarse.write_head(root / "bids", "01", moved_mm=(30, -25, 20))
    coarse.write_atlas(root / "atlas")
    return root / "bids"


@pytest.mark.parametrize(
    "lie",
    [name if name in ("nothing", "another grid") else pytest.param(name, marks=LONG) for name in LIES],
)
def test_a_lie_is_caught(tmp_path: Path, brain: Path, r2star: b.Run, lie: str) -> None:  # F09, F13
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(LIAR)
    paths = [str(tmp_path / "site"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "LYING_ANTS": lie}
    atlas = brain.with_name("atlas") / "coarse.toml"
    words = ("participant", "--sloppy", "--nprocs", "1", "--atlas", atlas)
    done = r2star("app", brain, tmp_path / "out", *words, env=environment)
    assert "Traceback" not in done.stderr
    assert done.returncode == 1, (lie, done.stderr, done.stdout[-800:])
    told = b.states(tmp_path / "out")["sub-01"]
    assert told["state"] == "failed_processing"
    code, said = LIES[lie]
    assert told["code"].startswith(f"R2S-{code}"), told
    assert said in told["message"]
    if lie.startswith(FILES):
        assert told["file"].endswith("Composite.h5"), told
    assert not list((tmp_path / "out").rglob("*_stats.tsv"))
    assert not list((tmp_path / "out/sub-01").rglob("*"))
