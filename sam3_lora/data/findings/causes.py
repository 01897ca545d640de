"""Finds what causes the findings of a split, once all of it is read, and with it their words and their severity."""

from __future__ import annotations

import numpy as np

from sam3_lora.data.findings.findings import FindingCollector, Severity
from sam3_lora.data.index.gather import GatheredImage
from sam3_lora.data.index.objects.box_layouts import CENTERS, CORNERS, BoxEvidence
from sam3_lora.data.index.objects.shapes import BoxReader
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.splits.names import VALID_NAMES
from sam3_lora.text import plural

STRAY = 10  # boxes in fractions of the image are strays if there is less than one in so many boxes
MANY_OUTSIDE = 20  # boxes that extend beyond the image are an error if there is at least one in so many boxes
CROWDED = 20  # crowd regions are a warning if there is at least one in so many annotations
# Problems of whole lists and files: where there is one, it is the reason that nothing is left.
_OF_LISTS = ("annotations-wrong-key", "labels-in-pixels", "bad-label-line", "bad-label-file", "label-without-image")
_OF_IMAGES = ("image-unreadable", "image-heic", "image-missing", "link-outside-dataset")


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


def find_crowds(
    findings: FindingCollector,
    images: list[GatheredImage],
    arrays: dict[str, np.ndarray],
    ids: list[int | str] | None,
    categories: list[str],
    learned: bool,
) -> None:
    """Counts the crowd regions, which are not objects.

    Args:
        findings: of the split.
        images: of its index.
        arrays: of its index.
        ids: of the annotations, unless they are in the arrays.
        categories: by index.
        learned: whether the regions are objects all the same, by the user's choice.
    """
    crowds = arrays["iscrowd"]
    rows = np.repeat(np.arange(len(images)), np.diff(arrays["first"]))
    regions = np.flatnonzero(crowds).tolist()
    for at in regions:
        key = int(arrays["annotation_ids"][at]) if ids is None else ids[at]
        findings.add("crowds", images[rows[at]].file_name, key, all_annotations=len(crowds))
    of_crowds, of_objects = (
        {phrase_of(categories[number]) for number in np.unique(arrays["category"][chosen])}
        for chosen in (crowds, ~crowds)
    )
    only = tuple(sorted(of_crowds - of_objects))
    if learned:
        findings.describe("crowds", variant="as-objects", severity="info")
    elif only:
        severity: Severity = "warning" if findings.split.lower() in (*VALID_NAMES, "test") else "error"
        findings.describe("crowds", variant="only", severity=severity, only=only)
    elif len(regions) * CROWDED < len(crowds):
        findings.describe("crowds", severity="info")


def describe_boxes(findings: FindingCollector, boxes: BoxReader, evidence: BoxEvidence) -> None:
    """Gives the findings on boxes the severity and the words of their most likely cause.

    Args:
        findings: of the split.
        boxes: all of them read.
        evidence: of the masks.
    """
    evidence.find(findings)
    outside, normalized = findings.count("boxes-outside-image"), findings.count("boxes-normalized")
    findings.describe(
        "boxes-outside-image",
        boxes=boxes.seen,
        variant=evidence.layout() or (_layout_of_outside(boxes, outside) if outside > 1 else ""),
        severity="warning" if not boxes.lost and outside * MANY_OUTSIDE < boxes.seen else None,
    )
    is_stray = normalized * STRAY < boxes.seen
    findings.describe(
        "boxes-normalized",
        boxes=boxes.seen,
        variant="stray" if is_stray else evidence.layout(fractions=True),
        severity="warning" if is_stray else None,
    )
    if not boxes.unboxed:
        findings.describe("bad-bbox", severity="warning")


def find_unknown(findings: FindingCollector, images: list[GatheredImage], arrays: dict[str, np.ndarray]) -> None:
    """Adds the images of which nothing is known: no object is annotated, and no category is listed as absent.

    Args:
        findings: of the split.
        images: of its index.
        arrays: of its index.
    """
    objects = np.bincount(
        np.repeat(np.arange(len(images)), np.diff(arrays["first"]))[~arrays["iscrowd"]], minlength=len(images)
    )
    for image, count in zip(images, objects.tolist(), strict=True):
        if image.absent == [] and not count:
            findings.add("image-unknown", image.file_name)
            for kind in ("negatives-listed", "not-exhaustive"):
                findings.forget(kind, image.file_name)


def _layout_of_outside(boxes: BoxReader, outside: int) -> str:
    """What boxes that extend beyond the image may be instead, if all of them would fit."""
    if boxes.as_corners == outside:
        return CORNERS
    return CENTERS if boxes.as_centers == outside else ""
