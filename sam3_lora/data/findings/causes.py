"""Words a split's findings by what causes them, once all of it is read."""

from __future__ import annotations

from sam3_lora.data.findings.findings import FindingCollector, shown
from sam3_lora.data.index.annotations import BoxReader
from sam3_lora.text import plural

STRAY = 10  # boxes in fractions of the image are strays if there is less than one in so many boxes
# Faults of whole lists and files: where there is one, it is the reason that nothing is left.
_OF_LISTS = frozenset(
    ("annotations-wrong-key", "labels-in-pixels", "bad-label-line", "bad-label-file", "label-without-image")
)
_OF_IMAGES = frozenset(("image-unreadable", "image-missing", "link-outside-dataset"))
_CORNERS_FIX = "These look like [left, top, right, bottom]: write bbox as [left, top, width, height]"
_OUTSIDE_FIX = (
    "Check that bbox is [left, top, width, height] in pixels of the width x height that the file gives the image; "
    "boxes made for another image size must be scaled"
)
_NORMALIZED = "as if in fractions of the image; COCO boxes are pixels"
_NORMALIZED_FIX = "Multiply x and width by the image's width, y and height by its height, or export again as COCO JSON"
_STRAY = (
    "mostly a slip of the mouse: where there is a usable mask the box is taken from it, else the object is left out"
)
_STRAY_FIX = "Draw the box again in pixels, or delete the annotation"


def note_no_images(faults: FindingCollector) -> None:
    """Notes that the list of images is empty, unless another fault is the reason."""
    if not (_OF_LISTS | _OF_IMAGES).intersection(faults.counts):
        faults.add("no-images")


def note_no_objects(faults: FindingCollector, crowds: int, entries: bool, reason: str) -> None:
    """Notes that a split with images has no objects, unless other faults are the reason.

    Args:
        crowds: annotations that are regions of many objects.
        entries: the list of annotations has some: each of them that was dropped has a finding of its own.
        reason: what the list is, if it has none.
    """
    if crowds:
        reason = f"{plural(crowds, 'annotation')} with iscrowd 1, which stands for a region of many objects"
        fix = "Write iscrowd 0 where an annotation is one object"
    elif entries or _OF_LISTS.intersection(faults.counts):
        return
    else:
        fix = "Annotate some objects, or export the split again with its annotations"
    faults.facts["no_objects_fix"] = fix
    faults.add("no-objects", detail=reason)


def word_by_cause(faults: FindingCollector, boxes: BoxReader) -> None:
    """Gives the findings on boxes the severity and the words of what seems to be their cause."""
    outside, normalized = (faults.counts.get(kind, 0) for kind in ("boxes-outside-image", "boxes-normalized"))
    if not boxes.lost and outside * 20 < boxes.seen:
        faults.severities["boxes-outside-image"] = "warning"
    if not boxes.unboxed:
        faults.severities["bad-bbox"] = "warning"
    strays = normalized * STRAY < boxes.seen
    if strays:
        faults.severities["boxes-normalized"] = "warning"
    corners = outside > 1 and boxes.as_corners == outside
    faults.facts |= {
        "boxes": f"{boxes.seen:,}",
        "outside_fix": _CORNERS_FIX if corners else _OUTSIDE_FIX,
        "normalized": _STRAY if strays else _NORMALIZED,
        "normalized_fix": _STRAY_FIX if strays else _NORMALIZED_FIX,
    }


def path_words(misnamed: list[str]) -> dict[str, str]:
    """misnamed: files that lie in the dataset, though the paths that name them lead out of it."""
    if misnamed:
        fix = f"Keep only the last part of each file_name: {shown(misnamed[0])} lies in the dataset's folder"
    else:
        fix = "Move the files into the dataset's folder and write their names relative to the JSON file"
    return {"path_fix": fix}


def copy_words(same: bool) -> dict[str, str]:
    """same: all entries of images that name a file again have the id of the earlier one, too."""
    if same:
        return {"copies": "both entries have one id, so nothing is missing", "copies_fix": "Delete the copies"}
    return {
        "copies": "what one entry annotates is missing in the other",
        "copies_fix": "Merge the entries and their annotations",
    }
