"""A user's atlas: what its TOML file may say, and how each fault is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from r2star.atlas import Region, load_atlas
from r2star.errors import UsageError

GOOD = """
name = "Mine"
space = "MNIPediatricAsym"
license = "CC0"

[files]
labels = "labels.nii.gz"
t1w = { path = "sub/t1w.nii.gz", sha256 = "%s" }
brain_mask = "mask.nii.gz"

[[region]]
name = "putamen"
left = [1]
right = [2, 3]

[[region]]
name = "dentate"
left = [4]

[[subregion]]
name = "putamen_anterior"
right = [3]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("labels.nii.gz", "sub/t1w.nii.gz", "mask.nii.gz"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.fixture
def good() -> str:
    return GOOD % hashlib.sha256(b"sub/t1w.nii.gz").hexdigest()


def load(folder: Path, text: str):
    (folder / "atlas.toml").write_text(text, encoding="utf-8")
    return load_atlas(folder / "atlas.toml")


def test_a_good_file_is_read_as_it_stands(folder: Path, good: str):
    atlas = load(folder, good)
    assert (atlas.name, atlas.space, atlas.license, atlas.citation) == ("Mine", "MNIPediatricAsym", "CC0", "")
    assert atlas.t1w == folder / "sub" / "t1w.nii.gz"
    assert atlas.regions == (
        Region("putamen", "L", (1,)),
        Region("putamen", "R", (2, 3)),
        Region("dentate", "L", (4,)),
    )
    assert atlas.label_names() == {1: "putamen_L", 2: "putamen_R", 3: "putamen_anterior_R", 4: "dentate_L"}


def test_the_hash_changes_with_every_part(folder: Path, good: str):
    first = load(folder, good).sha256
    assert load(folder, good).sha256 == first
    assert load(folder, good + "\n# note").sha256 != first
    (folder / "mask.nii.gz").write_bytes(b"other")
    assert load(folder, good).sha256 != first


def test_template_of_the_package_serves_its_space(folder: Path, good: str):
    lines = [line for line in good.splitlines() if not line.startswith(("t1w", "brain_mask"))]
    atlas = load(folder, "\n".join(lines).replace("MNIPediatricAsym", "MNI152NLin2009cAsym"))
    assert atlas.t1w == load_atlas("CIT168").t1w
    assert atlas.labels == folder / "labels.nii.gz"
    with pytest.raises(UsageError, match=r"E452.*t1w, brain_mask"):
        load(folder, "\n".join(lines))


FAULTS = {
    "E451 not TOML": ('name = "Mine"', "name = Mine"),
    "E452 unknown key": ('license = "CC0"', 'licence = "CC0"'),
    "E452 missing key": ('space = "MNIPediatricAsym"', ""),
    "E452 wrong type": ('license = "CC0"', "license = 0"),
    "E452 no BIDS label": ('name = "Mine"', 'name = "my_atlas"'),
    "E452 region name": ('name = "dentate"', 'name = "Dentate Nucleus"'),
    "E452 region without labels": ("left = [4]", "left = []"),
    "E452 unknown region key": ("left = [4]", "left = [4]\nvolume = 3"),
    "E453 absolute": ('"labels.nii.gz"', '"/etc/passwd"'),
    "E453 above": ('"labels.nii.gz"', '"../../etc/passwd"'),
    "E453 above, hidden": ('"labels.nii.gz"', '"sub/../../labels.nii.gz"'),
    "E453 BIDS URI": ('"labels.nii.gz"', '"bids::../../x"'),
    "E453 backslashes": ('"labels.nii.gz"', "'..\\..\\x'"),
    "E453 empty": ('"labels.nii.gz"', '""'),
    "E454 missing file": ('"labels.nii.gz"', '"lables.nii.gz"'),
    "E454 a folder": ('"labels.nii.gz"', '"sub"'),
    "E454 a name too long": ('"labels.nii.gz"', f'"{"a" * 5000}"'),
    "E455 hash": ('sha256 = "', 'sha256 = "0'),
    "E456 fraction": ("left = [4]", "left = [4.5]"),
    "E456 text": ("left = [4]", 'left = ["4"]'),
    "E456 bool": ("left = [4]", "left = [true]"),
    "E456 zero": ("left = [4]", "left = [0]"),
    "E456 too large": ("left = [4]", "left = [65536]"),
    "E456 no list": ("left = [4]", "left = 4"),
    "E456 twice in one": ("left = [4]", "left = [4, 4]"),
    "E456 in two regions": ("left = [4]", "left = [1]"),
    "E456 one name twice": ('name = "dentate"', 'name = "putamen"'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_by_code(folder: Path, good: str, fault: str):
    old, new = FAULTS[fault]
    assert old in good
    broken = good.replace(old, new, 1)
    if fault == "E455 hash":
        digest = hashlib.sha256(b"sub/t1w.nii.gz").hexdigest()
        broken = good.replace(digest, hashlib.sha256(b"another file").hexdigest())
    with pytest.raises(UsageError) as caught:
        load(folder, broken)
    assert caught.value.code == fault[:4]
    assert caught.value.exit_code == 2
    assert caught.value.path == str(folder / "atlas.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("left = [4]", "lefft = [4]", "known are left, name, right. Fix: did you mean left?"),
        ('space = "MNI', 'spaces = "MNI', "unknown key spaces in the top level"),
        ("[files]", "[file]", "did you mean files?"),
        ('"labels.nii.gz"', '"label.nii.gz"', "there is no file label.nii.gz. Fix: did you mean labels.nii.gz?"),
        ('brain_mask = "mask.nii.gz"', "", "has no brain_mask, template and brain mask are needed in space MNIPed"),
    ],
)  # fmt: skip
def test_typing_errors_are_met_with_the_nearest_word(folder: Path, good: str, old: str, new: str, words: str):
    with pytest.raises(UsageError) as caught:
        load(folder, good.replace(old, new, 1))
    assert words in str(caught.value)


def test_unknown_name_tells_the_known_ones():
    with pytest.raises(UsageError, match=r"E450.*'CIT186'.*did you mean CIT168"):
        load_atlas("CIT186")


def test_absent_description(tmp_path: Path):
    with pytest.raises(UsageError, match="E450"):
        load_atlas(tmp_path / "none.toml")


def test_a_file_outside_is_not_even_opened(folder: Path, good: str, monkeypatch: pytest.MonkeyPatch):
    opened: list[Path] = []
    real_open = Path.open

    def spy(self, *args, **kwargs):
        opened.append(self)
        return real_open(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", spy)
    with pytest.raises(UsageError, match="E453"):
        load(folder, good.replace('"labels.nii.gz"', '"../secret"'))
    assert all(path.name == "atlas.toml" for path in opened)
