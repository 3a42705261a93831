"""What the JSON files beside the results say. May import files, errors and its siblings.

Only plain facts of physics are taken over from input sidecars (`ALLOWED_SIDECAR_KEYS`); the rest is new.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from r2star.bids.metadata import ALLOWED_SIDECAR_KEYS
from r2star.bids.names import DERIVATIVES
from r2star.bids.units import Unit
from r2star.files import write_text_atomically

#: Name of the input dataset in BIDS URIs and in DatasetLinks.
RAW = "raw"
#: These differ between echoes: EchoTime is listed, the other is only another name for it.
_PER_ECHO = frozenset({"EchoTime", "EffectiveEchoTime", "Units"})


def bids_uri(path: Path, roots: Mapping[str, Path]) -> str:
    """``bids:<dataset>:<path>`` of a file inside one of the datasets; the bare name of one that is in none.

    ``roots`` maps the names of DatasetLinks to folders; ``""`` stands for the output dataset itself.

    >>> roots = {"raw": Path("/in"), "": Path("/in/derivatives/out")}
    >>> bids_uri(Path("/in/sub-01/anat/sub-01_T1w.nii"), roots)
    'bids:raw:sub-01/anat/sub-01_T1w.nii'
    >>> bids_uri(Path("/in/derivatives/out/sub-01/anat/sub-01_S0map.nii"), roots)
    'bids::sub-01/anat/sub-01_S0map.nii'
    """
    file, folders = path.absolute(), {name: root.absolute() for name, root in roots.items()}
    holding = [(len(root.parts), name) for name, root in folders.items() if file.is_relative_to(root)]
    if not holding:
        return path.name
    _, name = max(holding)
    return f"bids:{name}:{quote(file.relative_to(folders[name]).as_posix(), safe='/')}"


def acquisition_facts(unit: Unit) -> dict[str, Any]:
    """Echo times and what all echoes agree on: field strength, repetition time, scanner and so on.

    >>> acquisition_facts(Unit("01", field_strength_tesla=3.0))
    {'EchoTime': [], 'MagneticFieldStrength': 3.0}
    """
    echoes = unit.magnitude or unit.real
    facts: dict[str, Any] = {"EchoTime": list(unit.echo_times_s)}
    for key in sorted(ALLOWED_SIDECAR_KEYS - _PER_ECHO):
        values = [echo.sidecar.get(key) for echo in echoes]
        if values and values[0] is not None and all(value == values[0] for value in values):
            facts[key] = values[0]
    if unit.field_strength_tesla is not None:
        facts["MagneticFieldStrength"] = unit.field_strength_tesla
    return facts


def image_sidecar(
    kind: str,
    *,
    skull_stripped: bool = False,
    algorithm: str = "",
    reference: str = "",
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is known of one of `DERIVATIVES` where it is made; `with_provenance` adds what only the run knows.

    Parameters
    ----------
    kind
        Key of `DERIVATIVES`; decides Units and Description.
    skull_stripped
        Whether voxels outside the brain were taken away; not said of masks and segmentations.
    algorithm, reference
        EstimationAlgorithm and EstimationReference of a fitted map.
    extra
        Further keys, such as SpatialReference.

    >>> image_sidecar("r2star")["Units"]
    '1/s'
    """
    derivative = DERIVATIVES[kind]
    sidecar: dict[str, Any] = {"Description": derivative.description}
    if derivative.units:
        sidecar["Units"] = derivative.units
    if derivative.suffix not in ("mask", "dseg", "probseg"):
        sidecar["SkullStripped"] = skull_stripped
    if derivative.suffix == "mask":
        sidecar["Type"] = "Brain" if derivative.desc == "brain" else "Lesion"
    if algorithm:
        sidecar |= {"EstimationAlgorithm": algorithm, "EstimationReference": reference}
    return sidecar | dict(extra or {})


def with_provenance(
    sidecar: Mapping[str, Any],
    sources: Sequence[str],
    software: Mapping[str, str],
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Add sources (BIDS URIs), the programs whose numbers these are, and facts of the acquisition.

    ``facts`` (see `acquisition_facts`) go to images with a unit of measurement; what the sidecar says stays.
    """
    known = dict(facts or {}) if "Units" in sidecar else {}
    generated = [{"Name": name, "Version": version} for name, version in software.items()]
    return known | dict(sidecar) | {"Sources": list(sources), "GeneratedBy": generated}


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a JSON object, keys in their order; NaN is refused, since JSON has none."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomically(path, text + "\n")
    return path


def write_lookup(
    path: Path, rows: Iterable[Mapping[str, object]], columns: Sequence[str] = ("index", "name")
) -> Path:
    """Write the lookup table of a label image: ``index``, ``name``, and further columns where asked for."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(_cell(row[column]) for column in columns) for row in rows]
    write_text_atomically(path, "\n".join(lines) + "\n")
    return path


def _cell(value: object) -> str:
    return " ".join(str(value).split()) or "n/a"
