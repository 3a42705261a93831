"""Running graphs on this machine: nipype's MultiProc with workers whose death is noticed.

Stock MultiProc waits for ever when a worker is killed, as the out-of-memory killer does. Here each slot has a pool of
one worker: its death fails the one task that it ran, and the slot gets a new worker.
"""

from __future__ import annotations

import ctypes
import multiprocessing as mp
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from nipype.pipeline.plugins import multiproc

from r2star.workflows.logs import quieten_engine
from r2star.workflows.watcher import DEAD_WORKER

#: A worker is replaced after so many tasks, so that a library's leak stays small.
TASKS_PER_WORKER = 50
_PR_SET_PDEATHSIG = 1


def start_worker(cwd: str) -> None:
    """Prepare a worker: it ignores the terminal's interrupt and dies with its parent."""
    multiproc.process_initializer(cwd)
    quieten_engine()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):
        return  # not Linux: orphans end with their task


class Slot:
    """One worker process at a time."""

    def __init__(self, cwd: str) -> None:
        self._cwd = cwd
        self._pool: ProcessPoolExecutor | None = None
        self._n_tasks = 0
        self.busy = False

    def submit(self, node: Any, updatehash: bool, taskid: int) -> Future[dict[str, Any]]:
        """Run a node in this slot's worker, which is started or renewed as needed."""
        if self._n_tasks >= TASKS_PER_WORKER:
            self.close()
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1, mp_context=mp.get_context("forkserver"), initializer=start_worker, initargs=(self._cwd,)
            )
        self._n_tasks += 1
        self.busy = True
        return self._pool.submit(multiproc.run_node, node, updatehash, taskid)

    def mark_broken(self) -> None:
        """The worker died: the next task gets another.

        The pool is neither shut down nor let go here: the thread that tells of its death holds its lock, and
        from Python 3.12 on both would wait for that lock for ever.
        """
        self._n_tasks = TASKS_PER_WORKER

    def close(self, *, kill: bool = False) -> None:
        """End the worker; ``kill`` does not wait for its task."""
        if self._pool is not None:
            workers = list((self._pool._processes or {}).values())
            if kill:
                for worker in workers:
                    worker.kill()
            self._pool.shutdown(wait=not kill, cancel_futures=True)
        self._pool, self._n_tasks, self.busy = None, 0, False


class SlotsPlugin(multiproc.MultiProcPlugin):
    """MultiProc over `Slot`; its arguments are MultiProc's."""

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        multiproc.DistributedPluginBase.__init__(self, plugin_args=plugin_args)
        self.processors = int(plugin_args["n_procs"])
        self.memory_gb = float(plugin_args["memory_gb"])
        self.raise_insufficient = False  # a node larger than the machine runs alone
        self.n_gpus_visible = self.n_gpu_procs = 0
        self._taskresult: dict[int, dict[str, Any]] = {}
        self._task_obj: dict[int, Future[dict[str, Any]]] = {}
        self._taskid = 0
        self._stats = None
        self._slots = [Slot(str(Path.cwd())) for _ in range(self.processors)]

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
            result = {"result": None, "traceback": [f"{type(error).__name__}: {error}"], "taskid": taskid}
        slot.busy = False
        self._taskresult[taskid] = result

    def _clean_queue(self, jobid: int, graph: Any, result: dict[str, Any] | None = None) -> Any:
        """Keep the traceback on the node before the status callback asks for it."""
        self.procs[jobid].failure = (result or {}).get("traceback")
        return super()._clean_queue(jobid, graph, result=result)

    def _postrun_check(self) -> None:
        self.close()

    def close(self, *, kill: bool = False) -> None:
        """End all workers."""
        for slot in self._slots:
            slot.close(kill=kill)
