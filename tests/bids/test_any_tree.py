"""Whatever stands in a dataset, finding units ends in units or in one of the package's errors, never otherwise."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2star.bids.find import find_units
from r2star.errors import R2starError

words = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=8
)
labels = st.sampled_from(["01", "02", "1", "a", "a-b", "*", "$(x)", "ü", "\n"]) | words
pairs = st.builds(
    "{}-{}".format, st.sampled_from(["sub", "ses", "acq", "run", "echo", "part", "flip"]), labels
)
stems = st.lists(pairs | st.sampled_from(["sub-01", "echo-1", "echo-2", "part-phase"]), max_size=5).map(
    "_".join
)
names = st.builds(
    "{}_{}{}".format,
    stems,
    st.sampled_from(["MEGRE", "T1w", "x"]),
    st.sampled_from([".json", ".nii", ".nii.gz", ""]),
)
folders = st.sampled_from(["", "sub-01", "sub-01/anat", "sub-01/ses-1/anat", "sub-02/anat"])
values = (
    st.none() | st.booleans() | st.floats() | st.integers() | words | st.lists(st.floats(0, 1), max_size=3)
)
keys = st.sampled_from(["EchoTime", "MagneticFieldStrength", "FlipAngle", "ImageType"]) | words
contents = st.binary(max_size=30) | st.dictionaries(keys, values, max_size=4).map(
    lambda d: json.dumps(d).encode()
)

#: Two echoes that can be used, before anything else comes beside or over them.
WHOLE = [
    ("sub-01/anat", f"sub-01_echo-{echo}_MEGRE{end}", json.dumps({"EchoTime": 0.01 * echo}).encode())
    for echo in (1, 2)
    for end in (".nii", ".json")
]


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
)
@given(files=st.lists(st.tuples(folders, names, contents), min_size=1, max_size=12))
def test_any_tree_of_files(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, str, bytes]]
) -> None:
    root = tmp_path_factory.mktemp("raw")
    for folder, name, content in (*WHOLE, *files):
        path = root / folder / name[:200]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            path.write_bytes(content)
    error, units = None, ()
    try:
        units = find_units(root)
    except R2starError as caught:
        error = caught
    assert error is None or (error.exit_code in (2, 3) and "\n" not in str(error))
    assert len({unit.label for unit in units}) == len(units)
    for unit in units:
        text = f"{unit.problem} {unit.label} {unit.notices}"
        assert text.isprintable()
        assert (unit.problem is None) == bool(unit.magnitude or unit.real)
        assert list(unit.echo_times_s) == sorted(set(unit.echo_times_s))
        assert all(0 < time < 0.5 for time in unit.echo_times_s)


def test_names_that_are_no_text_are_shown_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01" / "anat"
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"sub-01_\xff_MEGRE.nii")).write_bytes(b"")
    (unit,) = find_units(tmp_path, ["01"])
    (notice,) = unit.notices
    assert notice.path == "sub-01/anat/sub-01_\\udcff_MEGRE.nii"
    strange = tmp_path / os.fsdecode(b"sub-\xfe") / "anat"
    strange.mkdir(parents=True)
    (strange / "sub-01_MEGRE.nii").write_bytes(b"")
    unit = find_units(tmp_path)[1]
    assert unit.label == "sub-\\udcfe"
    assert str(unit.problem).isprintable()
