"""Faults that make a whole annotation file unusable, each in a split of its own."""

from __future__ import annotations

from sam3_lora.demo.faults.fault import Case, FaultTable

_wrong_keys = FaultTable("wrong-keys")
_wrong_mask_keys = FaultTable("wrong-mask-keys")
_normalized = FaultTable("normalized-boxes")
_no_annotations = FaultTable("no-annotations")
_no_images = FaultTable("no-images")
_cut_off = FaultTable("cut-off")


@_wrong_keys("annotations-wrong-key")
def _under_another_key(case: Case) -> None:
    """The annotations are under the key "objects" instead of "annotations"."""
    case.data["objects"] = case.data.pop("annotations")


@_wrong_mask_keys("masks-wrong-key")
def _masks_under_another_key(case: Case) -> None:
    """The masks are under the key "polygon" instead of "segmentation"."""
    for entry in case.data["annotations"]:
        entry["polygon"] = entry.pop("segmentation")


@_normalized("boxes-normalized")
def _in_fractions(case: Case) -> None:
    """All boxes are in fractions of the image instead of pixels."""
    sizes = {image["id"]: 2 * [image["width"], image["height"]] for image in case.data["images"]}
    for entry in case.data["annotations"]:
        entry["bbox"] = [side / whole for side, whole in zip(entry["bbox"], sizes[entry["image_id"]], strict=True)]


@_no_annotations("no-objects")
def _empty_list(case: Case) -> None:
    """The list of annotations is empty."""
    case.data["annotations"] = []


@_no_images("no-images")
def _no_entries(case: Case) -> None:
    """The list of images is empty."""
    case.data["images"], case.data["annotations"] = [], []


@_cut_off("split-unreadable")
def _half_a_file(case: Case) -> None:
    """The annotation file ends in the middle, as after a full disk or an interrupted download."""
    case.split.keep = 0.5


FAULTS = (
    _wrong_keys.faults
    | _wrong_mask_keys.faults
    | _normalized.faults
    | _no_annotations.faults
    | _no_images.faults
    | _cut_off.faults
)
