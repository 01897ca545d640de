"""Applies edits while a split is read, so that what is found wrong afterwards is what is still wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sam3_lora.data.edits import kinds, objects
from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.images import ImageHeader
from sam3_lora.data.index.gather import GatheredImage

Entry = dict[str, Any]
_Object = tuple[str, int | str]  # file name of its image, and its id
_Change = Callable[[Entry, GatheredImage], Entry | None]  # None: the object is left out
_CHANGES: dict[type, _Change] = {
    kinds.ExcludeObjects: lambda entry, image: None,
    kinds.RelabelObjects: lambda entry, image: entry,  # SplitEdits.labels
    kinds.BoxFromMask: objects.box_from_mask,
    kinds.RemoveMask: lambda entry, image: {**entry, "segmentation": None},
    kinds.MaskAsRunLengths: objects.mask_as_run_lengths,
    kinds.DropShortParts: objects.without_short_parts,
    kinds.CrowdsToObjects: lambda entry, image: {**entry, "iscrowd": 0, "ignore": 0},
}


class SplitEdits:
    """The edits of one split while it is read.

    Args:
        edits: that apply while it is read, in order.

    Attributes:
        keys: of the annotation file, COCO's key -> that of the file.
        met_categories: names that categories had, also between two edits.
        labels: (file name of an image, id) of the objects that get another category -> its name after all edits; None
            if it is left out.
    """

    def __init__(self, edits: tuple[kinds.ReadingEdit, ...] = ()) -> None:
        self.keys: dict[str, str] = {}
        self.met_categories: set[str] = set()
        self._of_categories: list[tuple[int, kinds.RenameCategories | kinds.ExcludeCategories]] = []
        self._fits: list[tuple[kinds.FitToImage, frozenset[str]]] = []
        self._excluded: set[str] = set()
        self._merged: set[str] = set()
        # Edits of objects with their place in the list: of all, and of each that they name.
        self._of_all: list[tuple[int, kinds.ReadBoxes | kinds.ObjectEdit]] = []
        self._of_named: dict[_Object, list[tuple[int, kinds.MergeObjects | kinds.ObjectEdit]]] = {}
        self._unmet_images: dict[str, str] = {}  # file name -> the kind of an edit that names it
        self._scales: dict[int, tuple[float, float]] = {}  # row of an image -> factors of its annotations
        self._pieces: dict[int, list[tuple[Entry, GatheredImage, int | str]]] = {}  # of objects to merge, met so far
        for number, edit in enumerate(edits):
            self._add(number, edit)
        self.labels: dict[_Object, str | None] = {
            (image, key): self.category(edit.category, number)
            for number, edit in enumerate(edits)
            if isinstance(edit, kinds.RelabelObjects)
            for image, keys in edit.objects.items()
            for key in keys
        }
        self._unmet_objects = dict.fromkeys(self._of_named)  # in their order

    def _add(self, number: int, edit: kinds.ReadingEdit) -> None:
        match edit:
            case kinds.ReadKeys():
                self.keys |= {str(ours): theirs for ours, theirs in edit.keys.items()}
            case kinds.RenameCategories() | kinds.ExcludeCategories():
                self._of_categories.append((number, edit))
            case kinds.FitToImage():
                self._fits.append((edit, frozenset(edit.images)))
            case kinds.ExcludeImages():
                self._excluded.update(edit.images)
            case kinds.MergeEntries():
                self._merged.update(edit.images)
            case kinds.ReadBoxes():
                self._of_all.append((number, edit))
            case kinds.MergeObjects():
                for key in edit.ids:
                    self._of_named.setdefault((edit.image, key), []).append((number, edit))
            case kinds.ObjectEdit():
                if isinstance(edit, kinds.CrowdsToObjects) and not edit.objects:
                    self._of_all.append((number, edit))
                for image, keys in edit.objects.items():
                    for key in keys:
                        self._of_named.setdefault((image, key), []).append((number, edit))
        self._unmet_images |= dict.fromkeys(getattr(edit, "images", ()), kinds.tag_of(edit))

    def excludes(self, file_name: str) -> bool:
        """Whether an image is left out."""
        self._unmet_images.pop(file_name, None)
        return file_name in self._excluded

    def merges(self, file_name: str) -> bool:
        """Whether all entries that name a file are one image."""
        return file_name in self._merged

    def fit(self, image: GatheredImage, header_of: Callable[[str], ImageHeader | None]) -> None:
        """Gives an image the size of its file, if an edit says so; its annotations are then scaled.

        Args:
            image: with the size of its entry.
            header_of: gives the header of a file by its path.
        """
        for edit, names in self._fits:
            header = header_of(image.path) if not names or image.file_name in names else None
            entry = image.width, image.height
            if header is None or (not names and header.size_finding(entry) != "image-scaled"):
                continue
            width, height = header.used_size(entry)
            if edit.made_for == "file":
                made_for = width, height
            else:
                made_for = entry if edit.made_for == "entry" else edit.made_for
            before = self._scales.get(image.row, (1.0, 1.0))
            self._scales[image.row] = before[0] * width / made_for[0], before[1] * height / made_for[1]
            image.width, image.height = width, height

    def category(self, name: str, since: int = 0) -> str | None:
        """The name of a category after all edits from a place of the list on; None if it is left out."""
        for number, edit in self._of_categories:
            if number < since:
                continue
            self.met_categories.add(name)
            if isinstance(edit, kinds.RenameCategories):
                name = edit.names.get(name, name)
            elif name in edit.categories:
                return None
        return name

    def concerns(self, image: GatheredImage, key: int | str) -> bool:
        """Whether an annotation may be changed."""
        return bool(self._of_all) or image.row in self._scales or (image.file_name, key) in self._of_named

    def object(self, entry: Entry, image: GatheredImage, key: int | str) -> Entry | None:
        """An annotation after all edits; None if it is left out, or is a piece of an object of which others follow.

        Args:
            entry: as plain values of any type.
            image: that it is in.
            key: its id.
        """
        changed: Entry | None = entry
        if (scale := self._scales.get(image.row)) is not None and scale != (1.0, 1.0):
            changed = objects.scaled(entry, image, scale)
        edits = [*self._of_all, *self._of_named.get((image.file_name, key), ())]
        for number, edit in sorted(edits, key=lambda one: one[0]):
            if changed is None:
                return None
            if isinstance(edit, kinds.ReadBoxes):
                changed = objects.read_box(changed, image, edit.layout, fractions=edit.fractions)
            elif isinstance(edit, kinds.MergeObjects):
                pieces = self._pieces.setdefault(number, [])
                pieces.append((changed, image, key))
                changed = None
                if len(pieces) == len(set(edit.ids)):
                    changed = objects.merged([piece for piece, *_ in self._pieces.pop(number)], image)
            else:
                changed = _CHANGES[type(edit)](changed, image)
        return changed

    def pieces_left(self) -> list[tuple[Entry, GatheredImage, int | str]]:
        """Objects of which not all pieces are there, made of those that are: (entry, image, id)."""
        return [(objects.merged([one for one, *_ in met], met[-1][1]), *met[-1][1:]) for met in self._pieces.values()]

    def meet(self, image: GatheredImage, key: int | str) -> None:
        """Notes that an object is there."""
        self._unmet_objects.pop((image.file_name, key), None)

    def finish(self, findings: FindingCollector) -> None:
        """Adds a finding for images and objects that edits name and that are not there.

        Args:
            findings: of the split.
        """
        for name, kind in self._unmet_images.items():
            findings.add("edits-unfit", name, detail=kind)
        for name, key in self._unmet_objects:
            if name not in self._excluded:
                findings.add("edits-unfit", name, key, kinds.tag_of(self._of_named[name, key][0][1]))
