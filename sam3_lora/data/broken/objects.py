"""Faults of single annotations, in the split "objects"."""

from __future__ import annotations

from sam3_lora.data.broken.fault import Case, FaultTable

_fault = FaultTable("objects")
FAULTS = _fault.faults


@_fault("bad-annotation")
def _no_object(case: Case) -> None:
    """The list of annotations has a word where an entry should be."""
    case.data["annotations"].append("pothole")


@_fault("unknown-image")
def _of_no_image(case: Case) -> None:
    """An annotation's image_id is that of no image."""
    case.first["image_id"] = 987654


@_fault("unknown-category")
def _of_no_category(case: Case) -> None:
    """An annotation's category_id is that of no category."""
    case.first["category_id"] = 987654


@_fault("bad-bbox")
def _no_width(case: Case) -> None:
    """A box has no width."""
    case.first["bbox"][2] = 0


@_fault("boxes-outside-image")
def _beyond_the_edge(case: Case) -> None:
    """A box reaches beyond the right edge of the image."""
    case.first["bbox"] = [0.5 * case.image["width"], 10, case.image["width"], 40]
    del case.first["segmentation"]


@_fault("bad-segmentation")
def _run_lengths_of_another_size(case: Case) -> None:
    """A mask's run lengths were made for an image of another size."""
    case.first["segmentation"] = {"size": [32, 32], "counts": [100, 924]}


@_fault("bad-iscrowd")
def _crowd_in_words(case: Case) -> None:
    """An annotation's iscrowd is the word "no"."""
    case.first["iscrowd"] = "no"


@_fault("duplicate-annotation")
def _annotated_twice(case: Case) -> None:
    """An annotation stands twice in the list."""
    case.data["annotations"].append({**case.first, "id": case.new_id("annotations")})


@_fault("duplicate-annotation-id")
def _id_of_another(case: Case) -> None:
    """An annotation has the id of another one."""
    case.first["id"] = case.data["annotations"][0]["id"]


@_fault("box-from-mask")
def _no_box(case: Case) -> None:
    """An annotation has a mask, but no box."""
    del case.first["bbox"]


@_fault("annotation-without-id")
def _no_id(case: Case) -> None:
    """An annotation has no id."""
    del case.first["id"]
