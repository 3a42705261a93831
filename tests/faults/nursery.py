"""Whole runs that start in milliseconds and can be killed at any time, and at any call that changes the disk.

`Nursery` starts one process that imports the program once and forks a child for each run; the child has a process
group of its own, as a job on a cluster has, and its workers are forked too. Nothing else is changed: the kill is a
SIGKILL to the whole group.

Calls that change the disk are counted where all of a run's code makes them, in the C library: `COUNTER` stands before
its ``write``, ``rename`` and so on in Python, HDF5 and ITK alike.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import multiprocessing as mp
import os
import pkgutil
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import r2star
from r2star.fit import fit_decay
from r2star.settings import Settings
from r2star.workflows import plugin

#: What the program imports where it needs it.
IMPORTED = (
    "ants", "h5py", "jinja2", "matplotlib.pyplot", "nipype.pipeline.plugins.multiproc", "scipy.ndimage",
    "scipy.optimize", "scipy.stats",
)  # fmt: skip
#: At its call number ``kill_at`` a process writes half of what it should, or nothing, and its whole group is killed.
COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static volatile long *state;  /* calls so far; the call to be killed at */

__attribute__((constructor)) static void attach(void) {
    const char *name = getenv("KILL_COUNTER");
    int file = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *place = mmap(0, 2 * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (place != MAP_FAILED) state = place;
    close(file);
}
static int is_the_one(void) { return state && __sync_add_and_fetch(&state[0], 1) == state[1]; }
static void die(void) { for (;;) { kill(0, SIGKILL); pause(); } }
static int regular(int file) {
    struct stat told;
    return state && fstat(file, &told) == 0 && S_ISREG(told.st_mode);
}
#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

/* of what should be written a half is */
#define WRITES(name, more, ...) \
    ssize_t name(int file, const void *data, size_t size more) { \
        if (regular(file) && is_the_one()) { REAL(name)(file, data, size / 2 __VA_ARGS__); die(); } \
        return REAL(name)(file, data, size __VA_ARGS__); }
#define COMMA ,
WRITES(write, )
WRITES(pwrite, COMMA off_t place, , place)
WRITES(pwrite64, COMMA off64_t place, , place)

#define CHANGES(type, name, parameters, arguments, counts) \
    type name parameters { if ((counts) && is_the_one()) die(); return REAL(name) arguments; }
CHANGES(ssize_t, writev, (int f, const struct iovec *parts, int n), (f, parts, n), regular(f))
CHANGES(int, fsync, (int f), (f), regular(f))
CHANGES(int, fdatasync, (int f), (f), regular(f))
CHANGES(int, ftruncate, (int f, off_t size), (f, size), regular(f))
CHANGES(int, ftruncate64, (int f, off64_t size), (f, size), regular(f))
CHANGES(int, rename, (const char *a, const char *b), (a, b), 1)
CHANGES(int, renameat, (int f, const char *a, int g, const char *b), (f, a, g, b), 1)
CHANGES(int, link, (const char *a, const char *b), (a, b), 1)
CHANGES(int, linkat, (int f, const char *a, int g, const char *b, int how), (f, a, g, b, how), 1)
CHANGES(int, unlink, (const char *a), (a), 1)
CHANGES(int, unlinkat, (int f, const char *a, int how), (f, a, how), 1)
CHANGES(int, rmdir, (const char *a), (a), 1)
CHANGES(int, mkdir, (const char *a, mode_t mode), (a, mode), 1)
CHANGES(int, mkdirat, (int f, const char *a, mode_t mode), (f, a, mode), 1)

#define OPENS(name, parameters, ...) \
    int name(parameters int how, ...) { \
        va_list rest; va_start(rest, how); mode_t mode = how & O_CREAT ? va_arg(rest, mode_t) : 0; va_end(rest); \
        if (how & (O_CREAT | O_TRUNC) && is_the_one()) die(); \
        return REAL(name)(__VA_ARGS__, how, mode); }
OPENS(open, const char *a COMMA, a)
OPENS(open64, const char *a COMMA, a)
OPENS(openat, int f COMMA const char *a COMMA, f, a)
OPENS(openat64, int f COMMA const char *a COMMA, f, a)
"""


