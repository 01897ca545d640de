"""The kinds of edits, and their list. Images are named by split and file name, objects by their image and their id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union

import msgspec

from sam3_lora.data.index.objects.box_layouts import AS_IN_COCO, LAYOUTS

MAX_EDITS = 10_000
Text = Annotated[str, msgspec.Meta(max_length=3_000)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=3_000)]
Side = Annotated[int, msgspec.Meta(ge=1, le=2**28)]
# File name of an image -> ids of its annotations, as the app shows them.
Objects = Mapping[Name, tuple[int | Text, ...]]


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="edit"):
    """What all edits have in common: in a file, the kind stands under `edit`."""


class SplitEdit(Edit, frozen=True):
    """An edit of one split."""

    split: Name


class ObjectEdit(SplitEdit, frozen=True):
    """An edit of single objects: of those it names, or in some kinds of all in the split where it names none."""

    objects: Objects


class ExcludeImages(SplitEdit, frozen=True, tag="exclude-images"):
    """Leaves images out, with their annotations."""

    images: tuple[Name, ...]


class ExcludeObjects(ObjectEdit, frozen=True, tag="exclude-objects"):
    """Leaves objects out, as if nothing were there."""


class RelabelObjects(ObjectEdit, frozen=True, tag="relabel-objects"):
    """Gives objects another category, which need not exist; a later edit may rename it."""

    category: Name


class BoxFromMask(ObjectEdit, frozen=True, tag="box-from-mask"):
    """Takes the boxes of objects from their masks; an object without a mask keeps its box."""


class RemoveMask(ObjectEdit, frozen=True, tag="remove-mask"):
    """Leaves the masks of objects out: only their boxes are learned."""


class MaskAsRunLengths(ObjectEdit, frozen=True, tag="mask-as-run-lengths"):
    """Fills polygons as COCO's tools do and keeps the pixels, so that every program reads the same mask."""


class DropShortParts(ObjectEdit, frozen=True, tag="drop-short-parts"):
    """Leaves parts of fewer than 3 points out of polygons."""


class MergeObjects(SplitEdit, frozen=True, tag="merge-objects"):
    """Makes one object of several in an image, such as the pieces of one that something hides in part.

    The one that is last in the file gives id and category.
    """

    image: Name
    ids: Annotated[tuple[int | Text, ...], msgspec.Meta(min_length=2)]


class CrowdsToObjects(ObjectEdit, frozen=True, tag="crowds-to-objects"):
    """Makes crowd regions (iscrowd 1) single objects; all of the split without `objects`."""

    objects: Objects = {}


class ReadBoxes(SplitEdit, frozen=True, tag="read-boxes"):
    """Reads the four numbers of boxes as another layout, or as fractions of the image's size.

    As fractions are read those boxes and polygons of which all numbers are at most 1.
    """

    layout: str = AS_IN_COCO
    fractions: bool = False

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"the layout must be one of {', '.join(LAYOUTS)}")


class ReadKeys(SplitEdit, frozen=True, tag="read-keys"):
    """Reads a COCO file that has its annotations, boxes or masks under other keys: COCO's key -> that of the file."""

    keys: Mapping[Literal["annotations", "bbox", "segmentation"], Name]


class FitToImage(SplitEdit, frozen=True, tag="fit-to-image"):
    """Gives images the width and height of their files, and scales their annotations to it.

    Attributes:
        images: file names; none: all that were scaled, whose size differs in the same proportions.
        made_for: the size that the annotations were made for: "entry" is the one in the annotation file, "file" the
            true one, so that nothing is scaled; or (width, height) in pixels.
    """

    images: tuple[Name, ...] = ()
    made_for: Literal["entry", "file"] | tuple[Side, Side] = "entry"


class MergeEntries(SplitEdit, frozen=True, tag="merge-entries"):
    """Makes one image of several entries that name the same file, with the annotations of all."""

    images: tuple[Name, ...]


class RenameCategories(Edit, frozen=True, tag="rename-categories"):
    """Renames categories in all splits, old name -> new name; those that get the same name become one."""

    names: Mapping[Name, Name]


class ExcludeCategories(Edit, frozen=True, tag="exclude-categories"):
    """Leaves categories out of all splits, with their annotations."""

    categories: tuple[Name, ...]


class KeepPerCategory(SplitEdit, frozen=True, tag="keep-per-category"):
    """Keeps so many images of each category, for training on a few (k-shot); the same seed keeps the same ones.

    Images without objects are left out.
    """

    images: Annotated[int, msgspec.Meta(ge=1)]
    seed: int = 0


class MoveImages(SplitEdit, frozen=True, tag="move-images"):
    """Moves images to another split, which need not exist. There "a.jpg" is called "train/a.jpg" if it was in train."""

    images: tuple[Name, ...]
    to: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Accept(Edit, frozen=True, tag="accept"):
    """Takes what the app made of faults for right: their findings are gone, and it is written so.

    Attributes:
        findings: kinds.
        split: its name; "" for all.
    """

    findings: tuple[Name, ...]
    split: Text = ""


