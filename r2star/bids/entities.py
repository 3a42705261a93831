"""BIDS file names: taking them apart, their natural order, what a label may be. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

IMAGE_EXTENSIONS = (".nii.gz", ".nii")

#: Entities in the order of the BIDS schema: the word of queries and configuration files → the key in names.
ENTITY_KEYS: Mapping[str, str] = {
    "subject": "sub", "session": "ses", "sample": "sample", "task": "task", "acquisition": "acq",
    "ceagent": "ce", "reconstruction": "rec", "direction": "dir", "run": "run", "modality": "mod",
    "echo": "echo", "flip": "flip", "inversion": "inv", "mtransfer": "mt", "part": "part",
    "processing": "proc", "hemisphere": "hemi", "from": "from", "to": "to", "mode": "mode", "space": "space",
    "chunk": "chunk", "atlas": "atlas", "segmentation": "seg", "scale": "scale", "resolution": "res",
    "density": "den", "label": "label", "description": "desc",
}  # fmt: skip

_LABEL = re.compile(r"[0-9A-Za-z+]+")
_PAIR = re.compile(r"([0-9A-Za-z]+)-([0-9A-Za-z+]+)")
_DIGITS = re.compile(r"(\d+)", re.ASCII)


@dataclass(frozen=True)
class BidsName:
    """The parts of a BIDS file name: entities by their key, suffix, and the extension with its dots."""

    entities: Mapping[str, str]
    suffix: str
    extension: str


def parse_name(name: str) -> BidsName | None:
    """Take a file name apart, or give None where it is not a BIDS name.

    >>> parse_name("sub-01_echo-2_MEGRE.nii.gz")
    BidsName(entities={'sub': '01', 'echo': '2'}, suffix='MEGRE', extension='.nii.gz')
    >>> parse_name("sub-01_echo2_MEGRE.nii.gz") is None
    True
    """
    stem, dot, extension = name.partition(".")
    *pairs, suffix = stem.split("_")
    matches = [_PAIR.fullmatch(pair) for pair in pairs]
    entities = {match[1]: match[2] for match in matches if match}
    if not dot or not suffix.isalnum() or len(entities) < len(pairs):
        return None
    return BidsName(entities, suffix, dot + extension)


def natural_key(text: str | None) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which numbers inside a name count as numbers, and what is absent comes first.

    >>> sorted(["sub-10", "sub-9", "sub-009"], key=natural_key)
    ['sub-009', 'sub-9', 'sub-10']
    """
    if text is None:
        return ()
    return tuple(
        (0, int(part), part) if part.isdecimal() else (1, 0, part) for part in _DIGITS.split(text) if part
    )


def printable(text: str) -> str:
    r"""A name from a file system as text that any terminal, table and JSON file can hold.

    >>> print(printable("a\n\udcff.nii"))
    a\n\udcff.nii
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_label(text: str) -> bool:
    """Whether ``text`` may be the value of a BIDS entity: letters, digits and ``+``."""
    return _LABEL.fullmatch(text) is not None


def strip_key(label: str, key: str) -> str:
    """Take off the entity key that users may or may not type: ``strip_key("sub-01", "sub") == "01"``."""
    return label.removeprefix(f"{key}-")


def near_matches(label: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Names in ``known`` that the user may have meant, the nearest first.

    >>> near_matches("1", ["001", "002", "010"])
    ['001']
    """
    import difflib

    candidates = sorted(known, key=natural_key)
    bare = label.lstrip("0").lower()
    same = [name for name in candidates if name.lstrip("0").lower() == bare]
    alike = (
        difflib.get_close_matches(label, candidates, n=limit, cutoff=0.6) if len(candidates) <= 5000 else []
    )
    return list(dict.fromkeys([*same, *alike]))[:limit]
