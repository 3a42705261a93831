"""Whole runs killed at random times of a stage and at calls that change the disk: nothing lost, doubled or torn."""

from __future__ import annotations

import math
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import battery as b
import pytest
from cases import Case, fitted_case, measured_case
from nursery import Nursery, has_compiler

FIT_STAGES = ("checking inputs", "fitting R2*", "writing results")
#: After so many kills in a row on the same folders comes the run that must mend everything.
KILLS_IN_A_ROW = 9


def kill_over_and_over(case: Case, stage: str, kills: int, length_s: float, rng: random.Random) -> None:
    """So many kills at random times of a stage; after some in a row a run that must mend all."""
    n_killed = tries = 0
    while n_killed < kills:
        case.clear()
        before, in_a_row = n_killed, min(rng.randint(1, KILLS_IN_A_ROW), kills - n_killed)
        while n_killed < before + in_a_row:
            tries += 1
            assert tries < 4 * kills + 8, f"{n_killed} of {tries} runs were killed"
            if not case.kill(stage, rng.uniform(0, length_s)):
                break  # it was faster than the kill, or had no such stage any more
            n_killed += 1
            case.check_killed()
        if n_killed > before:
            case.check_mended()
    print(f"{stage}: {n_killed} killed of {tries} runs")  # noqa: T201


def parts(*always: Any, n: int) -> list[Any]:
    """What the short suite runs, and so many parts of the long one, which can be run apart."""
    return [*always, *(pytest.param(10, part, marks=pytest.mark.faults) for part in range(n))]


def counted_parts(n: int, short: tuple[int, int]) -> list[Any]:
    """A few calls for the short suite; all of them in parts for the long one."""
    return [short, *(pytest.param(part, n, marks=pytest.mark.faults) for part in range(n))]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Case:
    case = fitted_case(nursery, tmp_path_factory.mktemp("fit"))
    case.learn()
    return case


def test_the_nursery_runs_what_a_user_runs(fitted: Case, r2star: b.Run) -> None:
    plain = fitted.out.with_name("plain")
    words = [plain if word == fitted.out else word for word in fitted.words]
    assert r2star("app", *words).returncode == 0
    assert b.stable_tree(plain) == fitted.reference


