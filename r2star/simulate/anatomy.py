"""Painting tissue onto a template: S0 and R2* of brain and head, and of the deep grey matter by age.

Arrays only; may import numpy, scipy and the cohort's iron curves. Values are those of a spoiled gradient echo
at 3 T, relative to white matter; where no source is named they are chosen to look like one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2star.simulate.truth import (
    R2STAR_PER_IRON,
    R2STAR_WITHOUT_IRON_PER_S,
    REGIONS,
    healthy_iron_mg_per_kg,
)

Array = NDArray[Any]

#: Intensities of the MNI152NLin2009cAsym T1w template (0–99) that are read as one tissue alone.
CSF_T1W, GREY_T1W, WHITE_T1W = 28.0, 64.0, 83.0
_AIR_T1W = 12.0
_REACH_MM = 14.0

#: S0 relative to white matter, and R2* in 1/s. White matter: frontal, Gelman 1999
#: (doi:10.1148/radiology.210.3.r99fe41759), 21.9/s, less the denser rest; the others are chosen.
S0 = {"white": 1.0, "grey": 1.12, "csf": 0.75, "scalp": 1.15, "deep_grey": 1.05}
R2STAR_PER_S = {"white": 21.0, "grey": 17.0, "csf": 2.5, "scalp": 40.0}

#: Nuclei without an age curve of their own take that of a neighbour with similar iron (chosen).
LIKE = {"accumbens": "caudate", "subthalamic_nucleus": "substantia_nigra"}

#: A patient of the simulated study: 8 years of disease, EDSS 3.
PATIENT_YEARS, PATIENT_EDSS = 8.0, 3.0

#: The part of R2* that does not grow with the field (chosen): R2*(B) = 5 + (R2*(3 T) − 5)·B/3.
R2STAR_WITHOUT_FIELD_PER_S = 5.0


@dataclass(frozen=True)
class Template:
    """A head to simulate from: arrays on one grid.

    ``t1w`` (X, Y, Z) whole head, 0–99; ``brain_mask`` bool; ``labels`` whole numbers; ``affine`` voxel to world,
    mm; ``regions`` triples of name, hemisphere and label numbers.
    """

    t1w: Array
    brain_mask: Array
    labels: Array
    affine: Array
    regions: tuple[tuple[str, str, tuple[int, ...]], ...]

    @cached_property
    def near_head(self) -> Array:
        """Bool (X, Y, Z): within 14 mm of flesh, farther than a person's warp moves it."""
        from scipy import ndimage

        reach = round(_REACH_MM / abs(float(self.affine[0, 0])))
        near = ndimage.maximum_filter(self.t1w > _AIR_T1W, 2 * reach + 1)
        near[-1, -1, -1] = False  # stands for all that is outside
        return np.asarray(near)


@dataclass(frozen=True)
class Tissue:
    """What is painted on the template's grid: S0 (white matter 1) and R2* (1/s), float32."""

    s0: Array
    r2star_per_s: Array


def expected_r2star(region: str, age_years: float, *, patient: bool = False) -> float:
    """R2* of a region at 3 T and an age: 14.9 + 0.109·iron(age), and in patients what a typical course adds.

    Iron by age: Hallgren & Sourander 1958 (doi:10.1111/j.1471-4159.1958.tb12607.x); see
    `r2star.simulate.truth` for all numbers.

    >>> [round(expected_r2star("pallidum", age), 1) for age in (20, 40, 80)]
    [34.8, 38.0, 38.6]
    """
    name = LIKE.get(region, region)
    value = R2STAR_WITHOUT_IRON_PER_S + R2STAR_PER_IRON * float(healthy_iron_mg_per_kg(name, age_years))
    if patient:
        truth = REGIONS[name]
        value += PATIENT_YEARS * truth.per_year_of_duration + PATIENT_EDSS * truth.per_edss_point
    return value


