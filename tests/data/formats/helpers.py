"""Tiny datasets in several formats, and what is compared of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam3_lora.data.dataset import Dataset
from sam3_lora.masks import encode_rle
from tests.factories import CATEGORIES, SIZE_HW, coco, ellipse

HEIGHT, WIDTH = SIZE_HW
YOLO_NAMES = "names: [crack, pothole, joint]\n"


def picture(path: Path, size_hw: tuple[int, int] = SIZE_HW) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size_hw, 3), 90, np.uint8)).save(path)


def write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def sizes(dataset: Dataset) -> dict[str, tuple[int, int]]:
    return {name: (len(split.images), split.num_objects) for name, split in dataset.splits.items()}


def classic(root: Path, names: dict[str, str]) -> dict[str, Any]:
    """COCO's layout: annotation file -> folder of its images."""
    data = coco()
    for file, folder in names.items():
        write_json(root / "annotations" / file, data)
        for entry in data["images"]:
            picture(root / folder / entry["file_name"])
    return data


def per_image(folder: Path, count: int = 3) -> None:
    """Files as Segment Anything writes them: an image, and objects of its two masks without categories."""
    for number in range(count):
        picture(folder / f"sa_{number}.jpg")
        objects = []
        for place, radius in enumerate((5, 9)):
            mask = ellipse(SIZE_HW, (20 + 15 * place, 20), (radius, radius))
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = [int(columns[0]), int(rows[0]), len(columns), len(rows)]
            objects.append({"id": place, "bbox": box, "segmentation": encode_rle(mask), "predicted_iou": 0.9})
        image = {"image_id": number, "width": WIDTH, "height": HEIGHT, "file_name": f"sa_{number}.jpg"}
        write_json(folder / f"sa_{number}.json", {"image": image, "annotations": objects})


def yolo(root: Path, labels: Path, images: Path, *, polygons: bool = True, yaml: str | None = None) -> dict[str, Any]:
    """The same objects as COCO data (returned) and as YOLO labels."""
    data = coco(kinds=("polygon",))
    for entry in data["images"]:
        picture(images / entry["file_name"])
        lines = []
        for item in data["annotations"]:
            if item["image_id"] == entry["id"]:
                x, y, w, h = item["bbox"]
                numbers = item["segmentation"][0] if polygons else [x + w / 2, y + h / 2, w, h]
                scaled = [value / (HEIGHT if place % 2 else WIDTH) for place, value in enumerate(numbers)]
                lines.append(" ".join([str(item["category_id"] - 1), *(f"{value:.6f}" for value in scaled)]))
        labels.mkdir(parents=True, exist_ok=True)
        (labels / entry["file_name"]).with_suffix(".txt").write_text("".join(line + "\n" for line in lines))
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(CATEGORIES))
    (root / "data.yaml").write_text(yaml if yaml is not None else f"path: ../x\ntrain: train/images\nnames:\n{names}")
    return data
