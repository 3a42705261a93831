"""Running graphs on this machine: nipype's MultiProc with workers whose death is noticed.

Stock MultiProc waits for ever when a worker is killed, as the out-of-memory killer does. Here each slot has a pool of
one worker: its death fails the one task that it ran, and the slot gets a new worker.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import itertools
import multiprocessing as mp
import os
import select
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from nipype.pipeline.plugins import multiproc

from r2star.runs.pools import give_up, has_fallen_silent, kill_workers
from r2star.workflows.logs import log_of_threads, quieten_engine
from r2star.workflows.signals import HeldSignals
from r2star.workflows.watcher import DEAD_WORKER

#: A worker is replaced after so many tasks, so that a library's leak stays small.
TASKS_PER_WORKER = 50
#: What graphs leave behind is collected after so many: looking for it means going through all that is loaded.
GRAPHS_PER_COLLECTION = 4
#: Longest wait for a task to end before the queue is looked through again.
LONGEST_WAIT_S = 1.0
#: Imported once, in the process from which all workers are forked.
PRELOADED = ("r2star.workflows.interfaces", "nipype.pipeline.plugins.multiproc")
_PR_SET_PDEATHSIG = 1


def start_worker(cwd: str, environment: Mapping[str, str]) -> None:
    """Prepare a worker: it has the run's thread limits, ignores the terminal's interrupt and dies with the run."""
    os.environ.update(environment)
    multiproc.process_initializer(cwd)
    quieten_engine()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_the_run()
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):
        return  # not Linux: orphans end with their task


def _end_with_the_run() -> None:
    """Have the system end this worker when the run is gone, which is not its parent: that is the fork server.

    The run holds the other end of a pipe; that it closes is told by a signal, whose default is to end the process,
    whatever long call this is in.
    """
    run = mp.parent_process()
    if run is None or not hasattr(fcntl, "F_SETOWN") or not hasattr(os, "O_ASYNC"):
        return  # orphans end with their task
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    pipe = run.sentinel
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:  # it is gone already
        os._exit(1)


class Slot:
    """One worker process at a time."""

    def __init__(self, cwd: str, environment: Mapping[str, str]) -> None:
        self._arguments = (cwd, dict(environment))
        self._pool: ProcessPoolExecutor | None = None
        self._future: Future[dict[str, Any]] | None = None
        self._n_tasks = 0
        self.busy = False

    def submit(self, node: Any, updatehash: bool, taskid: int) -> Future[dict[str, Any]]:
        """Run a node in this slot's worker, which is started or renewed as needed."""
        if self._n_tasks >= TASKS_PER_WORKER:
            self.close()
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1,
                mp_context=mp.get_context("forkserver"),
                initializer=start_worker,
                initargs=self._arguments,
            )
        self._n_tasks += 1
        self.busy = True
        self._future = self._pool.submit(multiproc.run_node, node, updatehash, taskid)
        return self._future

    def give_up_if_silent(self) -> None:
        """Where nothing tells of a task's end any more, it has failed as if its worker had died."""
        if (
            self._pool is None
            or self._future is None
            or self._future.done()
            or not has_fallen_silent(self._pool)
        ):
            return
        give_up(self._pool, [self._future])

    def mark_broken(self) -> None:
        """The worker died: the next task gets another.

        The pool is neither shut down nor let go here: the thread that tells of its death holds its lock, and
        from Python 3.12 on both would wait for that lock for ever.
        """
        self._n_tasks = TASKS_PER_WORKER

    def close(self, *, kill: bool = False) -> None:
        """End the worker; ``kill`` does not wait for its task."""
        if self._pool is not None:
            if kill:
                kill_workers(self._pool)
            self._pool.shutdown(wait=not kill, cancel_futures=True)
        self._pool, self._n_tasks, self.busy = None, 0, False


@contextmanager
def open_slots(n_slots: int, environment: Mapping[str, str]) -> Iterator[list[Slot]]:
    """Slots for several graphs one after the other; at the end nothing of them runs any more."""
    mp.set_forkserver_preload(list(PRELOADED))
    slots = [Slot(str(Path.cwd()), environment) for _ in range(n_slots)]
    try:
        with log_of_threads():
            yield slots
    finally:
        for slot in slots:
            slot.close(kill=True)


_graphs = itertools.count()


