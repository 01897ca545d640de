"""What is wrong or odd with a dataset, in words: one sentence of meaning, one of what to do."""

from __future__ import annotations

import reprlib
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sam3_lora.text import plural, valid_text

Severity = Literal["error", "warning", "info"]
MAX_LOCATIONS = 50


@dataclass(frozen=True, slots=True)
class Location:
    """Where a fault is. image: file name; annotation: its id; detail: what stands there, shortened."""

    image: str | None = None
    annotation: int | str | None = None
    detail: str = ""

    def __str__(self) -> str:
        place = [self.image] if self.image is not None else []
        place += [f"annotation {self.annotation}"] if self.annotation is not None else []
        return ": ".join(part for part in (", ".join(place), self.detail) if part)


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of fault in one split.

    kind: kebab-case; severity: "error" (something is lost or learned wrongly), "warning" (something is
    used only in part) or "info"; message: what it is; fix: what to do; count: how often it is there;
    split: its name, or "" for the whole dataset; locations: the first ones, at most 50; image_names: the
    file names of all images concerned, each once, in the order in which they were met.
    """

    kind: str
    severity: Severity
    message: str
    fix: str
    count: int
    split: str
    locations: tuple[Location, ...] = ()
    image_names: tuple[str, ...] = ()


class Wording(NamedTuple):
    severity: Severity
    message: str
    fix: str


# In the order in which findings are shown: the faults that spoil a whole file come first. The words in
# braces are those of _grammar() and of FindingCollector.facts.
WORDINGS: dict[str, Wording] = {
    "annotations-wrong-key": Wording(
        "error",
        "The annotations stand under {keys}, where no COCO reader looks for them: a COCO file has one list "
        "'annotations' whose entries have image_id, category_id, bbox and segmentation. Training on this would learn "
        "nothing",
        "Rename the keys, or export the dataset again as COCO JSON",
    ),
    "masks-wrong-key": Wording(
        "error",
        "The masks stand under {mask_keys}, where no COCO reader looks for them: only the boxes are learned",
        "Rename {mask_keys} to 'segmentation', which holds polygons [[x, y, x, y, ...], ...] in pixels or run lengths",
    ),
    "split-unreadable": Wording("error", "{problem}", "{remedy}"),
    "no-images": Wording(
        "error",
        "The list 'images' has no usable entry",
        "Export this split again; if it is meant to be empty, remove its annotation file",
    ),
    "boxes-normalized": Wording(
        "error",
        "{annotations} of {boxes} {have} a box between 0 and 1, {normalized}",
        "{normalized_fix}",
    ),
    "boxes-outside-image": Wording(
        "error",
        "{annotations} of {boxes} {have} a box that leaves the image, so that targets would leave [0, 1]: what lies "
        "outside is cut off, and boxes entirely outside are left out",
        "{outside_fix}",
    ),
    "no-objects": Wording(
        "error",
        "The split has {total_images} but not one usable object, so there is nothing to learn or to measure",
        "{no_objects_fix}",
    ),
    "image-missing": Wording(
        "error",
        "{images} named in the file {are} not there",
        "Put {them} beside the JSON file or into images/, or delete {their} entry from the file",
    ),
    "path-outside-dataset": Wording(
        "error",
        "{images} {have} a file_name that leads out of the dataset's folder; {they} {are} not opened",
        "{path_fix}",
    ),
    "image-unreadable": Wording(
        "error",
        "{images} of {probed} looked into cannot be opened as an image",
        "Replace the file, or delete its entry; look for others of the same origin",
    ),
    "size-mismatch": Wording(
        "error",
        "{images} of {probed} looked into {have} another size than the file says, so boxes and masks may be misplaced",
        "If the objects lie right in the picture as it is now, correct width and height in the JSON file; if it was "
        "cut or stretched since, export again from the images as they are now",
    ),
    "bad-image": Wording(
        "error",
        "{images} cannot be used, because the entry is broken",
        "Give each entry of 'images' an id (a number or text) and a file_name",
    ),
    "duplicate-image-id": Wording(
        "error",
        "{images} {share} an id with another image, so nobody can tell whose the annotations are: all images of "
        "these ids and their annotations are left out",
        "Give each image an id of its own, and correct image_id in the annotations",
    ),
    "bad-category": Wording(
        "error",
        "{categories} cannot be used, because the entry is broken",
        "Give each entry of 'categories' an id and a name with letters or digits in it",
    ),
    "duplicate-category-id": Wording(
        "error",
        "{categories} {share} an id with another category, so nobody can tell which one an annotation means: "
        "annotations of these ids are left out",
        "Give each category an id of its own, and correct category_id in the annotations",
    ),
    "bad-annotation": Wording(
        "error", "{annotations} cannot be used, because the entry is no object", "Write each annotation as {{...}}"
    ),
    "unknown-image": Wording(
        "error",
        "{annotations} {name} an image_id that no image has, and {are} left out",
        "Correct image_id, or add the image; mind that 1 and '1' differ",
    ),
    "unknown-category": Wording(
        "error",
        "{annotations} {name} a category_id that no category has, and {are} left out",
        "Correct category_id, or add the category; mind that 1 and '1' differ",
    ),
    "bad-bbox": Wording(
        "error",
        "{annotations} {have} no usable box: where there is a usable mask the box is taken from it, else the object "
        "is left out",
        "Write bbox as [left, top, width, height] in pixels, width and height above zero",
    ),
    "bad-segmentation": Wording(
        "warning",
        "{annotations} {have} a segmentation that cannot be used; {their} masks are not learned",
        "Write [[x, y, x, y, ...], ...] with at least 3 points in pixels (fractions times the image's width and height)"
        ", or run lengths of the image's size",
    ),
    "bad-image-size": Wording(
        "warning",
        "{images} {have} no usable width and height in the file; they are taken from the picture, and an image "
        "without a picture is left out",
        "Write width and height in pixels into each entry of 'images'",
    ),
    "bad-iscrowd": Wording(
        "warning",
        "{annotations} {have} an iscrowd that is neither 0 nor 1; {they} {are} taken as single objects",
        "Write 1 for a region of many objects, else 0",
    ),
    "duplicate-annotation": Wording(
        "warning",
        "{annotations} {repeat} another one of the same image exactly, and {are} left out",
        "Delete the copies",
    ),
    "duplicate-annotation-id": Wording(
        "warning",
        "{annotations} {share} an id with another one; they are used, but other tools lose some of them",
        "Give each annotation an id of its own",
    ),
    "duplicate-file": Wording(
        "warning",
        "{images} {name} a file that an earlier entry names too; {copies}",
        "{copies_fix}",
    ),
    "image-scaled": Wording(
        "info",
        "{images} of {probed} looked into {have} another size than the file says, in the same proportions: scaled "
        "after {they} {were} annotated, which training follows",
        "Nothing, if the objects lie right in the picture; else correct width and height in the JSON file",
    ),
    "box-from-mask": Wording(
        "info", "{annotations} {have} no box; it is taken from the mask", "Nothing, if the masks are right"
    ),
    "annotation-without-id": Wording(
        "info",
        "{annotations} {have} no usable id and {are} called by position",
        "Give each annotation a number as id if other tools read the file too",
    ),
    "same-phrase": Wording(
        "info",
        "{categories} {read} like another one when used as a phrase; they are learned as one",
        "Rename one of them if they mean different things",
    ),
    "unused-category": Wording(
        "info",
        "{categories} {have} no object in any split",
        "Nothing, if intended: Roboflow adds its project's name as a category",
    ),
}
_NOTHING = object()
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60
_RANK = {kind: rank for rank, kind in enumerate(WORDINGS)}
_SEVERITY = {"error": 0, "warning": 1, "info": 2}


@dataclass(slots=True)
class FindingCollector:
    """Collects the faults of one split while it is read.

    facts: further words for the sentences; wordings: kind -> its sentences.
    """

    split: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    wordings: Mapping[str, Wording] = field(default_factory=lambda: WORDINGS)
    counts: dict[str, int] = field(default_factory=dict)
    locations: dict[str, list[Location]] = field(default_factory=dict)
    image_names: dict[str, dict[str, None]] = field(default_factory=dict)  # kind -> names; dicts, to keep their order
    severities: dict[str, Severity] = field(default_factory=dict)

    def add(
        self,
        kind: str,
        image: str | None = None,
        annotation: int | str | None = None,
        detail: str = "",
        *,
        value: Any = _NOTHING,
    ) -> None:
        """Notes one fault. detail: what stands there, in words; or value: the thing itself, however wild."""
        seen = self.counts.get(kind, 0)
        self.counts[kind] = seen + 1
        if image is not None:
            self.image_names.setdefault(kind, {})[image] = None
        if seen < MAX_LOCATIONS:
            place = Location(image, annotation, detail if value is _NOTHING else shown(value))
            self.locations.setdefault(kind, []).append(place)

    def mention(self, kind: str, image: str) -> None:
        """Names an image that a fault concerns too, without counting it."""
        self.image_names.setdefault(kind, {})[image] = None

    def findings(self) -> list[Finding]:
        """The findings, in the order of :func:`in_order`."""
        return in_order(self._finding(kind, count) for kind, count in self.counts.items())

    def _finding(self, kind: str, count: int) -> Finding:
        severity, message, fix = self.wordings[kind]
        places = tuple(self.locations[kind])
        words = {**_grammar(count), **self.facts}
        message = message.format(**words)
        first = textwrap.shorten(str(places[0]), 200, placeholder="...")
        if first:
            message += f" (the first: {first})" if count > 1 else f" ({first})"
        severity = self.severities.get(kind, severity)
        names = tuple(self.image_names.get(kind, ()))
        return Finding(kind, severity, message + ".", fix.format(**words) + ".", count, self.split, places, names)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings; among equals in the order of WORDINGS, and kinds that are not there last."""
    return sorted(findings, key=lambda finding: (_SEVERITY[finding.severity], _RANK.get(finding.kind, len(_RANK))))


def shown(value: Any) -> str:
    """Any value from a file, as short text; "nothing" for None, as a missing key has it."""
    return "nothing" if value is None else valid_text(_repr.repr(value))


def type_of(value: Any) -> str:
    """What a value from a file is, in words that need no Python: "nothing", "a number", "text", ..."""
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "nothing" if value is None else names.get(type(value), f"a {type(value).__name__}")


def _grammar(count: int) -> dict[str, str]:
    nouns = {plural(2, noun).split()[1]: plural(count, noun) for noun in ("image", "annotation", "category")}
    one = {"are": "is", "have": "has", "they": "it", "them": "it", "their": "its", "were": "was"}
    one |= {verb: verb + "s" for verb in ("share", "name", "repeat", "read", "stand", "look", "fall")}
    return nouns | (one if count == 1 else {word: word for word in one})
