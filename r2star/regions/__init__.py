"""Voxels → statistics of regions: arrays in, rows of the region table out. May import errors.

`summarise_regions` does the work by a `VoxelRule`; `r2star.regions.table` turns its rows into text.
Errors: E461 a label is no whole number, E462 a map has another shape. Warnings of rows: `ROW_WARNINGS`.
"""

from r2star.regions.labelled import VoxelMaps
from r2star.regions.rule import VoxelRule
from r2star.regions.summary import ROW_WARNINGS, RegionSummary, summarise_regions

__all__ = ["ROW_WARNINGS", "RegionSummary", "VoxelMaps", "VoxelRule", "summarise_regions"]
