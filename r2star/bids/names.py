"""Names of everything that a unit's results are written to. May import errors and its siblings.

A path here is relative to the output dataset. `DERIVATIVES` names each kind of result once; steps, reports
and the group stage ask for it by that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from r2star.bids.entities import ENTITY_KEYS, is_label
from r2star.bids.units import Unit
from r2star.errors import UsageError


@dataclass(frozen=True)
class Derivative:
    """One kind of result: what its name ends with, its unit, and what it holds in a sentence.

    ``units`` is text in the sense of BIDS, empty for masks, labels and files that are no images.
    """

    suffix: str
    extension: str = ".nii.gz"
    desc: str | None = None
    units: str = ""
    description: str = ""


#: Every kind of result of a unit. Entities such as atlas, space, from and to are added when it is named.
DERIVATIVES: Mapping[str, Derivative] = {
    "r2star": Derivative("R2starmap", units="1/s", description="R2*; NaN where there is no estimate"),
    "r2star_stderr": Derivative(
        "R2starmap", desc="stderr", units="1/s", description="Standard error of R2*; NaN where there is none"
    ),
    "t2star": Derivative("T2starmap", units="s", description="T2*, the inverse of R2*"),
    "s0": Derivative(
        "S0map", units="arbitrary", description="Signal at echo time 0, in the unit of the images"
    ),
    "residual": Derivative(
        "R2starmap",
        desc="residual",
        units="arbitrary",
        description="sqrt(RSS/(E-2)) of the fit: sigma of the noise where the model holds",
    ),
    "fit_status": Derivative(
        "dseg", desc="fitstatus", description="Why a voxel has no value, or is doubtful"
    ),
    "fit_status_lookup": Derivative("dseg", ".tsv", desc="fitstatus"),
    "brain_mask": Derivative("mask", desc="brain", description="Brain"),
    "lesion_mask": Derivative("mask", desc="lesions", description="Lesions"),
    "labels": Derivative("dseg", description="Regions on the grid of the MEGRE images"),
    "weights": Derivative("probseg", description="How surely a voxel belongs to its label, 0 to 1"),
    "b0": Derivative("fieldmap", desc="B0", units="Hz", description="Static field off resonance"),
    "b0_stderr": Derivative("fieldmap", desc="B0stderr", units="Hz", description="Standard error of B0"),
    "gradient": Derivative(
        "fieldmap",
        desc="gradient",
        units="uT/m",
        description="Gradient of B0 along the axes of the voxel grid",
    ),
    "gradient_stderr": Derivative(
        "fieldmap",
        desc="gradientstderr",
        units="uT/m",
        description="Standard error of the gradient of B0 along the axes of the voxel grid",
    ),
    "gradient_bias": Derivative(
        "R2starmap",
        desc="gradientbias",
        units="1/s",
        description="What macroscopic field gradients add to R2*; NaN where that is not known",
    ),
    "magnitude": Derivative(
        "magnitude",
        units="arbitrary",
        description="Mean over echoes; a field map needs one to stand beside it",
    ),
    "transform": Derivative("xfm", ".h5", description="Transform of points and images"),
    "region_table": Derivative("stats", ".tsv", desc="R2star", description="Statistics of R2* by region"),
    "quality_table": Derivative("stats", ".tsv", desc="quality", description="Measures of quality"),
    "decay_table": Derivative("stats", ".tsv", desc="decay", description="Decay of the signal by region"),
}


def derivative_path(
    unit: Unit,
    suffix: str,
    *,
    desc: str | None = None,
    space: str | None = None,
    atlas: str | None = None,
    segmentation: str | None = None,
    from_: str | None = None,
    to: str | None = None,
    extension: str = ".nii.gz",
) -> Path:
    """Path of a result of a unit, relative to the output dataset.

    >>> unit = Unit("01", session="02", run="1")
    >>> derivative_path(unit, "R2starmap", desc="stderr").as_posix()
    'sub-01/ses-02/anat/sub-01_ses-02_run-1_desc-stderr_R2starmap.nii.gz'
    >>> derivative_path(unit, "xfm", from_="MEGRE", to="T1w", extension=".h5").name
    'sub-01_ses-02_run-1_from-MEGRE_to-T1w_mode-image_xfm.h5'
    """
    entities = {
        "from": from_,
        "to": to,
        "mode": "image" if from_ else None,
        "space": space,
        "atlas": atlas,
        "seg": segmentation,
        "desc": desc,
    }
    pairs = [unit.label]
    for key in ENTITY_KEYS.values():
        value = entities.get(key)
        if value is None:
            continue
        if not is_label(value):
            raise UsageError("E509", f"{value!r} can't stand in a file name", "letters and digits are needed")
        pairs.append(f"{key}-{value}")
    return _folder_for(unit, suffix) / f"{'_'.join(pairs)}_{suffix}{extension}"


def result_path(unit: Unit, tail: str) -> Path:
    """Path of a result whose name without the unit's entities is known, relative to the output dataset.

    >>> result_path(Unit("01"), "desc-B0_fieldmap.nii.gz").as_posix()
    'sub-01/fmap/sub-01_desc-B0_fieldmap.nii.gz'
    """
    return _folder_for(unit, tail.partition(".")[0].rpartition("_")[2]) / f"{unit.label}_{tail}"


def _folder_for(unit: Unit, suffix: str) -> Path:
    return unit_folder(unit, "fmap" if suffix in ("fieldmap", "magnitude") else "anat")


def path_of(unit: Unit, kind: str, **entities: str | None) -> Path:
    """Path of one of `DERIVATIVES`, relative to the output dataset.

    >>> path_of(Unit("01"), "labels", atlas="CIT168").as_posix()
    'sub-01/anat/sub-01_atlas-CIT168_dseg.nii.gz'
    """
    derivative = DERIVATIVES[kind]
    return derivative_path(
        unit, derivative.suffix, extension=derivative.extension, **({"desc": derivative.desc} | entities)
    )  # fmt: skip


def kind_of(name: str) -> str:
    """Key in `DERIVATIVES` of a file, by suffix, ``desc`` and extension of its name.

    >>> kind_of("sub-01_atlas-CIT168_dseg.nii.gz"), kind_of("desc-stderr_R2starmap.nii.gz")
    ('labels', 'r2star_stderr')
    """
    stem, _, extension = name.partition(".")
    *pairs, suffix = stem.split("_")
    desc = next((pair.removeprefix("desc-") for pair in pairs if pair.startswith("desc-")), None)
    for kind, one in DERIVATIVES.items():
        if (one.suffix, one.extension, one.desc) == (suffix, f".{extension}", desc):
            return kind
    raise ValueError(f"no kind of result is named {name}")


def unit_folder(unit: Unit, datatype: str = "anat") -> Path:
    """``sub-X[/ses-Y]/anat`` (``fmap`` for maps of the field), relative to the output dataset."""
    session = [] if unit.session is None else [f"ses-{unit.session}"]
    return Path(f"sub-{unit.participant}", *session, datatype)


def sidecar_path(path: Path) -> Path:
    """The JSON file that belongs to an image or table: ``x.nii.gz`` → ``x.json``."""
    stem = path.name.removesuffix(".gz")
    return path.with_name(Path(stem).stem + ".json")


def report_path(participant: str) -> Path:
    """``sub-X.html``, relative to the output dataset."""
    return Path(f"sub-{participant}.html")
