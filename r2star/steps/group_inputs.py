"""Step: everything that the second level reads, checked: tables, covariates, the model file. May import group."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from r2star.errors import UsageError
from r2star.group.model import ModelFile, parse_model_file
from r2star.steps.group_gather import Gathered, gather_units
from r2star.steps.group_people import People, read_people
from r2star.steps.group_units import refuse_mixed_units


@dataclass(frozen=True)
class Inputs:
    """Everything that was read, checked."""

    gathered: Gathered
    people: People
    model: ModelFile
    model_path: Path | None


def read_inputs(bids_dir: Path, output_dir: Path, model_file: Path | None) -> Inputs:
    """Read the model file first: a mistake in it costs no time."""
    model = read_model_file(model_file)
    gathered = gather_units(output_dir)
    refuse_mixed_units(gathered, [spec.outcome.column for spec in model.models])
    people = read_people(bids_dir, sorted({unit.entities["sub"] for unit in gathered.units}))
    return Inputs(gathered, people, model, model_file)


def read_model_file(path: Path | None) -> ModelFile:
    """Read and check a model file; without a path the built-in one.

    >>> [model.name for model in read_model_file(None).models][:3]
    ['group', 'course', 'determinants']
    """
    folder = resources.files("r2star.group") / "models"
    schema = json.loads((folder / "model.schema.json").read_text(encoding="utf-8"))
    try:
        text = (
            path.read_text(encoding="utf-8")
            if path
            else (folder / "default.toml").read_text(encoding="utf-8")
        )
        content = tomllib.loads(text)
    except OSError as error:
        raise UsageError(
            "E719", f"the model file can't be read ({error.strerror})", path=path or ""
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError("E719", f"the model file is no TOML: {error}", path=path or "") from None
    return parse_model_file(content, schema, str(path or "built-in models"))
