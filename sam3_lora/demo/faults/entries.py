"""Faults of the entries that describe the images, in the split "entries"."""

from __future__ import annotations

from PIL import ExifTags, Image

from sam3_lora.demo.faults.fault import Case


def path_outside_dataset(case: Case) -> None:
    """An image's file_name leads outside the dataset's folder."""
    case.path.unlink()
    case.image["file_name"] = f"../../../{case.path.name}"


def bad_image(case: Case) -> None:
    """The list of images has an entry without a file name."""
    case.data["images"].append({"id": case.new_id("images"), "width": 640, "height": 480})


def duplicate_image_id(case: Case) -> None:
    """Two images have the same id, and their annotations could be of either."""
    case.data["images"].append({**case.image, "file_name": "sound" + case.path.suffix})
    sound = case.data["images"][0]
    case.data["annotations"][:] = [entry for entry in case.data["annotations"] if entry["image_id"] != sound["id"]]
    case.data["images"].remove(sound)


def bad_image_size(case: Case) -> None:
    """An image's entry says that it is 0 pixels wide."""
    case.image["width"] = 0


def duplicate_file(case: Case) -> None:
    """Two entries name the same file."""
    case.data["images"].append({**case.image, "id": case.new_id("images")})


def image_rotated(case: Case) -> None:
    """An image is stored sideways with an EXIF orientation, and its entry gives the size of the upright picture."""
    upright = case.picture().crop((0, 0, case.image["width"], case.image["height"] // 2))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    case.drop_annotations()
    case.put(upright.transpose(Image.Transpose.ROTATE_90), ".jpg", exif=exif)
    case.image |= {"width": upright.width, "height": upright.height}