def at_field(r2star_at_3_tesla: float, field_strength_tesla: float) -> float:
    """R2* at another field: R2*(B) = 5 + (R2*(3 T) − 5)·B/3, 1/s; affine, as Yao 2009 found (slope chosen).

    >>> at_field(38.0, 7.0), at_field(38.0, 3.0)
    (82.0, 38.0)
    """
    return (
        R2STAR_WITHOUT_FIELD_PER_S
        + (r2star_at_3_tesla - R2STAR_WITHOUT_FIELD_PER_S) * field_strength_tesla / 3
    )


def tissue_fractions(t1w: Array) -> Mapping[str, Array]:
    """Shares of CSF, grey and white matter in each brain voxel, from the template's intensity; they add up to 1.

    >>> {name: float(share) for name, share in tissue_fractions(np.float32(46.0)).items()}
    {'csf': 0.5, 'grey': 0.5, 'white': 0.0}
    """
    csf = np.clip((GREY_T1W - t1w) / (GREY_T1W - CSF_T1W), 0, 1)
    white = np.clip((t1w - GREY_T1W) / (WHITE_T1W - GREY_T1W), 0, 1)
    return {"csf": csf, "grey": 1 - csf - white, "white": white}


def paint_tissue(template: Template, field_strength_tesla: float = 3.0) -> Tissue:
    """Paint everything but the nuclei: brain tissue by intensity, CSF around it, bone, scalp and air."""
    from scipy import ndimage

    t1w = template.t1w.astype(np.float32)
    rate = {name: at_field(value, field_strength_tesla) for name, value in R2STAR_PER_S.items()}
    fractions = tissue_fractions(t1w)
    s0 = np.asarray(sum(share * np.float32(S0[name]) for name, share in fractions.items()))
    # R2* of a mixture weighs with the signal that each part gives
    signal_rate = sum(share * np.float32(S0[name] * rate[name]) for name, share in fractions.items())
    r2star = np.asarray(signal_rate) / s0

    around = (
        ndimage.binary_dilation(template.brain_mask, iterations=2)
        & ~template.brain_mask
        & (t1w < CSF_T1W + 20)
    )
    outside = ~template.brain_mask & ~around
    # below 12 the template holds air and bone; it reaches full scalp at 62
    flesh = np.clip((t1w[outside] - _AIR_T1W) / 50, 0, 1) ** 1.5
    s0[outside] = np.float32(S0["scalp"]) * flesh
    r2star[outside] = rate["scalp"]
    s0[around] = S0["csf"] * 0.8
    r2star[around] = rate["csf"]
    return Tissue(s0.astype(np.float32), r2star.astype(np.float32))


def paint_regions(tissue: Tissue, template: Template, r2star_per_s: Sequence[float]) -> Tissue:
    """Paint the nuclei over the tissue: one R2* for each of ``template.regions``, and deep grey matter's S0."""
    by_label = np.full(int(template.labels.max()) + 1, np.nan, np.float32)
    for (_, _, indices), value in zip(template.regions, r2star_per_s, strict=True):
        by_label[list(indices)] = value
    s0, r2star = tissue.s0.copy(), tissue.r2star_per_s.copy()
    inside = np.isfinite(by_label)[template.labels]
    s0[inside], r2star[inside] = S0["deep_grey"], by_label[template.labels[inside]]
    return Tissue(s0, r2star)


def paint_template(template: Template, age_years: float = 45.0, field_strength_tesla: float = 3.0) -> Tissue:
    """S0 and R2* of a healthy head of an age on the template's own grid, for a contrast like the MEGRE's.

    ``S0·exp(−R2*·t)`` of the result is what a gradient echo of the template would look like at time t.
    """
    rates = [
        at_field(expected_r2star(name, age_years), field_strength_tesla) for name, _, _ in template.regions
    ]
    return paint_regions(paint_tissue(template, field_strength_tesla), template, rates)