def _set_old_objects_aside() -> None:
    """Nipype collects garbage before every submission: let it look at what is new, not at modules and graph."""
    if next(_graphs) % GRAPHS_PER_COLLECTION == 0:
        gc.unfreeze()
        gc.collect()
    gc.freeze()


class Dependencies(np.ndarray[Any, Any]):
    """Which job waits for which: for some dozens of jobs a sparse matrix, as nipype's, takes a hundred times longer.

    It has what nipype's base plugin uses of a `scipy.sparse.lil_matrix`.
    """

    def sum(self, axis: int, **options: Any) -> Any:  # type: ignore[override]
        """Sums along an axis, as a row or a column."""
        return super().sum(axis=axis, keepdims=True, **options)

    def getrowview(self, job: int) -> Dependencies:
        """The row of one job; what is written to it stays."""
        return self[job : job + 1].view(Dependencies)


class TellsWhy:
    """A plugin that keeps a failed node's traceback on it before the status callback asks for it."""

    def _clean_queue(self, jobid: int, graph: Any, result: dict[str, Any] | None = None) -> Any:
        if result and isinstance(
            result["traceback"], str
        ):  # of a killed job: nipype adds lines to it, as to a list
            result["traceback"] = result["traceback"].splitlines(keepends=True)
        self.procs[jobid].failure = (result or {}).get("traceback")  # type: ignore[attr-defined]
        return super()._clean_queue(jobid, graph, result=result)  # type: ignore[misc]


class SlotsPlugin(TellsWhy, multiproc.MultiProcPlugin):
    """MultiProc over `Slot`; its arguments are MultiProc's and ``slots``, which it leaves open."""

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        multiproc.DistributedPluginBase.__init__(self, plugin_args=plugin_args)
        self._slots: list[Slot] = plugin_args["slots"]
        self.processors = len(self._slots)
        self.memory_gb = float(plugin_args["memory_gb"])
        self.raise_insufficient = False  # a node larger than the machine runs alone
        self.n_gpus_visible = self.n_gpu_procs = 0
        self._taskresult: dict[int, dict[str, Any]] = {}
        self._task_obj: dict[int, Future[dict[str, Any]]] = {}
        self._taskid = 0
        self._stats = None
        self.depidx: Any = None
        self.refidx: Any = None
        self._ended = threading.Event()
        self._signals = HeldSignals(self._ended)

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """As nipype's, with what stands before it left out of the garbage collections and no signal inside nipype."""
        _set_old_objects_aside()
        with self._signals:
            super().run(graph, config, updatehash=updatehash)

    def _generate_dependency_list(self, graph: Any) -> None:
        super()._generate_dependency_list(graph)
        self.depidx, self.refidx = (one.toarray().view(Dependencies) for one in (self.depidx, self.refidx))

    def _send_procs_to_workers(self, updatehash: bool = False, graph: Any = None) -> None:
        """Submit what can run, then wait for a task's end rather than for a time: tasks may take milliseconds."""
        self._ended.clear()
        super()._send_procs_to_workers(updatehash=updatehash, graph=graph)
        if self.pending_tasks and not self._taskresult and self._signals.arrived is None:
            self._ended.wait(LONGEST_WAIT_S)
            for slot in self._slots:
                slot.give_up_if_silent()
        self._signals.deliver()

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self._taskid += 1
        taskid = self._taskid
        slot = next(slot for slot in self._slots if not slot.busy)
        future = slot.submit(node, updatehash, taskid)
        self._task_obj[taskid] = future
        future.add_done_callback(lambda done: self._finish(done, slot, taskid))
        return taskid

    def _finish(self, future: Future[dict[str, Any]], slot: Slot, taskid: int) -> None:
        """Keep a task's result; a broken pool becomes the failure of its one task."""
        try:
            result = future.result()
        except BrokenProcessPool:
            slot.mark_broken()
            result = {"result": None, "traceback": [DEAD_WORKER], "taskid": taskid}
        except BaseException as error:  # the result itself could not be sent
            result = {"result": None, "traceback": traceback.format_exception(error), "taskid": taskid}
        slot.busy = False
        self._taskresult[taskid] = result
        self._ended.set()

    def _clear_task(self, taskid: int) -> None:
        super()._clear_task(taskid)
        del self._taskresult[taskid]

    def _postrun_check(self) -> None:
        """Nothing to close: the slots belong to the caller."""
