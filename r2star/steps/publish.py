"""Step: put a finished unit's files into the derivative dataset, and its marker last."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from r2star import __version__
from r2star.bids.names import kind_of, result_path, sidecar_path
from r2star.bids.sidecars import RAW, acquisition_facts, bids_uri, image_sidecar, with_provenance, write_json
from r2star.bids.units import Unit
from r2star.files import copy_atomically, sha256_of, sweep_temporary
from r2star.runs.records import Marker, write_marker

SOFTWARE = {"r2star": __version__}


class Published(NamedTuple):
    """The unit's marker."""

    marker: Path


def publish_unit(
    unit: Unit,
    files: tuple[Path, ...],
    hashes: tuple[Path, ...],
    records: tuple[Path, ...],
    output_dir: str,
    bids_dir: str,
    settings: str,
    settings_sha256: str,
    out_dir: Path,
    datasets: dict[str, str] | None = None,
) -> Published:
    """Copy derivatives to their BIDS names, add their provenance to the sidecars, and write the marker.

    ``files`` are named by the tail of their BIDS name (``R2starmap.nii.gz``); the unit's entities are put
    before it. ``records`` are the steps' records (warnings, time, memory). ``settings`` is JSON. ``datasets`` are those
    of other programs, by the name that DatasetLinks has for them.
    """
    root = Path(output_dir)
    roots = {RAW: Path(bids_dir)} | {name: Path(path) for name, path in (datasets or {}).items()}
    known = [item for path in hashes for item in json.loads(path.read_text()).items()]
    inputs = {bids_uri(Path(path), roots): digest for path, digest in known}
    images = [name for name in sorted(inputs) if name.endswith((".nii", ".nii.gz"))]
    outputs: dict[str, str] = {}
    folders: set[Path] = set()
    for source in (*files, *_missing_sidecars(files, out_dir)):
        target = root / result_path(unit, source.name)
        if target.parent not in folders:
            target.parent.mkdir(parents=True, exist_ok=True)
            sweep_temporary(target.parent)  # what an earlier run was killed over
            folders.add(target.parent)
        if source.suffix == ".json":
            sidecar = json.loads(source.read_text())
            write_json(target, with_provenance(sidecar, images, SOFTWARE, acquisition_facts(unit)))
        else:
            copy_atomically(source, target)
        outputs[target.relative_to(root).as_posix()] = sha256_of(target)
    steps = [json.loads(path.read_text()) for path in records]
    notices = _gather_notices(steps)
    marker = Marker(
        unit=unit.label,
        entities=unit.entities,
        state="ok_warn" if notices else "ok",
        version=__version__,
        settings=json.loads(settings),
        settings_sha256=settings_sha256,
        inputs=inputs,
        outputs=outputs,
        notices=tuple(notices),
        timing=_timing(steps),
    )
    return Published(write_marker(root, marker))


def _missing_sidecars(files: Iterable[Path], out_dir: Path) -> list[Path]:
    """Sidecars for images that came without one, by what their names say."""
    names = {path.name for path in files}
    images = [
        name
        for name in sorted(names)
        if name.endswith(".nii.gz") and sidecar_path(Path(name)).name not in names
    ]
    return [
        write_json(out_dir / sidecar_path(Path(name)).name, image_sidecar(kind_of(name))) for name in images
    ]


def _gather_notices(steps: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """All steps' warnings without repeats, in order."""
    notices: dict[str, dict[str, str]] = {}
    for step in steps:
        for notice in step["notices"]:
            notices.setdefault(json.dumps(notice, sort_keys=True), notice)
    return list(notices.values())


def _timing(steps: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds by step (of all its runs, where a graph has it more than once), their sum, and the highest memory."""
    by_step: dict[str, float] = {}
    peak = 0.0
    for step in steps:
        name = f"{step['step']}_s"
        by_step[name] = by_step.get(name, 0.0) + step["seconds"]
        peak = max(peak, step["peak_memory_gib"])
    rounded = {name: round(seconds, 3) for name, seconds in by_step.items()}
    return {**rounded, "total_s": round(sum(by_step.values()), 3), "peak_memory_gib": round(peak, 3)}
