"""Registration, the only part that imports ants: images in, composite transforms (``.h5``) out.

``engine`` speaks to ANTs, ``transforms`` reads and writes composite transforms, ``align`` finds a safe start,
``linear`` and ``stages`` hold the recipes, ``measures`` judges what came out.
"""

from r2star.register.engine import limit_threads
from r2star.register.linear import register_rigid
from r2star.register.measures import Thresholds, judge_registration
from r2star.register.resample import resample_labels_array, resample_values
from r2star.register.stages import Pair, register_focused
from r2star.register.transforms import Warp

__all__ = [
    "Pair",
    "Thresholds",
    "Warp",
    "judge_registration",
    "limit_threads",
    "register_focused",
    "register_rigid",
    "resample_labels_array",
    "resample_values",
]
