"""A user's atlas put under a name of its content, so that whatever was made with it is known by it.

Steps name an atlas by its TOML file. Were that the user's own, an atlas that was edited would look like the old one;
in a folder named by the hash of all its files, another content is another name. What TemplateFlow keeps is copied too,
so that workers on other machines find it. May import files.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from r2star.atlas import schema
from r2star.atlas.check import check_images
from r2star.atlas.model import Atlas, load_atlas
from r2star.errors import R2starError
from r2star.files import write_fault

DESCRIPTION = "atlas.toml"


def settle_atlas(name_or_path: str, folder: Path) -> tuple[str, Atlas]:
    """The name to give to steps, and the atlas: a packaged one's own, else that of a copy in ``folder``.

    Raises
    ------
    UsageError
        E45x, as `load_atlas` and `check_images`.
    """
    atlas = load_atlas(name_or_path)
    if not name_or_path.endswith(".toml"):
        return name_or_path, atlas
    target = folder / f"{atlas.name}-{atlas.sha256[:16]}"
    if not (target / DESCRIPTION).is_file():
        check_images(atlas, Path(name_or_path))
        try:
            _copy(Path(name_or_path), target)
        except OSError as error:
            raise write_fault(error, target) from error
    return str(target / DESCRIPTION), load_atlas(target / DESCRIPTION)


def _copy(description: Path, target: Path) -> None:
    """Copy the description and the files that it names; whole or not at all."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.mkdir(parents=True, exist_ok=True)
    try:
        for relative, file in schema.named_files(description).items():
            (temporary / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, temporary / relative)
        shutil.copyfile(description, temporary / DESCRIPTION)
        temporary.rename(target)
    except FileExistsError:
        shutil.rmtree(temporary, ignore_errors=True)  # another run was faster
    except (OSError, R2starError):
        shutil.rmtree(temporary, ignore_errors=True)
        if not (target / DESCRIPTION).is_file():
            raise
