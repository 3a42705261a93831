"""What must not show in a fit: memory that nobody wrote, and whether its kernels were compiled in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from r2star.fit import METHODS

#: Prints what unwritten memory holds, and the hash of every map of every method.
FIT_ALL = """
import hashlib, json
import numpy as np
from r2star.fit import METHODS, denoise, fit_decay, fit_estatics, estimate_noise_sigma

rng = np.random.default_rng(5)
times = 0.004 * np.arange(1, 7)
signal = np.hypot(900 * np.exp(-rng.uniform(5, 90, (11, 13, 7, 1)) * times) + rng.normal(0, 20, (11, 13, 7, 6)), 9)
signal[rng.random(signal.shape) < 0.02] = np.nan
signal[rng.random(signal.shape) < 0.02] = 0
signal[signal > 880] = 880
mask = rng.random(signal.shape[:3]) < 0.7
told = {"unwritten": np.empty(4000).view(np.uint8)[-1000:].tolist()}
first = np.moveaxis(np.ascontiguousarray(np.moveaxis(signal.astype(np.float32), -1, 0)), 0, -1)
for name, method in METHODS.items():
    factor = {"dephasing": np.sinc(rng.uniform(0, 20, (11, 13, 7, 1)) * times)} if method.takes_dephasing else {}
    for number, given in enumerate((
        {}, {"mask": mask, "noise_sigma": 20.0, "drop_below_sigmas": 3.0}, factor,
        {"saturation_level": 880.0, "n_threads": 3, "noise_sigma": np.where(mask, 20.0, 0.0)},
    )):
        decay = fit_decay(signal if number == 1 else first, times, name, **given)
        maps = {key: value for key, value in vars(decay).items()}
        told |= {f"{name} {number} {key}": hashlib.sha256(value.tobytes()).hexdigest() for key, value in maps.items()}
joint = fit_estatics([signal, signal[..., :3]], [times, times[:3]], mask=mask)
told |= {f"estatics {key}": hashlib.sha256(value.tobytes()).hexdigest() for key, value in vars(joint).items()}
told["sigma"] = repr(estimate_noise_sigma(signal, times))
print(json.dumps(told))
"""


def test_no_result_has_seen_memory_that_nobody_wrote() -> None:
    """The C library fills new and freed memory with a byte of our choice; no map may change by it."""
    found: list[dict[str, Any]] = []
    for fill in ("85", "165", "255"):  # 255: every unwritten float is NaN
        environment = os.environ | {"MALLOC_PERTURB_": fill, "PYTHONMALLOC": "malloc"}
        done = subprocess.run(
            [sys.executable, "-c", FIT_ALL], env=environment, capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout))
    unwritten = [tuple(one.pop("unwritten")) for one in found]
    if len(set(unwritten)) < len(unwritten):
        pytest.skip("this C library does not fill memory")
    assert len(found[0]) > 28 * len(METHODS)
    for one in found[1:]:
        assert [key for key in one if one[key] != found[0][key]] == []


def test_a_warmed_kernel_is_not_compiled_again() -> None:
    code = (
        "import numpy as np\nfrom r2star.fit import METHODS, fit_decay\nimport importlib, numba\n"
        "times = 0.004 * np.arange(1, 6)\n"
        "for name, method in METHODS.items():\n"
        "    fit_decay(np.exp(-30 * times) * np.ones((9, 1)), times, name)\n"
        "    for module in (method.module, 'packing', 'judging', 'writing', 'shared'):\n"
        "        for each in vars(importlib.import_module('r2star.fit.' + module)).values():\n"
        "            if hasattr(each, 'stats') and each.stats.cache_path:\n"
        "                print(each.__name__, sum(each.stats.cache_misses.values()))\n"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) > 20
    assert [name for name, misses in rows if misses != "0"] == []
