"""Finds what causes the findings of a split, once all of it is read, and with it their words and their severity."""

from __future__ import annotations

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.index.shapes import BoxReader
from sam3_lora.text import plural

STRAY = 10  # boxes in fractions of the image are strays if there is less than one in so many boxes
MANY_OUTSIDE = 20  # boxes that extend beyond the image are an error if there is at least one in so many boxes
# Problems of whole lists and files: where there is one, it is the reason that nothing is left.
_OF_LISTS = ("annotations-wrong-key", "labels-in-pixels", "bad-label-line", "bad-label-file", "label-without-image")
_OF_IMAGES = ("image-unreadable", "image-missing", "link-outside-dataset")


def find_no_images(findings: FindingCollector) -> None:
    """Adds that the list of images is empty, unless another finding is the reason."""
    if not any(map(findings.count, (*_OF_LISTS, *_OF_IMAGES))):
        findings.add("no-images")


def find_no_objects(findings: FindingCollector, images: int, crowds: int, has_entries: bool, no_list: str) -> None:
    """Adds that a split has no objects, unless other findings are the reason.

    Args:
        findings: of the split.
        images: usable images, at least one.
        crowds: annotations that are regions of many objects.
        has_entries: the list of annotations has some: each one that was dropped has a finding of its own.
        no_list: what the list is, if it has none.
    """
    if crowds:
        detail = f"{plural(crowds, 'annotation')} with iscrowd 1, which marks a region of many objects"
        findings.add("no-objects", detail=detail, split_images=images)
        findings.describe("no-objects", variant="crowds")
    elif not has_entries and not any(map(findings.count, _OF_LISTS)):
        findings.add("no-objects", detail=no_list, split_images=images)


def describe_boxes(findings: FindingCollector, boxes: BoxReader) -> None:
    """Gives the findings on boxes the severity and the words of their most likely cause.

    Args:
        findings: of the split.
        boxes: all of them read.
    """
    outside, normalized = findings.count("boxes-outside-image"), findings.count("boxes-normalized")
    findings.describe(
        "boxes-outside-image",
        boxes=boxes.seen,
        variant="corners" if outside > 1 and boxes.as_corners == outside else "",
        severity="warning" if not boxes.lost and outside * MANY_OUTSIDE < boxes.seen else None,
    )
    is_stray = normalized * STRAY < boxes.seen
    findings.describe(
        "boxes-normalized",
        boxes=boxes.seen,
        variant="stray" if is_stray else "",
        severity="warning" if is_stray else None,
    )
    if not boxes.unboxed:
        findings.describe("bad-bbox", severity="warning")
