"""Atlases: one TOML file and its images each. May import errors and images."""

from r2star.atlas.model import Atlas, Region, load_atlas, packaged_atlases, packaged_template

__all__ = ["Atlas", "Region", "load_atlas", "packaged_atlases", "packaged_template"]