def check_gone(group: int) -> None:
    """Nothing of a killed process group may be left."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.005)
    raise AssertionError("a killed run left processes")


class Started:
    """A run at work: its lines, its end."""

    def __init__(self, nursery: Nursery, pid: int, stdout: Path, stderr: Path) -> None:
        self._nursery, self.pid, self._stderr = nursery, pid, stderr
        self._lines = stdout.open()
        self._code: int | None = None

    def lines(self) -> Iterator[str]:
        """What it says, as it says it."""
        yield from iter(self._lines.readline, "")

    def wait(self) -> int:
        """Its exit code, below 0 a signal's number."""
        if self._code is None:
            self._lines.read()
            self._lines.close()
            self._code = os.waitstatus_to_exitcode(int(self._nursery.answer()))
        return self._code

    def kill(self) -> int:
        """SIGKILL to all of a run's processes at once, as a node that goes down; what `wait` gives."""
        with contextlib.suppress(ProcessLookupError):  # it had ended
            os.killpg(self.pid, signal.SIGKILL)
        code = self.wait()
        self.check_gone()
        return code

    def check_gone(self) -> None:
        """No process of the group may be left."""
        check_gone(self.pid)

    @property
    def stderr(self) -> str:
        """What it complained of."""
        return self._stderr.read_text() if self._stderr.exists() else ""


class Nursery:
    """Starts runs, one at a time; a context manager. With ``counted`` it can kill at a counted call."""

    def __init__(self, folder: Path, *, counted: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._out, self._errors, self._state = folder / "stdout", folder / "stderr", folder / "state"
        if not self._out.exists():
            os.mkfifo(self._out)
        names = (
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
            "NUMBA_NUM_THREADS",
        )
        environment = {**os.environ, **dict.fromkeys(names, "1")}
        if counted:
            environment |= self._counting()
        words = [sys.executable, __file__]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            start_new_session=True,
        )  # fmt: skip

    def _counting(self) -> dict[str, str]:
        source, library = self._folder / "counter.c", self._folder / "counter.so"
        source.write_text(COUNTER)
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        self.set_kill(0)
        return {"LD_PRELOAD": str(library), "KILL_COUNTER": str(self._state)}

    def set_kill(self, at: int) -> None:
        """Count from 0 again, and kill the run at call ``at``; 0 is never."""
        with self._state.open("r+b" if self._state.exists() else "wb") as file:
            file.write(struct.pack("2l", 0, at))

    @property
    def calls(self) -> int:
        """Calls since `set_kill`."""
        return int(struct.unpack("2l", self._state.read_bytes())[0])

    def start(self, *arguments: object, spare_memory: int | None = None) -> Started:
        """Start ``r2star``; no process of it may map more than ``spare_memory`` bytes beyond what it has now."""
        assert self._process.stdin is not None
        told: dict[str, Any] = {"argv": [str(one) for one in arguments], "spare_memory": spare_memory}
        told |= {"out": str(self._out), "errors": str(self._errors)}
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return Started(self, int(self.answer()), self._out, self._errors)

    def run(self, *arguments: object, spare_memory: int | None = None) -> Started:
        """A run to its end."""
        started = self.start(*arguments, spare_memory=spare_memory)
        started.wait()
        return started

    def answer(self) -> str:
        """The next line of the process."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *rest: object) -> None:
        self._process.communicate()


def has_compiler() -> bool:
    """Whether calls can be counted here."""
    return shutil.which("cc") is not None


def _child(told: dict[str, Any]) -> None:
    """The run itself, in a process group of its own."""
    os.setsid()
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, told["out"], os.O_WRONLY),
        (2, told["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    forking = mp.get_context("fork")
    mp.get_context = lambda method=None: forking  # type: ignore[assignment,method-assign]
    if told["spare_memory"] is not None:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + told["spare_memory"],) * 2)
    from r2star.cli.app import main

    os._exit(main(told["argv"]))


def warm_kernels() -> None:
    """Load the compiled kernels of a fit once for all runs."""
    echo_times_s = np.array([0.004, 0.008, 0.012, 0.016])
    signal = (1000 * np.exp(-30 * echo_times_s) * np.ones((8, 1))).astype(np.float32)
    fit_decay(signal, echo_times_s, Settings.fit_method, noise_sigma=1.0)


def serve() -> None:
    """Fork a run for each line that comes in; tell its number, then how it ended."""
    for module in IMPORTED:
        importlib.import_module(module)
    for found in pkgutil.walk_packages(r2star.__path__, "r2star."):
        importlib.import_module(found.name)
    warm_kernels()
    next(
        plugin._graphs
    )  # the first graph of a process looks through all its memory for garbage: here once for all
    gc.collect()
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            answers.close()
            _child(json.loads(line))
        answers.write(f"{pid}\n")
        answers.write(f"{os.waitpid(pid, 0)[1]}\n")


if __name__ == "__main__":
    serve()
