"""Step: outcomes by region and visit, from the gathered rows of the region tables. May import group and errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from r2star.errors import UsageError
from r2star.group.model import Outcome
from r2star.steps.group_gather import Gathered
from r2star.steps.group_visits import Visits

#: The structures by which the main segmentation is known where there are several.
_MAIN_REGIONS = frozenset({"caudate", "putamen", "pallidum", "thalamus", "red_nucleus", "substantia_nigra"})


class OutcomeTable:
    """Outcomes by region and visit, from the gathered rows."""

    def __init__(self, gathered: Gathered, visits: Visits) -> None:
        self._gathered, self._visits = gathered, visits
        self._codes = {
            name: gathered.rows[name].combine_chunks().dictionary_encode()
            for name in ("segmentation", "region", "hemisphere")
        }

    def names(self, column: str) -> list[str]:
        """All values of a key column."""
        return sorted(self._codes[column].dictionary.to_pylist())

    def segmentation(self, outcome: Outcome) -> str:
        """The segmentation that is asked for, or the one with most of the main structures."""
        known = self.names("segmentation")
        if outcome.segmentation:
            if outcome.segmentation not in known:
                raise UsageError(
                    "E717", f"no segmentation {outcome.segmentation!r}", f"one of {', '.join(known)}"
                )
            return outcome.segmentation
        return max(
            sorted(known, reverse=True), key=lambda name: len(_MAIN_REGIONS & set(self._regions_of(name)))
        )

    def _regions_of(self, segmentation: str) -> list[str]:
        rows = self._is("segmentation", segmentation)
        codes = self._codes["region"].indices.to_numpy()[rows]
        _, first = np.unique(codes, return_index=True)
        return [self._codes["region"].dictionary[int(codes[k])].as_py() for k in np.sort(first)]

    def _is(self, column: str, value: str) -> Any:
        encoded = self._codes[column]
        known = encoded.dictionary.to_pylist()
        return encoded.indices.to_numpy() == (known.index(value) if value in known else -1)

    def regions(self, outcome: Outcome) -> list[str]:
        """Regions in the order of the tables; R2S-E717 for one that is not there."""
        present = self._regions_of(self.segmentation(outcome))
        unknown = sorted(set(outcome.regions) - set(present))
        if unknown and not set(outcome.regions) & set(present):
            raise UsageError("E717", f"no region {', '.join(unknown)}", f"some of {', '.join(present)}")
        return [
            name
            for name in present
            if (not outcome.regions or name in outcome.regions) and name not in outcome.exclude_regions
        ]

    def values(self, outcome: Outcome) -> dict[str, Any]:
        """Mean over the runs of each visit, by region."""
        segmentation = self._is("segmentation", self.segmentation(outcome))
        if outcome.column not in self._gathered.numbers:
            raise UsageError("E717", f"no column of numbers {outcome.column!r}", "one of the region tables")
        numbers = self._gathered.numbers[outcome.column]
        return {
            region: self._of_side(outcome.hemisphere, segmentation & self._is("region", region), numbers)
            for region in self.regions(outcome)
        }

    def _of_side(self, hemisphere: str, rows: Any, numbers: Any) -> Any:
        if hemisphere == "L-R":
            return self._of_side("L", rows, numbers) - self._of_side("R", rows, numbers)
        picked = np.flatnonzero(rows & self._is("hemisphere", hemisphere))
        visit = self._visits.of_unit[self._gathered.unit_of_row[picked]]
        good = (visit >= 0) & np.isfinite(numbers[picked])
        size = self._visits.participant.size
        total = np.bincount(visit[good], numbers[picked][good], size)
        count = np.bincount(visit[good], minlength=size)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)
