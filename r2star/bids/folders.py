"""What the ``anat`` folder of a participant and session holds, as far as a run needs it. May import its siblings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r2star.bids.echo_checks import FoundImage, one_of_equal
from r2star.bids.entities import IMAGE_EXTENSIONS, BidsName, is_label, natural_key, parse_name, printable
from r2star.bids.metadata import SidecarTree, require_regular_file
from r2star.bids.selection import Filters, matches
from r2star.bids.units import Unit
from r2star.errors import InputError, Notice
from r2star.settings import AnatomicalReference

#: Entities that tell units apart, beside participant and session, with their fields of `Unit`.
UNIT_FIELDS = {"acq": "acquisition", "ce": "ceagent", "rec": "reconstruction", "run": "run"}


@dataclass(frozen=True)
class Folder:
    """What the ``anat`` folder of a participant (and session) holds, as far as it matters here."""

    participant: str
    session: str | None
    megre: tuple[FoundImage, ...] = ()
    t1w: tuple[FoundImage, ...] = ()
    notices: tuple[Notice, ...] = ()
    problem: InputError | None = None

    @property
    def unit(self) -> Unit:
        """A unit of this participant and session, without images: what a problem of the folder is told of."""
        session = None if self.session is None else printable(self.session)
        return Unit(printable(self.participant), session, notices=self.notices)


def read_folder(sidecars: SidecarTree, participant: str, session: str | None, filters: Filters) -> Folder:
    """List one ``anat`` folder and sort out what is in it."""
    top = sidecars.root / f"sub-{participant}"
    levels = (sidecars.root, top, *((top / f"ses-{session}",) if session is not None else ()))
    folder = levels[-1] / "anat"
    own = {"sub": participant, "ses": session}
    images: dict[str, list[FoundImage]] = {"MEGRE": [], "T1w": []}
    echoes: list[BidsName] = []
    notices: list[Notice] = []
    problem: InputError | None = None
    for label in (participant, session or "0"):
        if not is_label(label):
            problem = InputError(
                "E217",
                f"the folder's label {label!r} is not BIDS",
                "letters and digits are needed",
                "rename it",
                path=sidecars.shown(levels[-1]),
            )
    for file_name in _file_names(folder):
        path, name = folder / file_name, parse_name(file_name)
        shown = sidecars.shown(path)
        if name is None or name.extension not in (*IMAGE_EXTENSIONS, ".json") or name.suffix not in images:
            if "megre" in (file_name if name is None else name.suffix).lower():
                found = "not the name of a MEGRE image: ignored"
                notices.append(Notice("W210", found, "rename it", shown))
            continue
        if name.suffix == "MEGRE":
            echoes.append(name)
        if any(name.entities.get(key) != label for key, label in own.items()):
            problem = problem or _misplaced(shown, levels[-1])
        elif name.extension != ".json" and matches(name, filters.get(name.suffix.lower(), {})):
            images[name.suffix].append(FoundImage(path, name, (*levels, folder), shown))
    notices += _sidecars_alone(echoes, folder, sidecars)
    megre, t1w = tuple(images["MEGRE"]), tuple(images["T1w"])
    return Folder(participant, session, megre, t1w, tuple(notices), problem)


def _sidecars_alone(names: Sequence[BidsName], folder: Path, sidecars: SidecarTree) -> list[Notice]:
    """A warning for each sidecar of an echo that has no image: the echo may have been lost."""
    images = [name.entities.items() for name in names if name.extension != ".json"]
    return [
        Notice(
            "W214",
            f"echo {name.entities['echo']} has a sidecar here but no image",
            "restore the image, or delete the sidecar",
            sidecars.shown(folder),
        )
        for name in names
        if name.extension == ".json"
        and "echo" in name.entities
        and not any(name.entities.items() <= image for image in images)
    ]


def _misplaced(shown: str, folder: Path) -> InputError:
    found = f"the file's entities are not those of its folder {folder.name}"
    return InputError(
        "E211", found, fix="move the file to its participant and session, or rename it", path=shown
    )


def _file_names(folder: Path) -> list[str]:
    """Names in a folder in natural order, hidden files left out; none if there is no folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted((entry.name for entry in entries if not entry.name.startswith(".")), key=natural_key)


def choose_t1w(
    folder: Folder, folders: Sequence[Folder], reference: AnatomicalReference
) -> tuple[Path | None, list[Notice]]:
    """The participant's first T1w, or that of the unit's session if it goes by session; by acq, ce, rec and run."""
    by_session = (folder, *(other for other in folders if other.session != folder.session))
    for source in by_session if reference == "sessionwise" else folders:
        candidates = [image for image in source.t1w if image.name.entities.get("part", "mag") == "mag"]
        if not candidates or (source is not folder and source.problem is not None):
            continue
        notices: list[Notice] = []
        candidates.sort(
            key=lambda image: tuple(natural_key(image.name.entities.get(key)) for key in UNIT_FIELDS)
        )
        stem = _stem(candidates[0])
        chosen = one_of_equal([image for image in candidates if _stem(image) == stem], notices)
        require_regular_file(chosen.path, chosen.shown)
        if any(_stem(image) != stem for image in candidates):
            fix = "choose another by t1w in --bids-filter-file"
            notices.append(Notice("W205", "there are several T1w; the first is used", fix, chosen.shown))
        if source is not folder and not folder.t1w:
            notices.append(
                Notice(
                    "W206",
                    "no T1w in this session; another one of the participant is used",
                    path=chosen.shown,
                )
            )
        return chosen.path, notices
    return None, [Notice("W207", "no T1w: the MEGRE itself is registered to the template", "add a T1w")]


def _stem(image: FoundImage) -> str:
    return image.path.name.removesuffix(image.name.extension)
