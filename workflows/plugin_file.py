"""Another nipype plugin than ours, from a file as other BIDS Apps take it. Imports nipype."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from r2star.errors import UsageError
from r2star.workflows.plugin import TellsWhy


def read_plugin_file(path: Path, status_callback: Callable[[Any, str], None]) -> Any:
    """The plugin that a JSON or YAML file names: ``{"plugin": "SLURM", "plugin_args": {...}}``."""
    from nipype.pipeline import plugins

    # the SLURM plugins name their jobs after the user, whom batch jobs and containers may not know
    os.environ.setdefault("LOGNAME", str(os.getuid()))
    try:
        content = _parse(path)
        name, arguments = content["plugin"], dict(content.get("plugin_args") or {})
        kind = getattr(plugins, f"{name}Plugin")
    except OSError as error:
        raise UsageError(
            "E525",
            f"the plugin file can't be read ({error.strerror})",
            "a JSON or YAML file is needed",
            path=path,
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            "E526",
            f"the plugin file can't be understood ({error})",
            "plugin and plugin_args of one of nipype's plugins are needed",
            'e.g. {"plugin": "SLURM", "plugin_args": {"sbatch_args": "--mem=8G"}}',
            path=path,
        ) from error
    return _told(kind)(plugin_args={**arguments, "status_callback": status_callback})


def _told(kind: type[Any]) -> type[Any]:
    """The plugin so that it tells how nodes end."""
    from nipype.pipeline.plugins.base import DistributedPluginBase

    if kind.__name__ == "SLURMGraphPlugin":
        from r2star.workflows.slurm_graph import WaitingSLURMGraphPlugin

        return WaitingSLURMGraphPlugin
    return type(kind.__name__, (TellsWhy, kind), {}) if issubclass(kind, DistributedPluginBase) else kind


def _parse(path: Path) -> dict[str, Any]:
    text = path.read_text()
    if path.suffix == ".json":
        return dict(json.loads(text))
    import yaml

    try:
        return dict(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
