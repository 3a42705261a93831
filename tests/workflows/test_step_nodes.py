"""Steps as nodes: traits from type hints, caching by content, errors that survive the worker."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest
from nipype.interfaces.base import TraitError, isdefined
from nipype.pipeline import engine as pe

sys.path.insert(0, str(Path(__file__).parent))
from example_steps import AddUp, CountThreads, Die, Double

from r2star.errors import InputError
from r2star.workflows.nodes import EXECUTION
from r2star.workflows.plugin import SlotsPlugin, open_slots
from r2star.workflows.run import thread_limits
from r2star.workflows.stage import Stage
from r2star.workflows.step import StepNode
from r2star.workflows.watcher import error_of


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.txt"
    path.write_text("1 2 3")
    return path


def make_graph(folder: Path, numbers: Path, factor: float = 2.0) -> pe.Workflow:
    graph = pe.Workflow("example", base_dir=str(folder))
    graph.config["execution"] = {**EXECUTION, "crashdump_dir": str(folder)}
    double = StepNode(Double(numbers=str(numbers), factor=factor), name="double")
    add = StepNode(AddUp(), name="add")
    graph.connect([(double, add, [(("doubled", as_list), "parts")])])
    return graph


def as_list(value: str) -> list[str]:
    return [value]


def n_calls(folder: Path) -> int:
    return len((folder / "example" / "calls.log").read_text().splitlines())


def test_hints_become_traits_and_unknown_inputs_are_refused(numbers: Path) -> None:
    step = Double(numbers=str(numbers))
    assert not isdefined(step.inputs.mode)  # the step's own default holds, not the first of the enum
    with pytest.raises(TraitError):
        step.inputs.misspelt = 1
    with pytest.raises(TraitError):
        step.inputs.mode = "shrill"
    with pytest.raises(TraitError):
        step.inputs.numbers = "/no/such/file"


def test_a_step_survives_pickling(numbers: Path) -> None:
    step = pickle.loads(pickle.dumps(Double(numbers=str(numbers), factor=3.0)))
    assert step.inputs.factor == 3.0


def test_threads_do_not_enter_the_hash_but_the_version_and_the_content_do(numbers: Path) -> None:
    def digest(**inputs: object) -> str:
        return Double(numbers=str(numbers), **inputs).inputs.get_hashval(hash_method="content")[1]

    before = digest(n_threads=1)
    assert digest(n_threads=8) == before
    assert digest(r2star_version="0.0.0") != before
    assert digest(factor=5.0) != before
    numbers.write_text("1 2 4")
    assert digest(n_threads=1) != before


def test_a_second_run_does_no_work_and_a_lost_output_is_made_again(tmp_path: Path, numbers: Path) -> None:
    make_graph(tmp_path, numbers).run()
    assert (tmp_path / "example" / "add" / "total.txt").read_text() == "12.0"
    make_graph(tmp_path, numbers).run()
    assert n_calls(tmp_path) == 1
    (tmp_path / "example" / "double" / "doubled.txt").unlink()
    make_graph(tmp_path, numbers).run()
    assert n_calls(tmp_path) == 2
    make_graph(tmp_path, numbers, factor=4.0).run()
    assert (tmp_path / "example" / "add" / "total.txt").read_text() == "24.0"


def test_a_step_leaves_its_warnings_and_its_time(tmp_path: Path, numbers: Path) -> None:
    make_graph(tmp_path, numbers).run()
    record = json.loads((tmp_path / "example" / "double" / "record.json").read_text())
    assert record["step"] == "double"
    assert record["notices"][0]["code"] == "W999"
    assert 0 <= record["seconds"] < 60
    assert record["peak_memory_gib"] > 0.01


def test_the_steps_own_error_is_found_again(tmp_path: Path, numbers: Path) -> None:
    numbers.write_text("-1")
    graph = make_graph(tmp_path, numbers)
    events: list[tuple[str, str]] = []
    nodes = {}

    def watch(node: object, event: str) -> None:
        events.append((node.name, event))
        nodes[node.name] = node

    with open_slots(2, {}) as slots, pytest.raises(RuntimeError):
        graph.run(plugin=SlotsPlugin({"slots": slots, "memory_gb": 4.0, "status_callback": watch}))
    assert ("double", "exception") in events
    error = error_of(nodes["double"])
    assert isinstance(error, InputError)
    assert (error.code, error.path, error.fix) == ("E999", str(numbers), "mend it")


@pytest.mark.parametrize("number", [9, 15])
def test_a_killed_worker_fails_its_task_and_no_other(tmp_path: Path, numbers: Path, number: int) -> None:
    graph = make_graph(tmp_path, numbers)
    die = StepNode(Die(number=number), name="die")
    die.stage = Stage(("sub-01",), "dying", 1.0)
    graph.add_nodes([die])
    nodes = {}

    def watch(node: object, event: str) -> None:
        nodes[node.name] = node

    with open_slots(2, {}) as slots, pytest.raises(RuntimeError):
        graph.run(plugin=SlotsPlugin({"slots": slots, "memory_gb": 4.0, "status_callback": watch}))
    assert (tmp_path / "example" / "add" / "total.txt").read_text() == "12.0"
    assert error_of(nodes["die"]).code == "E608"


@pytest.fixture
def new_forkserver() -> Iterator[None]:
    """None that an earlier test has started: it has read the limits of its own time, as its children will."""
    forkserver._forkserver._stop()
    yield
    forkserver._forkserver._stop()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_worker_has_no_more_threads_than_the_run_allows(
    tmp_path: Path, n_threads: int, monkeypatch: pytest.MonkeyPatch, new_forkserver: None
) -> None:
    for name, value in thread_limits(n_threads).items():  # as the run itself does before it has any worker
        monkeypatch.setenv(name, value)
    graph = pe.Workflow("threads", base_dir=str(tmp_path))
    graph.config["execution"] = {**EXECUTION, "poll_sleep_duration": 0.0}
    graph.add_nodes([StepNode(CountThreads(), name="count")])
    with open_slots(1, thread_limits(n_threads)) as slots:
        graph.run(plugin=SlotsPlugin({"slots": slots, "memory_gb": 4.0}))
    n_found = int((tmp_path / "threads" / "count" / "threads.txt").read_text())
    # itself; BLAS, ITK and our kernels keep pools of their own, which work in turn
    assert n_found <= 3 * n_threads - 1
