"""Tiny COCO datasets for tests, written with their images into a folder of the test's own."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam3_lora.config import ASSETS
from sam3_lora.masks import encode_rle

CATEGORIES = ("crack", "pothole", "joint")
SIZE_HW = (48, 64)


def ellipse(size_hw: tuple[int, int], center_xy: tuple[float, float], radius_xy: tuple[float, float]) -> np.ndarray:
    """A filled ellipse as a bitmap (H, W) bool."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    return ((columns - center_xy[0]) / radius_xy[0]) ** 2 + ((rows - center_xy[1]) / radius_xy[1]) ** 2 <= 1


def uncompressed_rle(mask: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed RLE of a bitmap (H, W) bool: runs down the columns, starting with zeros."""
    flat = np.concatenate(([0], mask.T.reshape(-1).astype(np.int8), [2]))
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate(([0], edges))).tolist()
    return {"size": list(mask.shape), "counts": counts}


def octagon(box_xywh: tuple[float, float, float, float]) -> list[list[float]]:
    """A polygon that touches all four sides of the box."""
    x, y, w, h = box_xywh
    corners = ((0.3, 0), (0.7, 0), (1, 0.3), (1, 0.7), (0.7, 1), (0.3, 1), (0, 0.7), (0, 0.3))
    return [[round(value, 3) for u, v in corners for value in (x + u * w, y + v * h)]]


def annotation(index: int, image_id: int, category_id: int, kind: str, rng: np.random.Generator) -> dict[str, Any]:
    """One object inside an image of SIZE_HW; `kind` is polygon, rle, uncompressed or box (no mask)."""
    height, width = SIZE_HW
    w, h = (int(value) for value in rng.integers(12, 24, 2))
    box = (int(rng.integers(0, width - w)), int(rng.integers(0, height - h)), w, h)
    entry = {"id": index, "image_id": image_id, "category_id": category_id, "bbox": list(box), "iscrowd": 0}
    if kind == "polygon":
        entry["segmentation"] = octagon(box)
    elif kind in ("rle", "uncompressed"):
        mask = ellipse(SIZE_HW, (box[0] + w / 2, box[1] + h / 2), (w / 2, h / 2))
        entry["segmentation"] = encode_rle(mask) if kind == "rle" else uncompressed_rle(mask)
    return entry


def coco(
    images: int = 4,
    objects: int = 2,
    kinds: tuple[str, ...] = ("polygon", "rle", "uncompressed"),
    categories: tuple[str, ...] = CATEGORIES,
    empty_images: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """A sound COCO file as a dict: `images` images with `objects` objects each, then `empty_images` without any."""
    rng = np.random.default_rng(seed)
    height, width = SIZE_HW
    total = images + empty_images
    entries = [{"id": i, "file_name": f"{seed}_{i:03d}.png", "width": width, "height": height} for i in range(total)]
    annotations = []
    for image in range(images):
        for _ in range(objects):
            index = len(annotations)
            category = 1 + index % len(categories)
            annotations.append(annotation(index, image, category, kinds[index % len(kinds)], rng))
    return {
        "images": entries,
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": "none"} for i, name in enumerate(categories, start=1)],
    }


def write_split(folder: Path, data: Any, images_in: str = ".") -> Path:
    """Writes one split: its `_annotations.coco.json` and a noisy image for every sound image entry."""
    (folder / images_in).mkdir(parents=True, exist_ok=True)
    (folder / "_annotations.coco.json").write_text(json.dumps(data), encoding="utf-8")
    rng = np.random.default_rng(1)
    for entry in data["images"]:
        pixels = rng.integers(0, 255, (entry["height"], entry["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / images_in / entry["file_name"])
    return folder


def write_dataset(folder: Path, splits: tuple[str, ...] = ("train", "valid"), images_in: str = ".", **options) -> Path:
    """Writes a sound dataset in Roboflow's layout; `options` are those of :func:`coco`. Returns the folder."""
    for seed, name in enumerate(splits):
        write_split(Path(folder) / name, coco(seed=seed, **options), images_in)
    return Path(folder)


def write_spoiled(folder: Path, spoil: Callable[[dict[str, Any]], None], **options: Any) -> Path:
    """A dataset of one split whose annotation file has been spoiled."""
    data = coco(**options)
    write_split(folder / "train", data)
    spoil(data)
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def kinds(examined: Any) -> list[str]:
    """The kinds of the findings of a dataset or a report, in order."""
    return [finding.kind for finding in examined.findings]


def under_wrong_keys(data: dict[str, Any]) -> None:
    annotations = data.pop("annotations")
    data["bboxes"] = [item["bbox"] for item in annotations]
    data["masks"] = [item["segmentation"] for item in annotations]


def without_objects(data: dict[str, Any]) -> None:
    data["annotations"] = []


def with_boxes_in_fractions(data: dict[str, Any]) -> None:
    for item in data["annotations"]:
        item["bbox"] = [0.25, 0.25, 0.5, 0.5]


# The bugs this project began with, as far as they can be in a dataset: how the file is spoiled, the kind of finding.
FOUNDING_BUGS = [
    (under_wrong_keys, "annotations-wrong-key"),
    (without_objects, "no-objects"),
    (with_boxes_in_fractions, "boxes-normalized"),
]


@functools.cache
def tiny_processor():
    """The demo model's processor (transformers' Sam3Processor), loaded once."""
    from transformers import Sam3Processor

    return Sam3Processor.from_pretrained(ASSETS / "demo" / "model")
