"""Mutation testing: change operators and numbers of the program, one at a time, and see whether tests notice.

    python scripts/mutants.py regions images [--sample 250] [--seed 20140] [--results FILE.jsonl] [--minutes 4]

cosmic-ray finds the mutants; they are tried in a copy of the checkout. A mutant is killed when a test of its package
fails, or takes many times the processor time of all of them without a mutant; a survivor is a line that no test holds.
Time on the clock kills nothing: where it runs out, the mutant is tried again by the next run. Left out are mutants of
annotations, which nothing runs, and those that Python refuses or warns of as it compiles them: any test kills these.

What was tried stands in FILE, a line a mutant: a run that was stopped goes on where it was. A record holds as long as
its module is the same, and that of a survivor as long as its tests are.

What makes it cheap enough to be done, and costs no truth:

- The tests run in forks of one process that has imported the libraries, never r2star (`mutant_server.py`).
- Each module names the tests that are sure to run it, the quickest first; a test file that is not named can only
  make a survivor of what it would have killed.
- A mutant of `fit` finds the compiled kernels of the modules that do not import the mutated one; those of the
  mutated module and of all that import it are compiled anew, which numba does by itself for the former and which
  an emptied cache brings about for the latter. Numba knows a source by its time, so the time is put back as well.
"""

import argparse
import ast
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[1]
CONTRACTS = "tests/contracts"
PARTS = "tests/fit/test_fit_parts.py"
ERRORS = "tests/fit/test_reported_errors.py"
GRIDS = "tests/images/test_grid_rule.py"
BOUNDS = "tests/fit/test_boundaries.py"
EVERY_FIT = (
    BOUNDS,
    PARTS,
    ERRORS,
    "tests/fit/test_saturation.py",
    "tests/fit/test_nonlinear.py",
    "tests/fit/test_estatics.py",
)
EVERY_FIT += (CONTRACTS, "tests/steps/test_fit_maps.py")
#: Package, or module of it → its tests, the quickest first; after them, what pytest must be told besides.
TESTS: dict[str, tuple[str, ...]] = {
    "regions": ("r2star/regions", "tests/regions", "tests/steps/test_region_table.py"),
    "images": (
        GRIDS,
        "tests/images/test_image_details.py",
        "tests/images/test_file_integrity.py",
        "r2star/images",
        "tests/images",
    ),
    "fit": ("r2star/fit/decay.py", *EVERY_FIT),
    "fit/arlo": (BOUNDS, ERRORS, CONTRACTS, "-karlo"),
    "fit/loglinear": (BOUNDS, ERRORS, CONTRACTS, PARTS, "tests/fit/test_nonlinear.py", "-kloglinear"),
    "fit/weighted": (BOUNDS, ERRORS, CONTRACTS, PARTS, "tests/fit/test_nonlinear.py", "-kweighted"),
    "fit/nonlinear": (
        BOUNDS,
        "tests/fit/test_nonlinear.py",
        ERRORS,
        CONTRACTS,
        "-knonlinear or test_nonlinear",
    ),
    "fit/rician": (BOUNDS, PARTS, ERRORS, CONTRACTS, "tests/fit/test_rician_bias.py", "-krician"),
    "fit/moments": (PARTS, "tests/fit/test_rician_bias.py", "-kmoment or rician"),
    "fit/noise": ("r2star/fit/noise.py", "tests/fit/test_noise_estimate.py"),
    "fit/denoise": ("tests/fit/test_denoise.py", "tests/steps/test_denoise.py"),
    "fit/saturation": ("tests/fit/test_saturation.py",),
    "fit/estatics": ("r2star/fit/estatics.py", "tests/fit/test_estatics.py"),
    "fit/joint": ("tests/fit/test_estatics.py",),
    "fit/compiling": ("tests/fit/test_kernel_cache.py", PARTS),
}
ONLY = ("-x", "-q", "-p", "no:cacheprovider", "-m", "not faults and not slow")
#: The libraries' asserts are not rewritten for being imported early; nobody reads them.
ONLY += ("-W", "ignore::pytest.PytestAssertRewriteWarning")
LIMITS = "limits.json"
LEAST_CPU_S, TIMES_CPU = 60.0, 5.0
#: A number of the program is seldom whole: tests kill these by its type, whatever they look at.
OF_BITS = ("_RShift", "_LShift", "_BitOr", "_BitAnd", "_BitXor", "_Invert")


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

    @property
    def state(self) -> str:
        """What a survivor's record belongs to: a digest of its module, and one of its tests."""
        names = [ROOT / name for name in self.tests if not name.startswith("-k")]
        files = [path for name in names for path in (sorted(name.rglob("*.py")) if name.is_dir() else [name])]
        return f"{digest([ROOT / self.file])} {digest(files)}"

    def holds(self, record: dict[str, Any]) -> bool:
        """Whether a record tells what would be found now."""
        module, tests = self.state.split()
        known = record.get("state", "- -").split()
        expected = {"survived": (module, tests), "unknown": ()}.get(record["outcome"], (module, known[1]))
        return tuple(known) == expected


@cache
def digest_of(path: Path) -> bytes:
    """Digest of a file as it was at the start."""
    return hashlib.sha256(path.read_bytes()).digest()


