"""Brain masks: the template's, trimmed by the data at its rim only, so that dark iron-rich tissue inside is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from r2star.errors import ProcessingError
from r2star.images import Grid

#: Only voxels nearer than this to the template mask's surface may be given up or gained, mm.
RIM_MM = 5.0
_DARK = 0.25


def head_threshold(signal: NDArray[np.floating]) -> float:
    """Otsu's threshold between air and head: the split with the greatest variance between the classes."""
    values = np.asarray(signal[np.isfinite(signal)], np.float64)
    top = float(np.percentile(values, 99.5)) if values.size else 0.0
    counts, edges = np.histogram(np.clip(values, 0, top), bins=256, range=(0, max(top, 1e-12)))
    middles = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts), counts.sum()
    moment = np.cumsum(counts * middles)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (moment[-1] * below / total - moment) ** 2 / (below * (total - below))
    return float(middles[int(np.nanargmax(between))]) if np.isfinite(between).any() else 0.0


def refine_brain_mask(
    template_mask: NDArray[np.bool_], signal: NDArray[np.floating], grid: Grid
) -> NDArray[np.bool_]:
    """Trim a registered template mask (X, Y, Z) where the head is plainly not there.

    Deeper than ``RIM_MM`` below the mask's surface everything is kept, however dark: that is where iron is. In the rim
    a voxel is given up if its signal is below a quarter of the brain's median. Voxels without any signal,
    as at the edges of a slab, leave the mask everywhere.

    Raises
    ------
    ProcessingError
        E407 where nothing is left.
    """
    from scipy.ndimage import binary_fill_holes, distance_transform_edt, label

    finite = np.isfinite(signal)
    tissue = signal[template_mask & finite & (signal > 0)]
    if tissue.size == 0:
        raise ProcessingError(
            "E407",
            "the brain mask covers no signal",
            "a brain inside the field of view",
            "look at the registration",
        )
    depth = distance_transform_edt(template_mask, sampling=grid.voxel_size_mm)
    bright = finite & (signal > _DARK * np.median(tissue))
    kept = template_mask & (bright | ((depth > RIM_MM) & finite & (signal != 0)))
    parts, n_parts = label(kept)
    if n_parts > 1:
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        kept = parts == int(sizes.argmax())
    return np.asarray(binary_fill_holes(kept) & template_mask)
