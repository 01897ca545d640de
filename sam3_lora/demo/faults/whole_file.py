"""Faults that make a whole annotation file unusable, each in a split of its own."""

from __future__ import annotations

from sam3_lora.demo.faults.fault import Case

SPLITS = {
    "annotations-wrong-key": "wrong-keys",
    "masks-wrong-key": "wrong-mask-keys",
    "boxes-normalized": "normalized-boxes",
    "boxes-misread": "centered-boxes",
    "no-objects": "no-annotations",
    "no-images": "no-images",
    "split-unreadable": "cut-off",
}


def annotations_wrong_key(case: Case) -> None:
    """The annotations are under the key "objects" instead of "annotations"."""
    case.data["objects"] = case.data.pop("annotations")


def masks_wrong_key(case: Case) -> None:
    """The masks are under the key "polygon" instead of "segmentation"."""
    for entry in case.data["annotations"]:
        entry["polygon"] = entry.pop("segmentation")


def boxes_normalized(case: Case) -> None:
    """All boxes are in fractions of the image instead of pixels."""
    sizes = {image["id"]: 2 * [image["width"], image["height"]] for image in case.data["images"]}
    for entry in case.data["annotations"]:
        entry["bbox"] = [side / whole for side, whole in zip(entry["bbox"], sizes[entry["image_id"]], strict=True)]


def boxes_misread(case: Case) -> None:
    """All boxes begin with their center instead of their left upper corner."""
    for number in range(3):
        box = (60, 60 + 100 * number, 90, 60)
        case.add_object(box, case.rectangle(box))
    for entry in case.data["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x + w / 2, y + h / 2, w, h]


def no_objects(case: Case) -> None:
    """The list of annotations is empty."""
    case.data["annotations"] = []


def no_images(case: Case) -> None:
    """The list of images is empty."""
    case.data["images"], case.data["annotations"] = [], []


def split_unreadable(case: Case) -> None:
    """The annotation file ends in the middle, as after a full disk or an interrupted download."""
    case.split.keep = 0.5
