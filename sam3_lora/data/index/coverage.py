"""Reads what image entries say about whole categories: which are absent, and which are annotated only in part."""

from __future__ import annotations

from typing import Any

import numpy as np

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.index.category_reader import CategoryReader
from sam3_lora.data.index.gather import ALL, GatheredImage
from sam3_lora.text import short_repr

NEGATIVE = "neg_category_ids"  # of LVIS: surely absent; with it, all that is neither listed nor annotated is unknown
INCOMPLETE = "not_exhaustive_category_ids"  # of LVIS: some objects are not annotated
PRESENT = "pos_category_ids"  # of image-level labels, as in Open Images: in the image, annotated or not
EXHAUSTIVE = "is_instance_exhaustive"  # of SA-Co, in annotations too: whether all objects are annotated
KEYS = frozenset((NEGATIVE, INCOMPLETE, PRESENT, EXHAUSTIVE))


class CoverageReader:
    """Reads the KEYS of image entries.

    Args:
        findings: of the split.
        categories: of the split, read before.
    """

    def __init__(self, findings: FindingCollector, categories: CategoryReader) -> None:
        self._findings, self._categories = findings, categories

    def read(self, entry: dict[str, Any], image: GatheredImage) -> None:
        """Notes in `image` what its entry says."""
        index = self._categories.index
        absent = [index[name] for name in self._names(entry, NEGATIVE, image)]
        if isinstance(entry.get(NEGATIVE), list):
            image.absent = absent
            self._findings.add("negatives-listed", image.file_name)
        incomplete = [index[name] for name in self._names(entry, INCOMPLETE, image)]
        if is_false(entry.get(EXHAUSTIVE)):
            incomplete, image.absent = [ALL], []
        if incomplete:
            note_incomplete(incomplete, image, self._findings)
        if present := self._names(entry, PRESENT, image):
            image.cannot_use(set(present))

    def _names(self, entry: dict[str, Any], key: str, image: GatheredImage) -> list[str]:
        ids = entry.get(key)
        if ids is not None and not isinstance(ids, list):
            self._findings.add("listed-category-unknown", image.file_name, detail=f"{key}: {short_repr(ids)}")
        names = []
        for number in ids if isinstance(ids, list) else ():
            name = self._categories.name_of(number)
            if name is None:
                self._findings.add("listed-category-unknown", image.file_name, detail=f"{key}: {short_repr(number)}")
            elif name in self._categories.index:  # else edits leave it out
                names.append(name)
        return names


def note_incomplete(categories: list[int], image: GatheredImage, findings: FindingCollector) -> None:
    """Notes categories of which not every object in an image is annotated.

    Args:
        categories: their indices, or ALL.
        image: that they are in.
        findings: of the split.
    """
    if image.incomplete is None:
        findings.add("not-exhaustive", image.file_name)
    image.incomplete = [*(image.incomplete or ()), *categories]


def is_false(value: Any) -> bool:
    """Whether a flag says no: false, 0, or either as text; what is missing says nothing."""
    return value is not None and str(value).strip().lower() in ("false", "0", "0.0", "no")


def coverage_arrays(kept: list[GatheredImage]) -> dict[str, np.ndarray]:
    """The arrays of an index for what the images' entries say; none if no entry says anything.

    Args:
        kept: the images to write, in order.
    """
    arrays: dict[str, np.ndarray] = {}
    if any(image.absent is not None for image in kept):
        arrays["absent_listed"] = np.array([image.absent is not None for image in kept], bool)
        arrays |= _ragged("absent", [image.absent or () for image in kept])
    if any(image.incomplete for image in kept):
        arrays |= _ragged("incomplete", [image.incomplete or () for image in kept])
    return arrays


def _ragged(name: str, lists: list[Any]) -> dict[str, np.ndarray]:
    """Lists of different lengths as one array, and where each begins in it."""
    first = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return {name: np.array([value for values in lists for value in values], np.int32), f"{name}_first": first}
