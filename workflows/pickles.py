"""What the engine may unpickle from the work folder: results of steps, and nothing that runs code. Imports nipype.

The engine keeps each node's result as a pickle, and a pickle can run anything. So its reader is replaced by one that
knows the few classes of which such a result is made; whatever else is in the file, it is refused, and the node
counts as not done.
"""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from types import SimpleNamespace
from typing import Any

from nipype.utils import filemanip

#: Classes of other packages in a node's result.
_KNOWN = frozenset(
    {
        ("builtins", "set"), ("builtins", "frozenset"), ("builtins", "slice"), ("builtins", "complex"),
        ("collections", "OrderedDict"), ("pathlib", "PosixPath"), ("pathlib._local", "PosixPath"),
        ("copyreg", "__newobj__"), ("nipype.interfaces.base.support", "Bunch"),
        ("nipype.interfaces.base.support", "InterfaceResult"),
        ("nipype.interfaces.utility.base", "Merge"), ("nipype.interfaces.utility.base", "MergeInputSpec"),
        ("nipype.interfaces.utility.base", "MergeOutputSpec"),
        ("traits.trait_base", "_Undefined"), ("traits.trait_list_object", "TraitListObject"),
        ("traits.trait_dict_object", "TraitDictObject"),
    }
)  # fmt: skip
#: Modules of ours whose own classes may stand in a result: plain data.
_OURS = frozenset({"r2star.bids.units", "r2star.errors", "r2star.workflows.stage"})

#: Where the package's own steps are interfaces.
_STEPS = "r2star.workflows.interfaces"


class _Reader(pickle.Unpickler):
    """An unpickler that finds known classes only, and steps of modules that are loaded already."""

    step: type = type(None)

    def find_class(self, module: str, name: str) -> Any:
        """The class, or `UnpicklingError` for anything else."""
        if (module, name) in _KNOWN:
            return super().find_class(module, name)
        if module == _STEPS:
            # a node without a step of its own, in a batch job, has not loaded it
            importlib.import_module(module)
        owner = getattr(sys.modules.get(module), name.split(".", maxsplit=1)[0], None)
        found = getattr(owner, name.partition(".")[2], owner) if "." in name else owner
        ours = module in _OURS or (isinstance(owner, type) and issubclass(owner, self.step))
        if ours and isinstance(found, type) and found.__module__ == module:
            return found
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a result")


def load_known(data: bytes, **options: Any) -> Any:
    """As ``pickle.loads``, of known classes only."""
    return _Reader(io.BytesIO(data), **options).load()


def guard_engine(step: type) -> None:
    """Have the engine read its own files by `load_known`; ``step`` is the base of all steps."""
    _Reader.step = step
    if filemanip.pickle is pickle:
        filemanip.pickle = SimpleNamespace(loads=load_known, dump=pickle.dump, dumps=pickle.dumps)
