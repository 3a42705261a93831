"""Regions of a participant's own segmentation, from its label table or from FreeSurfer's numbers. May import errors.

A label table has the columns ``index`` and ``name``, as BIDS has it. Names tell the side by a word at either end
(``Left-Caudate``, ``caudate_L``, ``rh_putamen``); the usual names of the nuclei become ours (``Thalamus-Proper`` is
``thalamus``, ``GPe`` is ``pallidum_external``), others are kept in lower case with underscores.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from r2star.atlas.model import Region
from r2star.errors import InputError

WHITE_MATTER = "white_matter"

_INDEX = re.compile(r"\d{1,9}", re.ASCII)
_FREESURFER = Path(__file__).parent / "lookups" / "FreeSurfer.toml"
_SIDES = {"left": "L", "lh": "L", "l": "L", "right": "R", "rh": "R", "r": "R"}
_NOT_TISSUE = frozenset({"background", "unknown", "unlabeled", "unlabelled", "clear_label", "exterior"})
_ALIASES = {
    "caudate_nucleus": "caudate", "cau": "caudate", "cd": "caudate", "nucleus_caudatus": "caudate",
    "put": "putamen", "globus_pallidus": "pallidum", "gp": "pallidum", "pal": "pallidum",
    "gpe": "pallidum_external", "globus_pallidus_external": "pallidum_external",
    "globus_pallidus_externa": "pallidum_external", "globus_pallidus_externus": "pallidum_external",
    "gpi": "pallidum_internal", "globus_pallidus_internal": "pallidum_internal",
    "globus_pallidus_interna": "pallidum_internal", "globus_pallidus_internus": "pallidum_internal",
    "accumbens_area": "accumbens", "nucleus_accumbens": "accumbens", "nac": "accumbens",
    "thalamus_proper": "thalamus", "tha": "thalamus", "thal": "thalamus",
    "rn": "red_nucleus", "ruber": "red_nucleus", "sn": "substantia_nigra", "nigra": "substantia_nigra",
    "stn": "subthalamic_nucleus", "sth": "subthalamic_nucleus",
    "cerebral_white_matter": WHITE_MATTER, "wm": WHITE_MATTER, "cerebral_wm": WHITE_MATTER,
}  # fmt: skip


@dataclass(frozen=True)
class Lookup:
    """Regions of a segmentation in the order of its table, white matter last, and the name of every label."""

    regions: tuple[Region, ...]
    names: Mapping[int, str]


def freesurfer_lookup() -> Lookup:
    """The deep grey matter and the cerebral white matter by FreeSurfer's numbers.

    >>> [region.indices for region in freesurfer_lookup().regions if region.name == "pallidum"]
    [(13,), (52,)]
    """
    table = tomllib.loads(_FREESURFER.read_text(encoding="utf-8"))
    entries = [*table["region"], {"name": WHITE_MATTER, **table["white_matter"]}]
    regions = tuple(
        Region(entry["name"], side, tuple(entry[key]))
        for entry in entries
        for side, key in (("L", "left"), ("R", "right"))
    )
    return Lookup(regions, _names(regions))


def read_lookup(path: Path) -> dict[int, str]:
    """Label number → name, from a table with ``index`` and ``name``.

    Raises
    ------
    InputError
        E476 where a column is absent or there twice, an index is no whole number from 0, or stands there twice, or a
        quotation mark has no other: what follows it would be one name.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(text.splitlines(keepends=True), delimiter="\t", strict=True)
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("E476", f"the label table can't be read ({error})", path=path.name) from None
    columns = list(reader.fieldnames or ())
    if not rows or [columns.count(name) for name in ("index", "name")] != [1, 1]:
        raise InputError(
            "E476", "the label table has no rows", "columns index and name are needed", path=path.name
        )
    names: dict[int, str] = {}
    for row in rows:
        index, name = (row.get("index") or "").strip(), (row.get("name") or "").strip()
        if not _INDEX.fullmatch(index) or not name.isprintable() or not name or int(index) in names:
            raise InputError(
                "E476",
                f"the label table has index {index!r} with name {name!r}",
                "whole numbers, each once, with a name are needed",
                path=path.name,
            )
        names[int(index)] = name
    return names


def lookup_from_names(names: Mapping[int, str]) -> Lookup:
    """Regions from label names; a table that numbers and names the nuclei as FreeSurfer does gives FreeSurfer's.

    >>> lookup_from_names({1: "Left-GPe", 2: "gpe_R", 0: "background"}).regions
    (Region(name='pallidum_external', hemisphere='L', indices=(1,)), Region(name='pallidum_external', hemisphere='R', indices=(2,)))
    """  # noqa: E501
    known = {index: _region_and_side(name) for index, name in names.items()}
    builtin = freesurfer_lookup()
    alike = [known.get(i) == (one.name, one.hemisphere) for one in builtin.regions for i in one.indices]
    if len(names) > 2 * len(builtin.names) and sum(alike) >= len(alike) - 2:
        return builtin
    joined: dict[tuple[str, str], list[int]] = {}
    for index, key in sorted(known.items()):
        if index and key[0] not in _NOT_TISSUE:
            joined.setdefault(key, []).append(index)
    order = {name: number for number, name in enumerate(dict.fromkeys(name for name, _ in joined))}
    keys = sorted(joined, key=lambda key: (key[0] == WHITE_MATTER, order[key[0]], key[1]))
    regions = tuple(Region(name, side, tuple(joined[name, side])) for name, side in keys)
    return Lookup(regions, _names(regions))


def _region_and_side(name: str) -> tuple[str, str]:
    """A label's region and hemisphere (``LR`` where it names none).

    >>> _region_and_side("Right-Thalamus-Proper"), _region_and_side("Brain-Stem")
    (('thalamus', 'R'), ('brain_stem', 'LR'))
    """
    words = [word for word in re.split(r"[^0-9a-z]+", name.lower()) if word]
    side = "LR"
    for place in (0, -1):
        if len(words) > 1 and words[place] in _SIDES:
            side = _SIDES[words.pop(place)]
            break
    plain = "_".join(words)
    plain = _ALIASES.get(plain, plain)
    return (plain if plain[:1].isalpha() else f"label_{plain}"), side


def _names(regions: Iterable[Region]) -> dict[int, str]:
    named = {
        index: region.name if region.hemisphere == "LR" else f"{region.name}_{region.hemisphere}"
        for region in regions
        for index in region.indices
    }
    return dict(sorted(named.items()))
