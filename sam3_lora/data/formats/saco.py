"""Reads SA-Co, the COCO variant of SAM 3's own data: an entry of 'images' is a pair of an image and a phrase.

Several entries name one picture, each with a phrase in `text_input`; the annotations of an entry are all objects of its
phrase, none says that the phrase is absent. Boxes are fractions of the image's size in Meta's files, and pixels in
those that people write for fine-tuning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.formats.coco import AnnotationEntry, CocoFile
from sam3_lora.data.formats.sources import Content, Progress, Unusable
from sam3_lora.data.index.coverage import EXHAUSTIVE, INCOMPLETE, KEYS, NEGATIVE, is_false
from sam3_lora.data.index.entries import file_name_of, identifier, side_length

PHRASE_KEYS = ("text_input", "noun_phrase")
_FRACTION = 1.01  # the largest number in a box of fractions, rounding included


def with_pairs(content: Content, sketch: dict[str, Any], findings: FindingCollector) -> Content:
    """The content of a split itself, or as SA-Co if it is a COCO file whose images have phrases.

    Args:
        content: of the split.
        sketch: of the content.
        findings: of the split.
    """
    images = sketch.get("images")
    if isinstance(content, CocoFile) and isinstance(images, list) and any(map(_phrase_in, images)):
        return SacoFile(content, findings)
    return content


@dataclass(frozen=True, slots=True)
class _Pair:
    """What an id of 'images' stands for: a picture, and a phrase if its entry has one."""

    picture: dict[str, Any]
    category_id: str | None


class SacoFile:
    """A SA-Co file as COCO's lists: each picture once, phrases as categories, boxes in pixels.

    Args:
        file: the file.
        findings: of the split.
    """

    looked_into = 0

    def __init__(self, file: CocoFile, findings: FindingCollector) -> None:
        self._file, self._findings = file, findings
        self._phrases: dict[str, dict[str, Any]] = {}  # in lower case -> category
        self._pictures: dict[str, dict[str, Any]] = {}  # file name -> entry
        self._others: list[Any] = []  # entries that cannot be used
        self._pairs: dict[int | str, list[_Pair]] = {}  # by id; more than one if they share it
        self._count = self._unphrased = 0
        for entries in file.images(lambda share: None):
            for entry in entries:
                self._add(entry)
        self._fractions = self._are_fractions()
        findings.add(
            "phrases-from-text-input", pairs=self._count, pictures=len(self._pictures), phrases=len(self._phrases)
        )
        findings.describe("phrases-from-text-input", variant="fractions" if self._fractions else "")

    def sketch(self) -> dict[str, Any]:
        """That of the file."""
        return self._file.sketch()

    def categories(self) -> list[Any]:
        """The phrases; and the file's categories, if there are images without a phrase."""
        own = self._file.categories() if self._unphrased else None
        return [*self._phrases.values(), *(own if isinstance(own, list) else ())]

    def images(self, progress: Progress) -> Iterator[list[Any]]:
        """Each picture once, with its phrases as LVIS lists categories."""
        yield [*self._pictures.values(), *self._others]

    def annotations(self, progress: Progress) -> Iterator[list[Any]]:
        """The annotations of the pictures, their category the phrase."""
        for entries in self._file.annotations(progress):
            yield [found for entry in entries for found in self._of_picture(entry)]

    def _add(self, entry: Any) -> None:
        key = identifier(entry.get("id")) if isinstance(entry, dict) else None
        name = file_name_of(entry) if isinstance(entry, dict) else None
        if key is None or not isinstance(name, str) or not name.strip():
            self._others.append(entry)
            return
        picture = self._pictures.setdefault(name, {k: v for k, v in entry.items() if k not in KEYS})
        pair = _Pair(picture, self._asked(entry, picture, name))
        known = self._pairs.setdefault(key, [])
        if pair not in known:
            known.append(pair)
        if len(known) > 1:
            self._findings.add("duplicate-image-id", name, detail=f"id {key}")

    def _asked(self, entry: dict[str, Any], picture: dict[str, Any], name: str) -> str | None:
        """The category of an entry's phrase, noted in its picture; None without a phrase."""
        phrase = _phrase_in(entry)
        if not phrase:
            self._unphrased += 1
            self._findings.add("text-input-missing", name)
            return None
        self._count += 1
        category_id = f"text_input: {phrase.lower()}"  # differs from the ids of the file's own categories
        self._phrases.setdefault(phrase.lower(), {"id": category_id, "name": phrase})
        listed = picture.setdefault(NEGATIVE, []), picture.setdefault(INCOMPLETE, [])
        if any(category_id in ids for ids in listed):
            self._findings.add("pair-repeated", name, detail=phrase)
        listed[is_false(entry.get(EXHAUSTIVE))].append(category_id)
        return category_id

    def _of_picture(self, entry: Any) -> list[Any]:
        """An annotation as one of its picture; where several pairs share its id, all their pictures are left out."""
        box: Any
        if isinstance(entry, AnnotationEntry):
            number, box = identifier(entry.image_id), entry.bbox
        elif isinstance(entry, dict):
            number, box = identifier(entry.get("image_id")), entry.get("bbox")
        else:
            return [entry]
        pairs = self._pairs.get(number, ()) if number is not None else ()
        if len(pairs) != 1:
            return [Unusable(pair.picture["id"], whole_image=True) for pair in pairs] or [entry]
        picture, category_id = pairs[0].picture, pairs[0].category_id
        values = {"image_id": picture["id"]}
        if category_id is not None:
            values["category_id"] = category_id
        width, height = (side_length(picture.get(side)) for side in ("width", "height"))
        if self._fractions and _is_fractions(box) and width and height:
            x, y, w, h = box
            values["bbox"] = [x * width, y * height, w * width, h * height]
        return [{**entry, **values} if isinstance(entry, dict) else msgspec.structs.replace(entry, **values)]

    def _are_fractions(self) -> bool:
        """Whether most boxes are fractions of the image's size, judged by the first ones of the file."""
        entries = self._file.sketch().get("annotations")
        boxes = [entry.get("bbox") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        return 2 * sum(map(_is_fractions, boxes)) > len(boxes)


def _is_fractions(box: Any) -> bool:
    numbers = isinstance(box, (list, tuple)) and len(box) == 4 and all(type(value) in (int, float) for value in box)
    return numbers and all(abs(value) <= _FRACTION for value in box)


def _phrase_in(entry: Any) -> str:
    """The phrase of an entry of 'images', in single spaces; "" without one."""
    values = (entry.get(key) for key in PHRASE_KEYS) if isinstance(entry, dict) else ()
    return next((" ".join(value.split()) for value in values if isinstance(value, str) and value.strip()), "")
