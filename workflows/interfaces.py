"""Every step as a nipype interface: one line each."""

from __future__ import annotations

from r2star.steps.anatomy import (
    align_megre_to_t1w,
    combine_echoes,
    join_transforms,
    register_megre_to_reference,
    register_megre_to_t1w,
    register_megre_to_template,
    register_t1w_to_template,
)
from r2star.steps.denoise import denoise_echoes
from r2star.steps.derived import adopt_map, adopt_mask, adopt_segmentation
from r2star.steps.field import estimate_b0, predict_gradient_bias
from r2star.steps.fit import fit_maps
from r2star.steps.inputs import check_inputs, check_t1w
from r2star.steps.publish import publish_unit
from r2star.steps.quality import measure_quality
from r2star.steps.refinement import refine_by_iron
from r2star.steps.resampling import resample_brain_mask, resample_labels, resample_map
from r2star.steps.tables import write_region_table
from r2star.workflows.step import Step


class CheckInputs(Step, function=check_inputs):
    """Verify every file of a unit."""


class CheckT1w(Step, function=check_t1w):
    """Verify a T1w."""


class DenoiseEchoes(Step, function=denoise_echoes):
    """Echoes with less noise, for the fit alone."""


class FitMaps(Step, function=fit_maps):
    """R2*, its standard error, T2*, S0 and status."""


class CombineEchoes(Step, function=combine_echoes):
    """One image of all echoes."""


class RegisterT1wToTemplate(Step, function=register_t1w_to_template):
    """T1w ↔ template."""


class RegisterMegreToTemplate(Step, function=register_megre_to_template):
    """MEGRE ↔ template, where there is no T1w."""


class RegisterMegreToT1w(Step, function=register_megre_to_t1w):
    """MEGRE ↔ T1w."""


class AlignMegreToT1w(Step, function=align_megre_to_t1w):
    """MEGRE → T1w, for a lesion mask."""


class RegisterMegreToReference(Step, function=register_megre_to_reference):
    """MEGRE of one session ↔ that of another."""


class JoinTransforms(Step, function=join_transforms):
    """MEGRE ↔ template, through another session."""


class RefineByIron(Step, function=refine_by_iron):
    """T1w ↔ template, with what R2* shows of one unit."""


class ResampleBrainMask(Step, function=resample_brain_mask):
    """The brain on the MEGRE grid."""


class ResampleLabels(Step, function=resample_labels):
    """Regions on the MEGRE grid."""


class ResampleMap(Step, function=resample_map):
    """R2* on the template's grid."""


class AdoptMask(Step, function=adopt_mask):
    """A brain or lesion mask of another program."""


class AdoptMap(Step, function=adopt_map):
    """A map of another program."""


class AdoptSegmentation(Step, function=adopt_segmentation):
    """A segmentation of another program."""


class EstimateB0(Step, function=estimate_b0):
    """B0 and its gradient."""


class PredictGradientBias(Step, function=predict_gradient_bias):
    """What the gradient adds to R2*."""


class WriteRegionTable(Step, function=write_region_table):
    """The region table."""


class MeasureQuality(Step, function=measure_quality):
    """Measures of quality, and the decay of each region."""


class PublishUnit(Step, function=publish_unit):
    """Results to their place, the marker last."""

    always_run = True
