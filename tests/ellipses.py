"""A dataset of images with ellipses in them, larger than a tile."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.records import Split
from sam3_lora.masks import encode_rle, mask_to_box_xyxy
from tests.factories import ellipse

SIZE_HW = (300, 400)
NAMES = ("crack", "pothole", "joint")
Ellipse = tuple[int, tuple[float, float], tuple[float, float]]  # category, center, radii


def split_of(
    root: Path, images: list[list[Ellipse]], *, name: str = "train", masks: bool = True, file_scale: int = 1
) -> Split:
    """A split of images with ellipses; the files may be larger than the annotations say."""
    folder = root / name
    folder.mkdir(parents=True)
    entries, annotations = [], []
    height, width = SIZE_HW
    for number, objects in enumerate(images):
        entries.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels.repeat(file_scale, 0).repeat(file_scale, 1)).save(folder / f"{number}.png")
        for category, center, radii in objects:
            mask = ellipse(SIZE_HW, center, radii)
            left, top, right, bottom = mask_to_box_xyxy(mask)
            entry = {"id": len(annotations), "image_id": number, "category_id": category, "iscrowd": 0}
            entry |= {"bbox": [left, top, right - left, bottom - top]}
            annotations.append(entry | ({"segmentation": encode_rle(mask)} if masks else {}))
    categories = [{"id": index, "name": name} for index, name in enumerate(NAMES)]
    data = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "_annotations.coco.json").write_text(json.dumps(data))
    return open_dataset(root).split(name)
