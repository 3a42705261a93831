"""How kernels are compiled and where the machine code is kept. Imports numba; imported by kernels only.

The code is kept in a folder named after a hash of every source of `r2star.fit`, so a changed helper can't meet
stale machine code of its caller. Without a folder that can be written, kernels compile anew in every process.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numba
from numba.core.caching import FunctionCache

F = TypeVar("F", bound=Callable[..., Any])

_SOURCES = Path(__file__).parent
_one_at_a_time = Lock()


class CheckedCache(FunctionCache):
    """Numba's cache of a kernel, which never hands out code for other types than those asked for.

    Processes that compile a kernel for different types at one time can leave an index that gives one's name to the
    code of the other; code for another memory order would run, and read other voxels.
    """

    def _load_overload(self, sig: tuple[Any, ...], target_context: Any) -> Any:
        found = super()._load_overload(sig, target_context)
        return found if found is None or tuple(found.signature.args) == tuple(sig) else None


def _source_key() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(_SOURCES.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _candidates() -> list[Path]:
    """Folders to try: beside the sources (shared, warmed when installing), then the user's cache."""
    folders = [_SOURCES / "__pycache__"]
    if os.environ.get("XDG_CACHE_HOME"):
        folders.append(Path(os.environ["XDG_CACHE_HOME"]) / "r2star")
    elif os.environ.get("HOME"):
        folders.append(Path(os.environ["HOME"]) / ".cache" / "r2star")
    return folders


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@cache
def kernel_cache() -> Path | None:
    """Folder of the compiled kernels, or None where nothing can be written.

    A folder beside the sources that holds kernels but can't be written (a container's, run by another user) is
    copied to a private temporary folder. A shared temporary folder is never used: what is cached is executed.
    """
    name = f"kernels-{_source_key()}"
    for folder in _candidates():
        if _is_writable(folder / name):
            return folder / name
    try:
        private = Path(tempfile.mkdtemp(prefix="r2star-kernels-"))
    except OSError:
        return None
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    warmed = _candidates()[0] / name
    if warmed.is_dir():
        shutil.copytree(warmed, private, dirs_exist_ok=True)
        private.chmod(0o700)
    return private


def kernel(function: F) -> F:
    """Compile a function to machine code at its first call; it releases the interpreter lock while it runs.

    No ``fastmath``: every machine that keeps IEEE 754 gives the same bits.
    """
    compiled = numba.njit(nogil=True, error_model="numpy")(function)
    with _one_at_a_time:  # threads import kernels side by side, and the folder is numba's setting for all
        folder = kernel_cache()
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(folder or "")
        try:
            if folder is not None and not numba.config.DISABLE_JIT:
                compiled._cache = CheckedCache(function)
        finally:
            numba.config.CACHE_DIR = before
    return compiled


def helper(function: F) -> F:
    """Compile a function into each kernel that calls it."""
    return numba.njit(nogil=True, error_model="numpy", forceinline=True)(function)
