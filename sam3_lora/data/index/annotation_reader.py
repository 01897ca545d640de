"""Reads the list 'annotations' of a split: entries as most files have them fast, all others with care."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sam3_lora.data.edits.reading import SplitEdits
from sam3_lora.data.findings.causes import describe_boxes
from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.findings.wrong_keys import annotations_elsewhere, masks_elsewhere, wrong_keys
from sam3_lora.data.formats.coco import AnnotationEntry
from sam3_lora.data.formats.sources import Content, Progress, Unusable
from sam3_lora.data.formats.unsupported import other_task
from sam3_lora.data.index.category_reader import CategoryReader
from sam3_lora.data.index.coverage import EXHAUSTIVE, is_false, note_incomplete
from sam3_lora.data.index.entries import as_plain, identifier, require_at_most
from sam3_lora.data.index.gather import AnnotationColumns, GatheredImage
from sam3_lora.data.index.image_reader import ImageReader
from sam3_lora.data.index.index import IndexWriter
from sam3_lora.data.index.objects.notation import ID_BY_NAME, OTHER_ID, KnownIds, number_of
from sam3_lora.data.index.objects.object_reader import THOROUGH, ObjectReader
from sam3_lora.data.index.objects.shapes import are_plain_polygons
from sam3_lora.errors import DataError
from sam3_lora.text import short_repr

MAX_ANNOTATIONS = 20_000_000  # of a split
_FLAGS = {"": 0, "0": 0, "false": 0, "1": 1, "true": 1}


class AnnotationReader:
    """The annotations of one split.

    Args:
        findings: of the split.
        categories, images: of the split, read before.
        writer: takes the segmentations.
        edits: of the split.

    Attributes:
        columns: the usable annotations.
        count: entries read so far.
        no_list: what the list is, if it has no entry: "" or words.
    """

    def __init__(
        self,
        findings: FindingCollector,
        categories: CategoryReader,
        images: ImageReader,
        writer: IndexWriter,
        edits: SplitEdits,
    ) -> None:
        self._findings, self._categories, self._edits = findings, categories, edits
        self._images = images.by_id
        self.columns = AnnotationColumns(writer)
        self._objects = ObjectReader(findings, categories, self.columns)
        self.count = 0
        self.no_list = ""
        self._ids: dict[int | str, int] = {}  # id -> row of the image that it was first met in; -1 without one
        self._repeated: dict[tuple[int, int | str], int] = {}  # row of an image, id that was met before -> times there
        self._unknown: set[int | None] = set()  # ids of categories; None for what is no number
        self._image_ids = KnownIds(images.by_id, lambda key: getattr(images.by_id[key], "file_name", None))
        self._respelled: tuple[str, ...] = ()  # how ids of the current annotation are written otherwise

    def read(self, content: Content, progress: Progress) -> None:
        """Reads the whole list; entries that cannot be used become findings.

        Raises:
            DataError: there are too many, or they are made for another task, such as captions.
        """
        for entries in content.annotations(progress):
            for entry in entries:
                if type(entry) is AnnotationEntry:
                    if not self._read_plain(entry):
                        self._read_any(as_plain(entry))
                elif type(entry) is Unusable:
                    self._exclude_negatives(entry)
                else:
                    self._read_any(entry)
                self.count += 1
            require_at_most(MAX_ANNOTATIONS, self.count, "annotations")
        for entry, image, key in self._edits.pieces_left():
            if (category := self._category_of(entry, image, key)) is not None:
                self._take(entry, image, key, category)
        self._find_wrong_keys(content)
        self._objects.finish()
        self._describe_unknown()
        describe_boxes(self._findings, self._objects.boxes, self._objects.evidence)

    def _describe_unknown(self) -> None:
        """Says that all ids of categories may be one too small or too large, if only one is unknown, next to theirs."""
        known = [key for key in self._categories.names if type(key) is int]
        if len(self._unknown) != 1 or not known or max(known) - min(known) + 1 != len(known):
            return
        opposite: dict[int | None, int] = {min(known) - 1: max(known), max(known) + 1: min(known)}
        unused = opposite.get(next(iter(self._unknown)))
        if unused is not None and self._categories.index_by_id.get(unused) not in self.columns.categories:
            off = "small" if unused == max(known) else "large"
            self._findings.describe("unknown-category", variant="shifted", unused=unused, off=off)

    def _find_wrong_keys(self, content: Content) -> None:
        if self.count and not self.columns.ids and (task := other_task(content.sketch())):
            raise DataError(f"The annotations of '{self._findings.split}' are {task.holds}", task.fix)
        if not self.count and (sketch := content.sketch()):
            variant, keys = annotations_elsewhere(sketch)
            if keys:
                self._findings.add("annotations-wrong-key", keys=keys)
                self._findings.describe("annotations-wrong-key", variant=variant)
            absent = sketch.get("annotations") is None
            self.no_list = f"the keys of the file are {short_repr(list(sketch))}" if absent else "the list is empty"
        elif self.columns.ids and not any(self.columns.text_lengths):
            keys = masks_elsewhere(content.sketch().get("annotations"))
            if keys:
                self._findings.add("masks-wrong-key", keys=keys)

    def _read_plain(self, entry: AnnotationEntry) -> bool:
        """Reads an annotation without any problem, fast; returns False, having done nothing, if it may have one."""
        image = self._images.get(entry.image_id)
        category = self._categories.index_by_id.get(entry.category_id)
        key, text, crowd = entry.id, bytes(entry.segmentation), entry.iscrowd or entry.ignore
        if image is None or image.left_out or category is None or type(key) is not int or key in self._ids:
            return False
        if self._edits.concerns(image, key):
            return False
        x, y, w, h = entry.bbox
        if not (w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= image.width and y + h <= image.height):
            return False
        if entry.is_turned or entry.is_instance_exhaustive != 1:
            return False
        if (w <= 1 and h <= 1 and x <= 1 and y <= 1) or crowd not in (0, 1) or not -(2**63) <= key < 2**63:
            return False
        if text:
            if self._objects.segmentations < THOROUGH or not are_plain_polygons(text):
                return False
            self._objects.segmentations += 1
        self._ids[key] = image.row
        self._objects.boxes.seen += 1
        self.columns.add(key, image.row, category, (x, y, w, h), text, bool(crowd))
        return True

    def _exclude_negatives(self, entry: Unusable) -> None:
        """Notes that an image has objects which cannot be read, so that their categories are no negatives there."""
        image = self._images.get(entry.image_id)
        if image is not None:
            image.left_out |= entry.whole_image
            category = None if entry.category_id is None else self._categories.names.get(entry.category_id)
            image.cannot_use(set(self._categories.index) if category is None else {category})

    def _read_any(self, entry: Any) -> None:
        if not isinstance(entry, dict):
            self._findings.add("bad-annotation", annotation=self.count, value=entry)
            return
        key = self._id_of(entry)
        self._respelled = ()
        image = self._image_of(entry, key)
        if image is None:
            return
        key = self._unique(key, image)
        self._edits.meet(image, key)
        category = self._category_of(entry, image, key)
        if category is None:
            return
        changed = self._edits.object(entry, image, key) if self._edits.concerns(image, key) else entry
        if changed is not None:
            self._take(changed, image, key, category)

    def _take(self, entry: dict[str, Any], image: GatheredImage, key: int | str, category: str) -> None:
        """Reads the object of an annotation, all edits applied."""
        if is_false(entry.get(EXHAUSTIVE)):
            note_incomplete([self._categories.index[category]], image, self._findings)
        if self._respelled:
            self._findings.add("other-notation", image.file_name, key, causes=self._respelled)
        if entry.get("bbox") is None and not entry.get("segmentation") and (keys := wrong_keys(entry)):
            self._findings.add("annotations-wrong-key", image.file_name, key, keys=keys)
            self._findings.describe("annotations-wrong-key", variant="in-annotations")
            image.cannot_use({category})
            return
        crowd = self._is_crowd(entry, image, key)
        if not self._objects.read(entry, image, key, self._categories.index[category], crowd):
            image.cannot_use({category})

    def _id_of(self, entry: dict[str, Any]) -> int | str:
        key = identifier(entry.get("id"))
        if key is None:
            self._findings.add("annotation-without-id", annotation=self.count)
            return self.count
        if key in self._ids:
            self._findings.add("duplicate-annotation-id", annotation=key)
        else:
            self._ids[key] = -1
        return key

    def _unique(self, key: int | str, image: GatheredImage) -> int | str:
        """The id that an annotation has in its image; the second one with an id gets "7#2", so that edits can tell."""
        first = self._ids.get(key)
        if first is None:  # it has none, so that it is known by its position
            return key
        if first == -1:
            self._ids[key] = image.row
            return key
        times = self._repeated.get((image.row, key), int(first == image.row)) + 1
        self._repeated[image.row, key] = times
        return f"{key}#{times}" if times > 1 else key

    def _image_of(self, entry: dict[str, Any], key: int | str) -> GatheredImage | None:
        number = self._known(entry.get("image_id"), self._images, self._image_ids)
        if number is None:
            detail = f"image_id {short_repr(entry.get('image_id'))}"
            self._findings.add("unknown-image", annotation=key, detail=detail)
            return None
        image = self._images[number]
        return None if image is None or image.left_out else image

    def _category_of(self, entry: dict[str, Any], image: GatheredImage, key: int | str) -> str | None:
        if (image.file_name, key) in self._edits.labels:
            return self._edits.labels[image.file_name, key]
        value: Any = entry.get("category_id")
        number = self._known(value, self._categories.names, self._categories.ids)
        if number is None:
            detail = f"category_id {short_repr(value)}"
            if isinstance(value, int | str) and value in self._categories.nameless:
                self._findings.add("nameless-category", image.file_name, key, detail)
                return None
            self._findings.add("unknown-category", image.file_name, key, detail)
            self._unknown.add(value if type(value) is int else None)
            image.cannot_use(set(self._categories.index))  # it may be any of them
            return None
        if number in self._categories.shared:
            image.cannot_use(self._categories.shared[number])
            return None
        name = self._categories.names[number]
        return name if name in self._categories.index else None  # edits leave it out

    def _known(self, value: Any, known: Mapping[int | str, Any], ids: KnownIds) -> Any:
        """The id among the known ones that a value is, or spells as text or as a number; None if there is none."""
        try:
            if value in known:
                return value
        except TypeError:  # a list or an object as id
            return None
        found = ids.find(value)
        note = ID_BY_NAME if number_of(value) is None else OTHER_ID
        if found is not None and note not in self._respelled:
            self._respelled += (note,)
        return found

    def _is_crowd(self, entry: dict[str, Any], image: GatheredImage, key: int | str) -> bool:
        for flag in (entry.get("iscrowd"), entry.get("ignore")):
            value = _FLAGS.get(flag.strip().lower(), flag) if isinstance(flag, str) else flag or 0
            if value == 1:
                return True
            if value != 0:
                self._findings.add("bad-iscrowd", image.file_name, key, value=flag)
        return False
