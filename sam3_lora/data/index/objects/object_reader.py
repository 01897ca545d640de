"""Reads what an annotation says of its object, box and segmentation, however it is written."""

from __future__ import annotations

from typing import Any

import msgspec

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.index.category_reader import CategoryReader
from sam3_lora.data.index.gather import AnnotationColumns, GatheredImage
from sam3_lora.data.index.objects import notation
from sam3_lora.data.index.objects.box_layouts import BoxEvidence
from sam3_lora.data.index.objects.shapes import (
    BoxReader,
    Problem,
    box_iou,
    box_of_segmentation,
    four_numbers,
    segmentation_problem,
)
from sam3_lora.data.index.objects.turned import Convention, TurnedBox, is_level, turned_box
from sam3_lora.masks import decode_segmentation, encode_rle

THOROUGH = 5_000  # segmentations per split that are checked number by number; of the others, only types and sizes
_SAME_BOX = 0.9  # IoU of a box with that of its turned rectangle or mask, above which the angle changes nothing
_FITS = 0.5  # IoU of a box with that of a mask, above which they are of one object


_TurnedObject = tuple[TurnedBox, GatheredImage, int | str, int, bool]  # with id, category and whether it is a crowd


class ObjectReader:
    """The boxes and segmentations of one split.

    Args:
        findings: of the split.
        categories: of the split, read before.
        columns: take the objects.

    Attributes:
        boxes: reads the boxes.
        evidence: of what the numbers of the boxes mean.
        segmentations: read so far.
    """

    def __init__(self, findings: FindingCollector, categories: CategoryReader, columns: AnnotationColumns) -> None:
        self._findings, self._categories, self._columns = findings, categories, columns
        self.boxes, self.evidence = BoxReader(findings), BoxEvidence()
        self.segmentations = 0
        self._turned: list[_TurnedObject] = []

    def read(self, entry: dict[str, Any], image: GatheredImage, key: int | str, category: int, crowd: bool) -> bool:
        """Reads an object; False if it has neither a box nor a mask that can be used.

        Args:
            entry: the annotation.
            image: that it is in.
            key: its id.
            category: its index.
            crowd: whether it is a region of many objects.
        """
        notes: list[str] = []
        bbox, segmentation, text = entry.get("bbox"), entry.get("segmentation") or None, b""
        turned = turned_box(entry)
        numbers = four_numbers(bbox)
        if turned is None and bbox is not None and (numbers is None or min(numbers[2:]) <= 0):
            bbox, note = notation.box_of(bbox) or (bbox, "")
            notes.append(note)
        if segmentation is not None:
            segmentation, text, note = self._checked(segmentation, bbox, image, key)
            notes.append(note)
        if any(notes):
            causes = tuple(dict.fromkeys(filter(None, notes)))
            self._findings.add("other-notation", image.file_name, key, causes=causes)
        if turned is not None and _is_upright_rectangle(segmentation):  # the box before it is turned, as a polygon
            segmentation = None
        if turned is not None and segmentation is None:
            found = turned, image, key, category, crowd
            if turned.is_clear:
                self._take_turned([found])
            else:
                self._turned.append(found)
            return True
        if turned is not None:
            bbox = self._box_beside_mask(turned, bbox, segmentation, image, key)
        elif segmentation is not None and self.evidence.wants_more:
            own, tight = four_numbers(bbox), box_of_segmentation(segmentation, image.width, image.height)
            if own is not None and tight is not None:
                self.evidence.see(own, tight, image, key)
        box = self.boxes.read(bbox, segmentation, image, key)
        if box is None:
            return False
        alone = bool(entry.get("segmentation")) and not text
        self._columns.add(key, image.row, category, box, text, crowd, alone=alone)
        return True

    def _box_beside_mask(
        self, turned: TurnedBox, bbox: Any, segmentation: Any, image: GatheredImage, key: int | str
    ) -> Any:
        """The box of an object that has a mask and an angle: that of the mask, unless its own fits."""
        tight = box_of_segmentation(segmentation, image.width, image.height)
        own = four_numbers(bbox)
        if tight is None or (own is not None and box_iou(own, tight) >= _SAME_BOX):
            return bbox
        self._findings.add("turned-boxes", image.file_name, key, causes=("with-mask",))
        return list(tight)

    def finish(self) -> None:
        """Takes in the turned boxes whose meaning is known only once all are read; they come last in their image."""
        self._take_turned(self._turned)

    def _take_turned(self, objects: list[_TurnedObject]) -> None:
        convention = Convention((turned, (image.width, image.height)) for turned, image, *_ in objects)
        for turned, image, key, category, crowd in objects:
            is_turned = turned.form == "corners" or not is_level(convention.degrees(turned))
            polygon = [convention.polygon(turned)]
            outline = box_of_segmentation(polygon, image.width, image.height) if is_turned else None
            box = outline or self.boxes.read(list(convention.upright(turned)), None, image, key)
            if box is None:
                image.cannot_use({tuple(self._categories.index)[category]})
                continue
            if outline is not None or turned.form == "five-numbers":
                self._findings.add("turned-boxes", image.file_name, key, causes=(convention.names[turned.form],))
            self._columns.add(key, image.row, category, box, msgspec.json.encode(polygon) if outline else b"", crowd)

    def _checked(self, segmentation: Any, bbox: Any, image: GatheredImage, key: int | str) -> tuple[Any, bytes, str]:
        """A segmentation, its JSON and a note on how it was written; None and nothing if it cannot be used."""
        self.segmentations += 1
        thorough = self.segmentations <= THOROUGH
        note, problem = "", segmentation_problem(segmentation, image.width, image.height, thorough=thorough)
        if problem:
            size_hw = image.height, image.width
            read, note = notation.segmentation_of(segmentation, size_hw) or (None, "")
            if read is not None and isinstance(read, dict) and read["size"] == [image.width, image.height]:
                read = _with_height_first(read, bbox, image)
                note = notation.RLE_WIDTH_FIRST
            if read is not None and not segmentation_problem(read, image.width, image.height, thorough=True):
                segmentation, problem = read, None
        if not problem:
            try:
                return segmentation, msgspec.json.encode(segmentation), note
            except (msgspec.MsgspecError, OverflowError, TypeError, ValueError, RecursionError):
                problem = Problem("other", "something other than polygons or run lengths")
        self._findings.add("bad-segmentation", image.file_name, key, problem.detail, causes=(problem.cause,))
        return None, b"", ""


def _is_upright_rectangle(segmentation: Any) -> bool:
    if not isinstance(segmentation, list) or len(segmentation) != 1 or len(segmentation[0]) not in (8, 10):
        return False
    points = set(zip(segmentation[0][0::2], segmentation[0][1::2], strict=True))
    return len(points) == 4 and len({x for x, _ in points}) == 2 == len({y for _, y in points})


def _with_height_first(rle: dict[str, Any], bbox: Any, image: GatheredImage) -> dict[str, Any] | None:
    """Run lengths of size [width, height] for an image: of the two masks that they can mean, the one in the box."""
    box, height, width = four_numbers(bbox), image.height, image.width
    swapped = {"size": [height, width], "counts": rle["counts"]}
    if box is None or segmentation_problem(swapped, width, height, thorough=True):
        return None
    fitting: list[tuple[float, dict[str, Any]]] = []
    for read in (swapped, encode_rle(decode_segmentation(rle, (width, height)).T)):
        tight = box_of_segmentation(read, width, height)
        fitting.append((box_iou(box, tight) if tight is not None else 0.0, read))
    iou, read = max(fitting, key=lambda one: one[0])
    return read if iou >= _FITS else None
