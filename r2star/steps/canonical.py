"""Images in canonical storage order, as registration takes them, and those of an atlas together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2star.atlas import Atlas
from r2star.atlas.labels import read_labels
from r2star.images import Image, read_image, to_canonical


@dataclass(frozen=True)
class Target:
    """What a head is registered to: the atlas with its template, mask and labels."""

    atlas: Atlas
    t1w: Image
    brain_mask: Image
    labels: Image

    @cached_property
    def in_regions(self) -> NDArray[np.bool_]:
        """Where the labels' grid holds one of the atlas' regions."""
        return np.isin(self.labels.data, [index for region in self.atlas.regions for index in region.indices])

    @cached_property
    def indices(self) -> dict[str, tuple[int, ...]]:
        """Label numbers of each region, both hemispheres together."""
        found: dict[str, tuple[int, ...]] = {}
        for region in self.atlas.regions:
            found[region.name] = found.get(region.name, ()) + region.indices
        return found


def read_target(atlas: Atlas) -> Target:
    """The images of an atlas, canonical."""
    labels = canonical_image(read_labels(atlas.labels))
    return Target(atlas, read_canonical(atlas.t1w), read_canonical(atlas.brain_mask), labels)


def read_canonical(path: Path) -> Image:
    """Read and verify an image; its axes run to the right, to the front and up."""
    return canonical_image(read_image(path))


def canonical_image(image: Image) -> Image:
    """The same image with axes that run to the right, to the front and up."""
    data, grid = to_canonical(image.data, image.grid)
    return replace(image, data=np.ascontiguousarray(data), grid=grid)
