"""What a person decided about an image, as one small file per image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sam3_lora.errors import DataError, explain_os_errors, first_line
from sam3_lora.files import atomic_write, read_file

_MAX_BYTES = 64_000_000
_FIX = "Make room on the disk, or the folder writable; nothing that was decided before is lost"

Source = Literal["model", "drawn", "annotation"]


class LabelObject(msgspec.Struct, frozen=True):
    """An object in an image.

    Attributes:
        phrase: what it is.
        box_xyxy: in pixels of the image.
        rle: its mask as COCO's compressed run lengths; None where only the box is known.
        score: of the model, in [0, 1]; None without one.
        source: who found it.
        iscrowd: a region of many objects in a dataset that is reviewed.
    """

    phrase: Annotated[str, Meta(min_length=1, max_length=1000)]
    box_xyxy: tuple[float, float, float, float]
    rle: dict[str, Any] | None = None
    score: float | None = None
    source: Source = "model"
    iscrowd: bool = False


class Decision(msgspec.Struct, frozen=True):
    """All that was decided about an image.

    Attributes:
        image: its name, relative to the images' folder.
        size_hw: height and width in pixels.
        objects: all of its objects of the phrases that were asked for.
        incomplete: whether there are more, which nobody marked.
        proposed, rejected, drawn, relabelled: how many objects were proposed, and what the person did with them.
        seconds: that it took.
        model: that proposed.
        absent, partly: further phrases, of which a dataset that is reviewed says that no object, or not every one, is
            annotated.
    """

    image: str
    size_hw: tuple[int, int]
    objects: tuple[LabelObject, ...] = ()
    incomplete: bool = False
    proposed: int = 0
    rejected: int = 0
    drawn: int = 0
    relabelled: int = 0
    seconds: float = 0.0
    model: str = ""
    absent: tuple[str, ...] = ()
    partly: tuple[str, ...] = ()

    @property
    def corrections(self) -> int:
        """How often the person had to correct the model."""
        return self.rejected + self.drawn + self.relabelled


def file_of(folder: Path, image: str) -> Path:
    """The file for an image, whose name may be anything."""
    return folder / f"{hashlib.blake2b(image.encode('utf-8', 'surrogateescape'), digest_size=12).hexdigest()}.json"


def write(folder: Path, decision: Decision) -> None:
    """Writes a decision, whole or not at all, onto the disk. Raises DataError if that fails."""
    with explain_os_errors(DataError, f"The labels of {decision.image} cannot be written to {folder}", _FIX):
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(file_of(folder, decision.image), msgspec.json.encode(decision), sync=True)


def read_all(folder: Path) -> tuple[dict[str, Decision], list[str]]:
    """All decisions by image, and what is wrong with files that cannot be read, a sentence each."""
    found: dict[str, Decision] = {}
    problems: list[str] = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            decision = msgspec.json.decode(read_file(path, _MAX_BYTES), type=Decision)
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"{path} cannot be read, so its image is to be labelled again: {first_line(error)}.")
            continue
        found[decision.image] = decision
    return found, problems


def coco(
    decisions: Mapping[str, Decision], phrases: tuple[str, ...], file_names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Decisions as COCO. What is not in an image is a checked negative there, unless the image is incomplete.

    Args:
        decisions: by image, in the order of the dataset.
        phrases: that were asked for; others that objects were given are added.
        file_names: image -> the file name to write, where it is not the image's name.
    """
    number = {phrase: index for index, phrase in enumerate(all_phrases(decisions, phrases), start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (name, decision) in enumerate(decisions.items(), start=1):
        height, width = decision.size_hw
        entry = {"id": image_id, "file_name": (file_names or {}).get(name, name), "width": width, "height": height}
        images.append(entry | _coverage(decision, phrases, number))
        for one in decision.objects:
            left, top, right, bottom = one.box_xyxy
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": number[one.phrase],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top) if one.rle is None else _area(one.rle),
                    "segmentation": one.rle or [],
                    "iscrowd": int(one.iscrowd),
                }
            )
    categories = [{"id": index, "name": phrase, "supercategory": "none"} for phrase, index in number.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def all_phrases(decisions: Mapping[str, Decision], phrases: tuple[str, ...]) -> tuple[str, ...]:
    """The phrases that were asked for, then all others that decisions name, each once."""
    of_objects = (one.phrase for each in decisions.values() for one in each.objects)
    listed = (phrase for each in decisions.values() for phrase in (*each.absent, *each.partly))
    return tuple(dict.fromkeys((*phrases, *of_objects, *listed)))


def _coverage(decision: Decision, phrases: tuple[str, ...], number: Mapping[str, int]) -> dict[str, list[int]]:
    """What an image's entry says about whole categories: which are surely absent, which annotated in part."""
    present = {one.phrase for one in decision.objects}
    partly = dict.fromkeys((*(phrases if decision.incomplete else ()), *decision.partly))
    absent = dict.fromkeys((*(() if decision.incomplete else phrases), *decision.absent))
    lists = {"neg_category_ids": [number[one] for one in absent if one not in present and one not in partly]}
    if partly:
        lists["not_exhaustive_category_ids"] = [number[one] for one in partly]
    return lists


def _area(rle: dict[str, Any]) -> int:
    from sam3_lora.masks import mask_area

    height, width = rle["size"]
    return mask_area(rle, (height, width))
