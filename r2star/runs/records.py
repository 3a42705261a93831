"""What is known of each unit: markers of complete ones and records of failed ones.

May import files, settings and errors. A unit is complete when its marker stands and everything that the
marker names still has the hash that it had. The marker is written last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2star.errors import EnvironmentFault, R2starError
from r2star.files import sha256_of, write_fault, write_text_atomically


@dataclass(frozen=True)
class Marker:
    """A complete unit: what went in, how, and what came out. Hashes are SHA-256 of content."""

    unit: str
    entities: Mapping[str, str]
    state: str
    version: str
    settings: Mapping[str, Any]
    settings_sha256: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    notices: tuple[Mapping[str, str], ...] = ()
    timing: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """What results in one output folder must have alike."""

    version: str
    settings_sha256: str
    settings: Mapping[str, Any]


_SEAL = "sha256"


def units_folder(output_dir: Path) -> Path:
    """Where markers of complete units stand."""
    return output_dir / "logs" / "units"


def failures_folder(output_dir: Path) -> Path:
    """Where records of units that are not complete stand."""
    return output_dir / "logs" / "failures"


def kinds_folder(output_dir: Path) -> Path:
    """Where each version and each set of settings that results were made with is recorded once."""
    return output_dir / "logs" / "settings"


def record_folders(output_dir: Path) -> tuple[Path, ...]:
    """The root, ``logs`` and every folder in it, whatever records it holds; links are not followed."""
    logs = output_dir / "logs"
    return (
        output_dir,
        logs,
        *sorted(path for path in logs.glob("*") if path.is_dir() and not path.is_symlink()),
    )


def write_marker(output_dir: Path, marker: Marker) -> Path:
    """Declare a unit complete; its failure record, if there was one, goes."""
    _record_kind(output_dir, _kind_of(marker))
    path = units_folder(output_dir) / f"{marker.unit}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, _sealed(vars(marker)))
    forget_failure(output_dir, marker.unit)
    return path


def read_marker(output_dir: Path, unit: str) -> Marker | None:
    """A unit's marker; None where there is none that can be read."""
    return _load(units_folder(output_dir) / f"{unit}.json")


def read_markers(output_dir: Path) -> list[Marker]:
    """All markers, sorted by unit."""
    paths = sorted(units_folder(output_dir).glob("*.json"))
    return [marker for path in paths if (marker := _load(path)) is not None]


def unreadable_markers(output_dir: Path) -> list[Path]:
    """Markers that stand but can't be read."""
    return [path for path in sorted(units_folder(output_dir).glob("*.json")) if _load(path) is None]


