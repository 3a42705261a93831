"""What a participant's page shows, gathered from markers and published files. May import images, register and bids.

Only files that the unit's marker names are read, so that a page never mixes runs. Everything is brought to
RAS+ and cut to the brain: nothing outside it reaches the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from r2star.atlas import packaged_template
from r2star.images import Grid, Image, read_image, to_canonical
from r2star.report.facts import UnitFacts, Volumes
from r2star.runs.records import Marker
from r2star.steps.report_norms import norm_ranges
from r2star.steps.report_regions import (
    PublishedFiles,
    PublishedRegions,
    published_regions,
    transforms_to_templates,
)

_RAW = "bids:raw:"
#: Room around the brain, voxels.
_MARGIN = 2


def facts_of_failure(record: Mapping[str, Any], version: str, bids_dir: Path) -> UnitFacts:
    """A unit that has no result; paths are told relative to the dataset."""
    error = {name: str(record.get(name, "")) for name in ("code", "found", "needed", "fix", "path")}
    if error["path"]:
        error["path"] = _inside(error["path"], bids_dir)
    label = str(record["unit"])
    entities = dict(pair.partition("-")[::2] for pair in label.split("_"))
    return UnitFacts(label, entities, str(record["state"]), version, error=error)


def _inside(path: str, bids_dir: Path) -> str:
    for root in (bids_dir, bids_dir.absolute(), bids_dir.resolve()):
        if Path(path).is_relative_to(root):
            return Path(path).relative_to(root).as_posix()
    return Path(path).name


def facts_of(marker: Marker, output_dir: Path, bids_dir: Path, age_years: float | None) -> UnitFacts:
    """Everything that is shown of a complete unit."""
    files = PublishedFiles(marker, output_dir)
    shown = published_regions(marker, files, output_dir)
    acquisition = files.json("R2starmap.json")
    quality_sidecar = files.json("desc-quality_stats.json")
    field = acquisition.get("MagneticFieldStrength")
    notices = [
        {**notice, "path": _inside(notice["path"], bids_dir) if notice.get("path") else ""}
        for notice in marker.notices
    ]
    facts = UnitFacts(
        marker.unit, marker.entities, marker.state, marker.version, marker.settings, notices,
        inputs={unquote(name.removeprefix(_RAW)): digest for name, digest in marker.inputs.items()},
        outputs=marker.outputs,
        acquisition=acquisition,
        software=quality_sidecar.get("Software", {}),
        quality=files.table("desc-quality_stats.tsv"),
        decay=files.table("desc-decay_stats.tsv"),
        field_facts=files.json("desc-B0_fieldmap.json"),
    )  # fmt: skip
    if shown is None:
        return facts
    rule = files.json(f"{shown.stem}_desc-R2star_stats.json").get("VoxelRule", {})
    names = list(dict.fromkeys(region.name for region in shown.regions))
    spaces = " and ".join(transforms_to_templates(files))
    return replace(
        facts,
        region_rows=shown.rows,
        voxel_rule=str(rule.get("Description", "")),
        regions=shown.regions,
        atlas={"name": shown.name, "space": spaces, "citation": shown.citation},
        norms=norm_ranges(names, age_years, float(field) if isinstance(field, int | float) else None),
        volumes=_volumes(files, shown, facts, bids_dir),
    )  # fmt: skip


def _image(files: PublishedFiles, tail: str) -> Image | None:
    """An image in RAS+ order."""
    path = files.path(tail)
    return None if path is None else canonical(path)


def canonical(path: Path) -> Image:
    """An image in the storage order closest to RAS+."""
    image = read_image(path, assume_orientation=True)
    data, grid = to_canonical(image.data, image.grid)
    return replace(image, data=np.asarray(data), grid=grid)


def _volumes(
    files: PublishedFiles, shown: PublishedRegions, facts: UnitFacts, bids_dir: Path
) -> Volumes | None:
    r2star, mask, labels = (
        _image(files, tail)
        for tail in ("R2starmap.nii.gz", "desc-brain_mask.nii.gz", f"{shown.stem}_dseg.nii.gz")
    )
    if r2star is None or mask is None or labels is None:
        return None
    inside = np.nan_to_num(mask.data) > 0
    if not inside.any():
        return None
    box, grid = brain_box(inside, r2star.grid)
    brain = np.ascontiguousarray(inside[box])
    maps = {"r2star": r2star.data[box]}
    s0 = _image(files, "S0map.nii.gz")
    if s0 is not None:
        maps["megre"] = s0.data[box] * np.exp(-maps["r2star"] * max(facts.echo_times_s, default=0.0))
    maps |= _fitted_maps(files, box, s0)
    maps |= _field_maps(files, box)
    maps |= _anatomy(files, facts, bids_dir, grid)
    for name, values in maps.items():
        if name != "status":
            maps[name] = np.where(brain, values, np.nan).astype(np.float32)
    return Volumes(maps, shown.numbered(labels.data[box]), brain, grid.affine, grid.voxel_size_mm)


def brain_box(inside: NDArray[np.bool_], grid: Grid) -> tuple[tuple[slice, ...], Grid]:
    """The box around a brain with a little room, and its grid."""
    box = []
    for axis in range(3):
        found = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        box.append(
            slice(max(0, int(found[0]) - _MARGIN), min(inside.shape[axis], int(found[-1]) + 1 + _MARGIN))
        )
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([one.start for one in box], float)
    x, y, z = (one.stop - one.start for one in box)
    return tuple(box), Grid((x, y, z), affine)


def _fitted_maps(files: PublishedFiles, box: tuple[slice, ...], s0: Image | None) -> dict[str, NDArray[Any]]:
    maps: dict[str, NDArray[Any]] = {}
    for name, tail in (
        ("stderr", "desc-stderr_R2starmap.nii.gz"),
        ("residual", "desc-residual_R2starmap.nii.gz"),
        ("status", "desc-fitstatus_dseg.nii.gz"),
    ):
        image = _image(files, tail)
        if image is not None:
            maps[name] = image.data[box]
    if "residual" in maps and s0 is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            maps["residual"] = maps["residual"] / s0.data[box]
    return maps


def _field_maps(files: PublishedFiles, box: tuple[slice, ...]) -> dict[str, NDArray[Any]]:
    maps: dict[str, NDArray[Any]] = {}
    b0, gradient, bias = (
        _image(files, tail)
        for tail in ("desc-B0_fieldmap.nii.gz", "desc-gradient_fieldmap.nii.gz", "desc-gradientbias_R2starmap.nii.gz")
    )  # fmt: skip
    if b0 is not None:
        maps["b0"] = b0.data[box]
    if gradient is not None:
        maps["gradient"] = np.linalg.norm(gradient.data[box], axis=-1)
    if bias is not None:
        maps["bias"] = bias.data[box]
    return maps


def _anatomy(files: PublishedFiles, facts: UnitFacts, bids_dir: Path, grid: Grid) -> dict[str, NDArray[Any]]:
    """T1w and a packaged template on the grid of the echoes."""
    from r2star.register.grids import pull
    from r2star.register.transforms import read_composite

    t1w_name = next((name for name in facts.inputs if name.endswith(("_T1w.nii", "_T1w.nii.gz"))), None)
    to_t1w = files.path("from-T1w_to-MEGRE_mode-image_xfm.h5")
    if t1w_name is not None and to_t1w is None:
        return {}
    first = [] if to_t1w is None else read_composite(to_t1w)
    maps: dict[str, NDArray[Any]] = {}
    for space, path in transforms_to_templates(files).items():
        atlas = packaged_template(space)
        if atlas is not None and "template" not in maps:
            chain = [*first, *read_composite(path)]
            maps["template"] = pull(canonical(atlas.t1w), chain, grid).data
    if t1w_name is not None and (bids_dir / t1w_name).is_file():
        maps["t1w"] = pull(canonical(bids_dir / t1w_name), first, grid).data
    return maps
