"""Faults that make a whole annotation file unusable, each in a split of its own."""

from __future__ import annotations

from sam3_lora.demo.faults.fault import Case, FaultTable

_fault = FaultTable("")
FAULTS = _fault.faults


@_fault("annotations-wrong-key", "wrong-keys")
def _under_another_key(case: Case) -> None:
    """The annotations are under the key "objects" instead of "annotations"."""
    case.data["objects"] = case.data.pop("annotations")


@_fault("masks-wrong-key", "wrong-mask-keys")
def _masks_under_another_key(case: Case) -> None:
    """The masks are under the key "polygon" instead of "segmentation"."""
    for entry in case.data["annotations"]:
        entry["polygon"] = entry.pop("segmentation")


@_fault("boxes-normalized", "normalized-boxes")
def _in_fractions(case: Case) -> None:
    """All boxes are in fractions of the image instead of pixels."""
    sizes = {image["id"]: 2 * [image["width"], image["height"]] for image in case.data["images"]}
    for entry in case.data["annotations"]:
        entry["bbox"] = [side / whole for side, whole in zip(entry["bbox"], sizes[entry["image_id"]], strict=True)]


@_fault("no-objects", "no-annotations")
def _empty_list(case: Case) -> None:
    """The list of annotations is empty."""
    case.data["annotations"] = []


@_fault("no-images", "no-images")
def _no_entries(case: Case) -> None:
    """The list of images is empty."""
    case.data["images"], case.data["annotations"] = [], []


@_fault("split-unreadable", "cut-off")
def _half_a_file(case: Case) -> None:
    """The annotation file ends in the middle, as after a full disk or an interrupted download."""
    case.split.keep = 0.5
