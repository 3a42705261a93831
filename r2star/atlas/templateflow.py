"""Images that an atlas file names by TemplateFlow's own file names. May import errors; the client late, if at all.

An image that is on this machine is taken from where TemplateFlow keeps it, without the client. Only for one that is
not is the client asked, which is optional, and which may use the network.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from r2star.errors import UsageError

_NAME = re.compile(r"tpl-[A-Za-z0-9]+(_[a-z]+-[A-Za-z0-9]+)*_[A-Za-z0-9]+(\.nii|\.nii\.gz)")
#: Entities of file names that the client knows, and what it calls them.
_QUERIED = {
    "cohort": "cohort", "res": "resolution", "hemi": "hemi", "space": "space", "atlas": "atlas", "label": "label",
    "desc": "desc",
}  # fmt: skip
#: Of these a query must say that they are absent, as the client takes silence for any.
_ABSENT = ("atlas", "label", "desc")
_NUMBERS = frozenset({"cohort", "resolution"})


def find_image(name: str, key: str, description: Path) -> Path:
    """The image ``name`` (``tpl-MNI152NLin6Asym_res-01_T1w.nii.gz``): beside the atlas file, kept, or fetched.

    Raises
    ------
    UsageError
        E458 where it is no name of TemplateFlow's, where it is not here and there is no client, or where the client
        can't get it, whatever its reason.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            "E458", f"files.{key}: {name!r} is no file name of a TemplateFlow image",
            "such as tpl-MNI152NLin6Asym_res-01_T1w.nii.gz", "copy the name from TemplateFlow", path=description,
        )  # fmt: skip
    for file in (description.parent / name, kept_in() / _folder(name) / name):
        if (
            file.is_file() and file.stat().st_size
        ):  # the client keeps empty files of what it did not fetch yet
            return file
    return _fetched(name, key, description)


def kept_in() -> Path:
    """Where TemplateFlow keeps its files: ``TEMPLATEFLOW_HOME``, else ``templateflow`` in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TEMPLATEFLOW_HOME") or f"{cache}/templateflow").expanduser()


def _folder(name: str) -> Path:
    """The folder of an image: the template's, or its cohort's.

    >>> _folder("tpl-MNIInfant_cohort-2_res-1_T1w.nii.gz").as_posix()
    'tpl-MNIInfant/cohort-2'
    """
    template, *pairs = name.split("_")
    return Path(template, *(pair for pair in pairs if pair.startswith("cohort-")))


def _fetched(name: str, key: str, description: Path) -> Path:
    try:
        from templateflow import api

        found = api.get(
            name.split("_", maxsplit=1)[0].removeprefix("tpl-"), raise_empty=False, **_query(name)
        )
    except ImportError:
        raise UsageError(
            "E458", f"files.{key}: {name} is not in {kept_in()}, and TemplateFlow's client is not installed",
            "the image is needed", 'put it there, or pip install "r2star[templateflow]"', path=description,
        ) from None  # fmt: skip
    except Exception as error:  # the network, or whatever else the client meets
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UsageError(
            "E458", f"files.{key}: TemplateFlow's client can't get {name} ({why})", "the image is needed",
            f"fetch it once where there is a network, into {kept_in()}", path=description,
        ) from error  # fmt: skip
    files = [Path(one) for one in (found if isinstance(found, list) else [found])]
    for file in files:
        if file.name == name and file.is_file() and file.stat().st_size:
            return file
    raise UsageError(
        "E458",
        f"files.{key}: TemplateFlow has no {name}",
        "the name of one of its files",
        "check the name",
        path=description,
    )


def _query(name: str) -> dict[str, str | int | None]:
    """What the client is asked for.

    >>> _query("tpl-MNI152NLin6Asym_res-01_desc-brain_mask.nii.gz")["resolution"]
    1
    """
    stem, _, extension = name.partition(".")
    *pairs, suffix = stem.split("_")[1:]
    given = dict(pair.split("-", 1) for pair in pairs)
    query: dict[str, str | int | None] = dict.fromkeys(_ABSENT)
    for entity, word in _QUERIED.items():
        if entity in given:
            query[word] = (
                int(given[entity]) if word in _NUMBERS and given[entity].isdecimal() else given[entity]
            )
    return query | {"suffix": suffix, "extension": f".{extension}"}
