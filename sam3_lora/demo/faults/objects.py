"""Faults of single annotations, their boxes and their masks, in the split "train"."""

from __future__ import annotations

from sam3_lora.demo.faults.fault import Case


def bad_annotation(case: Case) -> None:
    """The list of annotations has a word where an entry should be."""
    case.data["annotations"].append("pothole")


def unknown_image(case: Case) -> None:
    """An annotation's image_id is that of no image."""
    case.first["image_id"] = 987654


def unknown_category(case: Case) -> None:
    """An annotation's category_id is that of no category."""
    case.first["category_id"] = 987654


def bad_bbox(case: Case) -> None:
    """A box has no width."""
    case.first["bbox"][2] = 0


def boxes_outside_image(case: Case) -> None:
    """A box extends beyond the right edge of the image."""
    case.first["bbox"] = [0.5 * case.image["width"], 10, case.image["width"], 40]
    del case.first["segmentation"]


def bad_segmentation(case: Case) -> None:
    """A mask's run lengths were made for an image of another size."""
    case.first["segmentation"] = {"size": [32, 32], "counts": [100, 924]}


def bad_iscrowd(case: Case) -> None:
    """An annotation's iscrowd is the word "no"."""
    case.first["iscrowd"] = "no"


def crowds(case: Case) -> None:
    """An annotation is marked as a region of many objects."""
    case.first["iscrowd"] = 1


def other_notation(case: Case) -> None:
    """A box is written as an object, {"x": ..., "y": ..., "width": ..., "height": ...}."""
    case.first["bbox"] = dict(zip(("x", "y", "width", "height"), case.first["bbox"], strict=True))


def turned_boxes(case: Case) -> None:
    """A box is turned by 30 degrees, as CVAT writes it."""
    case.first.update({"bbox": [200, 200, 120, 40], "segmentation": [], "attributes": {"rotation": 30.0}})


def duplicate_annotation(case: Case) -> None:
    """An annotation is in the list twice."""
    case.data["annotations"].append({**case.first, "id": case.new_id("annotations")})


def duplicate_annotation_id(case: Case) -> None:
    """An annotation has the id of another one."""
    case.first["id"] = case.data["annotations"][0]["id"]


def box_from_mask(case: Case) -> None:
    """An annotation has a mask, but no box."""
    del case.first["bbox"]


def annotation_without_id(case: Case) -> None:
    """An annotation has no id."""
    del case.first["id"]


def tiny_object(case: Case) -> None:
    """An image has an object of 2 x 2 pixels, a stray click."""
    case.add_object((200, 200, 2, 2), case.rectangle((200, 200, 2, 2)))


def object_vanishes(case: Case) -> None:
    """An image of 2016 x 2016 pixels has an object 1 pixel wide."""
    case.put(case.picture().resize((2016, 2016)), ".jpg", quality=60)
    case.drop_annotations()
    case.add_object((1001, 1000, 1, 6), case.rectangle((1001, 1000, 1, 6)))


def small_object(case: Case) -> None:
    """An object 1 pixel wide falls between the pixels of the model's masks."""
    place = case.image["width"] * 3 // 10
    while (-(-place * 288 // case.image["width"])) * case.image["width"] // 288 == place:
        place += 1
    case.add_object((place, 100, 1, 6), case.rectangle((place, 100, 1, 6)))


def too_many_objects(case: Case) -> None:
    """An image has 210 objects of one category."""
    for number in range(210):
        case.add_object((10 + 20 * (number % 21), 10 + 20 * (number // 21), 12, 12))


def object_twice(case: Case) -> None:
    """An object was annotated by two people, nearly alike."""
    x, y, w, h = case.first["bbox"]
    case.add_object((x, y, w, h - 1))


def few_objects(case: Case) -> None:
    """A category has a single object."""
    case.set_category("manhole cover")


def class_imbalance(case: Case) -> None:
    """Another category has a single object, where others have hundreds."""
    case.set_category("patch of gravel")


def box_mask_mismatch(case: Case) -> None:
    """A box is in a corner of the image, its mask elsewhere."""
    case.first["bbox"] = [2, 2, 30, 30]
    case.first["segmentation"] = case.rectangle((200, 200, 100, 100))


def empty_mask(case: Case) -> None:
    """A mask has no pixel."""
    case.first["segmentation"] = case.rectangle((0, 0, 0, 0))


def polygon_crosses_itself(case: Case) -> None:
    """A polygon is drawn like an hourglass."""
    case.first["bbox"] = [100, 100, 200, 200]
    case.first["segmentation"] = [[100, 100, 300, 100, 100, 300, 300, 300]]


def polygon_short_part(case: Case) -> None:
    """A polygon has a second part of two points."""
    case.first["bbox"] = [100, 100, 200, 200]
    case.first["segmentation"] = [[100, 100, 300, 100, 300, 300, 100, 300], [20, 20, 40, 40]]
