"""Faults of the entries that describe the images, in the split "entries"."""

from __future__ import annotations

from sam3_lora.demo.faults.fault import Case, FaultTable

_fault = FaultTable("entries")
FAULTS = _fault.faults


@_fault("path-outside-dataset")
def _name_that_leads_out(case: Case) -> None:
    """An image's file_name leads outside the dataset's folder."""
    case.path.unlink()
    case.image["file_name"] = f"../../../{case.path.name}"


@_fault("bad-image")
def _no_file_name(case: Case) -> None:
    """The list of images has an entry without a file name."""
    case.data["images"].append({"id": case.new_id("images"), "width": 640, "height": 480})


@_fault("duplicate-image-id")
def _id_of_another(case: Case) -> None:
    """Two images have the same id, and their annotations could be of either."""
    case.data["images"].append({**case.image, "file_name": "sound" + case.path.suffix})
    sound = case.data["images"][0]
    case.data["annotations"][:] = [entry for entry in case.data["annotations"] if entry["image_id"] != sound["id"]]
    case.data["images"].remove(sound)


@_fault("bad-image-size")
def _no_width(case: Case) -> None:
    """An image's entry says that it is 0 pixels wide."""
    case.image["width"] = 0


@_fault("duplicate-file")
def _named_twice(case: Case) -> None:
    """Two entries name the same file."""
    case.data["images"].append({**case.image, "id": case.new_id("images")})
