"""Small BIDS trees: names and sidecars, with a few bytes where images would be."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

Tree = Callable[..., Path]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "raw"
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    return root


@pytest.fixture
def add(dataset: Path) -> Callable[..., Path]:
    """Write one file: text as it is, anything else as JSON, and eight bytes where nothing is given."""

    def write(path: str, content: Any = None) -> Path:
        file = dataset / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif content is None:
            file.write_bytes(b"an image")
        else:
            file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    return write


@pytest.fixture
def add_echoes(add: Callable[..., Path]) -> Callable[..., None]:
    """Write the echoes of one unit: ``add_echoes("sub-01/anat/sub-01", (0.004, 0.009))``."""

    def write(
        prefix: str, times: Sequence[Any] = (0.004, 0.009, 0.014), part: str | None = "mag", **more: Any
    ) -> None:
        suffix = f"_part-{part}_MEGRE" if part else "_MEGRE"
        for number, time in enumerate(times, start=1):
            add(f"{prefix}_echo-{number}{suffix}.nii.gz")
            add(f"{prefix}_echo-{number}{suffix}.json", {"EchoTime": time, "MagneticFieldStrength": 3} | more)

    return write
