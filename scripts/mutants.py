"""Mutation testing: change operators and numbers of the program, one at a time, and see whether tests notice.

    python scripts/mutants.py regions images [--sample 250] [--seed 20140] [--results FILE.jsonl] [--minutes 4]

cosmic-ray finds the mutants; they are tried in a copy of the checkout. A mutant is killed when a test of its package
fails, or takes many times the processor time of all of them without a mutant; a survivor is a line that no test holds.
Mutants of annotations, which nothing runs, are left out. What was tried stands in FILE, a line a mutant: a run that
was stopped goes on where it was.

What makes it cheap enough to be done, and costs no truth:

- The tests run in forks of one process that has imported the libraries, never r2star (`mutant_server.py`).
- Each module names the tests that are sure to run it, the quickest first; a test file that is not named can only
  make a survivor of what it would have killed.
- A mutant of `fit` finds the compiled kernels of the modules that do not import the mutated one; those of the
  mutated module and of all that import it are compiled anew, which numba does by itself for the former and which
  an emptied cache brings about for the latter.
"""

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[1]
CONTRACTS = "tests/contracts"
PARTS = "tests/fit/test_fit_parts.py"
BOUNDS = "tests/fit/test_boundaries.py"
EVERY_FIT = (BOUNDS, "tests/contracts", "tests/fit/test_nonlinear.py", PARTS, "tests/fit/test_estatics.py")
#: Package, or module of it → its tests, the quickest first; after them, what pytest must be told besides.
TESTS: dict[str, tuple[str, ...]] = {
    "regions": ("r2star/regions", "tests/regions", "tests/steps/test_region_table.py"),
    "images": ("r2star/images", "tests/images"),
    "fit": ("r2star/fit/decay.py", *EVERY_FIT),
    "fit/arlo": (BOUNDS, CONTRACTS, PARTS, "-karlo"),
    "fit/loglinear": (BOUNDS, CONTRACTS, PARTS, "tests/fit/test_nonlinear.py", "-kloglinear"),
    "fit/weighted": (BOUNDS, CONTRACTS, PARTS, "tests/fit/test_nonlinear.py", "-kweighted"),
    "fit/nonlinear": (BOUNDS, "tests/fit/test_nonlinear.py", CONTRACTS, "-knonlinear or test_nonlinear"),
    "fit/rician": (BOUNDS, CONTRACTS, PARTS, "tests/fit/test_rician_bias.py", "-krician"),
    "fit/moments": (PARTS, "tests/fit/test_rician_bias.py", "-kmoment or rician"),
    "fit/noise": ("r2star/fit/noise.py", PARTS, "-knoise or background"),
    "fit/denoise": ("tests/fit/test_denoise.py", "tests/steps/test_denoise.py"),
    "fit/saturation": ("tests/fit/test_saturation.py",),
    "fit/estatics": ("r2star/fit/estatics.py", "tests/fit/test_estatics.py"),
    "fit/joint": ("tests/fit/test_estatics.py",),
    "fit/compiling": ("tests/fit/test_kernel_cache.py", PARTS),
}
ONLY = ("-x", "-q", "-p", "no:cacheprovider", "-m", "not faults and not slow")
#: The libraries' asserts are not rewritten for being imported early; nobody reads them.
ONLY += ("-W", "ignore::pytest.PytestAssertRewriteWarning")
PRISTINE = ".without-mutant"
LEAST_CPU_S, TIMES_CPU = 60.0, 5.0


class Mutant(NamedTuple):
    """One change; its place is what it is known by."""

    file: str
    line: int
    column: int
    operator: str
    occurrence: int

    @property
    def tests(self) -> tuple[str, ...]:
        """The tests of its module."""
        module = self.file.removeprefix("r2star/").removesuffix(".py")
        return TESTS.get(module, TESTS[module.split("/")[0]])

    def apply(self, source: str) -> str:
        """The source with the change."""
        changed = mutate_code(source, get_operator(self.operator)(), self.occurrence)
        assert changed is not None
        return str(changed)


