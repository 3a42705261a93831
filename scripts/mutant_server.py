"""Runs pytest in forks of a process that has imported the libraries; `mutants.py` starts it and tells it what.

An order is a line of JSON on standard input, `arguments` for pytest and `cpu_s`, the processor time that the tests may
take; without arguments, the folder of compiled kernels is told. The answer is a line on standard output. r2star itself
is imported by the fork alone: it is what changes.
"""

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback

LIBRARIES = (
    "pytest", "hypothesis.strategies", "numpy.testing", "scipy.special", "scipy.optimize", "scipy.integrate",
    "scipy.stats", "scipy.ndimage", "nibabel", "numba.extending", "numba.experimental", "isal.igzip_lib", "ants",
)  # fmt: skip
LONGEST_S = 600.0


def import_libraries() -> None:
    """Import what tests need, and have numba set up its tables by compiling something small."""
    for name in LIBRARIES:
        importlib.import_module(name)
    import numba
    import numpy as np

    numba.njit(nogil=True, error_model="numpy")(lambda x: x[0] * x.shape[0] + 1.0)(np.ones(3))
    assert not any(name.split(".")[0] == "r2star" for name in sys.modules)


def tell_kernel_folder() -> int:
    """Print where the kernels of r2star, as it is now, are kept."""
    from r2star.fit.compiling import kernel_cache

    print(kernel_cache())
    return 0


def run_tests(arguments: list[str] | None, cpu_s: float, output: int) -> None:
    """In the fork: end with pytest's exit code."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s) + 1, int(cpu_s) + 9))  # SIGXCPU, then SIGKILL
    os.dup2(output, 1)
    os.dup2(output, 2)
    import pytest

    code = 99
    try:
        code = tell_kernel_folder() if arguments is None else int(pytest.main(arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def answer(arguments: list[str] | None, cpu_s: float) -> dict[str, object]:
    """Run tests in a fork and wait for it."""
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            run_tests(arguments, cpu_s, output.fileno())
        start, stopped = time.monotonic(), ""
        while True:
            ended, status, usage = os.wait4(child, os.WNOHANG)
            if ended:
                break
            if time.monotonic() - start > LONGEST_S:
                os.killpg(child, signal.SIGKILL)
                stopped = "clock"
            time.sleep(0.02)
        output.seek(max(0, output.seek(0, os.SEEK_END) - 400))
        end = output.read().decode(errors="replace")
    code = os.waitstatus_to_exitcode(status)
    used = usage.ru_utime + usage.ru_stime
    stopped = "processor time" if code == -signal.SIGXCPU else stopped
    return {"exit": code, "cpu_s": round(used, 2), "stopped": stopped, "end": end}


if __name__ == "__main__":
    # answers go to the first standard output; whatever prints while importing goes to standard error
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import_libraries()
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(answer(order["arguments"], order["cpu_s"])), file=channel, flush=True)
