"""The cache of kernels under threads that import side by side and processes that save at one time."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numba
import numpy as np
import pytest

from r2star.fit import compiling


def test_threads_that_import_kernels_side_by_side_keep_them_in_one_folder() -> None:
    """A kernel that slipped into numba's own folder would not be made anew when a helper's source changes."""
    n_threads, before = 8, numba.config.CACHE_DIR
    start = Barrier(n_threads)

    def make(_: int) -> list[Any]:
        start.wait()
        return [compiling.kernel(value_at) for _ in range(40)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(n_threads) as pool:
            made = [one for some in pool.map(make, range(n_threads)) for one in some]
    finally:
        sys.setswitchinterval(interval)
    folder = compiling.kernel_cache()
    assert folder is not None
    assert before == numba.config.CACHE_DIR
    assert {Path(one.stats.cache_path).parent for one in made} == {folder}


def value_at(values: np.ndarray, row: int, column: int) -> float:
    """Of an array in any memory order."""
    found: float = values[row, column]
    return found


def test_code_for_another_memory_order_is_never_taken_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes save a kernel for their types at one time: the index of the second, the code of the first."""
    monkeypatch.setattr(compiling, "kernel_cache", lambda: tmp_path)
    rows_first = np.arange(12.0).reshape(3, 4)
    columns_first = np.asfortranarray(rows_first)
    first, second = compiling.kernel(value_at), compiling.kernel(value_at)
    file = first._cache._cache_file
    write = file._save_data

    def after_the_second(name: str, data: object) -> None:
        second(columns_first, 1, 2)
        write(name, data)

    monkeypatch.setattr(second._cache._cache_file, "_load_index", dict)  # as it was before the first came
    monkeypatch.setattr(file, "_save_data", after_the_second)
    assert first(rows_first, 1, 2) == 6.0
    assert [key[0][0].layout for key in file._load_index()] == ["F"]
    other = compiling.kernel(value_at)
    assert other(columns_first, 1, 2) == 6.0
    assert sum(other.stats.cache_misses.values()) == 1
    # made anew under its own types, it is found there
    again = compiling.kernel(value_at)
    assert again(columns_first, 1, 2) == 6.0
    assert sum(again.stats.cache_hits.values()) == 1
