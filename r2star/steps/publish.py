"""Step: put a finished unit's files into the derivative dataset, and its marker last."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from r2star import __version__
from r2star.bids.names import unit_folder
from r2star.errors import Notice
from r2star.files import copy_atomically, sha256_of, write_text_atomically
from r2star.runs.records import Marker, state_of, write_marker


class Published(NamedTuple):
    """The unit's marker."""

    marker: Path


def publish_unit(
    files: tuple[Path, ...],
    hashes: Path,
    records: tuple[Path, ...],
    output_dir: str,
    bids_dir: str,
    entities: dict[str, str],
    settings: str,
    settings_sha256: str,
) -> Published:
    """Copy derivatives to their BIDS names, add sources to their sidecars, and write the marker.

    ``files`` are named by the tail of their BIDS name (``R2starmap.nii.gz``); the unit's entities are put before it.
    ``records`` are the steps' records (warnings, time, memory). ``settings`` is JSON.
    """
    root = Path(output_dir)
    folder = unit_folder(root, entities)
    folder.mkdir(parents=True, exist_ok=True)
    label = "_".join(f"{key}-{value}" for key, value in entities.items())
    inputs = {relative_name(Path(path), Path(bids_dir)): digest for path, digest in json.loads(hashes.read_text()).items()}
    outputs: dict[str, str] = {}
    for source in files:
        target = folder / f"{label}_{source.name}"
        if source.suffix == ".json":
            write_text_atomically(target, _with_sources(source, inputs))
        else:
            copy_atomically(source, target)
        outputs[str(target.relative_to(root))] = sha256_of(target)
    steps = [json.loads(path.read_text()) for path in records]
    notices = _gather_notices(steps)
    marker = Marker(
        unit=label,
        entities=entities,
        state=state_of(Notice(**one) for one in notices),
        version=__version__,
        settings=json.loads(settings),
        settings_sha256=settings_sha256,
        inputs=inputs,
        outputs=outputs,
        notices=tuple(notices),
        timing=_timing(steps),
    )
    return Published(write_marker(root, marker))


def relative_name(path: Path, bids_dir: Path) -> str:
    """A file's name in the dataset as a BIDS URI; a file from elsewhere by its bare name.

    >>> relative_name(Path("/data/sub-01/anat/x.nii.gz"), Path("/data"))
    'bids:raw:sub-01/anat/x.nii.gz'
    """
    if path.is_relative_to(bids_dir):
        return f"bids:raw:{path.relative_to(bids_dir)}"
    return path.name


def _with_sources(sidecar: Path, inputs: Iterable[str]) -> str:
    """A sidecar with the images that the unit read as its sources."""
    content = json.loads(sidecar.read_text())
    if "Sources" not in content:
        content["Sources"] = [name for name in sorted(inputs) if name.endswith((".nii", ".nii.gz"))]
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _gather_notices(steps: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """All steps' warnings without repeats, in order."""
    notices: dict[str, dict[str, str]] = {}
    for step in steps:
        for notice in step["notices"]:
            notices.setdefault(json.dumps(notice, sort_keys=True), notice)
    return list(notices.values())


def _timing(steps: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds by step, their sum, and the highest memory of a step."""
    by_step = {f"{step['step']}_s": round(step["seconds"], 3) for step in steps}
    peak = max((step["peak_memory_gib"] for step in steps), default=0.0)
    return {**by_step, "total_s": round(sum(by_step.values()), 3), "peak_memory_gib": round(peak, 3)}
