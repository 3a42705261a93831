"""Methods in sentences, exactly for what was run: one a step, from the settings and what the unit's files tell.

`SENTENCES` is the table: which settings a sentence speaks for, and the function that writes it (or nothing).
A setting that no sentence speaks for is told by its name and value, so that none is passed over in silence.
References are keys of `REFERENCES`, in square brackets in the text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from r2star.report.facts import UnitFacts
from r2star.report.page import static_text

REFERENCES: Mapping[str, str] = tomllib.loads(static_text("references.toml"))["references"]

_FITS = {
    "loglinear": "by ordinary least squares of the logarithm of the magnitude on echo time",
    "weighted": "by least squares of the logarithm of the magnitude on echo time, weighted by the squared fitted "
    "signal [Edwards 2022]",
    "arlo": "by auto-regression on linear operations of the evenly spaced echoes [Pei 2015]",
    "nonlinear": "by exact nonlinear least squares of the magnitudes with variable projection [Golub 1973]",
    "rician": "by least squares of the magnitudes against the first moment of their noise distribution [Feng 2013]",
}  # fmt: skip


class Sentence(NamedTuple):
    """Which settings a sentence tells of, and how it is written; empty text where there is nothing to tell."""

    settings: tuple[str, ...]
    write: Callable[[UnitFacts], str]


def _acquisition(unit: UnitFacts) -> str:
    times = ", ".join(f"{1000 * time:g}" for time in unit.echo_times_s)
    field = unit.acquisition.get("MagneticFieldStrength")
    where = f" at {field:g} T" if isinstance(field, int | float) else ""
    return (
        f"Multi-echo gradient-echo images{where} with {len(unit.echo_times_s)} echoes (echo times {times} ms) were "
        f"taken from a BIDS dataset [Gorgolewski 2016] and processed with r2star {unit.version}, which runs its "
        "steps with Nipype [Gorgolewski 2011]."
    )


def _inputs(unit: UnitFacts) -> str:
    text = "Every image was read to its last byte and checked for shape, grid, orientation and values before use."
    xform, assumed = unit.settings.get("xform"), unit.settings.get("assume_orientation")
    if xform:
        text += f" Where sform and qform contradicted each other, the {xform} was used (--xform {xform})."
    if assumed:
        text += (
            " Images without an orientation in their header were taken in their storage order "
            "(--assume-orientation)."
        )
    return text


def _denoise(unit: UnitFacts) -> str:
    if unit.settings.get("denoise") != "mppca":
        return ""
    text = "The echoes were denoised by Marchenko-Pastur principal component analysis before the fit [Veraart 2016]"
    ratio = unit.acquisition.get("Denoising", {}).get("ResidualRatio")
    return (
        f"{text}." if ratio is None else f"{text}; the fit's residuals became {ratio:g} times what they were."
    )


def _fit(unit: UnitFacts) -> str:
    method = str(unit.settings.get("fit_method"))
    corrected = is_corrected(unit)
    model = "S(t) = S0·exp(−R2*·t)·|F(t)|" if corrected else "S(t) = S0·exp(−R2*·t)"
    how = _FITS.get(method, f"with the estimator {method}")
    text = f"R2* and S0 were estimated in every voxel from {model} {how}."
    if corrected:
        text += (
            " |F(t)| is the dephasing by the measured gradient of the static field across a voxel "
            "[Fernandez-Seara 2000]."
        )
    if len(unit.echo_times_s) == 2 and method != "rician":
        return (
            text + " With two echoes the standard error of R2* follows from the noise of the background, "
            "where it could be told."
        )
    return (
        text
        + " The standard error of R2* follows from the residuals and the curvature of the fit at its optimum."
    )


def _field(unit: UnitFacts) -> str:
    asked = unit.settings.get("field_gradient")
    if not unit.has_phase or asked == "off":
        return ""
    text = (
        "The static field was mapped from the phase of the echoes, unwrapped in space [Abdul-Rahman 2005] and in time, "
        "and its gradient was fitted to each voxel's neighbourhood."
    )
    if asked == "correct":
        return (
            text
            if is_corrected(unit)
            else text + " The sidecars did not tell what a correction of R2* takes."
        )
    predicted = any(name.endswith("desc-gradientbias_R2starmap.nii.gz") for name in unit.outputs)
    if predicted:
        return (
            text + " What that gradient adds to R2* was predicted and is reported [Fernandez-Seara 2000]; "
            "R2* was not corrected for it."
        )
    return text + " The sidecars did not tell what a prediction of its effect on R2* takes."


def _registration(unit: UnitFacts) -> str:
    if unit.settings.get("fit_only"):
        return ""
    seed, space = unit.settings.get("random_seed"), unit.atlas.get("space") or "that was asked for"
    rough = " with a rough schedule meant for tests only (--sloppy)" if unit.settings.get("sloppy") else ""
    ants = f"ANTs (antspyx {unit.software['antspyx']})" if "antspyx" in unit.software else "ANTs"
    where = "at 4 mm" if rough else "at 2 mm and then in a box around the regions at 1 mm"
    how = (
        f"The affine transforms were found with {ants} [Avants 2011], random seed {seed}, the deformation by r2star "
        f"itself: a greedy diffeomorphic ascent of local correlation (after [Avants 2008]) over the whole brain "
        f"{where}{rough}."
    )
    by_iron = not is_corrected(unit)
    if unit.has_t1w:
        refined = " R2* against an R2* map painted from the atlas then refined the deformation."
        return (
            f"The T1-weighted image was registered to the template {space} by affine and diffeomorphic transforms, "
            f"and the root mean square of the echoes rigidly to the T1-weighted image. {how}"
            f"{refined if by_iron and not unit.settings.get('sloppy') else ''}"
        )
    driver = " An R2* map painted from the atlas drove the deformation in the box as well." if by_iron else ""
    whose = " of the participant's first session" if unit.has_reference else ""
    others = " That of this session was registered rigidly to it." if unit.has_reference else ""
    return (
        f"There was no T1-weighted image: the root mean square of the echoes{whose} was registered to the template "
        f"{space} by affine and diffeomorphic transforms. {how}{driver}{others}"
    )


def _regions(unit: UnitFacts) -> str:
    if unit.settings.get("fit_only"):
        return "Only maps were made (--fit-only); no regions were measured."
    name, citation = unit.atlas.get("name", ""), unit.atlas.get("citation", "")
    asked = [str(each) for each in unit.settings.get("atlases", [])]
    whose = f"atlases {', '.join(asked)}" if len(asked) > 1 else f"atlas {name}"
    if not asked:
        whose = f"segmentation {as_plain(unit.settings.get('segmentations', []))}"
    rule = unit.voxel_rule.rstrip(".")
    text = (
        f"Deep grey matter regions of the {whose} were brought to the grid of the multi-echo images in one "
        "interpolation, and the median of R2* was taken in each region and hemisphere"
    )
    text += f" over these voxels: {rule[:1].lower()}{rule[1:]}." if rule else "."
    return text + (f" Atlas {name}: {citation}." if citation else "")


_GIVEN = {
    "segmentations": "Regions were taken from the segmentation {} (--segmentation).",
    "brain_mask": "The brain mask was that of {} (--brain-mask).",
    "lesions": "Voxels in the lesions of {} were left out of the regions (--lesions).",
    "maps": "The maps {} were summarised in the same regions (--maps).",
    "iron": "Iron was derived from R2* by the calibration {} (--iron).",
}
_REFERENCES_OF_SESSIONS = {
    "first-lex": "All sessions of a participant share the first one's T1-weighted image.",
    "sessionwise": "Each session has its own T1-weighted image.",
}


def _given(unit: UnitFacts) -> str:
    """What users brought along, by the option that named it, and whose T1w serves a session."""
    asked = unit.settings
    told = [text.format(as_plain(asked[name])) for name, text in _GIVEN.items() if asked.get(name)]
    if unit.has_t1w and not asked.get("fit_only") and asked.get("anatomical_reference"):
        told.append(_REFERENCES_OF_SESSIONS[asked["anatomical_reference"]])
    return " ".join(told)


def _quality(unit: UnitFacts) -> str:
    return (
        "Quality was judged by signal-to-noise ratio, fit residuals, voxels at the bounds of the fit, shifts between "
        "echoes by phase correlation [Guizar-Sicairos 2008]"
        + ("." if unit.settings.get("fit_only") else ", coverage, volumes, symmetry and the registrations.")
    )


SENTENCES: Mapping[str, Sentence] = {
    "acquisition": Sentence((), _acquisition),
    "inputs": Sentence(("xform", "assume_orientation"), _inputs),
    "denoise": Sentence(("denoise",), _denoise),
    "fit": Sentence(("fit_method",), _fit),
    "field": Sentence(("field_gradient",), _field),
    "registration": Sentence(("random_seed", "sloppy"), _registration),
    "regions": Sentence(("atlases", "fit_only"), _regions),
    "given": Sentence((*_GIVEN, "anatomical_reference", "content"), _given),
    "quality": Sentence((), _quality),
}


def is_corrected(unit: UnitFacts) -> bool:
    """Whether the fit took the field's gradient into account: asked for, with phase and what a correction takes."""
    told = any(name.endswith("desc-gradientbias_R2starmap.nii.gz") for name in unit.outputs)
    return unit.settings.get("field_gradient") == "correct" and unit.has_phase and told


def methods_text(unit: UnitFacts) -> str:
    """The methods of one unit, in one paragraph."""
    sentences = [text for sentence in SENTENCES.values() if (text := sentence.write(unit))]
    told = {name for sentence in SENTENCES.values() for name in sentence.settings}
    others = {name: value for name, value in unit.settings.items() if name not in told}
    if others:
        listed = ", ".join(f"{name} = {value}" for name, value in sorted(others.items()))
        sentences.append(f"Further settings: {listed}.")
    return " ".join(sentences)


def references_in(texts: Iterable[str]) -> list[tuple[str, str]]:
    """The references that texts cite, (key, reference), in order of first mention."""
    keys = dict.fromkeys(key for text in texts for key in re.findall(r"\[([A-Z][^\]]* \d{4})\]", text))
    return [(key, REFERENCES[key]) for key in keys]


def as_plain(value: Any) -> str:
    """A setting's value for readers."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "not given" if value is None else str(value)
