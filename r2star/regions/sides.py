"""Whether regions called left lie on the left. Arrays only; imports numpy and what a region is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from r2star.regions.labelled import RegionLike

#: The nuclei of a pair are 8 mm apart and more; what is nearer tells nothing of sides.
_LEAST_APART_MM = 4.0


def exchanged_sides(
    labels: NDArray[np.integer], affine: NDArray[np.float64], regions: Sequence[RegionLike]
) -> list[str]:
    """Names of the regions whose left one lies clearly farther right than the right one, in the world (RAS+).

    ``labels`` are (X, Y, Z), ``affine`` is theirs. Where these are more than half of the regions with both sides,
    labels or image are mirrored; else none is named.

    >>> from r2star.regions.labelled import whole_labels
    >>> class Region(tuple):
    ...     name, hemisphere, indices = (property(lambda self, n=n: self[n]) for n in range(3))
    >>> both = [Region(("putamen", "L", (1,))), Region(("putamen", "R", (2,)))]
    >>> line = np.array([1, 0, 2]).reshape(3, 1, 1)
    >>> exchanged_sides(line, np.diag([9.0, 1, 1, 1]), both), exchanged_sides(line, np.diag([-9.0, 1, 1, 1]), both)
    ([], ['putamen'])
    """
    where = np.nonzero(labels)
    found = labels[where].astype(np.intp)
    right_mm = affine[0, 3] + sum(step * axis for step, axis in zip(affine[0, :3], where))
    sums, counts = np.bincount(found, right_mm), np.bincount(found)
    places: dict[tuple[str, str], float] = {}
    for region in regions:
        own = [index for index in region.indices if index < counts.size]
        if n_voxels := int(counts[own].sum()):
            places[region.name, region.hemisphere] = float(sums[own].sum()) / n_voxels
    names = dict.fromkeys(name for name, _ in places)
    pairs = [name for name in names if {(name, "L"), (name, "R")} <= places.keys()]
    exchanged = [name for name in pairs if places[name, "L"] > places[name, "R"] + _LEAST_APART_MM]
    return exchanged if 2 * len(exchanged) > len(pairs) else []
