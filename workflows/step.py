"""A step as a nipype interface: the input and output traits come from the step's type hints.

Imports nipype and the step's module, nothing else of the graph layer. One line makes an interface::

    class FitMaps(Step, function=fit_maps): ...

Type hints become traits: ``Path`` an existing file, ``tuple[Path, ...]`` a list of them, ``Literal`` an enum, a
dataclass an instance; a default or ``| None`` makes the input optional. The parameter ``out_dir`` is no trait: it
is the node's own folder. Thread counts (``n_threads``) are traits that never enter the hash; the package's version
always does.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
import types
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from nipype.interfaces.base import (
    BaseInterface,
    BaseInterfaceInputSpec,
    File,
    TraitedSpec,
    isdefined,
    traits,
)
from nipype.interfaces.utility import Merge
from nipype.pipeline import engine as pe
from nipype.pipeline.engine.utils import save_resultfile

from r2star import __version__
from r2star.errors import EnvironmentFault, Notice, R2starError
from r2star.files import is_write_fault, write_fault
from r2star.runs.resources import forget_peak_memory, peak_memory_gib
from r2star.workflows.pickles import guard_engine
from r2star.workflows.watcher import ERROR_FILE

NOT_HASHED = frozenset({"n_threads"})
OUTPUTS_FILE = "outputs.json"
#: What a step told of itself: its warnings, time and memory; every interface has it as output ``record``.
RECORD_FILE = "record.json"
#: Its warnings alone, which unlike its time are the same in every run; output ``notices``.
NOTICES_FILE = "notices.json"


def _trait(hint: Any, *, mandatory: bool, hashed: bool) -> Any:
    """The trait for one type hint; `TypeError` for a hint that has none."""
    meta = {"mandatory": mandatory, "nohash": not hashed}
    options = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) in (Union, types.UnionType) and len(options) == 1:
        return _trait(options[0], mandatory=False, hashed=hashed)
    if get_origin(hint) is Literal:
        return traits.Enum(*get_args(hint), **meta)
    if get_origin(hint) is tuple and len(options) == 2 and options[1] is Ellipsis:
        return traits.List(_trait(options[0], mandatory=True, hashed=hashed), **meta)
    simple = {Path: File(exists=True, **meta), str: traits.Str(**meta), int: traits.Int(**meta)}
    simple |= {float: traits.Float(**meta), bool: traits.Bool(**meta)}
    if hint in simple:
        return simple[hint]
    if get_origin(hint) is dict or is_dataclass(hint):
        return traits.Dict(**meta) if get_origin(hint) is dict else traits.Instance(hint, **meta)
    msg = f"a step's parameter has the type {hint}, for which there is no trait"
    raise TypeError(msg)


def _input_traits(function: Callable[..., Any]) -> dict[str, Any]:
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    return {
        one.name: _trait(
            hints[one.name],
            mandatory=one.default is inspect.Parameter.empty,
            hashed=one.name not in NOT_HASHED,
        )
        for one in parameters
        if one.name != "out_dir"
    }


def _output_traits(function: Callable[..., Any]) -> dict[str, Any]:
    result = get_type_hints(get_type_hints(function)["return"])
    own = {
        name: _trait(hint, mandatory=False, hashed=True) for name, hint in result.items() if name != "notices"
    }
    return {**own, "record": File(exists=True), "notices": File(exists=True)}


class Step(BaseInterface):
    """Base of all step interfaces; subclass with ``function=`` and nothing in the body."""

    function: Callable[..., NamedTuple]

    def __init_subclass__(cls, function: Callable[..., Any], **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.function = staticmethod(function)
        fields = {"r2star_version": traits.Str(__version__, usedefault=True), **_input_traits(function)}
        cls.input_spec = cls._spec("input_spec", BaseInterfaceInputSpec, fields)
        cls.output_spec = cls._spec("output_spec", TraitedSpec, _output_traits(function))

    @classmethod
    def _spec(cls, name: str, base: type, fields: dict[str, Any]) -> type:
        # its real qualified name lets the spec be pickled to a worker process
        return type(
            name,
            (base,),
            {**fields, "__module__": cls.__module__, "__qualname__": f"{cls.__qualname__}.{name}"},
        )

    def _run_interface(self, runtime: Any) -> Any:
        folder, start = Path(runtime.cwd), time.monotonic()
        forget_peak_memory()
        try:
            results = type(self).function(**self._arguments(folder))._asdict()
        except R2starError as error:
            write_error(folder, error)
            raise
        except (MemoryError, OSError) as error:
            fault = environment_fault(error)
            if fault is None:
                raise
            write_error(folder, fault)
            raise fault from error
        self._results = results | self._write_records(
            folder, results.pop("notices", ()), time.monotonic() - start
        )
        files = {str(path): content_hash(path) for path in _paths(self._results.values())}
        (folder / OUTPUTS_FILE).write_text(json.dumps(files))
        return runtime

    def _write_records(self, folder: Path, notices: tuple[Notice, ...], seconds: float) -> dict[str, Path]:
        plain = [notice.as_dict() for notice in notices]
        told = {
            "step": type(self).function.__name__,
            "notices": plain,
            "seconds": seconds,
            "peak_memory_gib": peak_memory_gib(),
        }
        (folder / RECORD_FILE).write_text(json.dumps(told))
        (folder / NOTICES_FILE).write_text(json.dumps(plain))
        return {"record": folder / RECORD_FILE, "notices": folder / NOTICES_FILE}

    def _arguments(self, folder: Path) -> dict[str, Any]:
        """Defined inputs with the step's own types: paths as `Path`, lists as tuples."""
        hints = get_type_hints(type(self).function)
        arguments = {
            name: _typed(hints[name], getattr(self.inputs, name))
            for name in hints
            if name not in ("out_dir", "return") and isdefined(getattr(self.inputs, name))
        }
        return arguments | ({"out_dir": folder} if "out_dir" in hints else {})

    def _list_outputs(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in self._results.items() if value is not None}


