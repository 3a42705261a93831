"""What stands at the root of the output dataset, once for all. May import files, errors and its siblings.

Each function gives the same bytes for the same run, and leaves a file alone that already holds them, so that
sixty jobs may call them on one output at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from r2star.bids.entities import is_label
from r2star.bids.sidecars import RAW
from r2star.errors import UsageError
from r2star.files import write_text_atomically

BIDS_VERSION = "1.10.0"

#: What the standard has no name for yet; a field map may not have ``rec`` and ``ce``, but must be told apart.
BIDSIGNORE = (
    "*.html", "logs/", "figures", "*_xfm.*", "*_stats.tsv", "*_stats.json", "group", "status.tsv",
    "**/fmap/*_rec-*", "**/fmap/*_ce-*",
)  # fmt: skip


def write_dataset_description(
    output_dir: Path, bids_dir: Path, version: str, *, links: Mapping[str, Path] | None = None
) -> Path:
    """Write ``dataset_description.json`` of the derivatives.

    Parameters
    ----------
    output_dir, bids_dir
        Root of the derivatives, and of the dataset that they are made from.
    version
        Of this program.
    links
        Further datasets that Sources point into: name → root.
    """
    roots = {RAW: bids_dir} | dict(links or {})
    description = {
        "Name": "r2star: R2* maps and deep grey matter iron",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "r2star", "Version": version}],
        "DatasetLinks": {name: _link(root, output_dir) for name, root in roots.items()},
        "SourceDatasets": [{"URL": _link(bids_dir, output_dir)}],
    }
    return _write_json_once(output_dir / "dataset_description.json", description)


def other_program(output_dir: Path) -> str | None:
    """What a folder holds by its ``dataset_description.json`` if that is not ours; None where nothing tells.

    >>> other_program(Path("no such folder")) is None
    True
    """
    path = output_dir / "dataset_description.json"
    try:
        told = None if path.is_symlink() else json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(told, dict):
        return None
    makers = told.get("GeneratedBy")
    named = (
        [maker.get("Name") for maker in makers if isinstance(maker, dict)] if isinstance(makers, list) else []
    )
    return None if "r2star" in named else str(told.get("Name") or "without a name")


def _link(root: Path, output_dir: Path) -> str:
    """Where a dataset lies, seen from the output: so both may move together, and no user's home is told."""
    return quote(Path(os.path.relpath(root.resolve(), output_dir.resolve())).as_posix(), safe="/")


def write_bidsignore(output_dir: Path) -> Path:
    """Write ``.bidsignore``, so that the validator passes over what has no valid name yet."""
    return _write_once(output_dir / ".bidsignore", "".join(f"{pattern}\n" for pattern in BIDSIGNORE))


def write_atlas_files(
    output_dir: Path, name: str, labels: Iterable[tuple[int, str]], description: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Write ``atlas-<name>_dseg.tsv`` and ``atlas-<name>_description.json`` at the root of the derivatives.

    Parameters
    ----------
    labels
        Label number and name, such as ``(1, "caudate_L")``; written in the order of the numbers.
    description
        Goes into the JSON file: Name, License, BIDSVersion, SampleSize, …
    """
    if not is_label(name):
        raise UsageError("E509", f"atlas name {name!r}", "letters and digits are needed")
    lines = [f"{index}\t{label}\n" for index, label in sorted(labels)]
    lookup = _write_once(output_dir / f"atlas-{name}_dseg.tsv", "".join(["index\tname\n", *lines]))
    return lookup, _write_json_once(
        output_dir / f"atlas-{name}_description.json", {"Name": name} | dict(description)
    )


def _write_json_once(path: Path, content: Mapping[str, Any]) -> Path:
    return _write_once(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _write_once(path: Path, text: str) -> Path:
    if path.is_symlink() or not path.is_file() or path.read_bytes() != text.encode():
        write_text_atomically(path, text)
    return path