def copy_checkout(target: Path) -> None:
    """Copy what git knows of, links as links."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, names.split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def annotations(source: str) -> list[tuple[int, int, int, int]]:
    """Places of all annotations: first line and column, last line and column."""
    nodes = []
    for node in ast.walk(ast.parse(source)):
        nodes += [getattr(node, key, None) for key in ("annotation", "returns")]
    return [
        (node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0)
        for node in nodes
        if isinstance(node, ast.AST)
    ]


def find_mutants(file: str) -> Iterator[Mutant]:
    """All mutants of a module but those of annotations."""
    source = (ROOT / file).read_text()
    tree, typed = get_ast(source), annotations(source)
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if operator.arguments():  # names to put in another's place: none are told
            continue
        places = (start for node in ast_nodes(tree) for start, _ in operator().mutation_positions(node))
        for occurrence, start in enumerate(places):
            if not any((a, b) <= tuple(start) < (c, d) for a, b, c, d in typed):
                yield Mutant(file, start[0], start[1], name, occurrence)


class Server:
    """The process whose forks run tests, in a copy of the checkout."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        environment = os.environ | {
            "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "MPLBACKEND": "Agg",
            "R2STAR_TEST_DATA": os.environ.get("R2STAR_TEST_DATA", str(ROOT.parent / "shared/data")),
        }  # fmt: skip
        command = [python, str(Path(__file__).with_name("mutant_server.py"))]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, tests: tuple[str, ...], limit_s: float) -> dict[str, Any]:
        """Exit code of the tests, their processor time and the end of what they printed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"arguments": [*ONLY, *tests], "cpu_s": limit_s}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def dependants(module: str) -> set[str]:
    """Modules of fit that import one of them, by whatever way."""
    sources = {path.stem: path.read_text() for path in (ROOT / "r2star/fit").glob("*.py")}
    found = {module}
    while True:
        more = {
            name
            for name, text in sources.items()
            if any(f"r2star.fit.{one} import" in text or f"fit import {one}" in text for one in found)
        }
        if more <= found:
            return found - {module}
        found |= more


def kernel_folder(folder: Path, python: str) -> Path:
    """Where the kernels of the copy, as it is now, are kept."""
    code = "from r2star.fit.compiling import kernel_cache; print(kernel_cache())"
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([python, "-c", code], cwd=folder, env=environment, capture_output=True, check=True)
    return Path(done.stdout.decode().strip())


def try_mutant(server: Server, mutant: Mutant, python: str, limit_s: float) -> dict[str, Any]:
    """What became of a mutant."""
    path = server.folder / mutant.file
    original = (server.folder / PRISTINE / mutant.file).read_text()
    pristine = kernel_folder(server.folder, python) if "/fit/" in mutant.file else None
    path.write_text(mutant.apply(original))
    made = None
    try:
        if pristine is not None:
            made = kernel_folder(server.folder, python)
            stale = [f"{name}.*" for name in dependants(Path(mutant.file).stem)]
            shutil.copytree(pristine, made, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*stale))
        answer = server.run(mutant.tests, limit_s)
    except subprocess.CalledProcessError as error:  # the mutated module can't even be imported
        answer = {"exit": 1, "cpu_s": 0.0, "end": error.stderr.decode()[-300:]}
    finally:
        path.write_text(original)
        if made is not None:
            shutil.rmtree(made)
    return mutant._asdict() | {"outcome": "survived" if answer["exit"] == 0 else "killed"} | answer


def try_package(package: str, options: argparse.Namespace, done: dict[Mutant, dict[str, Any]]) -> float:
    """Try a sample of a package's mutants; the share that was killed."""
    every = [
        mutant
        for path in sorted((ROOT / "r2star" / package).glob("*.py"))
        if not options.module or path.stem in options.module
        for mutant in find_mutants(str(path.relative_to(ROOT)))
    ]
    chosen = random.Random(options.seed).sample(every, min(options.sample, len(every)))
    left = [mutant for mutant in chosen if mutant not in done]
    with tempfile.TemporaryDirectory(prefix="r2star-mutants-") as name:
        folder = options.folder or Path(name)
        if not (folder / PRISTINE).exists():
            copy_checkout(folder)
            without_link = shutil.ignore_patterns("workflows")
            shutil.copytree(folder / "r2star", folder / PRISTINE / "r2star", ignore=without_link)
        # a run that was killed may have left its mutant behind
        shutil.copytree(folder / PRISTINE, folder, dirs_exist_ok=True)
        server, known = Server(folder, options.python), folder / "limits.json"
        limits: dict[str, float] = json.loads(known.read_text()) if known.exists() else {}
        for mutant in left:
            if time.monotonic() > options.end:
                break
            if str(mutant.tests) not in limits:
                alone = server.run(mutant.tests, 3600.0)
                assert alone["exit"] == 0, f"the tests fail without a mutant: {alone['end']}"
                limits[str(mutant.tests)] = max(LEAST_CPU_S, TIMES_CPU * alone["cpu_s"])
                known.write_text(json.dumps(limits))
            done[mutant] = try_mutant(server, mutant, options.python, limits[str(mutant.tests)])
            if options.results:
                with options.results.open("a") as file:
                    file.write(json.dumps(done[mutant]) + "\n")
        server.close()
    rows = [done[mutant] for mutant in chosen if mutant in done]
    survivors = [row for row in rows if row["outcome"] == "survived"]
    killed = 1 - len(survivors) / max(1, len(rows))
    print(f"{package}: {len(rows)} of {len(every)} mutants tried, {killed:.1%} killed")
    for row in sorted(survivors, key=lambda row: (row["file"], row["line"])):
        print(
            f"  survived: {row['file']}:{row['line']}:{row['column']} {row['operator']} {row['occurrence']}"
        )
    return killed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packages", nargs="+", choices=("regions", "images", "fit"))
    parser.add_argument("--module", action="append", default=[], help="only these modules of the package")
    parser.add_argument("--sample", type=int, default=250)
    parser.add_argument("--seed", type=int, default=20140)
    parser.add_argument("--python", default=sys.executable, help="the Python that runs the tests")
    parser.add_argument("--least", type=float, default=0.0, help="fail below this share of killed mutants")
    parser.add_argument("--results", type=Path, help="a line a mutant; those in it are not tried again")
    parser.add_argument("--folder", type=Path, help="keep the copy here, with its compiled kernels")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no mutant after so many minutes")
    options = parser.parse_args()
    options.end = time.monotonic() + 60 * options.minutes
    done: dict[Mutant, dict[str, Any]] = {}
    if options.results and options.results.exists():
        for row in map(json.loads, options.results.read_text().splitlines()):
            done[Mutant(*(row[key] for key in Mutant._fields))] = row
    found = [try_package(name, options, done) for name in options.packages]
    return int(any(killed < options.least for killed in found))


if __name__ == "__main__":
    sys.exit(main())