guard_engine(Step)


def _typed(hint: Any, value: Any) -> Any:
    if "Path" in str(hint):
        return tuple(Path(one) for one in value) if isinstance(value, list) else Path(value)
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _paths(values: Any) -> list[Path]:
    """All paths in a step's result, lists flattened."""
    nested = (value if isinstance(value, tuple) else (value,) for value in values)
    return [one for group in nested for one in group if isinstance(one, Path)]


def environment_fault(error: MemoryError | OSError) -> EnvironmentFault | None:
    """The environment's fault behind a plain exception, or None where it is none."""
    if isinstance(error, MemoryError):
        return EnvironmentFault(
            "E603", "memory ran out", "this stage needs more of it", "raise --mem-gb or lower --nprocs"
        )
    return write_fault(error, error.filename or "") if is_write_fault(error) else None


def write_error(folder: Path, error: R2starError) -> None:
    """Leave an error where the main process looks for it: exceptions do not survive every plugin."""
    text = json.dumps({"kind": type(error).__name__, **error.as_dict()})
    try:
        (folder / ERROR_FILE).write_text(text)
    except OSError:
        return  # a full disk must not hide the error itself


def content_hash(path: Path) -> str:
    """Hash of a file in the work folder, quicker than SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


class StepNode(pe.Node):
    """A node whose cached result only counts while the files that it names are as they were written.

    It must also be readable without running anything.
    """

    def is_cached(self, rm_outdated: bool = False) -> tuple[bool, bool]:
        """Whether the node ran before, and whether that result still holds."""
        cached, updated = super().is_cached(rm_outdated=rm_outdated)
        return (cached, updated) if not cached or self._result_stands() else (False, False)

    def _result_stands(self) -> bool:
        try:
            files = json.loads((Path(self.output_dir()) / OUTPUTS_FILE).read_text())
            unchanged = all(content_hash(Path(path)) == digest for path, digest in files.items())
            return unchanged and self.result is not None
        except Exception:  # whatever a damaged or planted file leads to
            return False


class ListNode(pe.Node):
    """Joins outputs (single or lists) into one list, in the main process, each time anew.

    It leaves its result and nothing else: to hash and to note down what makes a list takes longer than to make it.
    """

    def __init__(self, n_sources: int, name: str) -> None:
        super().__init__(Merge(n_sources), name, run_without_submitting=True)

    def is_cached(self, rm_outdated: bool = False) -> tuple[bool, bool]:
        """Never."""
        return False, False

    def run(self, updatehash: bool = False) -> Any:
        """Make the list and keep it where the next nodes read it."""
        self._get_inputs()
        folder = Path(self.output_dir())
        folder.mkdir(parents=True, exist_ok=True)
        result = self._interface.run(cwd=str(folder))
        save_resultfile(result, folder, self.name, rebase=False)
        return result