# By when they apply: while a split is read, in the order of the list; then those that choose images, in their order.
ObjectEdits = ExcludeObjects | BoxFromMask | RemoveMask | MaskAsRunLengths | DropShortParts
ReadingEdit = (
    ExcludeImages
    | ExcludeObjects
    | RelabelObjects
    | BoxFromMask
    | RemoveMask
    | MaskAsRunLengths
    | DropShortParts
    | MergeObjects
    | CrowdsToObjects
    | ReadBoxes
    | ReadKeys
    | FitToImage
    | MergeEntries
    | RenameCategories
    | ExcludeCategories
)
ChoosingEdit = KeepPerCategory | MoveImages
AnyEdit = Union[ReadingEdit, ChoosingEdit, Accept]  # noqa: UP007  a union of unions, which msgspec reads


class EditList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The edits of a dataset, in order."""

    edits: Annotated[tuple[AnyEdit, ...], msgspec.Meta(max_length=MAX_EDITS)] = ()

    def __bool__(self) -> bool:
        return bool(self.edits)

    def plus(self, edits: Iterable[AnyEdit]) -> EditList:
        """With further edits at the end, each once."""
        return EditList(tuple(_each_once([*self.edits, *edits])))

    def without(self, place: int) -> EditList:
        """Without the edit at a place, as for undo: -1 is the last one."""
        kept = list(self.edits)
        del kept[place]
        return EditList(tuple(kept))

    def while_reading(self, split: str) -> tuple[ReadingEdit, ...]:
        """Those that apply while a split is read."""
        return tuple(edit for edit in self.by_origin() if getattr(edit, "split", split) == split)

    def by_origin(self) -> list[ReadingEdit]:
        """Those that apply while splits are read; images that were moved before are named as in the files."""
        moved: dict[tuple[str, str], tuple[str, str]] = {}  # (split, file name) -> those in the file
        found: list[ReadingEdit] = []
        for edit in self.edits:
            if isinstance(edit, MoveImages):
                for name in edit.images:
                    origin = moved.pop((edit.split, name), (edit.split, name))
                    moved[edit.to, moved_name(edit.split, name)] = origin
            elif isinstance(edit, ReadingEdit):
                found += _by_origin(edit, moved) if moved else [edit]
        return found

    def categories(self) -> set[str]:
        """The categories that edits name, by the names that they have until then."""
        named: set[str] = set()
        for edit in self.edits:
            if isinstance(edit, RenameCategories):
                named.update(edit.names)
            elif isinstance(edit, ExcludeCategories):
                named.update(edit.categories)
        return named

    @property
    def digest(self) -> str:
        """A digest of the whole list; "" of an empty one."""
        return hashlib.blake2b(msgspec.json.encode(self), digest_size=16).hexdigest() if self else ""

    def choosing(self) -> tuple[ChoosingEdit, ...]:
        """Those that choose images, once all splits are read."""
        return tuple(edit for edit in self.edits if isinstance(edit, ChoosingEdit))

    def accepts(self, kind: str, split: str) -> bool:
        """Whether findings of a kind in a split are taken for right."""
        return any(
            isinstance(edit, Accept) and kind in edit.findings and edit.split in ("", split) for edit in self.edits
        )


def moved_name(split: str, name: str) -> str:
    """What an image of a split is called after it was moved to another one: no other image there can be called so."""
    return f"{split}/{name}"


def _by_origin(edit: ReadingEdit, moved: Mapping[tuple[str, str], tuple[str, str]]) -> list[ReadingEdit]:
    """An edit as several ones that name images by the splits and the names that they have in the files."""
    if isinstance(edit, MergeObjects):
        split, image = moved.get((edit.split, edit.image), (edit.split, edit.image))
        return [msgspec.structs.replace(edit, split=split, image=image)]
    key = "images" if isinstance(edit, _IMAGES) else "objects" if isinstance(edit, ObjectEdit) else ""
    named = getattr(edit, key, ()) if key else ()
    if not named or not isinstance(edit, SplitEdit):
        return [edit]
    parts: dict[str, dict[str, Any]] = {}
    for name in named:
        split, origin = moved.get((edit.split, name), (edit.split, name))
        parts.setdefault(split, {})[origin] = named[name] if isinstance(named, Mapping) else None
    return [
        msgspec.structs.replace(edit, split=split, **{key: part if isinstance(named, Mapping) else tuple(part)})
        for split, part in parts.items()
    ]


_IMAGES = (ExcludeImages, FitToImage, MergeEntries)


def tag_of(edit: Edit) -> str:
    """The kind of an edit, as it stands in a file."""
    return str(type(edit).__struct_config__.tag)


def _each_once(edits: list[AnyEdit]) -> list[AnyEdit]:
    kept: list[AnyEdit] = []
    seen: set[bytes] = set()
    for edit in edits:
        text = msgspec.json.encode(edit)
        if text not in seen:
            seen.add(text)
            kept.append(edit)
    return kept
