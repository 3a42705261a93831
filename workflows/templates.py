"""Which templates a run registers to, and the atlases of each. One registration serves all atlases of a template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from r2star.atlas import Atlas, load_atlas
from r2star.errors import UsageError
from r2star.files import sha256_of
from r2star.settings import DEFAULT_ATLAS, Settings


@dataclass(frozen=True)
class Template:
    """A template: the atlas whose regions the fine registration looks at, and all that are measured on it."""

    atlas_name: str
    atlas: Atlas
    measured: tuple[str, ...]

    @property
    def space(self) -> str:
        """BIDS name of its space."""
        return self.atlas.space


def templates_of(settings: Settings) -> tuple[Template, ...]:
    """The templates of the atlases asked for, in their order; the first gives the brain mask.

    Without an atlas (a segmentation stands in its place) the default one's template is registered alone.

    Raises
    ------
    UsageError
        E459 where two atlases give one name to different templates, or two atlases have one name.
    """
    if settings.fit_only:
        return ()
    names = settings.atlases or (DEFAULT_ATLAS,)
    atlases = {name: load_atlas(name) for name in names}
    _refuse_same_names(list(atlases.values()))
    by_space: dict[str, list[str]] = {}
    for name, atlas in atlases.items():
        by_space.setdefault(atlas.space, []).append(name)
    for space, own in by_space.items():
        if len({sha256_of(atlases[name].t1w) for name in own}) > 1:
            raise UsageError(
                "E459",
                f"{', '.join(atlases[name].name for name in own)} call different templates {space}",
                "one template a space",
                "give one of them another name of space",
            )
    return tuple(
        Template(own[0], atlases[own[0]], tuple(own) if settings.atlases else ()) for own in by_space.values()
    )


def _refuse_same_names(atlases: Sequence[Atlas]) -> None:
    names = [atlas.name for atlas in atlases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError("E459", f"two atlases are named {', '.join(twice)}", "each needs a name of its own")
