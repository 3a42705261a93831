"""What options ask for of other programs' results: entities and a suffix, or the folder of a dataset.

May import errors and its siblings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2star.bids.entities import ENTITY_KEYS, BidsName, is_label
from r2star.bids.units import Role
from r2star.errors import UsageError

#: What a folder is searched for, by role; the first query with a match counts.
_DEFAULTS: Mapping[Role, tuple[str, ...]] = {
    "brain_mask": ("desc-brain_mask",),
    "segmentation": ("dseg",),
    "lesions": ("label-lesion*_mask", "desc-lesion*_mask", "label-lesion*_roi", "desc-lesion*_roi"),
    "map": (),
}
_SUFFIX: Mapping[Role, str] = {"brain_mask": "mask", "segmentation": "dseg", "lesions": "mask", "map": ""}
#: The option that asks for a role.
OPTIONS: Mapping[Role, str] = {
    "brain_mask": "--brain-mask", "segmentation": "--segmentation", "lesions": "--lesions", "map": "--maps",
}  # fmt: skip


@dataclass(frozen=True)
class Query:
    """A derivative that the user asked for: any of some names, in one dataset or in all that were given."""

    role: Role
    text: str  # as it was asked for; a folder by its name alone, so that moved data stay the same data
    names: tuple[BidsName, ...]
    dataset: Path | None = None

    @property
    def suffix(self) -> str:
        """Of the names asked for: what results call a map."""
        return self.names[0].suffix


def read_query(role: Role, text: str) -> Query:
    """What ``--segmentation``, ``--brain-mask``, ``--lesions`` or a suffix of ``--maps`` asks for.

    Raises
    ------
    UsageError
        E530 where it is neither a folder nor entities and a suffix.

    >>> read_query("segmentation", "desc-aseg").names[0].suffix
    'dseg'
    """
    if text and Path(text).is_dir() and role != "map":
        folder = Path(text).absolute()
        names = tuple(_pattern(role, default) for default in _DEFAULTS[role])
        return Query(role, folder.name, names, folder)
    return Query(role, text, (_pattern(role, text),))


def _pattern(role: Role, text: str) -> BidsName:
    *pairs, last = text.split("_")
    suffix = last
    if "-" in last:
        pairs, suffix = [*pairs, last], _SUFFIX[role]
    entities = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    unknown = sorted(
        entities.keys() - set(ENTITY_KEYS.values()) | {pair for pair in pairs if "-" not in pair}
    )
    labels = all(is_label(value.replace("*", "")) or value == "*" for value in entities.values())
    if unknown or not labels or not suffix.isalnum():
        raise UsageError(
            "E530",
            f"{OPTIONS[role]} {text}",
            "a folder, or the entities and suffix of a BIDS name, is needed",
            f"such as {OPTIONS[role]} {'Chimap' if role == 'map' else 'desc-x_' + _SUFFIX[role]}",
        )
    return BidsName(entities, suffix, "")


def check_datasets(folders: Sequence[Path]) -> tuple[Path, ...]:
    """The folders of ``--derivatives``, each once; refuses what is no dataset of participants.

    Raises
    ------
    UsageError
        E531 where there is no such folder, or no ``sub-*`` in it.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UsageError("E531", "no such folder", "a BIDS derivative dataset is needed", path=folder)
        if not any(one.name.startswith("sub-") for one in folder.iterdir()):
            raise UsageError(
                "E531",
                "no sub-* folder",
                "a BIDS derivative dataset is needed",
                "give the folder that holds the sub-* folders",
                path=folder,
            )
    return tuple(dict.fromkeys(folder.absolute() for folder in folders))


def dataset_names(datasets: Iterable[Path]) -> dict[str, Path]:
    """Names of the datasets for DatasetLinks and BIDS URIs: the folder's, with a number where it is taken.

    >>> sorted(dataset_names([Path("/a/fmriprep"), Path("/b/fmriprep")]))
    ['fmriprep', 'fmriprep2']
    """
    names: dict[str, Path] = {}
    for root in datasets:
        stem = "".join(c for c in root.name if c.isalnum()) or "derivatives"
        number = next(n for n in range(1, len(names) + 3) if _numbered(stem, n) not in names | {"raw": root})
        names[_numbered(stem, number)] = root
    return names


def _numbered(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}{number}"