def digest(paths: list[Path]) -> str:
    """One short digest of some files."""
    return hashlib.sha256(b"".join(map(digest_of, paths))).hexdigest()[:12]


def is_program(source: str) -> bool:
    """Whether Python compiles it without complaint."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            compile(source, "mutant", "exec")
        except (SyntaxError, SyntaxWarning):
            return False
    return True


def copy_checkout(target: Path) -> None:
    """Make ``target`` hold what git knows of, links as links; what is there already is not touched, nor are kernels."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    names = {name for name in listed.split("\0") if name and (ROOT / name).exists()}
    for path in list(target.rglob("*")):
        name = str(path.relative_to(target))
        is_ours = "__pycache__" not in path.parts and name not in names and name != LIMITS
        if is_ours and (path.is_symlink() or not path.is_dir()):
            path.unlink(missing_ok=True)
    for name in names:
        source, copy = ROOT / name, target / name
        if source.is_symlink() or not copy.exists() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.unlink(missing_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)


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

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def run(self, tests: tuple[str, ...], limit_s: float) -> dict[str, Any]:
        """Exit code of the tests, their processor time, what stopped them and the end of what they printed."""
        return self._ask(arguments=[*ONLY, *tests], cpu_s=limit_s)

    def kernel_folder(self) -> Path | None:
        """Where the kernels of the copy, as it is now, are kept; None where it can't be imported."""
        answer = self._ask(arguments=None, cpu_s=LEAST_CPU_S)
        return Path(answer["end"].split()[-1]) if answer["exit"] == 0 else None

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


def try_mutant(server: Server, mutant: Mutant, limit_s: float) -> dict[str, Any]:
    """What became of a mutant: survived, killed, unknown (no time on the clock) or no program."""
    path = server.folder / mutant.file
    original, made = path.read_text(), None
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    pristine = server.kernel_folder() if "/fit/" in mutant.file else None
    changed, known = mutant.apply(original), {**mutant._asdict(), "state": mutant.state}
    if not is_program(changed):
        return known | {"outcome": "no program"}
    try:
        path.write_text(changed)
        if pristine is not None:
            made = server.kernel_folder()
        if pristine is not None and made is not None:
            stale = [f"{name}.*" for name in dependants(Path(mutant.file).stem)]
            shutil.copytree(pristine, made, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*stale))
        answer = server.run(mutant.tests, limit_s)
    finally:
        path.write_text(original)
        os.utime(path, ns=times)
        if made is not None:
            shutil.rmtree(made)
    outcome = "survived" if answer["exit"] == 0 else "unknown" if answer["stopped"] == "clock" else "killed"
    return known | {"outcome": outcome} | answer


def tell(package: str, rows: list[dict[str, Any]]) -> float:
    """Print what was found in a package; the share that was killed."""
    survivors = [row for row in rows if row["outcome"] == "survived"]
    harder = [row for row in rows if not row["operator"].endswith(OF_BITS)]
    killed = 1 - len(survivors) / max(1, len(rows))
    of_harder = sum(row["outcome"] == "killed" for row in harder)
    late = sum(row["stopped"] == "processor time" for row in rows)
    print(
        f"{package}: {len(rows)} mutants tried, {killed:.1%} killed ({late} by their processor time); "
        f"without operators of bits {of_harder} of {len(harder)}"
    )
    for row in sorted(survivors, key=lambda row: (row["file"], row["line"])):
        print(
            f"  survived: {row['file']}:{row['line']}:{row['column']} {row['operator']} {row['occurrence']}"
        )
    return killed


def try_package(package: str, options: argparse.Namespace, done: dict[Mutant, dict[str, Any]]) -> float:
    """Try a sample of a package's mutants; the share that was killed."""
    every = [
        mutant
        for path in sorted((ROOT / "r2star" / package).glob("*.py"))
        if not options.module or path.stem in options.module
        for mutant in find_mutants(str(path.relative_to(ROOT)))
    ]
    random.Random(options.seed).shuffle(every)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="r2star-mutants-") as name:
        folder = options.folder or Path(name)
        folder.mkdir(exist_ok=True)
        copy_checkout(folder)
        server = Server(folder, options.python)
        limits = json.loads((folder / LIMITS).read_text()) if (folder / LIMITS).exists() else {}
        for mutant in every:
            if len(rows) == options.sample:
                break
            if mutant not in done or not mutant.holds(done[mutant]):
                if time.monotonic() > options.end:
                    continue
                if str(mutant.tests) not in limits:
                    alone = server.run(mutant.tests, 3600.0)
                    assert alone["exit"] == 0, f"the tests fail without a mutant: {alone['end']}"
                    limits[str(mutant.tests)] = max(LEAST_CPU_S, TIMES_CPU * alone["cpu_s"])
                    (folder / LIMITS).write_text(json.dumps(limits))
                done[mutant] = try_mutant(server, mutant, limits[str(mutant.tests)])
                if options.results:
                    with options.results.open("a") as file:
                        file.write(json.dumps(done[mutant]) + "\n")
            if done[mutant]["outcome"] in ("killed", "survived"):
                rows.append(done[mutant])
        server.close()
    return tell(package, rows)


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
