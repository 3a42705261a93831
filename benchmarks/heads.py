"""Heads for benchmarks of registration: other shapes than the template's, R2* planted in each nucleus.

Their warps are not of the program's own kind: Gaussian bumps, and ventricles widened unevenly on top. T1w contrast of
each nucleus, gamma, bias field, texture and noise differ between heads; R2* of each nucleus is drawn anew. A folder of
one's own (``t1w.nii.gz``, ``labels.nii.gz``, ``labels.tsv`` with index, region, hemisphere) gets R2* painted alone.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from r2star.atlas import load_atlas
from r2star.images import Grid, Image, write_image
from r2star.register.iron import TYPICAL_R2STAR_PER_S
from r2star.simulate.anatomy import tissue_fractions
from r2star.simulate.warp import rigid
from r2star.steps.canonical import read_canonical, read_target

ATLAS = "CIT168"
#: Region and hemisphere.
Key = tuple[str, str]
T1W_NOISE, T1W_TEXTURE, BIAS_FIELD = 0.02, 0.03, 0.12  # of the largest signal; SDs of their logarithms
R2STAR_TEXTURE = 0.06
R2STAR_NOISE_PER_S, R2STAR_NOISE_SHARE = 0.8, 0.05


@dataclass(frozen=True)
class Planted:
    """Files of a head on one grid; ``codes`` are its labels, ``r2star_per_s`` what was planted in them."""

    name: str
    t1w: Path
    r2star: Path
    labels: Image
    brain: Image
    codes: dict[Key, int]
    r2star_per_s: dict[Key, float]


def simulated(name: str, folder: Path) -> Planted:
    """The head of a name: ``bumps-SEED``, or ``ventricles-SEED`` with these widened by 2.5 to 6.5 mm."""
    kind, seed = name.rsplit("-", 1)
    rng = np.random.default_rng([{"bumps": 1000, "ventricles": 3000}[kind], int(seed)])
    target = read_target(load_atlas(ATLAS))
    t1w, brain = np.array(target.t1w.data, np.float32), np.asarray(target.brain_mask.data) > 0.5
    codes = {(one.name, one.hemisphere): code + 1 for code, one in enumerate(target.atlas.regions)}
    labels = np.zeros(t1w.shape, np.uint16)
    for one in target.atlas.regions:
        labels[np.isin(target.labels.data, one.indices)] = codes[one.name, one.hemisphere]
    for region in target.indices:  # the nuclei's contrast on T1w differs between people
        inside = np.isin(labels, [code for key, code in codes.items() if key[0] == region])
        t1w += rng.normal() * 4 * ndimage.gaussian_filter(inside.astype(np.float32), 0.7)
    widening = None
    if kind == "ventricles":
        amplitude, unevenness = rng.uniform(2.5, 6.5), rng.uniform(0.6, 1.4)
        widening = _widening(target.t1w, brain, (amplitude, amplitude * unevenness))
    where = _places(rng, t1w.shape, widening)
    head = np.clip(ndimage.map_coordinates(t1w, where, order=3, mode="nearest"), 0, None)
    seen = ndimage.map_coordinates(brain.astype(np.float32), where, order=1) > 0.5
    moved = ndimage.map_coordinates(labels, where, order=0)
    fractions = tissue_fractions(head)
    head = head ** rng.uniform(0.85, 1.15)
    head = head / head.max() * np.exp(_texture(rng, head.shape, 40, BIAS_FIELD))
    head = np.abs(
        head * (1 + _texture(rng, head.shape, 1.2, T1W_TEXTURE)) + T1W_NOISE * rng.normal(size=head.shape)
    )
    return _paint(rng, name, folder, 1000 * head, fractions, moved, seen, target.t1w.grid, codes)


def labelled(source: Path, folder: Path) -> Planted:
    """A head with labels of its own; brain is what lies within 15 mm of no air, tissue is read from T1w."""
    image, labels = read_canonical(source / "t1w.nii.gz"), read_canonical(source / "labels.nii.gz")
    with (source / "labels.tsv").open() as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    codes = {(row["region"], row["hemisphere"]): int(row["index"]) for row in rows}
    t1w, seg = np.asarray(image.data, np.float32), np.asarray(labels.data).astype(np.uint16)
    near = ndimage.distance_transform_edt(seg == 0, sampling=image.grid.voxel_size_mm) < 30
    brain = ndimage.binary_fill_holes(t1w > 0.1 * np.percentile(t1w[near], 90))
    scaled = t1w * np.float32(83.0 / np.percentile(t1w[near], 85))
    rng = np.random.default_rng(5)
    return _paint(rng, source.name, folder, t1w, tissue_fractions(scaled), seg, brain, image.grid, codes)


def _paint(rng, name, folder, t1w, fractions, labels, brain, grid, codes) -> Planted:  # type: ignore[no-untyped-def]
    """R2* of tissue by its share, of each nucleus its own within ± 30 %, hemispheres within 3 %; then noise."""
    r2star = fractions["white"] * 21 + fractions["grey"] * 17 + fractions["csf"] * 3
    r2star = np.where(brain, r2star * (1 + _texture(rng, t1w.shape, 2.0, R2STAR_TEXTURE)), 8.0)
    planted: dict[Key, float] = {}
    both = {region: rng.uniform(0.7, 1.3) for region in sorted({key[0] for key in codes})}
    for (region, side), code in codes.items():
        typical = TYPICAL_R2STAR_PER_S.get(region, 22.0)
        planted[region, side] = float(typical * both[region] * (1 + 0.03 * rng.normal()))
        r2star[labels == code] = planted[region, side]
    r2star = ndimage.gaussian_filter(r2star, 0.45)
    spread = R2STAR_NOISE_PER_S + R2STAR_NOISE_SHARE * r2star
    noisy = r2star + spread * rng.normal(size=r2star.shape)
    # somewhere else in the scanner
    pose = rigid(4 * rng.normal(size=3), 5 * rng.normal(size=3))
    place = Grid(grid.shape, pose @ grid.affine)
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        write_image(folder / f"{what}.nii.gz", values.astype(np.float32), place)
        for what, values in (("T1w", t1w), ("R2starmap", noisy))
    ]
    return Planted(name, files[0], files[1], Image(labels, place), Image(brain, place), codes, planted)


def _places(rng: np.random.Generator, shape: tuple[int, ...], widening: np.ndarray | None) -> np.ndarray:
    """Where in the template each voxel of the head comes from (3, X, Y, Z): an affine, 90 bumps, the ventricles."""
    matrix = np.eye(3) + 0.02 * rng.normal(size=(3, 3))
    np.fill_diagonal(matrix, np.exp(0.05 * rng.normal(size=3)))
    centre = np.array(shape)[:, None] / 2
    where = (matrix @ (np.indices(shape).reshape(3, -1) - centre) + centre).reshape(3, *shape)
    step = 3.0
    grid = np.stack(np.meshgrid(*[np.arange(0, n + step, step) for n in shape], indexing="ij"))
    bumps = np.zeros_like(grid)
    for _ in range(90):
        middle, width = rng.uniform(20, np.array(shape) - 20), rng.uniform(9, 26)
        height = 0.1 * width * rng.normal(size=3)
        square = ((grid - middle[:, None, None, None]) ** 2).sum(0)
        bumps += height[:, None, None, None] * np.exp(-square / (2 * width**2))
    where = where + _sample(bumps, where / step)
    return where if widening is None else where + _sample(widening, where)


def _widening(t1w: Image, brain: np.ndarray, amplitudes_mm: tuple[float, float]) -> np.ndarray:
    """Displacement (voxels of 1 mm) that widens the lateral ventricles: exp(−v), v along their outward normal."""
    x, y, z = (
        t1w.grid.affine[k, k] * i + t1w.grid.affine[k, 3] for k, i in enumerate(np.indices(t1w.grid.shape))
    )
    near = (abs(x) < 40) & (y > -55) & (y < 40) & (z > -8) & (z < 35) & ~((abs(x) < 4) & (z < 5))
    parts, _ = ndimage.label(ndimage.binary_opening((np.asarray(t1w.data) < 45) & brain & near))
    ventricles = (np.bincount(parts.ravel()) > 2000)[parts] & (parts > 0)
    depth = ndimage.distance_transform_edt(~ventricles) - ndimage.distance_transform_edt(ventricles)
    depth = ndimage.gaussian_filter(depth, 2.0)
    normal = np.stack(np.gradient(depth))
    normal /= np.maximum(np.sqrt((normal**2).sum(0)), 1e-3)
    reach = np.where(depth > 0, np.exp(-np.clip(depth, 0, None) / 10), np.clip(1 + depth / 4, 0, 1))
    size = ndimage.gaussian_filter(np.where(x < 0, *amplitudes_mm), 4.0)
    moved = -np.stack([ndimage.gaussian_filter(part, 2.0) for part in normal * reach * size]) / 2**6
    for _ in range(6):
        moved = moved + _sample(moved, np.indices(moved.shape[1:]) + moved)
    return np.asarray(moved)


def _sample(field: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.stack([ndimage.map_coordinates(part, where, order=1, mode="nearest") for part in field])


def _texture(
    rng: np.random.Generator, shape: tuple[int, ...], smoothness: float, spread: float
) -> np.ndarray:
    values = ndimage.gaussian_filter(rng.normal(size=shape).astype(np.float32), smoothness)
    return np.asarray(values * (spread / values.std()))