def _load(path: Path) -> Marker | None:
    try:
        return Marker(**_unsealed(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def record_root_files(output_dir: Path, names: Iterable[str]) -> Path:
    """Record the hashes of the files that stand at the root once for all units."""
    content = {name: sha256_of(output_dir / name) for name in sorted(names)}
    path = output_dir / "logs" / "root_files.json"
    if path.is_symlink() or read_root_files(output_dir) != content:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_fault(error, path.parent) from error
        write_text_atomically(path, _sealed(content))
    return path


def read_root_files(output_dir: Path) -> dict[str, str] | None:
    """Names and hashes of the files at the root; None where the record is missing or damaged."""
    try:
        return _unsealed((output_dir / "logs" / "root_files.json").read_text())
    except (OSError, ValueError):
        return None


def _sealed(content: Mapping[str, Any]) -> str:
    """JSON with a hash of itself, so that no byte of a record changes unnoticed."""
    seal = hashlib.sha256(_plain(content).encode()).hexdigest()
    return json.dumps({**content, _SEAL: seal}, indent=1, sort_keys=True, default=list) + "\n"


def _unsealed(text: str) -> dict[str, Any]:
    """The content of a record; `ValueError` where it is not as it was sealed. One without a seal is taken."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("no record")
    seal = content.pop(_SEAL, None)
    if seal is not None and _sealed(content) != text:
        raise ValueError("the record was changed")
    return content


def _plain(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, default=list)


def begin_unit(output_dir: Path, unit: str) -> None:
    """A unit is about to be worked on: it is not complete, and what failed before is forgotten."""
    for folder in (units_folder(output_dir), failures_folder(output_dir)):
        (folder / f"{unit}.json").unlink(missing_ok=True)


def changed_outputs(output_dir: Path, marker: Marker) -> list[str]:
    """The outputs that are missing or differ from the marker's hashes, relative to the output folder."""
    return [
        name for name, digest in sorted(marker.outputs.items()) if not _has_hash(output_dir / name, digest)
    ]


def changed_inputs(marker: Marker, inputs: Mapping[str, Path]) -> list[str]:
    """Names of inputs that were added, removed or changed since the marker was written."""
    names = sorted(set(marker.inputs) | set(inputs))
    return [
        one for one in names if one not in inputs or not _has_hash(inputs[one], marker.inputs.get(one, ""))
    ]


def _has_hash(path: Path, digest: str) -> bool:
    try:
        return sha256_of(path) == digest
    except EnvironmentFault:
        return False


def record_failure(
    output_dir: Path, unit: str, error: R2starError, *, state: str = "", seconds: float = 0.0
) -> None:
    """Record why a unit is not complete (or was skipped, with ``state``)."""
    path = failures_folder(output_dir) / f"{unit}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {**error.as_dict(), "unit": unit, "state": state or error.state, "seconds": seconds}
    write_text_atomically(path, json.dumps(row, indent=1, sort_keys=True) + "\n")


def forget_failure(output_dir: Path, unit: str) -> None:
    """A unit is complete: what is on record of an earlier failure goes."""
    (failures_folder(output_dir) / f"{unit}.json").unlink(missing_ok=True)


def read_failure(output_dir: Path, unit: str) -> dict[str, Any] | None:
    """The record of a unit that is not complete; None where there is none that can be read."""
    try:
        return dict(json.loads((failures_folder(output_dir) / f"{unit}.json").read_text()))
    except (OSError, ValueError):
        return None


def read_failures(output_dir: Path, names: Sequence[str] = ("*.json",)) -> list[dict[str, Any]]:
    """Records of units that are not complete: all, or those whose file names match one of some patterns."""
    units = sorted({path.stem for name in names for path in failures_folder(output_dir).glob(name)})
    return [record for unit in units if (record := read_failure(output_dir, unit)) is not None]


def kinds_of_results(output_dir: Path) -> list[Kind]:
    """The versions and settings whose results stand in a folder; usually one, told without reading every marker.

    Every marker is preceded by a record of its kind, so a single record speaks for all markers. Where there are
    several, or none, the markers are read, and records of kinds that no marker has any more go.
    """
    folder = kinds_folder(output_dir)
    if next(units_folder(output_dir).glob("*.json"), None) is None:
        return []
    paths = sorted(folder.glob("*.json"))
    if len(paths) == 1:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return [Kind(**json.loads(paths[0].read_text()))]
    kinds = {_kind_path(output_dir, kind): kind for kind in map(_kind_of, read_markers(output_dir))}
    for path in paths:
        if path not in kinds:
            path.unlink(missing_ok=True)
    for kind in kinds.values():
        _record_kind(output_dir, kind)
    return list(kinds.values())


def _kind_of(marker: Marker) -> Kind:
    return Kind(marker.version, marker.settings_sha256, marker.settings)


def _kind_path(output_dir: Path, kind: Kind) -> Path:
    return kinds_folder(output_dir) / f"{kind.version}-{kind.settings_sha256[:16]}.json"


def _record_kind(output_dir: Path, kind: Kind) -> None:
    path = _kind_path(output_dir, kind)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, json.dumps(vars(kind), indent=1, sort_keys=True, default=dict) + "\n")
