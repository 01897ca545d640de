"""Labels a folder of images by a model: COCO annotations with scores, for people who review them elsewhere.

Each image is on disk once it is predicted, so that labelling that was stopped or killed goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sam3_lora.errors import DataError, explain_os_errors
from sam3_lora.files import LineFile, atomic_file, open_regular
from sam3_lora.masks import decode_segmentation
from sam3_lora.predict.export import FoundImage, to_coco
from sam3_lora.predict.folder import FolderPrediction, Skipped

ANNOTATIONS, PROGRESS = "annotations.json", "labels.jsonl"
_FIX = "Give another folder after --out, on a disk with enough space"
_EPSILON = 0.5  # pixels that a polygon may lie beside its mask


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the labels of a folder depend on; they go on only with the same."""

    folder: str
    phrases: tuple[str, ...]
    model: str
    min_score: float
    routing: tuple[str, ...] | None = None  # the phrases that the adapter answers; None: all


@dataclass(frozen=True)
class Labelled:
    """What was labelled.

    Attributes:
        file: the COCO file.
        images, objects: in it.
        resumed: images of an earlier time.
        skipped: images that could not be read.
    """

    file: Path
    images: int
    objects: int
    resumed: int
    skipped: tuple[Skipped, ...]


def label_folder(
    names: list[str],
    settings: Settings,
    predict: Callable[[list[str]], Iterator[FolderPrediction | Skipped]],
    out: Path,
    *,
    polygons: bool = False,
    progress: Callable[[float, str], None] | None = None,
) -> Labelled:
    """Labels the images of a folder that are not labelled yet, and writes all of them as one COCO file.

    Images that could not be read are tried again. Stopped with Ctrl-C, the COCO file has what is done so far.

    Args:
        names: of the images, relative to the folder.
        settings: as before, where labels are there already.
        predict: gives the predictions of images by their names, in this order.
        out: the folder to write to; made if need be.
        polygons: write masks as polygons, whose holes are filled, instead of run lengths, which are exact.
        progress: called with the share of the images that are done, in [0, 1], and the current image.

    Raises:
        DataError: the folder has labels of other settings or other files, or cannot be written.
    """
    with explain_os_errors(DataError, f"The labels cannot be written to {out}", _FIX):
        out.mkdir(parents=True, exist_ok=True)
        if not (out / PROGRESS).exists() and any(out.iterdir()):
            raise DataError(f"Expected a new or an empty folder, but {out} has other files", "Give another folder")
        done = _read(out / PROGRESS, settings)
        wanted = set(names)
        done = {name: one for name, one in done.items() if name in wanted}
        resumed = len(done)
        todo = [name for name in names if name not in done]
        skipped: list[Skipped] = []
        try:
            with LineFile(out / PROGRESS) as file:
                if not (out / PROGRESS).stat().st_size:
                    file.write(msgspec.json.encode(settings))
                for count, found in enumerate(predict(todo), start=1):
                    if isinstance(found, Skipped):
                        skipped.append(found)
                        name = found.name
                    else:
                        done[found.found.name] = found.found
                        name = found.found.name
                        file.write(msgspec.json.encode(found.found, enc_hook=_plain))
                    if progress is not None:
                        progress((resumed + count) / len(names), name)
        finally:
            images = [done[name] for name in names if name in done]
            _write(out / ANNOTATIONS, images, settings.phrases, polygons=polygons)
    objects = sum(len(image.objects) for image in images)
    return Labelled(out / ANNOTATIONS, len(images), objects, resumed, tuple(skipped))


def _read(path: Path, settings: Settings) -> dict[str, FoundImage]:
    """The images that are labelled already, by name; a line that was cut off is dropped."""
    if not path.exists():
        return {}
    done: dict[str, FoundImage] = {}
    with open_regular(path) as file:
        head = file.readline()
        if not head:
            return {}
        try:
            before = msgspec.json.decode(head, type=Settings)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            before = None
        if before != settings:
            raise DataError(
                f"{path.parent} has labels that were made with another folder, model, phrases or score",
                "Give another folder after --out, or delete it",
            )
        for line in file:
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                image = msgspec.json.decode(line, type=FoundImage)
                done[image.name] = image
    return done


def _plain(value: Any) -> Any:
    """Numbers of numpy, and run lengths as bytes, as JSON has them."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no value of JSON")


def _write(path: Path, images: list[FoundImage], phrases: tuple[str, ...], *, polygons: bool) -> None:
    content = to_coco(images, phrases)
    if polygons:
        sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in content["images"]}
        for entry in content["annotations"]:
            entry["segmentation"] = polygons_of(decode_segmentation(entry["segmentation"], sizes[entry["image_id"]]))
    with atomic_file(path) as file:
        file.write(json.dumps(content).encode())


def polygons_of(mask: np.ndarray) -> list[list[float]]:
    """The outlines of a mask as polygons, the largest first, without holes; parts of fewer than 3 points are dropped.

    Args:
        mask: (H, W) bool.

    Returns:
        Polygons as COCO has them, [x1, y1, x2, y2, ...] in pixels.
    """
    import cv2

    if not mask.any():
        return []
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8)
    # Pixels are points for OpenCV and areas for COCO: outlined twice as large, the polygon goes around them.
    large = np.kron(crop, np.ones((2, 2), np.uint8))
    outlines, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    parts: list[list[float]] = []
    for outline in sorted(outlines, key=cv2.contourArea, reverse=True):
        points = cv2.approxPolyDP(outline, 2 * _EPSILON, True)
        points = (points if len(points) >= 3 else outline)[:, 0, :].astype(np.float64)
        if len(points) >= 3:
            parts.append(((points + 0.5) / 2 + (columns[0], rows[0])).ravel().tolist())
    return parts
