"""Names and sidecars of results, and a dataset of all of them in front of the BIDS validator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from r2star.bids.dataset import write_atlas_files, write_bidsignore, write_dataset_description
from r2star.bids.names import (
    DERIVATIVES,
    derivative_path,
    kind_of,
    path_of,
    report_path,
    result_path,
    sidecar_path,
)
from r2star.bids.sidecars import (
    acquisition_facts,
    bids_uri,
    image_sidecar,
    with_provenance,
    write_json,
    write_lookup,
)
from r2star.bids.units import EchoFile, Unit
from r2star.errors import UsageError

SPACE = "MNI152NLin2009cAsym"
#: Every derivative of a unit with the entities that it is written with.
WRITTEN: list[tuple[str, dict[str, str | None]]] = [
    *((kind, {}) for kind in DERIVATIVES if kind not in ("labels", "weights", "transform", "region_table")),
    ("weights", {"atlas": "CIT168"}),
    ("labels", {"atlas": "CIT168"}), ("labels", {"segmentation": "FreeSurfer"}), ("r2star", {"space": SPACE}),
    *(("transform", {"from_": a, "to": b}) for a, b in (("MEGRE", "T1w"), ("T1w", "MEGRE"), ("T1w", SPACE))),
    ("region_table", {"atlas": "CIT168"}), ("region_table", {"segmentation": "FreeSurfer"}),
]  # fmt: skip


def a_unit(root: Path, **labels: str) -> Unit:
    facts = {
        "RepetitionTime": 0.05,
        "FlipAngle": 15,
        "Manufacturer": "Siemens",
        "MagneticFieldStrength": 2.89,
    }
    stem = root / "sub-01" / "anat" / "sub-01"
    echoes = tuple(
        EchoFile(Path(f"{stem}_echo-{n}_MEGRE.nii.gz"), n, time, "mag", facts | {"EchoTime": time})
        for n, time in ((1, 0.004), (2, 0.009))
    )
    return Unit("01", magnitude=echoes, field_strength_tesla=2.89, **labels)


def test_names_have_their_entities_in_order() -> None:
    unit = Unit("01", session="02", acquisition="a", ceagent="g", reconstruction="r", run="03")
    label = "sub-01_ses-02_acq-a_ce-g_rec-r_run-03"
    anat, fmap = f"sub-01/ses-02/anat/{label}", f"sub-01/ses-02/fmap/{label}"
    found = [path_of(unit, kind, **entities).as_posix() for kind, entities in WRITTEN]
    assert found == [
        f"{anat}_R2starmap.nii.gz", f"{anat}_desc-stderr_R2starmap.nii.gz", f"{anat}_T2starmap.nii.gz",
        f"{anat}_S0map.nii.gz", f"{anat}_desc-residual_R2starmap.nii.gz",
        f"{anat}_desc-fitstatus_dseg.nii.gz", f"{anat}_desc-fitstatus_dseg.tsv",
        f"{anat}_desc-brain_mask.nii.gz", f"{anat}_desc-lesions_mask.nii.gz",
        f"{fmap}_desc-B0_fieldmap.nii.gz", f"{fmap}_desc-B0stderr_fieldmap.nii.gz",
        f"{fmap}_desc-gradient_fieldmap.nii.gz", f"{fmap}_desc-gradientstderr_fieldmap.nii.gz",
        f"{anat}_desc-gradientbias_R2starmap.nii.gz", f"{fmap}_magnitude.nii.gz",
        f"{anat}_desc-quality_stats.tsv", f"{anat}_desc-decay_stats.tsv",
        f"{anat}_atlas-CIT168_probseg.nii.gz",
        f"{anat}_atlas-CIT168_dseg.nii.gz", f"{anat}_seg-FreeSurfer_dseg.nii.gz",
        f"{anat}_space-{SPACE}_R2starmap.nii.gz", f"{anat}_from-MEGRE_to-T1w_mode-image_xfm.h5",
        f"{anat}_from-T1w_to-MEGRE_mode-image_xfm.h5", f"{anat}_from-T1w_to-{SPACE}_mode-image_xfm.h5",
        f"{anat}_atlas-CIT168_desc-R2star_stats.tsv", f"{anat}_seg-FreeSurfer_desc-R2star_stats.tsv",
    ]  # fmt: skip
    assert sidecar_path(Path("a/b_R2starmap.nii.gz")) == Path("a/b_R2starmap.json")
    assert sidecar_path(Path("a/b_stats.tsv")) == Path("a/b_stats.json")
    assert report_path("01") == Path("sub-01.html")


@pytest.mark.parametrize("label", ["../../etc", "a b", "a_b", "", "$(touch pwn)"])
def test_what_is_no_label_never_gets_into_a_name(label: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        derivative_path(Unit("01"), "dseg", atlas=label)
    with pytest.raises(UsageError):
        write_atlas_files(tmp_path, label, [], {})
    assert not list(tmp_path.iterdir())


def test_sources_are_bids_uris(tmp_path: Path) -> None:
    roots = {"raw": tmp_path, "": tmp_path / "derivatives" / "out", "fs": tmp_path / "derivatives" / "fs"}
    inside = {"sub-01/x y.nii": "bids:raw:sub-01/x%20y.nii", "derivatives/out/a.nii": "bids::a.nii",
              "derivatives/fs/a.nii": "bids:fs:a.nii"}  # fmt: skip
    assert {name: bids_uri(tmp_path / name, roots) for name in inside} == inside
    assert bids_uri(Path("/elsewhere/secret/atlas.nii"), roots) == "atlas.nii"


def test_the_tail_of_a_name_decides_the_folder() -> None:
    unit = Unit("01", session="2", run="1")
    for kind, entities in WRITTEN:
        path = path_of(unit, kind, **entities)
        assert result_path(unit, path.name.removeprefix(f"{unit.label}_")) == path
        assert kind_of(path.name) == kind


def test_a_sidecar_says_what_was_measured_and_how(tmp_path: Path) -> None:
    unit = a_unit(tmp_path)
    made = image_sidecar(
        "r2star_stderr", algorithm="exact least squares", reference="doi:x", extra={"SpatialReference": "x"}
    )
    sources = [bids_uri(echo.path, {"raw": tmp_path}) for echo in unit.magnitude]
    sidecar = with_provenance(made, sources, {"r2star": "1.0", "numpy": "2.3"}, acquisition_facts(unit))
    assert sidecar == {
        "Description": "Standard error of R2*; NaN where there is none", "Units": "1/s",
        "SkullStripped": False, "EstimationAlgorithm": "exact least squares",
        "EstimationReference": "doi:x", "EchoTime": [0.004, 0.009],
        "FlipAngle": 15, "MagneticFieldStrength": 2.89, "Manufacturer": "Siemens", "RepetitionTime": 0.05,
        "Sources": [f"bids:raw:sub-01/anat/sub-01_echo-{n}_MEGRE.nii.gz" for n in (1, 2)],
        "GeneratedBy": [{"Name": "r2star", "Version": "1.0"}, {"Name": "numpy", "Version": "2.3"}],
        "SpatialReference": "x",
    }  # fmt: skip
    mask = with_provenance(image_sidecar("brain_mask"), [], {}, acquisition_facts(unit))
    assert mask.keys() == {"Description", "Type", "Sources", "GeneratedBy"}


def test_facts_on_which_echoes_differ_are_left_out(tmp_path: Path) -> None:
    first, second = a_unit(tmp_path).magnitude
    other = EchoFile(
        second.path, 2, 0.009, "mag", {"EchoTime": 0.009, "FlipAngle": 16, "Manufacturer": "Siemens"}
    )
    facts = acquisition_facts(Unit("01", magnitude=(first, other)))
    assert facts == {"EchoTime": [0.004, 0.009], "Manufacturer": "Siemens"}


def test_root_files_are_written_once_and_never_through_a_link(tmp_path: Path) -> None:
    out, raw, victim = tmp_path / "out", tmp_path / "with space", tmp_path / "victim"
    out.mkdir()
    raw.mkdir()
    victim.write_text("precious")
    (out / ".bidsignore").symlink_to(victim)
    write_bidsignore(out)
    path = write_dataset_description(out, raw, "1.0", links={"fs": raw / "derivatives" / "fs"})
    assert victim.read_text() == "precious"
    assert not (out / ".bidsignore").is_symlink()
    links = json.loads(path.read_text())["DatasetLinks"]
    assert links == {"raw": "../with%20space", "fs": "../with%20space/derivatives/fs"}
    before = path.stat().st_mtime_ns
    write_dataset_description(out, raw, "1.0", links={"fs": raw / "derivatives" / "fs"})
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="JSON"):
        write_json(out / "x.json", {"a": float("nan")})


def fill(out: Path, unit: Unit, raw: Path) -> None:
    """Write every derivative of a unit: a tiny image, a line of text, a sidecar."""
    for kind, entities in WRITTEN:
        path, derivative = out / path_of(unit, kind, **entities), DERIVATIVES[kind]
        path.parent.mkdir(parents=True, exist_ok=True)
        if derivative.extension == ".nii.gz":
            dtype = np.uint8 if derivative.suffix in ("dseg", "mask") else np.float32
            image = nib.Nifti1Image(np.ones((4, 4, 4), dtype), np.diag([2.0, 2, 2, 1]))
            image.header.set_xyzt_units("mm", "sec")
            nib.save(image, path)
            sources = [bids_uri(echo.path, {"raw": raw, "": out}) for echo in unit.magnitude]
            made = image_sidecar(kind, extra={"SpatialReference": "x"} if "space" in entities else {})
            sidecar = with_provenance(made, sources, {"r2star": "1.0"}, acquisition_facts(unit))
            write_json(sidecar_path(path), sidecar)
        elif derivative.suffix == "dseg":
            write_lookup(path, [{"index": 0, "name": "ok"}, {"index": 1, "name": "no signal"}])
        else:
            path.write_text("a\tb\n")
            write_json(sidecar_path(path), {"a": {"Description": "b"}})


def test_the_validator_accepts_every_derivative(
    tmp_path: Path, bids_errors: Callable[[Path], list[Any]]
) -> None:
    out, raw = tmp_path / "raw" / "derivatives" / "r2star", tmp_path / "raw"
    for name in ("logs", "group/figures"):
        (out / name).mkdir(parents=True)
    write_dataset_description(out, raw, "1.0")
    write_bidsignore(out)
    write_atlas_files(out, "CIT168", [(1, "caudate_L")], {"License": "CC-BY-4.0"})
    fill(out, a_unit(raw), raw)
    fill(out, a_unit(raw, session="02", acquisition="a", run="1"), raw)
    fill(out, a_unit(raw, session="02", acquisition="a", reconstruction="r", run="1"), raw)
    fill(out, a_unit(raw, session="02", ceagent="g"), raw)
    loose = ("status.tsv", "sub-01.html", "group.html", "logs/x.txt", "group/figures/x.svg")
    for name in (
        *loose,
        *(f"group/{stem}.{end}" for stem in ("regions", "m_stats") for end in ("tsv", "json")),
    ):
        (out / name).write_text("{}\n")
    assert sum(1 for path in out.rglob("*") if path.is_file()) > 80
    assert bids_errors(out) == []
