"""Time and memory of opening a large COCO file against pycocotools' COCO(...).

    python bench/dataset.py [--images 118000] [--annotations 860000]

Writes a file like COCO's train2017 to a temporary folder (polygons of 30 points on average, RLE for one annotation in
80) and measures, each in its own process: pycocotools' COCO(file), the cold index, a warm open, and the records of one
page of 48 images with their segmentations. CPU time is compared, as it depends little on other processes; memory is
the peak of the process, imports included. The images are empty files: pycocotools does not read them, and the index
only their names. Exits with 1 if the cold index takes more than half of pycocotools' time or more than its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT, CATEGORIES, PAGE = 640, 480, 80, 48
MAX_TIME, MAX_MEMORY = 0.5, 1.0


def write_coco(path: Path, images: int, annotations: int) -> None:
    """Writes a valid COCO file piece by piece."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    shapes = [np.stack([np.cos(angles[:: 200 // n]), np.sin(angles[:: 200 // n])], 1) for n in (8, 12, 20, 30, 50, 100)]
    runs = rng.integers(1, WIDTH * HEIGHT // 100, 100).tolist()
    runs.append(WIDTH * HEIGHT - sum(runs))
    with path.open("w") as file:
        file.write('{"info": {}, "images": [')
        for number in range(images):
            name = f"{number:012d}.jpg"
            url = f"http://images.cocodataset.org/train2017/{name}"
            entry = {"license": 3, "file_name": name, "coco_url": url, "height": HEIGHT}
            entry |= {"width": WIDTH, "date_captured": "2013-11-14 11:18:45", "flickr_url": url, "id": number}
            file.write((", " if number else "") + json.dumps(entry))
            (path.parent / name).touch()
        file.write('], "annotations": [')
        for number in range(annotations):
            w, h = (float(side) for side in rng.integers(8, 200, 2))
            x, y = float(rng.integers(0, WIDTH - int(w))), float(rng.integers(0, HEIGHT - int(h)))
            crowd = number % 80 == 0
            if crowd:
                segmentation: Any = {"counts": runs, "size": [HEIGHT, WIDTH]}
            else:
                points = shapes[number % len(shapes)] * (w / 2, h / 2) + (x + w / 2, y + h / 2)
                segmentation = [points.round(2).ravel().tolist()]
            entry = {"segmentation": segmentation, "area": w * h / 2, "iscrowd": int(crowd)}
            entry |= {
                "image_id": int(rng.integers(0, images)),
                "bbox": [x, y, w, h],
                "category_id": number % CATEGORIES,
            }
            file.write((", " if number else "") + json.dumps(entry | {"id": number}))
        names = [{"id": number, "name": f"thing {number}", "supercategory": "x"} for number in range(CATEGORIES)]
        file.write(f'], "categories": {json.dumps(names)}}}')


def measure(way: str, folder: Path) -> dict[str, float]:
    """Runs in its own process: seconds of CPU time, and MiB at the peak."""
    import resource

    if way == "pycocotools":
        from pycocotools.coco import COCO

        began, clock = time.process_time(), time.perf_counter()
        COCO(str(folder / "_annotations.coco.json"))
    else:
        from sam3_lora.data.dataset import open_dataset

        began, clock = time.process_time(), time.perf_counter()
        dataset = open_dataset(folder)
    result = {"seconds": time.process_time() - began, "clock": time.perf_counter() - clock}
    unit = 2**20 if sys.platform == "darwin" else 2**10
    result["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if way == "warm":
        images = dataset.split("train").images
        began = time.perf_counter()
        middle = len(images) // 2
        page = [item.segmentation for image in images[middle : middle + PAGE] for item in image.annotations]
        result["page"] = time.perf_counter() - began
        assert len(page) > 0
    return result


def in_own_process(way: str, folder: Path, cache: Path) -> dict[str, float]:
    environment = os.environ | {"SAM3_LORA_CACHE": str(cache)}
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--annotations", type=int, default=860_000)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(measure(args.way, args.folder)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set" / "_annotations.coco.json"
        path.parent.mkdir()
        write_coco(path, args.images, args.annotations)
        cache = Path(folder) / "cache"
        print(f"{args.images:,} images, {args.annotations:,} annotations, {path.stat().st_size / 2**20:,.0f} MiB")
        found = {way: in_own_process(way, path.parent, cache) for way in ("pycocotools", "cold", "warm")}
    for way, numbers in found.items():
        clock = f"{numbers['clock']:.2f} s by the clock"
        print(f"{way:12} {numbers['seconds']:8.2f} s of processor, {clock}, peak {numbers['memory']:,.0f} MiB")
    print(f"one grid page of {PAGE} images with its segmentations: {1000 * found['warm']['page']:.1f} ms")
    time_ratio = found["cold"]["seconds"] / found["pycocotools"]["seconds"]
    memory_ratio = found["cold"]["memory"] / found["pycocotools"]["memory"]
    print(f"cold index over pycocotools: time {time_ratio:.2f} (at most {MAX_TIME})", end=", ")
    print(f"memory {memory_ratio:.2f} (at most {MAX_MEMORY})")
    return int(time_ratio > MAX_TIME or memory_ratio > MAX_MEMORY)


if __name__ == "__main__":
    raise SystemExit(main())