@pytest.mark.parametrize(
    ("stage", "kills", "part"),
    [
        ("fitting R2*", 2, -1),
        *(pytest.param(one, 10, part, marks=pytest.mark.faults) for one in FIT_STAGES for part in range(20)),
    ],
)
def test_killed_at_random_times_of_a_fit(fitted: Case, stage: str, kills: int, part: int) -> None:
    length_s = fitted.length_s(stage, "Units:" if stage == FIT_STAGES[-1] else "")
    kill_over_and_over(fitted, stage, kills, length_s, random.Random(f"{stage} {part}"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Case:
    case = measured_case(nursery, tmp_path_factory.mktemp("brain"))
    case.learn()
    return case


@pytest.mark.faults
@pytest.mark.parametrize(("kills", "part"), parts(n=20))
def test_killed_at_random_times_of_a_registration(measured: Case, kills: int, part: int) -> None:
    stage = "registering to template"
    kill_over_and_over(measured, stage, kills, measured.length_s(stage), random.Random(f"{stage} {part}"))


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Case:
    """The same head, each time from when its registration is done."""
    case = measured_case(nursery, tmp_path_factory.mktemp("registered"))
    case.learn()
    case.keep("brain mask")
    return case


@pytest.mark.faults
@pytest.mark.parametrize(("kills", "part"), parts(n=20))
def test_killed_at_random_times_while_regions_are_measured_and_shown(
    registered: Case, kills: int, part: int
) -> None:
    stage = "brain mask"
    length_s = registered.length_s(stage, "the end")
    kill_over_and_over(registered, stage, kills, length_s, random.Random(f"{stage} {part}"))


def kill_at_calls(case: Case, part: int, n_parts: int, first: int = 1, last: int | None = None) -> None:
    """Kill a run at every ``n_parts``-th call that changes the disk, and mend it each time."""
    if not has_compiler():
        pytest.skip("no C compiler to count calls with")
    n_killed = 0
    for call in range(first + part, last or 100_000, n_parts):
        case.clear()
        case.nursery.set_kill(call)
        run = case.nursery.start(*case.words)
        code = run.wait()
        case.nursery.set_kill(0)
        if code == 0:
            break  # it made fewer
        assert code == -signal.SIGKILL, (call, code, run.stderr)
        run.check_gone()
        case.check_killed()
        case.check_mended()
        n_killed += 1
    assert n_killed
    print(f"counted: {n_killed} killed, the last before call {call}")  # noqa: T201


def call_of(case: Case, stage: str) -> int:
    """Calls of a run until a stage begins."""
    case.clear()
    case.nursery.set_kill(0)
    run = case.nursery.start(*case.words)
    calls = next(case.nursery.calls for line in run.lines() if stage in line)
    run.kill()
    return calls


@pytest.mark.parametrize(("part", "n_parts"), counted_parts(60, short=(200, 100_000)))
def test_killed_at_each_call_that_changes_the_disk_until_a_head_is_registered(
    measured: Case, part: int, n_parts: int
) -> None:
    kill_at_calls(measured, part, n_parts, last=call_of(measured, "brain mask"))


@pytest.mark.parametrize(("part", "n_parts"), counted_parts(40, short=(150, 100_000)))
def test_killed_at_each_call_that_changes_the_disk_once_a_head_is_registered(
    registered: Case, part: int, n_parts: int
) -> None:
    kill_at_calls(registered, part, n_parts)


MODEL = Path(__file__).parents[1] / "group" / "model.toml"


class Cohort:
    """A small cohort, its group level, and the bytes and the time that it takes."""

    def __init__(self, nursery: Nursery, bids: Path) -> None:
        self._nursery, self.out = nursery, bids / "derivatives/r2star"
        self._words = (bids, self.out, "group", "--model", MODEL)
        self.length_s = math.inf
        self.run()
        self.reference = b.tree(self.out)

    def run(self) -> None:
        begin = time.monotonic()
        done = self._nursery.run(*self._words)
        assert done.wait() == 0, done.stderr
        self.length_s = min(self.length_s, time.monotonic() - begin)

    def clear(self) -> None:
        shutil.rmtree(self.out / "group", ignore_errors=True)
        (self.out / "group.html").unlink(missing_ok=True)

    def kill(self, after_s: float) -> bool:
        run = self._nursery.start(*self._words)
        time.sleep(after_s)
        return run.kill() == -signal.SIGKILL


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, r2star: b.Run) -> Cohort:
    bids = tmp_path_factory.mktemp("group") / "bids"
    made = r2star("simulate", "cohort", bids, "--seed", 5, "--controls", 12, "--patients", 12, "--sites", 1)
    assert made.returncode == 0, made.stderr
    return Cohort(nursery, bids)


@pytest.mark.parametrize(("kills", "part"), parts((1, -1), n=20))
def test_killed_at_random_times_of_the_group_level(cohort: Cohort, kills: int, part: int) -> None:
    rng, n_killed, tries = random.Random(f"group {part}"), 0, 0
    while n_killed < kills:
        cohort.clear()
        for _ in range(min(rng.randint(1, KILLS_IN_A_ROW), kills - n_killed)):
            tries += 1
            assert tries < 4 * kills + 8
            n_killed += cohort.kill(rng.uniform(0, cohort.length_s))
            for name, data in b.tree(cohort.out).items():
                assert ".r2star-tmp-" in name or data == cohort.reference[name], name
        cohort.run()
        assert b.tree(cohort.out) == cohort.reference
    print(f"group: {n_killed} killed of {tries} runs")  # noqa: T201
